"""Symmetric encryption."""

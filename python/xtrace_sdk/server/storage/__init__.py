"""Durable storage of the server: one protocol, one module an engine."""

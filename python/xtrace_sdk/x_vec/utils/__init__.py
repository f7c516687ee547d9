"""Execution contexts and the types of chunks."""

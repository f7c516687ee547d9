"""Vector search that the server cannot read."""

"""Encryption of vectors (homomorphic) and of contents (AES), and where their keys come from."""

"""A server that holds no key: it stores sealed chunks and multiplies ciphertexts by an encrypted query."""

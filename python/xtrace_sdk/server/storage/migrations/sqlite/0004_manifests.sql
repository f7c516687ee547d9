-- What the owner of a context keeps about its vectors in a knowledge base: sealed, at most 512 bytes.
CREATE TABLE manifests (
    kb       INTEGER NOT NULL REFERENCES kbs (no),
    context  INTEGER NOT NULL REFERENCES contexts (no),
    sealed   BLOB NOT NULL,
    checksum INTEGER NOT NULL,
    PRIMARY KEY (kb, context)
) STRICT, WITHOUT ROWID;

-- As in SQLite, which says what it means.
CREATE TABLE manifests (
    kb       BIGINT NOT NULL REFERENCES kbs (no),
    context  BIGINT NOT NULL REFERENCES contexts (no),
    sealed   BYTEA NOT NULL,
    checksum BIGINT NOT NULL,
    PRIMARY KEY (kb, context)
);

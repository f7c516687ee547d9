-- Times are ISO 8601 UTC texts, except chunks.created_at (microseconds since 1970), which is sorted by.

CREATE TABLE orgs (
    id         TEXT PRIMARY KEY,
    created_at TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Admin and API keys, by the SHA-256 of the secret. `default_permission` holds for every knowledge base of the
-- organisation without a row in `permissions`.
CREATE TABLE keys (
    hash               TEXT PRIMARY KEY,
    org                TEXT NOT NULL REFERENCES orgs (id),
    admin              INTEGER NOT NULL,
    active             INTEGER NOT NULL DEFAULT 1,
    first_n            TEXT NOT NULL,
    name               TEXT NOT NULL,
    description        TEXT NOT NULL,
    default_permission INTEGER NOT NULL,
    created_at         TEXT NOT NULL,
    last_used_at       TEXT
) STRICT, WITHOUT ROWID;

-- Clients recognise "their" key by its first characters, ignoring case.
CREATE UNIQUE INDEX keys_first_n ON keys (org, lower(first_n)) WHERE active AND NOT admin;

-- `next_id` only grows: ids of chunks are never reused. `seq` grows with every change of the chunks.
CREATE TABLE kbs (
    no          INTEGER PRIMARY KEY AUTOINCREMENT,
    id          TEXT NOT NULL UNIQUE,
    org         TEXT NOT NULL REFERENCES orgs (id),
    name        TEXT NOT NULL,
    description TEXT NOT NULL,
    created_at  TEXT NOT NULL,
    updated_at  TEXT NOT NULL,
    next_id     INTEGER NOT NULL DEFAULT 1,
    count       INTEGER NOT NULL DEFAULT 0,
    seq         INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX kbs_org ON kbs (org);

CREATE TABLE permissions (
    key        TEXT NOT NULL REFERENCES keys (hash),
    kb         INTEGER NOT NULL REFERENCES kbs (no),
    permission INTEGER NOT NULL,
    updated_at TEXT NOT NULL,
    PRIMARY KEY (key, kb)
) STRICT, WITHOUT ROWID;
CREATE INDEX permissions_kb ON permissions (kb);

-- A row exists as soon as a chunk names the context; `data` is null until somebody stores it.
CREATE TABLE contexts (
    no         INTEGER PRIMARY KEY AUTOINCREMENT,
    org        TEXT NOT NULL REFERENCES orgs (id),
    id         TEXT NOT NULL,
    data       TEXT,
    public     TEXT,
    n          BLOB,
    chunks     INTEGER,
    UNIQUE (org, id)
) STRICT;

CREATE TABLE bindings (
    kb      INTEGER NOT NULL REFERENCES kbs (no),
    context INTEGER NOT NULL REFERENCES contexts (no),
    PRIMARY KEY (kb, context)
) STRICT, WITHOUT ROWID;
CREATE INDEX bindings_context ON bindings (context);

-- `meta` is the caller's object; the tags and the facets (their number here, null when absent; their tokens below) are copies of
-- parts of it to filter by.
CREATE TABLE chunks (
    kb         INTEGER NOT NULL REFERENCES kbs (no),
    id         INTEGER NOT NULL,
    context    INTEGER NOT NULL REFERENCES contexts (no),
    created_at INTEGER NOT NULL,
    key        TEXT,
    name       TEXT NOT NULL,
    tag1       TEXT,
    tag2       TEXT,
    tag3       TEXT,
    tag4       TEXT,
    tag5       TEXT,
    facets     INTEGER,
    meta       TEXT NOT NULL,
    content    TEXT NOT NULL,
    PRIMARY KEY (kb, id)
) STRICT;
CREATE UNIQUE INDEX chunks_key ON chunks (kb, key) WHERE key IS NOT NULL;
CREATE INDEX chunks_tag1 ON chunks (kb, tag1, id) WHERE tag1 IS NOT NULL;
CREATE INDEX chunks_tag2 ON chunks (kb, tag2, id) WHERE tag2 IS NOT NULL;
CREATE INDEX chunks_tag3 ON chunks (kb, tag3, id) WHERE tag3 IS NOT NULL;
CREATE INDEX chunks_tag4 ON chunks (kb, tag4, id) WHERE tag4 IS NOT NULL;
CREATE INDEX chunks_tag5 ON chunks (kb, tag5, id) WHERE tag5 IS NOT NULL;

CREATE TABLE facets (
    kb    INTEGER NOT NULL,
    token TEXT NOT NULL,
    id    INTEGER NOT NULL,
    PRIMARY KEY (kb, token, id)
) STRICT, WITHOUT ROWID;

-- Apart from the chunks, so that an index is built from ciphertexts alone. `ciphertexts` is their number, `data`
-- their bytes one after the other, little-endian, of equal width. `seq` is that of the last change.
CREATE TABLE vectors (
    kb          INTEGER NOT NULL,
    id          INTEGER NOT NULL,
    context     INTEGER NOT NULL,
    seq         INTEGER NOT NULL,
    ciphertexts INTEGER NOT NULL,
    data        BLOB NOT NULL,
    PRIMARY KEY (kb, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX vectors_seq ON vectors (kb, context, seq);

-- What an index has to forget: ids as int64, little-endian.
CREATE TABLE deletions (
    kb  INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    ids BLOB NOT NULL,
    PRIMARY KEY (kb, seq)
) STRICT, WITHOUT ROWID;

-- Answers to inserts, to be given again when the same insert comes again.
CREATE TABLE replays (
    token   TEXT PRIMARY KEY,
    digest  TEXT NOT NULL,
    kb      INTEGER NOT NULL,
    expires REAL NOT NULL,
    ids     TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX replays_expires ON replays (expires);

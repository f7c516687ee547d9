-- As the tables of SQLite, which say what they mean. Texts compare by code point: COLLATE "C" in a UTF-8 database.

CREATE TABLE orgs (
    id         TEXT COLLATE "C" PRIMARY KEY,
    created_at TEXT NOT NULL
);

CREATE TABLE keys (
    hash               TEXT COLLATE "C" PRIMARY KEY,
    org                TEXT COLLATE "C" NOT NULL REFERENCES orgs (id),
    admin              INTEGER NOT NULL,
    active             INTEGER NOT NULL DEFAULT 1,
    first_n            TEXT NOT NULL,
    name               TEXT NOT NULL,
    description        TEXT NOT NULL,
    default_permission INTEGER NOT NULL,
    created_at         TEXT COLLATE "C" NOT NULL,
    last_used_at       TEXT
);
CREATE UNIQUE INDEX keys_first_n ON keys (org, lower(first_n)) WHERE active = 1 AND admin = 0;

CREATE TABLE kbs (
    no          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id          TEXT COLLATE "C" NOT NULL UNIQUE,
    org         TEXT COLLATE "C" NOT NULL REFERENCES orgs (id),
    name        TEXT NOT NULL,
    description TEXT NOT NULL,
    created_at  TEXT NOT NULL,
    updated_at  TEXT NOT NULL,
    next_id     BIGINT NOT NULL DEFAULT 1,
    count       BIGINT NOT NULL DEFAULT 0,
    seq         BIGINT NOT NULL DEFAULT 0
) WITH (fillfactor = 50);  -- room for the versions of a row that every change rewrites
CREATE INDEX kbs_org ON kbs (org);

CREATE TABLE permissions (
    key        TEXT COLLATE "C" NOT NULL REFERENCES keys (hash),
    kb         BIGINT NOT NULL REFERENCES kbs (no),
    permission INTEGER NOT NULL,
    updated_at TEXT NOT NULL,
    PRIMARY KEY (key, kb)
);
CREATE INDEX permissions_kb ON permissions (kb);

CREATE TABLE contexts (
    no     BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    org    TEXT COLLATE "C" NOT NULL REFERENCES orgs (id),
    id     TEXT COLLATE "C" NOT NULL,
    data   TEXT,
    public TEXT,
    n      BYTEA,
    chunks INTEGER,
    UNIQUE (org, id)
);

CREATE TABLE bindings (
    kb      BIGINT NOT NULL REFERENCES kbs (no),
    context BIGINT NOT NULL REFERENCES contexts (no),
    PRIMARY KEY (kb, context)
);
CREATE INDEX bindings_context ON bindings (context);

CREATE TABLE chunks (
    kb         BIGINT NOT NULL,
    id         BIGINT NOT NULL,
    context    BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    key        TEXT COLLATE "C",
    name       TEXT COLLATE "C" NOT NULL,
    tag1       TEXT COLLATE "C",
    tag2       TEXT COLLATE "C",
    tag3       TEXT COLLATE "C",
    tag4       TEXT COLLATE "C",
    tag5       TEXT COLLATE "C",
    facets     BIGINT,
    meta       TEXT NOT NULL,
    content    TEXT NOT NULL,
    PRIMARY KEY (kb, id)
);
CREATE UNIQUE INDEX chunks_key ON chunks (kb, key) WHERE key IS NOT NULL;
-- An index row has room for some 2,700 bytes: 200 characters are 800 at most.
CREATE INDEX chunks_tag1 ON chunks (kb, left(tag1, 200), id) WHERE tag1 IS NOT NULL;
CREATE INDEX chunks_tag2 ON chunks (kb, left(tag2, 200), id) WHERE tag2 IS NOT NULL;
CREATE INDEX chunks_tag3 ON chunks (kb, left(tag3, 200), id) WHERE tag3 IS NOT NULL;
CREATE INDEX chunks_tag4 ON chunks (kb, left(tag4, 200), id) WHERE tag4 IS NOT NULL;
CREATE INDEX chunks_tag5 ON chunks (kb, left(tag5, 200), id) WHERE tag5 IS NOT NULL;

CREATE TABLE facets (
    kb    BIGINT NOT NULL,
    token TEXT COLLATE "C" NOT NULL,
    id    BIGINT NOT NULL,
    PRIMARY KEY (kb, token, id)
);

CREATE TABLE vectors (
    kb          BIGINT NOT NULL,
    id          BIGINT NOT NULL,
    context     BIGINT NOT NULL,
    seq         BIGINT NOT NULL,
    ciphertexts INTEGER NOT NULL,
    data        BYTEA STORAGE EXTERNAL NOT NULL,  -- never shorter when compressed
    record      BYTEA NOT NULL DEFAULT '',
    PRIMARY KEY (kb, id)
) WITH (toast_tuple_target = 8160);
CREATE INDEX vectors_seq ON vectors (kb, context, seq, id);

CREATE TABLE deletions (
    kb  BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    ids BYTEA STORAGE EXTERNAL NOT NULL,
    PRIMARY KEY (kb, seq)
);

CREATE TABLE replays (
    token   TEXT COLLATE "C" PRIMARY KEY,
    digest  TEXT NOT NULL,
    kb      BIGINT NOT NULL,
    expires DOUBLE PRECISION NOT NULL,
    ids     TEXT NOT NULL
);
CREATE INDEX replays_expires ON replays (expires);

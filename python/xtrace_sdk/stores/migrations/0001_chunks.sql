-- {TABLE}, {DIMENSIONS}, {HNSW_M} and {HNSW_EF_CONSTRUCTION} are filled in, checked, by PgVectorStore.
CREATE EXTENSION IF NOT EXISTS vector;

CREATE TABLE {TABLE} (
    namespace       TEXT COLLATE "C" NOT NULL,
    id              TEXT COLLATE "C" NOT NULL,
    place           BIGINT GENERATED ALWAYS AS IDENTITY,   -- a replaced chunk keeps it: the order of insertion
    document_id     TEXT NOT NULL,
    content         TEXT NOT NULL,
    position        BIGINT NOT NULL,
    metadata        JSON NOT NULL,                         -- not JSONB, which rewrites numbers
    content_hash    TEXT NOT NULL,
    embedding       vector({DIMENSIONS}) NOT NULL,
    embedding_model TEXT NOT NULL,
    PRIMARY KEY (namespace, id)
);

CREATE INDEX {TABLE}_place ON {TABLE} (namespace, place);
CREATE INDEX {TABLE}_metadata ON {TABLE} USING gin ((metadata::jsonb) jsonb_path_ops);
CREATE INDEX {TABLE}_embedding ON {TABLE} USING hnsw (embedding vector_cosine_ops)
    WITH (m = {HNSW_M}, ef_construction = {HNSW_EF_CONSTRUCTION});

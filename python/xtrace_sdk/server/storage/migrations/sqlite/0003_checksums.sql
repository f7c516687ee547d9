-- Checksums of rows (`checksums.py`), and for the change feed the number of each chunk's last change.
-- `checksum(...)` is defined while migrating.
ALTER TABLE chunks ADD COLUMN seq INTEGER NOT NULL DEFAULT 0;
UPDATE chunks SET seq = (SELECT v.seq FROM vectors AS v WHERE v.kb = chunks.kb AND v.id = chunks.id);
CREATE INDEX chunks_seq ON chunks (kb, seq, id);
ALTER TABLE chunks ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE chunks ADD COLUMN content_checksum INTEGER NOT NULL DEFAULT 0;
UPDATE chunks SET checksum = checksum(kb, id, seq, context, created_at, key, name, meta),
    content_checksum = checksum(kb, id, content);
ALTER TABLE vectors ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
UPDATE vectors SET checksum = checksum(kb, id, context, seq, ciphertexts, data, record);
ALTER TABLE deletions ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
UPDATE deletions SET checksum = checksum(kb, seq, ids);
ALTER TABLE contexts ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
UPDATE contexts SET checksum = checksum(org, id, data, public, n, chunks);
ALTER TABLE keys ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
UPDATE keys SET checksum = checksum(hash, org, admin, active, first_n, name, description, default_permission, created_at);
ALTER TABLE permissions ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
UPDATE permissions SET checksum = checksum(key, kb, permission, updated_at);
ALTER TABLE orgs ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
UPDATE orgs SET checksum = checksum(id, created_at);
ALTER TABLE kbs ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
UPDATE kbs SET checksum = checksum(no, id, org, name, description, created_at, updated_at, next_id, count, seq);
ALTER TABLE bindings ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
UPDATE bindings SET checksum = checksum(kb, context);
ALTER TABLE replays ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
UPDATE replays SET checksum = checksum(token, digest, kb, expires, ids);
-- Facets too long for an index of any engine are held by their SHA-256.
UPDATE facets SET token = facet_token(token) WHERE length(token) > 256;

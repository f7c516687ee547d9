-- What clients store beside a vector, unread and at most 160 bytes; empty if nothing.
ALTER TABLE vectors ADD COLUMN record BLOB NOT NULL DEFAULT X'';

-- The index in its first version. Never changed: it is what programs of then left behind.
CREATE TABLE blob (
    digest BLOB PRIMARY KEY CHECK (length(digest) = 32),
    size INTEGER NOT NULL,
    state INTEGER NOT NULL,
    verified_ms INTEGER NOT NULL,
    dev INTEGER NOT NULL,
    ino INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    origin INTEGER NOT NULL,
    created_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE artifact (
    id INTEGER PRIMARY KEY,
    key BLOB NOT NULL UNIQUE CHECK (length(key) = 32),
    source TEXT NOT NULL,
    model_id TEXT NOT NULL,
    commit_id TEXT NOT NULL,
    quant TEXT NOT NULL,
    modality TEXT NOT NULL,
    format INTEGER NOT NULL,
    manifest_digest BLOB NOT NULL,
    reference TEXT NOT NULL,
    pinned INTEGER NOT NULL DEFAULT 0,
    created_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX artifact_model ON artifact (model_id);
CREATE TABLE artifact_file (
    artifact_id INTEGER NOT NULL REFERENCES artifact (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    path TEXT NOT NULL,
    digest BLOB NOT NULL REFERENCES blob (digest),
    role INTEGER NOT NULL,
    PRIMARY KEY (artifact_id, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX artifact_file_digest ON artifact_file (digest);
CREATE TABLE ref (
    source TEXT NOT NULL,
    model_id TEXT NOT NULL,
    name TEXT NOT NULL,
    commit_id TEXT NOT NULL,
    checked_ms INTEGER NOT NULL,
    PRIMARY KEY (model_id, name, source)
) STRICT, WITHOUT ROWID;
CREATE TABLE usage (
    artifact_id INTEGER PRIMARY KEY REFERENCES artifact (id) ON DELETE CASCADE,
    hits INTEGER NOT NULL,
    misses INTEGER NOT NULL,
    last_ms INTEGER NOT NULL,
    rate_ewma REAL NOT NULL,
    load_n INTEGER NOT NULL,
    load_ms_ewma REAL NOT NULL,
    held_bytes INTEGER NOT NULL,
    mapped_bytes INTEGER NOT NULL,
    fetch_bps_ewma REAL NOT NULL
) STRICT;
CREATE TABLE counters (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
PRAGMA user_version = 1;

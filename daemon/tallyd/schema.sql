-- Version 1 of tallyd's state. One writer (the holder of daemon.lock), any number of readers.
-- Sums are kept one row per measure, so that every merge is one additive upsert and no value is
-- read, changed and written back. Texts of dimensions and fields are canonical JSON (wire.canonical).

CREATE TABLE envelope (
    id      INTEGER PRIMARY KEY,
    product TEXT NOT NULL,
    fields  TEXT NOT NULL,
    UNIQUE (product, fields)
) STRICT;

CREATE TABLE bucket (
    product     TEXT NOT NULL,
    day         TEXT NOT NULL,
    envelope_id INTEGER NOT NULL REFERENCES envelope (id),
    event       TEXT NOT NULL,
    dimensions  TEXT NOT NULL,
    measure     TEXT NOT NULL,
    value       INTEGER NOT NULL CHECK (value >= 0),
    PRIMARY KEY (product, day, envelope_id, event, dimensions, measure)
) STRICT, WITHOUT ROWID;

CREATE TABLE event (
    id          INTEGER PRIMARY KEY,
    product     TEXT NOT NULL,
    envelope_id INTEGER NOT NULL REFERENCES envelope (id),
    event       TEXT NOT NULL,
    ts          TEXT NOT NULL,
    properties  TEXT NOT NULL
) STRICT;
CREATE INDEX event_by_product ON event (product, envelope_id, id);

-- Names of merged deltas, the half of "exactly once" that is remembered: 48 bits of the instant in the
-- name (Unix ms), so that those of one pass lie on few pages, then 64 bits of BLAKE2b.
CREATE TABLE delta (
    id       BLOB PRIMARY KEY,
    seen_day TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE outbox (
    id         INTEGER PRIMARY KEY,
    product    TEXT NOT NULL,
    batch_id   TEXT NOT NULL UNIQUE,
    machine_id TEXT NOT NULL,
    contract   TEXT NOT NULL,
    expires_at REAL NOT NULL,
    body       BLOB NOT NULL,
    events     INTEGER NOT NULL,
    counted    INTEGER NOT NULL,
    lost       TEXT NOT NULL
) STRICT;
CREATE INDEX outbox_by_product ON outbox (product, id);

CREATE TABLE ledger (
    id       INTEGER PRIMARY KEY,
    product  TEXT NOT NULL,
    batch_id TEXT NOT NULL,
    at       REAL NOT NULL,
    endpoint TEXT NOT NULL,
    verdict  INTEGER NOT NULL CHECK (verdict BETWEEN 1 AND 4),
    detail   TEXT NOT NULL,
    events   INTEGER NOT NULL,
    sha256   TEXT NOT NULL,
    size     INTEGER NOT NULL,
    body     BLOB
) STRICT;
CREATE INDEX ledger_by_product ON ledger (product, id);

CREATE TABLE loss (
    product TEXT NOT NULL,
    cause   TEXT NOT NULL,
    unsent  INTEGER NOT NULL,
    total   INTEGER NOT NULL,
    PRIMARY KEY (product, cause)
) STRICT, WITHOUT ROWID;

CREATE TABLE schedule (
    product    TEXT PRIMARY KEY,
    next_send  REAL NOT NULL,
    not_before REAL NOT NULL DEFAULT 0
) STRICT;

-- The decision under which what we hold was counted; another one empties it.
CREATE TABLE decision (
    product        TEXT PRIMARY KEY,
    effective_from TEXT,
    machine_id     TEXT
) STRICT;

CREATE TABLE run (
    id         INTEGER PRIMARY KEY,
    pid        INTEGER NOT NULL,
    version    TEXT NOT NULL,
    started_at REAL NOT NULL,
    stopped_at REAL,
    reason     INTEGER CHECK (reason BETWEEN 1 AND 5),
    uptime_s   REAL
) STRICT;

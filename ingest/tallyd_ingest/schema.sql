-- Version 1 of the gateway's store: counters add. There is no address, no header and no time of
-- arrival finer than a day in any table.

CREATE TABLE rollup (
    product    TEXT NOT NULL,
    day        TEXT NOT NULL,
    machine_id TEXT NOT NULL,
    event      TEXT NOT NULL,
    envelope   TEXT NOT NULL,
    dimensions TEXT NOT NULL,
    measure    TEXT NOT NULL,
    value      INTEGER NOT NULL,
    PRIMARY KEY (product, day, machine_id, event, envelope, dimensions, measure)
) STRICT, WITHOUT ROWID;

CREATE TABLE event (
    id           INTEGER PRIMARY KEY,
    product      TEXT NOT NULL,
    received_day TEXT NOT NULL,
    machine_id   TEXT NOT NULL,
    event        TEXT NOT NULL,
    ts           TEXT,
    envelope     TEXT NOT NULL,
    properties   TEXT NOT NULL
) STRICT;

CREATE TABLE lost (
    product    TEXT NOT NULL,
    day        TEXT NOT NULL,
    machine_id TEXT NOT NULL,
    cause      TEXT NOT NULL,
    value      INTEGER NOT NULL,
    PRIMARY KEY (product, day, machine_id, cause)
) STRICT, WITHOUT ROWID;

CREATE TABLE batch (
    batch_id TEXT PRIMARY KEY,
    seen_day TEXT NOT NULL
) STRICT, WITHOUT ROWID;

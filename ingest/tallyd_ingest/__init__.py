"""tallyd-ingest: the gateway. Keeps what a contract lists, adds it up, and never looks at who sent it.

Read top-down: `cli` serves and exports, `app` is the answer table of docs/wire.md, `body` turns bytes
into what may be stored, `store` adds it up in SQLite, `metrics` counts what happened. Of the daemon
it imports the pure `tallyd.contract` and nothing else.
"""

"""tallyd: merges counter deltas exactly once and sends one finished day at a time.

Read the package top-down: `cli` is the only module that prints, `service` the front door of the
daemon, then the stations in the order data meets them (`intake`, `seal`, `sender`, `retention`,
`heartbeat`, `status`), the places they share (`spool`, `buckets`, `outbox`, `ledger`, …), and at
the bottom the pure `contract`. docs/architecture.md draws it.
"""

__version__ = "0.2.0"

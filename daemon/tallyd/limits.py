"""Every cap, interval and timeout of the daemon, each with its unit and where it comes from.

Nothing here is configurable: a limit that users turn is a promise nobody can test. What a product
may choose (interval, timeout, batch size) stands in its contract; what a user may choose stands in
`settings`.
"""

from __future__ import annotations

from typing import Final

# --- spool (docs/spool.md) -----------------------------------------------------------------------
# spool-v1: one delta is at most 64 KiB and 8 levels deep, its name at most 96 characters.
DELTA_MAX_BYTES: Final = 64 * 1024
DELTA_MAX_DEPTH: Final = 8
DELTA_NAME_MAX_CHARS: Final = 96
# One quarantined file shows what is wrong; a hundred show that it goes on. At most 100 + 100 reasons,
# and never more bytes than the spool itself may hold.
QUARANTINE_MAX_FILES: Final = 100
QUARANTINE_MAX_BYTES: Final = 2 * 1024 * 1024

# Files of a spool whose size `status` asks the system for, 1.2 µs each; the rest are counted, and told by
# their names. Writers leave at most twice their cap of 2,048.
MEASURED_FILES: Final = 4096

# --- intake --------------------------------------------------------------------------------------
# What a reader of deltas remembers for one pass: an envelope or an entry of a real host has 50 to 300
# bytes and a thousand of them are many products' worth; decoded, all of it is under 3 MiB.
DELTA_MEMORY_PIECES: Final = 1024
DELTA_MEMORY_PIECE_BYTES: Final = 512
# Files merged in one transaction. A commit waits for the disk (0.3 to 7 ms measured) and each batch
# looks at consent anew (1 ms): shared by a thousand files that is under a tenth of what a file costs,
# and a kill repeats 20 ms of work.
MERGE_BATCH_FILES: Final = 1024
# And at most this many bytes of them: a stop waits for the transaction that is under way.
MERGE_BATCH_BYTES: Final = 1024 * 1024
# Files of one product that are listed and merged before the next product has its turn: what writers
# leave at most (twice their cap of 2,048). Beyond it, memory and the others' wait stay the same.
MERGE_TURN_FILES: Final = 4096
# A delta a day ahead is a host in another time's midnight; further ahead is a broken clock.
MAX_DAYS_AHEAD: Final = 1
# A delta's name is remembered until its day is refused as too old anyway (30 days + tomorrow + today).
DELTA_ID_DAYS: Final = 32
# Names remembered, of all products together: 10,000 processes a day for 25 days, 8 MiB. What a name
# protects from is a file that comes back after a kill or a power cut, which takes days at most.
DELTA_NAMES_MAX_ROWS: Final = 250_000
# Between two hourly looks at them, at most a tenth more.
DELTA_NAMES_SLACK: Final = 25_000
# Merged sums saturate at the largest integer every JSON reader holds exactly, so two of them always
# fit SQLite's 64 bits.
MAX_SUM: Final = 2**53 - 1

# Sums and events that merges may add before the caps of their product are looked at again: half a
# percent of the sums, a tenth of the events.
CAPS_SLACK_ROWS: Final = 1000

# --- waking up -----------------------------------------------------------------------------------
# The slow timer: what a lost wake-up costs in latency. Daily counters need no more.
RESCAN_INTERVAL_S: Final = 60.0
# watchfiles wakes once a step, idle or not: 1.5 s is 0.67 wake-ups a second (promise: at most 1).
WATCH_STEP_MS: Final = 1500
WATCH_DEBOUNCE_MS: Final = 3000
# Products whose directories are watched, two each; a system may give a user 8,192 watches in all, and
# whoever fills the spool with directories must not take them from other programs.
WATCH_MAX_PRODUCTS: Final = 100
# What comes into a new directory before it is watched waits this long: the time a hint takes anyway.
WATCH_SETTLE_S: Final = WATCH_DEBOUNCE_MS / 1000

# --- the clock (decision 30) ---------------------------------------------------------------------
# A wall clock that leaps by more than this against the monotonic one was set, or the machine slept:
# what is too old is told by days, which an hour does not change.
CLOCK_LEAP_S: Final = 3600.0
# So long it must go on steadily before anything is lost by its word. A time service that finds a wrong
# clock mends it within a minute or two.
CLOCK_SETTLE_S: Final = 900.0
# A daemon that was last seen longer ago than anything is kept looks at the clock for that long first.
CLOCK_GAP_S: Final = 32 * 86400.0

# --- sending -------------------------------------------------------------------------------------
# wire-v1: a request is at most 64 KiB.
BODY_MAX_BYTES: Final = 64 * 1024
# A machine that boots does not send at once: a fleet rebooted together spreads over a minute.
FIRST_SEND_JITTER_S: Final = 60.0
# The longest a delivery sleeps without looking at the wall clock, which a suspended machine sets forward.
DELIVERY_LOOK_S: Final = 60.0
# Intervals are stretched or shrunk by up to a fifth, so that two machines drift apart within days.
INTERVAL_JITTER: Final = 0.2
# A backlog goes on after the gateway's one-minute window has passed.
PACE_WINDOW_S: Final = 60.0
# A Retry-After longer than a day is a gateway's mistake; the next interval asks again.
RETRY_AFTER_MAX_S: Final = 86400.0
# Batches awaiting a verdict, per product: 30 days of four full batches. Oldest go first.
OUTBOX_MAX_BYTES: Final = 8 * 1024 * 1024
# And at most so many of them, however small: 30 days of a batch for each of thirty envelopes.
OUTBOX_MAX_BATCHES: Final = 1000
# Rows of the ledger per product, and how many of the newest keep their body for `status` and people.
LEDGER_MAX_ROWS: Final = 1000
LEDGER_MAX_BODIES: Final = 30
# Single events awaiting a seal, per product: a hundred full batches.
EVENTS_MAX_ROWS: Final = 10_000
# Stored sums per product, one per bucket and measure: a heavy product makes a tenth in 30 days.
BUCKETS_MAX_SUMS: Final = 200_000
# Distinct envelopes per product, each a batch of its own: a machine has a few dozen in 30 days (versions
# of the host, times whether it ran in CI), and no more batches than these fit the outbox.
ENVELOPES_MAX_ROWS: Final = 1000

# --- lifecycle -----------------------------------------------------------------------------------
# After a hard kill the uptime is known to within one beat; a touch of one file a minute costs nothing.
HEARTBEAT_INTERVAL_S: Final = 60.0
# A holder of the lock that left out four beats hangs, or its disk refuses even those.
SILENT_AFTER_S: Final = 300.0
# Drops that waited for so long beside a service on demand did not start it: its path unit, which starts it
# within a second, does not watch, or was not told of that product.
WAITED_LONG_S: Final = 3600.0
# A duty that took no step of its round for so long hangs: the longest piece of work is a merge of 1 MiB
# or a request's timeout, of 30 s at most.
STUCK_AFTER_S: Final = 120.0
# Until the first scan is done the service manager is told this often that the start goes on, and for how
# long it may: a spool of a million files takes a minute.
START_LOOK_S: Final = 20.0
START_EXTEND_S: Final = 90.0
# A daemon on demand leaves after so long without work: the pause after which a person does something
# else. Users may choose another (settings).
IDLE_EXIT_S: Final = 600.0
# What is looked at, per product, to see whether a file came while a daemon on demand was leaving.
WAITING_MAX_NAMES: Final = 10_000
# A service that ended is started again after 15 s, if at all; until then nothing is wrong.
RESTART_S: Final = 30.0
# How long one command of a service manager may take: a start waits for the first scan.
SERVICE_COMMAND_S: Final = 120.0
# How long a step may take to come true after its command, in seconds, and how often that is looked at:
# launchd ends a daemon after 5 s, and refused a new one for about 5 s more (docs/decisions.md).
SERVICE_SETTLE_S: Final = 20.0
SERVICE_LOOK_S: Final = 0.1
# How long one service command waits for another of this user's to end: twice the longest step of it.
SERVICE_TURN_S: Final = 2 * SERVICE_COMMAND_S
# An agent of ours is 1.5 KiB, and with a hundred products on demand 20.
AGENT_MAX_BYTES: Final = 64 * 1024
# How long a supervised start waits for a daemon on demand to leave: it looks once a minute.
TAKE_OVER_S: Final = 90.0
# A log that is a file: a year of starts and stops, or a month of a day's trouble; and as much before it.
LOG_MAX_BYTES: Final = 256 * 1024
# A version and a command line of a few hundred bytes.
HANDOVER_MAX_BYTES: Final = 4096
# For so long a start prefers the newer program that a host asked for: the older daemon leaves within a
# minute, and whoever starts next must not be older again. A program that cannot run costs ten minutes.
HANDOVER_FRESH_S: Final = 600.0
# Starts and stops that are remembered: `status` shows the last, a person may look at some before.
RUNS_MAX_ROWS: Final = 100
# Age moves by the day and caps hold at once: what is left to tidy can wait an hour.
RETENTION_INTERVAL_S: Final = 3600.0
# The text of daemon.lock, which also says what is wrong now: one block of a disk, so that it can be
# overwritten in place on a full one. Eight problems of 300 characters fit with what surrounds them.
BOARD_BYTES: Final = 4096
BOARD_PROBLEMS: Final = 8
BOARD_WHY_CHARS: Final = 300
# A second daemon waits this long for the lock, so that `status` looking at it never turns one away.
LOCK_PATIENCE_S: Final = 0.5
# `tallyd flush` waits this long for a running daemon: two watch steps, an intake and one slow minute.
FLUSH_PATIENCE_S: Final = 120.0
# The longest a daemon takes to see a request for a flush without a wake-up.
FLUSH_LOOK_S: Final = 15.0

# --- a full or failing disk ----------------------------------------------------------------------
# What is given up when the disk is full, in bytes. Before a row can go, what the log holds (LOG_PAGES,
# 1 MiB) may need as much room in the database. The largest row is a batch of 64 KiB, 17 pages and the few above
# them in the log again; the log's index takes 32 KiB, a state file and a request a block each.
RESERVE_BYTES: Final = 2 * 1024 * 1024
# After so many pages of 4 KiB the log is written back into the database.
LOG_PAGES: Final = 256
# It is made again when the disk has room for this many of it: the last of a disk is not ours to take.
RESERVE_ROOM: Final = 4
# Rows that go in one transaction on a full disk, at first; each refusal divides them by four, down to one.
PIECE_ROWS: Final = 256
# How soon retention looks again while something is wrong or the reserve is missing, in seconds.
TROUBLED_INTERVAL_S: Final = 60.0
# Less free room than one delta takes: whoever drops or merges is refused.
FULL_BELOW_BYTES: Final = 64 * 1024
# A database that was set aside as damaged goes after this many days: nothing in it may be sent any more.
DAMAGED_DAYS: Final = 30
# A second damage so soon after the first is the disk's: the daemon ends instead of beginning anew.
DAMAGE_PAUSE_S: Final = 600.0
# --- requests and notices -------------------------------------------------------------------------
# Requests for a flush that one round answers: a person has one or two terminals, each answer is synced
# to disk, and a round comes every FLUSH_LOOK_S. A request names products, its answer has counts and a
# problem for each: a thousand products in 64 B each.
FLUSH_MAX_REQUESTS: Final = 100
FLUSH_REQUEST_MAX_BYTES: Final = 64 * 1024
# Files in `state/notices/<product>`, one or two per version of its contract: years of releases.
NOTICES_MAX_FILES: Final = 200

# --- leftovers -----------------------------------------------------------------------------------
# What a killed process left beside its files is swept after an hour, in seconds: between create and
# rename lie milliseconds, and an hour covers a laptop that was suspended there.
LEFTOVER_S: Final = 3600.0

# --- files the daemon reads ----------------------------------------------------------------------
# A choice takes a few hundred bytes; a product's own file that holds more than settings is not one.
STATE_FILE_MAX_BYTES: Final = 64 * 1024

# --- the doctor ----------------------------------------------------------------------------------
# A person waits. One check may take this long before it counts as one that could not look (a network
# disk that does not answer); a thousand products take two seconds of it.
DOCTOR_CHECK_S: Final = 20.0
# After so long it says that it still looks.
DOCTOR_SILENCE_S: Final = 1.0
# Reading the database through: 100 MiB, the most that the caps leave, take half of this from a slow disk.
DOCTOR_DATABASE_S: Final = 5.0
# One host, from its name to its answer: three time-outs of a resolver take 15 s.
DOCTOR_HOST_S: Final = 15.0
# All hosts together; those that are left are named and not looked at.
DOCTOR_ONLINE_S: Final = 60.0
# No clock that is right shows less (Unix s): this version was not made before 2026-11-01.
MADE_AFTER: Final = 1_793_491_200.0

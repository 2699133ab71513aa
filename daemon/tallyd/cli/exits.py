"""The exit codes that commands choose themselves; errors carry their own (`tallyd.errors`)."""

EXIT_WIDER, EXIT_STALE, EXIT_FOUND = 1, 1, 1
EXIT_UNAVAILABLE = 69
EXIT_BUG, EXIT_STATE, EXIT_OUTPUT, EXIT_CONFIG, EXIT_INTERRUPTED = 70, 73, 74, 78, 130

"""What tests share: a clock that stands still, deltas written by hand, real processes, a recorder."""

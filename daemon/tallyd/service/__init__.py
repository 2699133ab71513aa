"""The front door: whoever works on the state comes in here, one at a time.

`daemon` is the long life of `tallyd run`, `once` the same pipeline a single time in the foreground,
under the same lock (`instance`). `loops` are the daemon's duties, `life` decides when it ends. A loop
never returns and may be cancelled at any await, because the process may be killed anywhere.
"""

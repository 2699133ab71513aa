"""What tallyd costs, beside its floors and its peers, and the incident that it answers, replayed.

`python -m benchmarks` measures the promises (`make bench`), `python -m benchmarks.incident` replays
the incident (`make incident`). Every figure is a ratio to a floor measured in the same run, medians
of interleaved rounds; `budgets.toml` holds each limit with its reason. Nothing here asserts.
"""

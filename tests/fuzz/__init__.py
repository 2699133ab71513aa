"""Every reader of what others may write, given anything: one module per reader, each with `one_input(data)`.

`one_input` raises only where a promise is broken: AssertionError, or whatever the reader must not
raise. Hypothesis calls it in the suite (`test_*`), atheris in `make fuzz` (`run`).
"""

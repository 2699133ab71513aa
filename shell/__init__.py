"""What a shell and `man` know of tallyd, made from the command line's table: `make shell`.

Nothing in here is installed; what it makes is, from `daemon/tallyd/shell`. shtab is needed only to make.
"""

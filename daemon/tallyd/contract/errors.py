"""What is wrong with a contract, said so that its author can mend it.

ContractError      file, line, key, problem, and what would be right
"""

from __future__ import annotations


class ContractError(Exception):
    """A contract that cannot be used.

    `file` as given by the caller, `line` 1-based (0: the whole file), `key` dotted as in TOML ("" for
    the whole file), `problem` what is wrong, `hint` what would be right.
    """

    def __init__(self, file: str, line: int, key: str, problem: str, hint: str = "") -> None:
        place = f"{file}:{line}" if line else file
        named = f"{key}: " if key else ""
        advice = f"; {hint}" if hint else ""
        super().__init__(f"{place}: {named}{problem}{advice}")
        self.file = file
        self.line = line
        self.key = key
        self.problem = problem
        self.hint = hint

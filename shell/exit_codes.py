"""README's table of exit codes, from the one in `tallyd.exits`."""

from __future__ import annotations

import re

from tallyd.exits import TABLE

_TABLE = re.compile(r"(?<=<!-- exit codes -->\n).*?(?=<!-- end of exit codes -->)", re.DOTALL)


def render_readme(text: str) -> str:
    """README with its table of exit codes as it should be, everything else as it is."""
    rows = ["| exit code | of | means |", "|---|---|---|"]
    for one in TABLE:
        of = ", ".join(f"`tallyd {words}`" for words in one.of) or "every command"
        rows.append(f"| {one.code} | {of} | {one.means} |")
    table = "\n".join(rows) + "\n"
    return _TABLE.sub(lambda _: table, text)

"""Parts of documents that a run prints, between markers: nothing in them is typed by hand.

<!-- measured: NAME -->
...
<!-- end of NAME -->
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks import report
from benchmarks.measure import Run

ROOT = Path(__file__).resolve().parents[1]
PERFORMANCE = ROOT / "docs" / "performance.md"
PICTURES = ROOT / "docs" / "pictures"
RESULTS = ROOT / "benchmarks" / "results"
FIGURES = RESULTS / "figures.json"

# Each picture with what it shows, in the order of the document.
CAPTIONS = {
    "files": "Cost of a file as the spool grows",
    "rows": "Cost of a file as the database grows",
    "products": "Cost of a file as products share the daemon",
    "days": "Cost of a file as days pile up in one spool; those of more than 30 days ago are refused and counted",
    "peers": "Cost of a count, ours and others",
}


def put(text: str, name: str, part: str) -> str:
    """The text with what stands between the markers of `name` replaced by `part`."""
    begin, end = f"<!-- measured: {name} -->\n", f"<!-- end of {name} -->"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"the markers of {name} are missing")
    return f"{before}{begin}{part.strip()}\n{end}{after}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in one) + " |" for one in lines
    )


def performance(run: Run) -> dict[str, str]:
    """The parts of docs/performance.md, by the name of their markers."""
    header = ("promise", "limit", "floor", "best peer", "ours", "ratio", "verdict")
    others = (
        table(report.PEERS_HEADER, report.peers_table(run))
        if run.peers
        else "No peer was installed."
    )
    missed = [row for row in report.rows(run) if row[-1] == report.NOT_MET]
    said = (
        f"{len(missed)} of {len(report.rows(run))} lines are not met."
        if missed
        else "Every limit is met."
    )
    pictures = [f"![{caption}](pictures/{name}.svg)" for name, caption in CAPTIONS.items()]
    return {
        "figures": f"{report.machine_in_words(run)}. {said}\n\n{table(header, report.rows(run))}",
        "peers": others,
        "curves": "\n\n".join(pictures),
        "reasons": table(
            ("what", "limit", "why"),
            [(one.what, one.in_words(), one.reason) for one in report.budgets().values()],
        ),
    }


def write_performance(run: Run, file: Path = PERFORMANCE) -> None:
    """Put this run's parts into docs/performance.md."""
    text = file.read_text()
    for name, part in performance(run).items():
        text = put(text, name, part)
    file.write_text(text)

"""The cost curves and the peers as SVG pictures, the same bytes for the same figures.

    python -m benchmarks.pictures FIGURES.json DIRECTORY

The only module that imports matplotlib, which lives in an environment of its own (`make bench-docs`).
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure as Page

from benchmarks.documents import CAPTIONS
from benchmarks.measure import Curve, Run

_OURS, _FLOOR, _PEER = "#0b6e4f", "#8a8a8a", "#b0562b"
# Text stays text (small, and searchable), and ids are made from what is drawn, not by chance.
mpl.rcParams.update(
    {
        "svg.fonttype": "none",
        "svg.hashsalt": "tallyd",
        "font.family": "sans-serif",
        "font.size": 10,
    }
)


def draw_all(run: Run, directory: Path) -> list[Path]:
    """Draw every picture for which the run has figures."""
    directory.mkdir(parents=True, exist_ok=True)
    drawn = [_save(_curve(one, run), directory, one.name) for one in run.curves]
    return [*drawn, _save(_peers(run), directory, "peers")]


def _save(page: Page, directory: Path, name: str) -> Path:
    file = directory / f"{name}.svg"
    page.savefig(file, format="svg", metadata={"Date": None, "Title": CAPTIONS[name]})
    # Trailing blanks are no part of a picture, and tools that tidy texts would remove them.
    file.write_text("\n".join(line.rstrip() for line in file.read_text().splitlines()) + "\n")
    return file


def _curve(curve: Curve, run: Run) -> Page:
    page = Page(figsize=(6.4, 3.2), layout="constrained")
    axes = page.subplots()
    axes.plot(
        curve.x,
        curve.ours_us,
        "o-",
        color=_OURS,
        label="tallyd: read, screen, add, remember, commit, remove",
    )
    axes.plot(curve.x, curve.floor_us, "o--", color=_FLOOR, label="floor: scan, open, read, remove")
    axes.set_xscale("symlog", linthresh=1000) if curve.x[0] == 0 else axes.set_xscale("log")
    axes.set_xticks(curve.x, [f"{x:,}" for x in curve.x])
    axes.minorticks_off()
    axes.set_ylim(0, 1.35 * max(*curve.ours_us, *curve.floor_us))
    axes.set_xlabel(curve.x_label)
    axes.set_ylabel("µs a file")
    _dress(page, axes, CAPTIONS[curve.name].partition(";")[0], run)
    axes.legend(loc="upper left", frameon=False, fontsize=8)
    return page


def _peers(run: Run) -> Page:
    bars = [
        (value, label, _OURS)
        for label, name in (
            ("tallyd, bound counter", "bound_1"),
            ("tallyd, count(...)", "rollup_1"),
        )
        for value in (one.value for one in run.figures if one.budget == name)
        if value is not None
    ]
    bars += [(one.count_f, one.name, _PEER) for one in run.peers if one.count_f is not None]
    bars.sort(reverse=True)
    page = Page(figsize=(6.4, 0.9 + 0.32 * len(bars)), layout="constrained")
    axes = page.subplots()
    found = axes.barh(
        [label for _, label, _ in bars],
        [value for value, _, _ in bars],
        color=[color for *_, color in bars],
    )
    axes.bar_label(found, [f"{value:,.1f}" for value, *_ in bars], padding=3, fontsize=8)
    axes.set_xscale("log")
    axes.set_xlim(0.1, 4 * max((value for value, *_ in bars), default=1))
    axes.set_xlabel("dict increments in a Python function (F)")
    _dress(page, axes, CAPTIONS["peers"], run)
    return page


def _dress(page: Page, axes: object, title: str, run: Run) -> None:
    of = run.machine
    axes.set_title(title, loc="left", fontsize=11)  # type: ignore[attr-defined]
    axes.spines[["top", "right"]].set_visible(False)  # type: ignore[attr-defined]
    machine = (
        f"{of['cpu']}, {of['cores']} cores, {of['kernel']}, {of['python']}, {of['file system']}"
    )
    page.supxlabel(machine, fontsize=7, color=_FLOOR)


if __name__ == "__main__":
    for picture in draw_all(Run.of(Path(sys.argv[1]).read_text()), Path(sys.argv[2])):
        print(f"{picture.name}: {picture.stat().st_size / 1024:.0f} KiB", file=sys.stderr)

"""`make bench`: measure the promises and print one table.

    python -m benchmarks [--only THEME ...] [--quick] [--json FILE] [--check TIMES] [--docs]

The exit code is 0 whatever was measured, since machines are shared and noisy; with `--check TIMES` it
is 1 when a figure is over so many times its limit. `--docs` writes docs/performance.md from the figures
kept in benchmarks/results, and measures nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from benchmarks import curves, documents, idle, merge, peers, processes, report, stop, stub, wire
from benchmarks.measure import Run, machine, progress, scratch

_THEMES = {
    "stub": stub.measure,
    "processes": processes.measure,
    "merge": merge.measure,
    "idle": idle.measure,
    "stop": stop.measure,
    "wire": wire.measure,
}


def main() -> int:
    arguments = _parser().parse_args()
    if arguments.docs:
        documents.write_performance(Run.of(documents.FIGURES.read_text()))
        return 0
    run = measured(
        arguments.only or [*_THEMES, "curves", "peers"], quick=arguments.quick, kept=arguments.json
    )
    print(report.text_table(run))
    if run.peers:
        print()
        for row in (report.PEERS_HEADER, *report.peers_table(run)):
            print(
                "  ".join(
                    cell.ljust(width)
                    for cell, width in zip(row, (40, 10, 12, 7, 21, 21), strict=True)
                ).rstrip()
            )
    print(f"\n{report.machine_in_words(run)}")
    far_over = report.over(run, arguments.check) if arguments.check else []
    for one in far_over:
        print(f"over {arguments.check:g} times its limit: {one}", file=sys.stderr)
    return 1 if far_over else 0


def measured(themes: list[str], *, quick: bool, kept: str | None = None) -> Run:
    """Run these themes, each below a directory that is gone afterwards.

    What is measured so far stands in the file `kept` after each of them: a run takes minutes.
    """
    run = Run(
        {
            **machine(),
            "day": time.strftime("%Y-%m-%d", time.gmtime()),
            "form": "the short form" if quick else "the full form",
        }
    )
    with scratch() as root:
        # Nothing that this shell says about consent or about where things lie is meant.
        for name in ("DO_NOT_TRACK", "CI", "TALLYD_DEMO_TELEMETRY", "CODEGRAPH_TELEMETRY"):
            os.environ.pop(name, None)
        os.environ["TALLYD_HOME"] = str(root)
        began = time.monotonic()
        for theme in themes:
            if theme == "curves":
                figures, found = curves.measure(root, quick=quick)
                run.figures += figures
                run.curves += found
            elif theme == "peers":
                run.peers += peers.measure(root, quick=quick)
            else:
                run.figures += _THEMES[theme](root, quick=quick)
            if kept is not None:
                Path(kept).parent.mkdir(parents=True, exist_ok=True)
                Path(kept).write_text(run.as_json())
        progress(f"took {time.monotonic() - began:.0f} s")
    return run


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=[*_THEMES, "curves", "peers"],
        metavar="THEME",
        help=f"of {', '.join(_THEMES)}, curves, peers",
    )
    parser.add_argument("--quick", action="store_true", help="few rounds, 5 s of idling")
    parser.add_argument("--json", metavar="FILE", help="keep the figures")
    parser.add_argument(
        "--check",
        type=float,
        metavar="TIMES",
        help="exit 1 when a figure is over so many times its limit",
    )
    parser.add_argument(
        "--docs",
        action="store_true",
        help="write docs/performance.md from the figures kept, and measure nothing",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())

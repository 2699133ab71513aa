"""How the cost of a file grows: with the spool, the database, the products and the days.

Every point of a curve is measured in every round, so that noise meets all of them alike.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from support.clock import NOON, FakeClock
from support.deltas import delta, drop, tool_calls
from support.pipeline import Pipeline
from support.processes import DEMO_CONTRACT
from tallyd.contract.days import day_of, shift_day

from benchmarks import spools
from benchmarks.measure import Curve, Figure, interleaved, made, median, progress

# Counts of one prefilling delta: about 45 KiB of its 64.
_PREFILL = 500
# (the point, the files it merges, the seconds of the floor, the seconds of ours)
_Point = tuple[int, int, Callable[[], float], Callable[[], float]]


def measure(root: Path, *, quick: bool) -> tuple[list[Figure], list[Curve]]:
    """The four curves, each with the growth over its first point that a limit is about."""
    figures, curves = [], []
    for budget, x_label, points_of, xs in (
        ("growth_files", "files in the spool", files, (100, 300, 1000, 3000, 10_000, 20_000)),
        ("growth_rows", "rows in the database", rows, (0, 2_000, 20_000, 200_000)),
        ("growth_products", "products", products, (1, 3, 10, 30, 100)),
        ("growth_days", "days in one spool", days, (1, 7, 30, 90)),
    ):
        progress(f"growing the number of {x_label}")
        chosen = (xs[0], xs[-2]) if quick else xs
        rounds = 3 if quick else 5
        with ExitStack() as opened:
            points = points_of(made(root / budget), chosen, opened, 500 if quick else 5000)
            figure, curve = _measured(budget, x_label, points, rounds)
        if quick:
            figure.where = f"at {chosen[-1]:,} only"
        figures.append(figure)
        curves.append(curve)
    return figures, curves


def _measured(budget: str, x_label: str, points: list[_Point], rounds: int) -> tuple[Figure, Curve]:
    work: dict[str, Callable[[], float]] = {}
    for x, _, floor, ours in points:
        work[f"floor {x}"], work[f"ours {x}"] = floor, ours
    samples = interleaved(rounds, work)
    curve = Curve(budget.removeprefix("growth_"), x_label)
    for x, merged, _, _ in points:
        curve.x.append(x)
        curve.floor_us.append(round(median(samples[f"floor {x}"]) / merged * 1e6, 2))
        curve.ours_us.append(round(median(samples[f"ours {x}"]) / merged * 1e6, 2))
    growth = curve.ours_us[-1] / curve.ours_us[0]
    floor = curve.floor_us[-1] / curve.floor_us[0]
    figure = Figure(
        budget,
        growth,
        f"{curve.ours_us[0]:.0f} to {curve.ours_us[-1]:.0f} µs a file",
        f"{curve.floor_us[0]:.0f} to {curve.floor_us[-1]:.0f} µs, × {floor:.2f}",
        rounds,
    )
    return figure, curve


def files(root: Path, xs: tuple[int, ...], opened: ExitStack, _: int) -> list[_Point]:
    """Spools of so many files. A small one is merged often enough to be timed."""
    pipeline = _opened(root, opened)

    def times(x: int) -> int:
        return max(1, 1000 // x)

    def floor(x: int) -> float:
        taken = 0.0
        for _ in range(times(x)):
            spools.fill(root / "floor", x)
            taken += spools.floor_s(root / "floor")
        return taken

    def ours(x: int) -> float:
        taken = 0.0
        for _ in range(times(x)):
            spools.fill(pipeline.state, x)
            taken += spools.merge_s(pipeline, x)
        return taken

    return [(x, x * times(x), partial(floor, x), partial(ours, x)) for x in xs]


def rows(root: Path, xs: tuple[int, ...], opened: ExitStack, count: int) -> list[_Point]:
    """Databases that hold so many rows already, over thirty days."""

    def floor() -> float:
        spools.fill(root / "floor", count)
        return spools.floor_s(root / "floor")

    def ours(pipeline: Pipeline) -> float:
        spools.fill(pipeline.state, count)
        return spools.merge_s(pipeline, count)

    points: list[_Point] = []
    for x in xs:
        pipeline = _opened(made(root / str(x)), opened)
        _prefill(pipeline, x)
        points.append((x, count, floor, partial(ours, pipeline)))
    return points


def _prefill(pipeline: Pipeline, wanted: int) -> None:
    """Through the front door: deltas of many keys, merged. Two rows a key, one for each measure."""
    today = day_of(NOON)
    number = 0
    while 2 * number < wanted:
        keys = range(number, min(number + _PREFILL, wanted // 2))
        counts = [tool_calls(f"tool_{one}", errors=1) for one in keys]
        day = shift_day(today, -(number // _PREFILL % 30))
        drop(pipeline.state, delta(counts=counts, day=day))
        number = keys.stop
    pipeline.intake()
    found = pipeline.read(lambda sql: sql.execute("SELECT count(*) FROM bucket").fetchone()[0])
    if found < wanted:
        raise RuntimeError(f"{found} rows instead of {wanted}")


def products(root: Path, xs: tuple[int, ...], opened: ExitStack, count: int) -> list[_Point]:
    """So many products that share the same number of files."""
    text = DEMO_CONTRACT.read_text()

    def floor(names: tuple[str, ...]) -> float:
        for name in names:
            spools.fill(root / "floor", count // len(names), product=name)
        return spools.floor_s(root / "floor", names)

    def ours(pipeline: Pipeline, names: tuple[str, ...]) -> float:
        for name in names:
            spools.fill(pipeline.state, count // len(names), product=name)
        return spools.merge_s(pipeline, count // len(names), names[-1])

    points: list[_Point] = []
    for x in xs:
        pipeline = _opened(made(root / str(x)), opened)
        names = tuple(f"product-{one:03d}" for one in range(x))
        for name in names:
            pipeline.register(name, text=text.replace('"tallyd-demo"', f'"{name}"').encode())
        merged = count // x * x
        points.append((x, merged, partial(floor, names), partial(ours, pipeline, names)))
    return points


def days(root: Path, xs: tuple[int, ...], opened: ExitStack, count: int) -> list[_Point]:
    """One spool with files of so many days. Those of more than 30 days ago are refused and counted."""
    today = day_of(NOON)

    def floor(spread: tuple[str, ...]) -> float:
        spools.fill(root / "floor", count, days=spread)
        return spools.floor_s(root / "floor")

    def ours(pipeline: Pipeline, spread: tuple[str, ...]) -> float:
        spools.fill(pipeline.state, count, days=spread)
        return spools.merge_s(pipeline, count)

    points: list[_Point] = []
    for x in xs:
        pipeline = _opened(made(root / str(x)), opened)
        spread = tuple(shift_day(today, -one) for one in range(x))
        points.append((x, count, partial(floor, spread), partial(ours, pipeline, spread)))
    return points


def _opened(home: Path, opened: ExitStack) -> Pipeline:
    pipeline = opened.enter_context(Pipeline.open(home, FakeClock()))
    pipeline.register("tallyd-demo")
    return pipeline

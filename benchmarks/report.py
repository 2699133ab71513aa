"""The one table: promise, limit, floor, peer, ours, ratio, verdict; as text and for the documents."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from benchmarks import peers
from benchmarks.measure import Figure, Run

_HEADER = ("promise", "limit", "floor", "best peer", "ours", "ratio", "verdict")
_BUDGETS = Path(__file__).parent / "budgets.toml"
MET, NOT_MET, NOT_RUN, NO_LIMIT = "met", "NOT MET", "not run", ""


@dataclass(frozen=True)
class Budget:
    """One limit: what it is about, in which unit, which side is good, and why it is what it is."""

    name: str
    what: str
    unit: str
    reason: str
    limit: float | None = None
    side: str = "most"

    def verdict(self, value: float | None) -> str:
        if self.limit is None:
            return NO_LIMIT
        if value is None:
            return NOT_RUN
        return MET if self.times_over(value) <= 1.0 else NOT_MET

    def times_over(self, value: float) -> float:
        """How often the limit is used up: 1.0 is at it. A limit of nothing knows met and endless."""
        if self.limit is None:
            return 0.0
        if self.side == "least":
            return self.limit / value if value else float("inf")
        if self.limit == 0:
            return float("inf") if value else 0.0
        return value / self.limit

    def in_words(self) -> str:
        if self.limit is None:
            return ""
        sign = "≥" if self.side == "least" else "≤"
        return f"{sign} {self.limit:g} {self.unit}" if self.limit else f"0 {self.unit}"


def budgets() -> dict[str, Budget]:
    """Every limit of budgets.toml, in its order."""
    found = tomllib.loads(_BUDGETS.read_text())
    return {name: Budget(name=name, **one) for name, one in found.items()}


def rows(run: Run) -> list[tuple[str, ...]]:
    """The table's rows, in the order of budgets.toml; a budget that was not measured says so."""
    found = []
    for budget in budgets().values():
        figures = [one for one in run.figures if one.budget == budget.name]
        found += [
            _row(budget, one, run) for one in figures or [Figure(budget.name, None, "not run")]
        ]
    return found


def text_table(run: Run) -> str:
    lines = [_HEADER, *rows(run)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADER))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def peers_table(run: Run) -> list[tuple[str, ...]]:
    """One row a peer: count, import, exit."""
    return [
        (
            f"{one.name} {one.version}",
            f"{one.count_f:.1f}" if one.count_f is not None else "",
            f"{one.count_f_4:.1f}" if one.count_f_4 is not None else "",
            f"{one.import_ms:.0f} ms" if one.import_ms is not None else "",
            *(_exit(one.exits.get(network), network in one.at_least) for network in _NETWORKS),
        )
        for one in run.peers
    ]


PEERS_HEADER = (
    "library",
    "count, × F",
    "four threads",
    "import",
    "exit, network refuses",
    "exit, network swallows",
)
_NETWORKS = ("refuses", "swallows")


def machine_in_words(run: Run) -> str:
    of = run.machine
    return (
        f"{of['cpu']}, {of['cores']} cores, {of['memory']}, {of['kernel']}, {of['python']}, "
        f"{of['file system']}; measured {of['day']}, {of['form']}"
    )


def over(run: Run, times: float) -> list[str]:
    """The figures that are over so many times their limit, in words."""
    known = budgets()
    return [
        f"{known[one.budget].what}: {one.value:.3g} {known[one.budget].unit}, "
        f"limit {known[one.budget].in_words()}"
        for one in run.figures
        if one.value is not None and known[one.budget].times_over(one.value) > times
    ]


def _row(budget: Budget, figure: Figure, run: Run) -> tuple[str, ...]:
    what = f"{budget.what}, {figure.where}" if figure.where else budget.what
    ours = f"{figure.ours}, n = {figure.rounds}" if figure.rounds > 1 else figure.ours
    return (
        what,
        budget.in_words(),
        figure.floor,
        _peer(budget.name, run),
        ours,
        "" if figure.value is None else _number(figure.value, budget.unit),
        budget.verdict(figure.value),
    )


def _peer(budget: str, run: Run) -> str:
    match budget:
        case "bound_1" | "rollup_1":
            return peers.cheapest(run.peers, 1)
        case "bound_4" | "rollup_4":
            return peers.cheapest(run.peers, 4)
        case "import":
            return peers.quickest_import(run.peers)
        case "exit_now":
            return peers.exits_in_words(run.peers)
        case _:
            return ""


def _number(value: float, unit: str) -> str:
    digits = f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.2f}"
    return digits if unit in {"counts", "rows"} else f"{digits} {unit}"


def _exit(taken: float | None, is_at_least: bool) -> str:
    if taken is None:
        return ""
    return f"> {taken:.0f} s" if is_at_least else f"{taken * 1000:,.0f} ms"

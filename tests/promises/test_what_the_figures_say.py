"""The documents show what a run printed, every limit has its line, and a verdict means what it says.

No figure is judged here: machines are shared, and a test never asserts a time.
"""

from __future__ import annotations

import re
import sys

import pytest

from benchmarks import documents, incident, peers, report
from benchmarks.measure import Figure, Run, exit_s, interleaved

_PERFORMANCE = documents.PERFORMANCE.read_text()
_README = (documents.ROOT / "README.md").read_text()


def _run(*figures: Figure) -> Run:
    return Run({}, list(figures))


def _between_markers(text: str) -> dict[str, str]:
    found = re.findall(r"<!-- measured: (\w+) -->\n(.*?)\n<!-- end of \1 -->", text, re.DOTALL)
    return dict(found)


def test_the_page_of_figures_shows_what_the_kept_run_measured():
    """Figures typed by hand are figures that nobody measured."""
    kept = Run.of(documents.FIGURES.read_text())

    assert documents.performance(kept) == _between_markers(_PERFORMANCE)


def test_every_limit_has_a_line_with_a_verdict_and_a_reason():
    figures = _between_markers(_PERFORMANCE)["figures"]
    reasons = _between_markers(_PERFORMANCE)["reasons"]
    cells = [line.split(" | ") for line in figures.splitlines() if line.startswith("| ")]
    told = {
        budget.name: (
            any(
                line[0].startswith(f"| {budget.what}") and line[1] == budget.in_words()
                for line in cells
            ),
            budget.reason in reasons,
        )
        for budget in report.budgets().values()
    }

    assert told == dict.fromkeys(report.budgets(), (True, True))
    assert {line[-1].removesuffix(" |") for line in cells[2:]} <= {"met", "NOT MET", "not run", ""}


def test_every_picture_is_there_small_and_without_a_date():
    """The same figures draw the same bytes, so a picture changes only with what it shows."""
    told = {}
    for name in documents.CAPTIONS:
        text = (documents.PICTURES / f"{name}.svg").read_text()
        has_date = "<dc:date>" in text
        told[name] = (f"pictures/{name}.svg" in _PERFORMANCE, len(text) < 60 * 1024, has_date)

    assert told == dict.fromkeys(documents.CAPTIONS, (True, True, False))
    assert len(told) == len(list(documents.PICTURES.iterdir()))


def test_the_readme_shows_the_incident_as_it_was_replayed():
    assert incident.words(*incident.kept()) == _between_markers(_README)["incident"]


def test_what_is_kept_and_shown_names_no_place_of_the_machine_that_measured():
    shown = [*documents.RESULTS.iterdir(), *documents.PICTURES.iterdir(), documents.PERFORMANCE]
    places = {
        one.name for one in shown if re.search(r"/(home|root|tmp|usr|Users)\b", one.read_text())
    }

    assert places == set()


@pytest.mark.parametrize(
    ("budget", "value", "verdict", "times"),
    [
        ("bound_1", 0.6, report.MET, 1.0),
        ("bound_1", 0.61, report.NOT_MET, 0.61 / 0.6),
        ("merge", 0.45, report.MET, 1.0),
        ("merge", 0.15, report.NOT_MET, 0.45 / 0.15),
        ("merge", 0.9, report.MET, 0.5),
        ("lost", 0, report.MET, 0.0),
        ("lost", 1, report.NOT_MET, float("inf")),
        ("empty_function", 9.0, report.NO_LIMIT, 0.0),
    ],
)
def test_a_verdict_is_about_the_right_side_of_its_limit(budget, value, verdict, times):
    known = report.budgets()[budget]

    assert (verdict, pytest.approx(times)) == (known.verdict(value), known.times_over(value))


def test_a_limit_that_was_not_measured_says_so_and_is_not_met_by_silence():
    lines = report.rows(_run(Figure("lost_free_threaded", None, "not run: no such Python")))

    assert {line[-1] for line in lines} == {report.NOT_RUN, report.NO_LIMIT}
    assert len(lines) == len(report.budgets())


def test_a_check_names_what_is_far_over_its_limit_and_nothing_else():
    run = _run(
        Figure("stop", 299.0, ""),
        Figure("stop_in_request", 301.0, ""),
        Figure("merge", 0.149, ""),
        Figure("wakeups", None, "not run"),
        Figure("lost", 1, ""),
    )

    assert [one.partition(":")[0] for one in report.over(run, 3)] == [
        "stop during a request that is never answered",
        "merge, 5 counts a file, names recorded, synchronous=FULL",
        "increments lost of 2,000,000",
    ]


def test_markers_that_are_gone_are_no_silent_success():
    with pytest.raises(ValueError, match="markers of figures"):
        documents.put("nothing here", "figures", "part")


def test_a_round_does_every_work_once_and_the_first_one_warms_up():
    """Floor and ours in turn: noise that comes and goes meets both."""
    order: list[str] = []

    def work(name: str) -> float:
        order.append(name)
        return len(order)

    samples = interleaved(2, {"floor": lambda: work("floor"), "ours": lambda: work("ours")})

    assert (order, samples) == (["floor", "ours"] * 3, {"floor": [3, 5], "ours": [4, 6]})


@pytest.mark.slow
def test_an_exit_that_does_not_come_is_ended_and_told_from_one_that_does():
    said = "import os, time; os.write(1, b'%d' % time.monotonic_ns())"
    quick = exit_s([sys.executable, "-S", "-c", said], {})
    stuck = exit_s([sys.executable, "-S", "-c", f"{said}; time.sleep(100)"], {}, 1.0)

    assert (quick[1], stuck[1], quick[0] >= 0) == (True, False, True)
    with pytest.raises(RuntimeError, match="ended with 3"):
        exit_s([sys.executable, "-S", "-c", f"{said}; raise SystemExit(3)"], {})


def test_the_networks_that_peers_meet_are_on_this_machine_alone():
    """One refuses and one swallows; a peer is told of no other endpoint."""
    import socket
    from urllib.parse import urlsplit

    with peers._refusing() as refused, peers._swallowing() as swallowed:
        places = [urlsplit(one) for one in (refused, swallowed)]
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((places[0].hostname, places[0].port), timeout=5)
        with socket.create_connection((places[1].hostname, places[1].port), timeout=0.05) as taken:
            taken.sendall(b"POST / HTTP/1.1\r\n\r\n")
            with pytest.raises(TimeoutError):
                taken.recv(1)

    assert [one.hostname for one in places] == ["127.0.0.1", "127.0.0.1"]


def test_without_the_peers_the_table_says_how_to_get_them(tmp_path):
    assert peers.measure(tmp_path, quick=True, python=tmp_path / "python") == []
    assert (
        peers.cheapest([], 1),
        peers.quickest_import([]),
        peers.exits_in_words([]),
    ) == ("not installed (make bench-peers)",) * 3

"""The quarantine stays within its bytes, whatever is set aside."""

from __future__ import annotations

import os

import pytest
from support.clock import NOON
from support.pipeline import Pipeline
from tallyd import spool
from tallyd.limits import QUARANTINE_MAX_BYTES


def _bad(pipeline: Pipeline) -> list[str]:
    return sorted(os.listdir(pipeline.view().spool.bad))


def test_a_sparse_file_larger_than_the_quarantine_is_not_kept(pipeline: Pipeline):
    path = pipeline.drop(b"")
    with path.open("wb") as file:
        file.truncate(1 << 40)
    pipeline.intake()

    assert (_bad(pipeline), pipeline.tally().lost) == ([], {"malformed": 1})


def test_files_over_the_quarantines_bytes_go_oldest_first(pipeline: Pipeline):
    size = QUARANTINE_MAX_BYTES // 3
    for number in range(5):
        path = pipeline.drop(b"x" * size, at=NOON + number)
        os.utime(path, (NOON + number, NOON + number))
    pipeline.intake()

    kept = [name for name in _bad(pipeline) if not name.endswith(".why")]
    assert [int(name[:13]) / 1000 - NOON for name in kept] == [2, 3, 4]
    assert len(_bad(pipeline)) == 6


@pytest.mark.slow
@pytest.mark.parametrize("what", ["bytes", "files"])
def test_a_directory_counts_with_all_that_is_in_it(pipeline: Pipeline, what: str):
    path = pipeline.drop()
    path.unlink()
    (path / "inner").mkdir(parents=True)
    for number in range(1 if what == "bytes" else 3000):
        (path / "inner" / str(number)).write_bytes(b"")
    if what == "bytes":
        os.truncate(path / "inner" / "0", QUARANTINE_MAX_BYTES + 1)
    small = pipeline.drop()
    small.unlink()
    (small / "inner").mkdir(parents=True)
    pipeline.intake()

    assert ([small.name, f"{small.name}.why"], {"malformed": 2}) == (
        _bad(pipeline),
        pipeline.tally().lost,
    )


def test_a_link_counts_as_itself_wherever_it_leads(pipeline: Pipeline):
    elsewhere = pipeline.home / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "large").write_bytes(b"")
    os.truncate(elsewhere / "large", QUARANTINE_MAX_BYTES + 1)
    path = pipeline.drop()
    path.unlink()
    path.symlink_to(elsewhere)
    pipeline.intake()

    assert ([path.name, f"{path.name}.why"], ["large"]) == (_bad(pipeline), os.listdir(elsewhere))


def test_a_reason_whose_file_never_came_goes(pipeline: Pipeline):
    """A kill between the two, and a writer at its cap that takes its file back: nobody needs the reason."""
    dirs = pipeline.view().spool
    spool.prepare(dirs)
    (dirs.bad / "1795176000000-1-1-0123456789abcdef.json.why").write_text("no")
    pipeline.keep_bounds()

    assert _bad(pipeline) == []

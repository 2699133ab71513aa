"""A purge: all that is ours goes, what is not stays, and a "no" outlives it."""

from __future__ import annotations

import json
import os

import pytest
from support.clock import NOON
from support.deltas import delta
from support.pipeline import Pipeline
from tallyd import lock, policy, purge
from tallyd.errors import AlreadyRunning
from tallyd.lock import Holder


@pytest.fixture
def kept(pipeline: Pipeline) -> Pipeline:
    pipeline.drop(delta())
    pipeline.intake()
    pipeline.store.close()
    return pipeline


def _names(pipeline: Pipeline) -> set[str]:
    paths = pipeline.around.paths
    return {
        one.name for top in (paths.state, paths.config) if top.exists() for one in top.iterdir()
    }


def test_everything_of_ours_goes_and_nothing_else(kept):
    paths = kept.around.paths
    (paths.state / "mine.txt").write_text("")
    (paths.config / "config.toml").write_text("")
    planned, told = purge.plan(kept.around)

    purge.carry_out(kept.around, NOON)

    assert _names(kept) == {"mine.txt", "config.toml"}
    assert {paths.state / "tallyd.db", paths.spools, paths.contracts} <= set(planned)
    assert sorted(told) == sorted([str(paths.state / "mine.txt"), str(paths.settings_file)])


@pytest.mark.parametrize(
    "stored", [{"enabled": False}, {"mode": "off"}, "damaged", [], {"enabled": "maybe"}]
)
def test_a_no_is_written_where_it_stays(kept, stored):
    file = kept.around.paths.choice("tallyd-demo")
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(stored) if stored != "damaged" else "{")

    purge.carry_out(kept.around, NOON)

    assert policy.bans_on("tallyd-demo", kept.around.paths, {}).wishes == ("user policy",)


def test_a_no_to_a_product_that_is_gone_is_kept_too(kept):
    file = kept.around.paths.choice("other")
    file.parent.mkdir(exist_ok=True)
    file.write_text('{"enabled": false}')

    purge.carry_out(kept.around, NOON)

    assert policy.bans_on("other", kept.around.paths, {}).wishes == ("user policy",)
    assert policy.bans_on("tallyd-demo", kept.around.paths, {}).wishes == ()


def test_a_policy_that_nobody_understands_stays_and_forbids_everything(kept):
    """A list of one product in its place would let all others count again."""
    policy_file = kept.around.paths.user_policy
    policy_file.write_text("off = True\n")
    file = kept.around.paths.choice("tallyd-demo")
    file.parent.mkdir(exist_ok=True)
    file.write_text('{"enabled": false}')

    purge.carry_out(kept.around, NOON)

    assert (
        policy_file.read_text(),
        bool(policy.bans_on("other", kept.around.paths, {}).damaged),
    ) == (
        "off = True\n",
        True,
    )


def test_neither_a_pipe_nor_a_file_of_a_like_name_is_taken_for_ours(kept):
    os.mkfifo(kept.around.paths.handover)
    mine = kept.around.paths.state / "tallyd.db-my-backup"
    mine.write_text("")

    purge.carry_out(kept.around, NOON)

    assert _names(kept) == {"tallyd.db-my-backup"}


def test_what_a_link_leads_to_is_not_touched(kept, tmp_path):
    paths = kept.around.paths
    elsewhere = tmp_path / "elsewhere"
    paths.spools.rename(elsewhere)
    paths.spools.symlink_to(elsewhere)

    purge.carry_out(kept.around, NOON)

    assert (paths.spools.is_symlink(), elsewhere.is_dir()) == (False, True)


def test_nothing_is_removed_under_a_daemon_that_runs(kept):
    before = _names(kept)
    with (
        lock.hold_lock(kept.around.paths, Holder(1, "daemon", "0", 0.0)),
        pytest.raises(AlreadyRunning),
    ):
        purge.carry_out(kept.around, NOON)

    assert _names(kept) == before | {"daemon.lock"}

"""The shells complete what the command line knows: first words, second words, options, products, files."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.processes import DEMO_CONTRACT, environ_of, run, tallyd
from support.shells import SCRIPTS, SHELLS, offered
from tallyd.usage import COMMANDS, parser

from shell.__main__ import rendered

pytestmark = pytest.mark.slow

_SCRIPTS = {"bash": "tallyd.bash", "zsh": "_tallyd", "fish": "tallyd.fish"}


@pytest.fixture
def machine(home: Path) -> Path:
    """A home with two registered products and one file in its directory."""
    tallyd(home, "contract", "add", str(DEMO_CONTRACT))
    tallyd(home, "contract", "add", str(DEMO_CONTRACT.with_name("codegraph.toml")))
    desk = home / "desk"
    desk.mkdir()
    (desk / "telemetry.toml").write_text("")
    return home


def _offers(
    shell: str, home: Path, *lines: str, before: str = "", **more: str
) -> dict[str, list[str]]:
    """What a shell offers after each line; whatever it prints besides fails."""
    desk = home / "desk"
    desk.mkdir(exist_ok=True)
    scratch = home / "scratch"
    scratch.mkdir(exist_ok=True)
    found = {}
    for line in lines:
        words, said = offered(shell, line, environ_of(home, **more), desk, scratch, before)
        assert said == "", (line, said)
        found[line] = words
    return found


@pytest.mark.parametrize("shell", SHELLS)
def test_every_word_of_the_command_line_is_offered(machine, shell):
    """Also those of two words, and those that come tomorrow: it is asked of the table itself."""
    first = sorted({one.words.split()[0] for one in COMMANDS})
    groups = sorted({one.words.split()[0] for one in COMMANDS if " " in one.words})
    second = {
        f"tallyd {group} ": sorted(
            one.words.split()[1] for one in COMMANDS if one.words.startswith(f"{group} ")
        )
        for group in groups
    }

    assert _offers(shell, machine, "tallyd ", *second) == {"tallyd ": first, **second}


@pytest.mark.parametrize("shell", SHELLS)
def test_every_option_of_every_command_is_offered(machine, shell):
    wanted = {
        f"tallyd {words} --": sorted(one for one in options if one.startswith("--"))
        for words, options in _options().items()
    }
    # zsh takes 0.3 s for each.
    some = dict(list(wanted.items())[:: 5 if shell == "zsh" else 1])

    assert _offers(shell, machine, *some) == some


def _options() -> dict[str, list[str]]:
    """The options of each command, as argparse knows them."""
    found: dict[str, list[str]] = {}

    def walk(one: argparse.ArgumentParser, words: str) -> None:
        options = []
        for action in one._actions:
            options += action.option_strings
            if isinstance(action, argparse._SubParsersAction):
                for name, below in action.choices.items():
                    walk(below, f"{words} {name}".strip())
        if words:
            found[words] = options

    walk(parser(), "")
    return found


@pytest.mark.parametrize("shell", SHELLS)
def test_the_beginning_of_a_word_leaves_what_begins_so(machine, shell):
    found = _offers(
        shell,
        machine,
        "tallyd st",
        "tallyd contract d",
        "tallyd preview co",
        "tallyd contract add te",
        "tallyd contract diff codegraph t",
        "tallyd contract docs codegraph -o te",
        "tallyd completion ",
        "tallyd nonsense ",
    )

    assert found | {"tallyd nonsense ": []} == {
        "tallyd st": ["status"],
        "tallyd contract d": ["diff", "docs"],
        "tallyd preview co": ["codegraph"],
        "tallyd contract add te": ["telemetry.toml"],
        "tallyd contract diff codegraph t": ["tallyd-demo", "telemetry.toml"],
        "tallyd contract docs codegraph -o te": ["telemetry.toml"],
        "tallyd completion ": ["bash", "fish", "zsh"],
        "tallyd nonsense ": [],
    }


@pytest.mark.parametrize("shell", SHELLS)
def test_registered_products_are_offered_wherever_they_lie(machine, shell):
    """By the rule of `tallyd.paths`: TALLYD_HOME when absolute, then XDG when absolute, then the home."""
    elsewhere = machine / "elsewhere"
    (elsewhere / "tallyd").mkdir(parents=True)
    (elsewhere / "tallyd" / "contracts").symlink_to(machine / "config" / "contracts")
    (machine / ".config").mkdir()
    (machine / ".config" / "tallyd").symlink_to(machine / "config")
    line = "tallyd off "
    places = [
        {},
        {"TALLYD_HOME": "", "XDG_CONFIG_HOME": str(elsewhere)},
        {"TALLYD_HOME": "relative", "XDG_CONFIG_HOME": "relative"},
    ]
    found = [_offers(shell, machine, line, **place)[line] for place in places]

    assert found == [["codegraph", "tallyd-demo"]] * 3


@pytest.mark.parametrize("shell", SHELLS)
def test_no_product_and_no_place_for_one_is_no_error(home, shell):
    line = "tallyd show "
    nowhere = [
        {},
        {"TALLYD_HOME": str(home / "is not there")},
        {"TALLYD_HOME": "/dev/null"},
        {"TALLYD_HOME": "", "HOME": ""},
    ]

    assert [_offers(shell, home, line, **one)[line] for one in nowhere] == [[]] * 4


@pytest.mark.parametrize("shell", SHELLS)
def test_a_file_whose_name_is_no_products_is_never_offered(machine, shell):
    """What a shell inserts it will also run: a name could be a command."""
    contracts = machine / "config" / "contracts"
    for name in (
        "$(reboot)",
        "`id`",
        "a b",
        "a;id",
        "-rf",
        "UPPER",
        "new\nline",
        "*",
        "~",
        "\x1b[2J",
    ):
        (contracts / f"{name}.toml").write_text("")
    (contracts / "readme.txt").write_text("")
    line = "tallyd show "

    assert _offers(shell, machine, line) == {line: ["codegraph", "tallyd-demo"]}


@pytest.mark.parametrize(
    ("shell", "before"),
    [
        ("bash", "set -euo pipefail; set -f; shopt -s failglob dotglob nocasematch"),
        (
            "bash",
            "GLOBIGNORE=$TALLYD_HOME/config/contracts/codegraph.toml; shopt -s nullglob; set -o noclobber",
        ),
        ("zsh", "setopt ksh_arrays sh_word_split no_nomatch glob_dots"),
        ("zsh", "setopt no_unset null_glob csh_null_glob"),
        ("fish", "set -g fish_trace; set -x IFS a"),
    ],
)
def test_what_a_user_set_for_the_shell_changes_nothing(machine, shell, before):
    lines = ("tallyd sh", "tallyd show ")
    without = _offers(shell, machine, *lines, before=before, TALLYD_HOME=str(machine / "desk"))

    assert without == {"tallyd sh": ["show"], "tallyd show ": []}
    assert _offers(shell, machine, *lines, before=before) == {
        "tallyd sh": ["show"],
        "tallyd show ": ["codegraph", "tallyd-demo"],
    }


def test_the_files_in_the_package_are_those_of_the_table_as_it_is():
    stale = [file.name for file, text in rendered().items() if file.read_text() != text]

    assert stale == [], "run: make shell"


@pytest.mark.parametrize("shell", SHELLS)
def test_the_command_prints_the_file_of_the_package(home, shell):
    assert tallyd(home, "completion", shell) == (SCRIPTS / _SCRIPTS[shell]).read_text()


def test_a_shell_that_is_not_known_is_wrong_usage_and_names_those_that_are(home):
    done = run("tallyd", "completion", "tcsh", environ=environ_of(home), check=False)

    assert (done.returncode, done.stdout) == (64, "")
    assert "choose from" in done.stderr
    assert all(one in done.stderr for one in SHELLS)


def test_printing_a_completion_loads_nothing_that_costs(home):
    """A shell's start may run it."""
    said = run(
        "tallyd", "completion", "zsh", environ=environ_of(home, PYTHONPROFILEIMPORTTIME="1")
    ).stderr
    loaded = {line.rpartition("|")[2].strip() for line in said.splitlines()}

    assert "tallyd.usage" in loaded
    assert loaded & {"anyio", "httpx", "watchfiles", "psutil", "sqlite3", "subprocess"} == set()


def test_a_completion_that_cannot_be_written_is_told(home):
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "tallyd", "completion", "bash"],
            env=environ_of(home),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

    assert (done.returncode, done.stderr) == (
        74,
        "tallyd: the output cannot be written: No space left on device\n",
    )

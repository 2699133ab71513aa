"""`make fuzz`: every target under atheris, which looks for inputs that reach code no input reached before.

    python -m fuzz.run --seconds 60 [TARGET …]     each target that long, one after the other
    python -m fuzz.run --replay TARGET FILE        one input again, as it was

Inputs that reach new code are kept in `.fuzz/corpus/TARGET` and are where the next run goes on; what
breaks a promise, takes over ten seconds or over 600 MiB is kept in `.fuzz/found/TARGET`.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / ".fuzz"
# What is watched for new code: the readers, and the slow reader beside that knows the page by heart.
_WATCHED = ["tallyd", "tallyd_client", "tallyd_ingest", "tomllib", "fuzz"]
# libFuzzer takes no longer words; what is longer is given to it as an input.
_WORD_MAX_BYTES = 60
_INPUT_MAX_BYTES = 70_000
_PATIENCE_S = 10
_MEMORY_MIB = 600
_EXECUTED = re.compile(r"^stat::number_of_executed_units:\s*(\d+)", re.MULTILINE)


def main() -> int:
    """The exit code: 0 when nothing was found."""
    parser = argparse.ArgumentParser(prog="python -m fuzz.run")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--replay", nargs=2, metavar=("TARGET", "FILE"))
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("targets", nargs="*")
    said, rest = parser.parse_known_args()
    if said.replay:
        target, file = said.replay
        importlib.import_module(f"fuzz.{target}").one_input(Path(file).read_bytes())
        print(f"{target}: {file} keeps every promise")
        return 0
    if importlib.util.find_spec("atheris") is None:
        print(
            "make fuzz cannot run here: atheris is built for Linux on x86-64 alone."
            " make test tries the same targets with inputs that hypothesis draws.",
            file=sys.stderr,
        )
        return 1
    if said.child:
        _fuzz(said.child, rest)
    return _all(said.targets, said.seconds)


def _all(targets: list[str], seconds: int) -> int:
    from fuzz.corpus import TARGETS

    total, failed = 0, []
    for target in targets or TARGETS:
        executed, found = _run(target, seconds)
        total += executed
        print(
            f"{target:14}{executed:>12,} inputs in {seconds} s, {_told(target, found)}", flush=True
        )
        if found:
            failed.append(target)
    print(f"{'in all':14}{total:>12,} inputs")
    return 1 if failed else 0


def _run(target: str, seconds: int) -> tuple[int, list[Path]]:
    """How many inputs a target was given, and those that broke a promise."""
    corpus, found = KEPT / "corpus" / target, KEPT / "found" / target
    for directory in (corpus, found):
        directory.mkdir(parents=True, exist_ok=True)
    before = set(found.iterdir())
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(prefix="tallyd-fuzz-", dir=memory) as scratch:
        seeds, words = Path(scratch, "seeds"), Path(scratch, "words")
        _write_seeds(target, seeds, words)
        done = subprocess.run(
            [
                *(sys.executable, "-m", "fuzz.run", "--child", target),
                *(f"-max_total_time={seconds}", f"-timeout={_PATIENCE_S}"),
                *(f"-rss_limit_mb={_MEMORY_MIB}", f"-max_len={_INPUT_MAX_BYTES}"),
                # The seeds are whole files: short inputs first would lead nowhere.
                "-len_control=0",
                *(f"-dict={words}", f"-artifact_prefix={found}{os.sep}", "-print_final_stats=1"),
                *(str(corpus), str(seeds)),
            ],
            env={**os.environ, "TMPDIR": scratch},
            capture_output=True,
            check=False,
        )
    told = done.stderr.decode("utf-8", "replace") + done.stdout.decode("utf-8", "replace")
    executed = _EXECUTED.search(told)
    new = sorted(set(found.iterdir()) - before)
    if new or executed is None or done.returncode:
        log = KEPT / "found" / f"{target}.log"
        log.write_text(told, encoding="utf-8")
        new = new or [log]
    return int(executed[1]) if executed else 0, new


def _told(target: str, found: list[Path]) -> str:
    if not found:
        return "nothing found"
    file = found[0].relative_to(ROOT)
    if file.suffix == ".log":
        return f"FAILED, see {file}"
    python = os.path.relpath(sys.executable)
    return (
        f"FOUND {file} (what it says: {file.parent}.log); again:\n"
        f"    PYTHONPATH=tests {python} -m fuzz.run --replay {target} {file}"
    )


def _write_seeds(target: str, seeds: Path, words: Path) -> None:
    from fuzz.corpus import pieces
    from fuzz.corpus import seeds as good

    seeds.mkdir()
    all_pieces = pieces(target)
    for one in [*good(target), *(one for one in all_pieces if len(one) > _WORD_MAX_BYTES)]:
        (seeds / hashlib.sha256(one).hexdigest()[:16]).write_bytes(one)
    short = [one for one in all_pieces if len(one) <= _WORD_MAX_BYTES]
    lines = ("".join(f"\\x{byte:02x}" for byte in one) for one in short)
    words.write_text("".join(f'"{line}"\n' for line in lines), encoding="ascii")


def _fuzz(target: str, options: list[str]) -> None:
    """Give the target inputs until libFuzzer ends this process."""
    import atheris

    with atheris.instrument_imports(include=_WATCHED):
        one_input = importlib.import_module(f"fuzz.{target}").one_input
    atheris.Setup([sys.argv[0], *options], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())

"""`make fuzz` keeps what breaks a promise; what was kept can be tried again without atheris."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.processes import ROOT

from fuzz.corpus import TARGETS, seeds


@pytest.mark.slow
def test_a_kept_input_is_tried_again_as_it_was(tmp_path: Path):
    paths = [str(ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])]
    for target in TARGETS[:2]:
        file = tmp_path / target
        file.write_bytes(seeds(target)[0])
        done = subprocess.run(
            [sys.executable, "-m", "fuzz.run", "--replay", target, str(file)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            capture_output=True,
            text=True,
            check=False,
        )

        assert (done.returncode, done.stderr) == (0, "")
        assert f"{target}: {file} keeps every promise\n" == done.stdout

"""Runs beside a live user manager, in its namespaces, and does there what a test asks for.

Each line on stdin is a JSON object with the words of a command; each line on stdout is what became of it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys


def main() -> None:
    for line in sys.stdin:
        asked = json.loads(line)
        environ = {**os.environ, **asked["environ"]}
        if asked["background"]:
            process = subprocess.Popen(
                asked["command"],
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            said = {"code": 0, "out": str(process.pid), "err": ""}
        else:
            done = subprocess.run(
                asked["command"],
                env=environ,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=150,
            )
            said = {"code": done.returncode, "out": done.stdout, "err": done.stderr}
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()

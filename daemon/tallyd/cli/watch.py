"""`tallyd status --watch`: the report again and again, until Ctrl-C, which ends it with 0.

On a terminal each report is written over the one before, in one write and without clearing first, so that
nothing flickers; a change of its size is drawn at once. Elsewhere the reports follow one another with a
line between them, or as one line of JSON each. A round keeps nothing: no connection, no report.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tallyd.cli.output import print_json_line, print_typeset
from tallyd.contract.frozen import replace
from tallyd.status_text import status_text
from tallyd.terminal import Screen, screen_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_HOME, _CLEAR = "\x1b[H", "\x1b[2J"
_END_OF_LINE, _END_OF_SCREEN = "\x1b[K", "\x1b[J"


class Watch:
    """Shows one report after another, `interval_s` apart."""

    def __init__(self, interval_s: float, product: str, *, is_json: bool) -> None:
        self._interval_s = interval_s
        self._product = product
        self._is_json = is_json
        self._drawn_on: Screen | None = None

    def run(
        self,
        report_now: Callable[[], dict[str, Any]],
        wait: Callable[[float], object] | None = None,
    ) -> int:
        """Go on until Ctrl-C; returns the exit code, 0. `wait` is for tests."""
        try:
            with _waiting() as wait_here:
                while True:
                    self.show(report_now())
                    (wait or wait_here)(self._interval_s)
        except KeyboardInterrupt:
            if self._drawn_on is not None and self._drawn_on.can_redraw:
                print_typeset("")
            return 0

    def show(self, report: dict[str, Any]) -> None:
        """One report."""
        if self._is_json:
            print_json_line(report)
            return
        # A variable that is exported stays as it was when the window changes.
        names = ("COLUMNS", "LINES") if sys.stdout.isatty() else ()
        environ = {name: text for name, text in os.environ.items() if name not in names}
        screen = screen_of(sys.stdout, environ)
        if screen.can_redraw:
            print_typeset(self._frame(report, screen), end="")
        else:
            between = [] if self._drawn_on is None else [f"--- {report['at']}"]
            print_typeset("\n".join([*between, *self._lines(report, screen)]))
        self._drawn_on = screen

    def _lines(self, report: dict[str, Any], screen: Screen) -> list[str]:
        return status_text(report, screen, product=self._product)

    def _frame(self, report: dict[str, Any], screen: Screen) -> str:
        """The whole screen as one text; what has no room on it is counted."""
        height, width = max(screen.height or 24, 4), screen.width or 80
        # A column less: in the last one a terminal waits with the line's end, and clearing would take it.
        inner = replace(screen, width=width - 1, height=height - 1)
        lines = self._lines(report, inner)
        if len(lines) > height - 1:
            hidden = len(lines) - (height - 2)
            more = f"{hidden} more lines: make this window higher"
            lines = [*lines[: height - 2], more[: width - 1]]
        told = f"every {self._interval_s:g} s, told at {report['at'][:19]}Z; Ctrl-C ends it"
        lines += [told[: width - 1]]
        begin = _HOME if screen == self._drawn_on else f"{_CLEAR}{_HOME}"
        return begin + f"{_END_OF_LINE}\n".join(lines) + _END_OF_LINE + _END_OF_SCREEN


@contextmanager
def _waiting() -> Iterator[Callable[[float], object]]:
    """A wait (s) that a change of the terminal's size ends early; Ctrl-C ends it as everywhere."""
    resized = getattr(signal, "SIGWINCH", None)
    if resized is None:
        from time import sleep

        yield sleep
        return
    ear, mouth = os.pipe()
    os.set_blocking(ear, False)
    os.set_blocking(mouth, False)
    before = signal.signal(resized, lambda *_: None)
    told = signal.set_wakeup_fd(mouth, warn_on_full_buffer=False)

    def wait(seconds: float) -> None:
        if select.select([ear], [], [], seconds)[0]:
            os.read(ear, 4096)

    try:
        yield wait
    finally:
        signal.set_wakeup_fd(told)
        signal.signal(resized, before)
        os.close(ear)
        os.close(mouth)

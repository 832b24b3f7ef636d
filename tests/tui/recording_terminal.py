"""A terminal in the process that keeps what was drawn on it."""

from __future__ import annotations

import pyte
from pyte.screens import Char
from textual.app import App
from textual.drivers.headless_driver import HeadlessDriver


class Terminal(pyte.Screen):
    """A terminal of 80 by 24, and how much was written to it."""

    def __init__(self) -> None:
        super().__init__(80, 24)
        self.written = 0
        self._stream = pyte.Stream(self)

    def feed(self, data: str) -> None:
        self.written += len(data.encode("utf-8", "surrogatepass"))
        self._stream.feed(data)

    def cells(self) -> list[list[tuple[str, str, str, bool]]]:
        """Every cell: its character, its colours, whether it is bold. A blank has no letter that could be seen."""
        return [[_seen(self.buffer[y][x]) for x in range(self.columns)] for y in range(self.lines)]


def _seen(cell: Char) -> tuple[str, str, str, bool]:
    blank = not cell.data.strip()
    return (cell.data, "" if blank else cell.fg, cell.bg, not blank and cell.bold)


def attach_terminal(app: App[None]) -> Terminal:
    """Give `app` a terminal to write to; run it with `run_test(headless=False, size=(80, 24))`."""
    terminal = Terminal()

    class Driver(HeadlessDriver):
        @property
        def is_headless(self) -> bool:
            return False

        def write(self, data: str) -> None:
            terminal.feed(data)

    app.driver_class = Driver
    return terminal

"""Lines that a person types, or that come from a pipe, while something else is looked after."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from types import ModuleType

LOOK_AFTER_S = 0.5
"""How often `meanwhile` is called while a line is awaited."""
_STEERING = ("enable-bracketed-paste off", "enable-meta-key off", "bell-style none")
"""What readline would otherwise send to the terminal besides the line itself."""


class LineReader:
    """On a terminal with Python's readline: a line can be edited, and earlier ones come back with the arrow up."""

    def __init__(self, completions: Callable[[str], Sequence[str]]) -> None:
        """`completions` gives the texts that a line may become, for Tab."""
        self._completions = completions
        self._is_terminal = all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))
        self._readline = _readline() if self._is_terminal else None
        self._found: Sequence[str] = ()
        self.waits = False
        """A signal may end the waiting now: KeyboardInterrupt begins the line anew, other exceptions go through."""
        if self._readline is not None:
            for setting in _STEERING:
                self._readline.parse_and_bind(f"set {setting}")
            self._readline.set_completer_delims("")
            self._readline.set_completer(self._complete)
            self._readline.parse_and_bind("tab: complete")

    @property
    def is_edited(self) -> bool:
        """Whether the next line can be given a beginning to edit."""
        return self._readline is not None

    def prefill(self, text: str) -> None:
        """Let the next line begin with `text`."""
        readline = self._readline
        if readline is not None:
            readline.set_startup_hook(lambda: readline.insert_text(text))

    def read(self, label: str, *, meanwhile: Callable[[], None], ended: Callable[[], bool]) -> str | None:
        """The next line without its end; `None` when there is none, or when `ended` says so.

        Ctrl+C begins the line anew. `meanwhile` is called in another thread, but never while this one does anything but
        wait; what it raises is raised here, after the line.
        """
        stop = threading.Event()
        raised: list[Exception] = []

        def look_after() -> None:
            try:
                while not stop.wait(LOOK_AFTER_S):
                    meanwhile()
            except Exception as error:  # noqa: BLE001 - it is raised below
                raised.append(error)

        other = threading.Thread(target=look_after, name="edgetop-between-lines")
        other.start()
        try:
            line = self._line(label, ended)
        finally:
            stop.set()
            other.join()
            if self._readline is not None:
                self._readline.set_startup_hook(None)
        if raised:
            raise raised[0]
        return line

    def _line(self, label: str, ended: Callable[[], bool]) -> str | None:
        while True:
            try:
                self.waits = True
                if ended():
                    return None
                return input(label) if self._is_terminal else input()
            except EOFError:
                if self._is_terminal:
                    sys.stdout.write("\n")
                return None
            except KeyboardInterrupt:
                sys.stdout.write("\n")
            finally:
                self.waits = False

    def _complete(self, text: str, state: int) -> str | None:
        if state == 0:
            self._found = self._completions(text)
        return self._found[state] if state < len(self._found) else None


def _readline() -> ModuleType | None:
    """Python's readline, which not every build of Python has."""
    try:
        import readline  # noqa: PLC0415 - a pipe has no use for it
    except ImportError:
        return None
    return readline

"""Exit codes with their meaning; one signal guard."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from types import FrameType


class ExitCode(IntEnum):
    """What the process returns, with its meaning for the manual."""

    meaning: str

    DONE = 0, "done"
    FAILED = 1, "failed: one line what, one line how to fix it"
    USAGE = 2, "wrong usage"
    NOT_LOADED = 3, "the model cannot be loaded"
    DOES_NOT_FIT = 4, "`check`: it does not fit"
    TOO_SLOW = 5, "`check`: it fits, but is slower than `--min-speed`"
    LIMIT_CROSSED = 6, "`compare --fail-if` or `--alert-exit`: a limit was crossed"
    INTERRUPTED = 130, "interrupted; what was measured is saved; 128 + its number for another signal"

    def __new__(cls, code: int, meaning: str) -> ExitCode:
        """A code that knows its meaning."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member


@contextmanager
def handle_signals(*, on_interrupt: Callable[[], None], on_end: Callable[[], None]) -> Iterator[Callable[[], int]]:
    """Call these for SIGINT, and for SIGTERM, SIGHUP or SIGQUIT. What is ignored, as SIGHUP below nohup, stays ignored.

    Gives what tells the exit code of the last of the latter, 128 + its number, or 0.
    """
    code = 0

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        on_interrupt()

    def end(number: int, _frame: FrameType | None) -> None:
        nonlocal code
        code = 128 + number
        on_end()

    handlers = {signal.SIGINT: interrupt, signal.SIGTERM: end, signal.SIGHUP: end, signal.SIGQUIT: end}
    before = {
        number: signal.signal(number, handler)
        for number, handler in handlers.items()
        if signal.getsignal(number) != signal.SIG_IGN
    }
    try:
        yield lambda: code
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Whether one of these signals has come; a second one ends at once."""
    interrupted = False

    def interrupt() -> None:
        nonlocal interrupted
        if interrupted:
            raise KeyboardInterrupt
        interrupted = True

    with handle_signals(on_interrupt=interrupt, on_end=interrupt):
        yield lambda: interrupted

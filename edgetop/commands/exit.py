"""Exit codes with their meaning; one signal guard."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

EXIT_CODES: Final[tuple[tuple[str, str], ...]] = (
    ("0", "done"),
    ("1", "failed: one line what, one line how to fix it"),
    ("2", "wrong usage"),
    ("3", "the model cannot be loaded"),
    ("4", "`check`: it does not fit"),
    ("5", "`check`: it fits, but is slower than `--min-speed`"),
    ("6", "`compare --fail-if`: a limit was crossed"),
    ("130", "interrupted; what was measured is saved"),
)


@contextmanager
def handle_signals(*, on_interrupt: Callable[[], None], on_end: Callable[[], None]) -> Iterator[None]:
    """Call these for SIGINT and for SIGTERM or SIGHUP. What is ignored, as SIGHUP below nohup, stays ignored."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        on_interrupt()

    def end(_number: int, _frame: FrameType | None) -> None:
        on_end()

    wanted = {signal.SIGINT: interrupt, signal.SIGTERM: end, signal.SIGHUP: end}
    chosen = {number: handler for number, handler in wanted.items() if signal.getsignal(number) != signal.SIG_IGN}
    before = {number: signal.signal(number, handler) for number, handler in chosen.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Whether an ending signal has come; the second Ctrl+C ends at once."""
    asked = False

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    heard = [number for number in ENDING_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, interrupt) for number in heard}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

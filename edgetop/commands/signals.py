"""Signals that stop what is under way or end the program, heard for a while."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def heard(*, on_interrupt: Callable[[], None], on_end: Callable[[], None]) -> Iterator[None]:
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

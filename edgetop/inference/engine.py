"""The interface of an engine; the shared stop flags; the report of an empty turn.

Each command has two bytes of the page, numbered by its position in the stream of commands. The second byte is always
zero, so that libc's `strlen` on the first one returns 0 to go on and 1 to stop. llama.cpp calls its abort callback once
per graph node, several hundred times a token; `strlen` is a callback that needs no interpreter lock.

Since a flag belongs to one command, a stop can neither be lost before its command begins nor reach the one after it.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from edgetop.core.clock import monotonic_us
from edgetop.core.engine_settings import EngineInfo
from edgetop.core.errors import ModelError
from edgetop.core.records import StopReason, TurnFinished
from edgetop.inference.child_process import anonymous_file
from edgetop.inference.protocol import Choose, Generate, Load, LoadFailed, Measure, Perplexity, Report
from edgetop.io.model_file import require_model

PAGE_BYTES = 4096
FLAG_BYTES = 2
FLAGS = PAGE_BYTES // FLAG_BYTES
"""Flags are reused after so many commands; far more than ever run at once."""


class StopFlags:
    """The page. The side with the screen clears and sets flags, the worker only reads them."""

    def __init__(self, fd: int) -> None:
        """Map the page behind `fd`, which stays the caller's to close."""
        self._page = mmap.mmap(fd, PAGE_BYTES)

    @staticmethod
    def create() -> int:
        """A descriptor of a new page with all flags clear."""
        fd = anonymous_file("edgetop-stop")
        os.ftruncate(fd, PAGE_BYTES)
        return fd

    def clear(self, command: int) -> None:
        """Clear the flag of a command that is about to be sent; `command` counts from 0."""
        self._page[command % FLAGS * FLAG_BYTES] = 0

    def set(self, command: int) -> None:
        """Stop a command, whether it runs already or not."""
        self._page[command % FLAGS * FLAG_BYTES] = 1

    def is_set(self, command: int) -> bool:
        """Whether a command is to stop."""
        return self._page[command % FLAGS * FLAG_BYTES] != 0

    def address(self, command: int) -> int:
        """Address of the flag of a command in this process, as a C string; valid until `close`."""
        page = ctypes.c_char.from_buffer(self._page)
        return ctypes.addressof(page) + command % FLAGS * FLAG_BYTES

    def close(self) -> None:
        """Unmap the page. Addresses handed out before must not be used any more."""
        self._page.close()


Reporter = Callable[[Report], None]
"""Sends a report to the screen's process; never waits for it to be read."""


class Stop(Struct, frozen=True):
    """Whether the running command is to stop."""

    flags: StopFlags
    command: int

    @property
    def requested(self) -> bool:
        """Checked between tokens and between pieces of a prefill."""
        return self.flags.is_set(self.command)

    @property
    def address(self) -> int:
        """A C string that is empty until the command is to stop, for callbacks without the interpreter lock."""
        return self.flags.address(self.command)


def file_failure(path: Path, n_ctx: int | None = None) -> LoadFailed | None:
    """Why a file cannot be loaded with a context of this length; `None` where llama.cpp is to try."""
    try:
        require_model(path, n_ctx)
    except ModelError as error:
        return LoadFailed(reason=error.reason, message=wire_text(error.what), hint=error.hint)
    return None


def wire_text(text: str) -> str:
    """A text that can be sent: the name of a file may hold bytes that are no characters."""
    return text.encode("utf-8", "replace").decode()


NO_MODEL = "No model is loaded: load one first."


def empty_turn(turn: int, reason: StopReason, error: str) -> TurnFinished:
    """The report of a turn in which nothing was evaluated."""
    return TurnFinished(
        turn=turn,
        t_us=monotonic_us(),
        stop_reason=reason,
        prompt_tokens=0,
        cached_tokens=0,
        generated_tokens=0,
        context_used=0,
        error=error,
        counted=False,
    )


class Engine(Protocol):
    """Something that loads a model and answers with it, one command at a time."""

    @property
    def info(self) -> EngineInfo:
        """What computes."""

    def load(self, command: Load, stop: Stop, report: Reporter) -> None:
        """Load in place of what was loaded; the last report is ModelLoaded or LoadFailed."""

    def generate(self, command: Generate, stop: Stop, report: Reporter) -> None:
        """Answer; the last report is TurnFinished."""

    def measure(self, command: Measure, stop: Stop, report: Reporter) -> None:
        """Evaluate random tokens; the last report is TurnFinished."""

    def score(self, command: Perplexity | Choose, stop: Stop, report: Reporter) -> None:
        """Score a text or choices; the last report is TextScored, ChoicesScored or ScoreFailed."""

    def close(self) -> None:
        """Free what is loaded."""

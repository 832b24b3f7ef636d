"""What the worker asks of an engine, whichever it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from edgetop.core.engine import EngineInfo
from edgetop.inference.protocol import Choose, Generate, Load, Measure, Perplexity, Report
from edgetop.inference.stop_flag import StopFlags

Reporter = Callable[[Report], None]
"""Sends a report to the screen's process; never waits for it to be read."""


class Stop(Struct, frozen=True):
    """Whether the command under way is to stop."""

    flags: StopFlags
    command: int

    @property
    def requested(self) -> bool:
        """Asked between tokens and between pieces of a prefill."""
        return self.flags.is_set(self.command)

    @property
    def address(self) -> int:
        """A C string that is empty until the command is to stop, for callbacks without the interpreter lock."""
        return self.flags.address(self.command)


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

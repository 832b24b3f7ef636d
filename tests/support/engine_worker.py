"""A worker process with an engine, driven by a test that waits for its reports."""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from edgetop.core.engine_settings import EngineSettings, SamplingSettings
from edgetop.core.records import ModelLoaded, Tokens, TurnFinished
from edgetop.inference.child_process import WorkerExit
from edgetop.inference.client import EngineProcess
from edgetop.inference.protocol import ChatMessage, Generate, Load, LoadFailed, Report

DEADLINE_S = 250.0
"""A test that waits so long has failed; nothing is measured with it."""


class EngineWorker:
    """A worker and all that it has said."""

    def __init__(self, engine: EngineProcess) -> None:
        self.engine = engine
        self.reports: list[Report] = []

    def until(self, *kinds: type[Any], having: Callable[[Any], bool] = lambda _: True) -> Any:
        """Wait for a report."""
        seen = len(self.reports)
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            self.reports += self.engine.receive()
            for index in range(seen, len(self.reports)):
                report = self.reports[index]
                if isinstance(report, kinds) and having(report):
                    return report
            seen = len(self.reports)
            death = self.engine.death()
            assert death is None, death
            select.select([self.engine], [], [], 1.0)
        raise AssertionError(f"no {kinds} among {self.reports[-20:]}")

    def death(self) -> WorkerExit:
        """Wait for the worker's end."""
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            self.reports += self.engine.receive()
            death = self.engine.death()
            if death is not None:
                return death
            select.select([self.engine], [], [], 1.0)
        raise AssertionError("the worker lives")

    def load(self, path: Path | str, settings: EngineSettings | None = None) -> ModelLoaded | LoadFailed:
        """Load and wait for the end of it."""
        self.engine.send(Load(path=str(path), settings=settings or EngineSettings()))
        end: ModelLoaded | LoadFailed = self.until(ModelLoaded, LoadFailed)
        return end

    def ask(
        self, *said: str | ChatMessage, turn: int = 0, continue_reply: bool = False, **sampling: object
    ) -> TurnFinished:
        """Generate and wait for the end of it; plain text is the user's."""
        self.say(*said, turn=turn, continue_reply=continue_reply, **sampling)
        finished: TurnFinished = self.until(TurnFinished)
        return finished

    def say(self, *said: str | ChatMessage, turn: int = 0, continue_reply: bool = False, **sampling: object) -> None:
        """Generate, and do not wait."""
        messages = tuple(text if isinstance(text, ChatMessage) else ChatMessage("user", text) for text in said)
        chosen = msgspec.convert(sampling, SamplingSettings)
        self.reports.clear()
        self.engine.send(Generate(turn=turn, messages=messages, sampling=chosen, continue_reply=continue_reply))

    @property
    def tokens(self) -> list[Tokens]:
        """All Tokens since the last question."""
        return [report for report in self.reports if isinstance(report, Tokens)]

    @property
    def text(self) -> str:
        """The reply's text since the last question."""
        return "".join("".join(tokens.pieces) for tokens in self.tokens)

    @property
    def stamps(self) -> list[int]:
        """One per token since the last question, in microseconds."""
        return [stamp for tokens in self.tokens for stamp in tokens.t_us]

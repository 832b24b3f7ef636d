"""Conversations with scripted engines, each in a real worker process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest

from edgetop.core.clock import US_PER_S, monotonic_us
from edgetop.core.engine_settings import EngineSettings
from edgetop.core.records import Event, Record, Tokens, TurnFinished, TurnStarted
from edgetop.inference.client import EngineProcess
from edgetop.inference.protocol import Report
from edgetop.inference.scripted import Script
from edgetop.live.conversation import Conversation, Notice, Phase
from tests.support.eventually import eventually

T = TypeVar("T")
MODEL = Path("model.gguf")


class SkippingClock:
    """The real clock, which can be put forward."""

    def __init__(self) -> None:
        self._ahead_us = 0

    def __call__(self) -> int:
        return monotonic_us() + self._ahead_us

    def skip(self, span_s: float) -> None:
        """Let time pass at once."""
        self._ahead_us += round(span_s * US_PER_S)


class Talk:
    """A conversation, all that was recorded of it, and all that was said to the person."""

    def __init__(self, engine: str) -> None:
        self.records: list[Record] = []
        self.heard: list[Report | Notice] = []
        self.clock = SkippingClock()
        self.conversation = Conversation(
            start_engine=lambda: EngineProcess.start(engine=engine),
            record=self.records.append,
            listener=self.heard.append,
            clock=self.clock,
        )

    def load(self, path: Path = MODEL, settings: EngineSettings | None = None) -> None:
        """Load, and wait until that is done."""
        self.conversation.load(path, settings or EngineSettings())
        self.reach("ready")

    def ask(self, prompt: str) -> str:
        """Ask, and wait for the answer."""
        self.conversation.submit(prompt)
        self.reach("ready")
        return self.conversation.history.messages[-1].content

    def reach(self, *phases: Phase) -> None:
        """Receive until the conversation is in one of these phases."""
        self.until(lambda: self.conversation.phase in phases, f"the conversation is {phases}")

    def answer_grows(self, tokens: int = 5) -> None:
        """Receive until the present turn has so many tokens."""
        self.until(lambda: self.tokens_of(self.conversation.turn) >= tokens, f"{tokens} tokens have come")

    def until(self, condition: Callable[[], T], what: str) -> T:
        """Receive until a condition holds."""

        def look() -> T:
            self.conversation.receive(wait_s=0.02)
            return condition()

        return eventually(look, what, told=lambda: f"{self.conversation.phase}: {self.heard[-10:]}")

    @property
    def said(self) -> list[tuple[str, str]]:
        """The messages, each as who and what."""
        return [(message.role, message.content) for message in self.conversation.history.messages]

    @property
    def notices(self) -> list[Notice]:
        """What was told to the person."""
        return [each for each in self.heard if isinstance(each, Notice)]

    @property
    def events(self) -> list[str]:
        """Kinds of the events."""
        return [record.kind for record in self.records if isinstance(record, Event)]

    @property
    def begun(self) -> list[TurnStarted]:
        """Turns, as they began."""
        return [record for record in self.records if isinstance(record, TurnStarted)]

    @property
    def ended(self) -> list[TurnFinished]:
        """Turns, as they ended."""
        return [record for record in self.records if isinstance(record, TurnFinished)]

    def tokens_of(self, turn: int) -> int:
        """How many tokens of a turn were recorded."""
        return sum(len(each.t_us) for each in self.records if isinstance(each, Tokens) and each.turn == turn)


@pytest.fixture
def script_file(tmp_path: Path) -> Callable[[Script], str]:
    """Writes a script; the name of the engine that plays it."""

    def write(script: Script) -> str:
        path = tmp_path / "script.json"
        path.write_text(json.dumps(msgspec.to_builtins(script)), "utf-8")
        return f"scripted:{path}"

    return write


@pytest.fixture
def talk(script_file: Callable[[Script], str]) -> Iterator[Callable[[Script], Talk]]:
    """Begins conversations whose workers are gone after the test."""
    begun: list[Talk] = []

    def begin(script: Script) -> Talk:
        begun.append(Talk(script_file(script)))
        return begun[-1]

    yield begin
    for each in begun:
        each.conversation.kill()
        each.conversation.close()

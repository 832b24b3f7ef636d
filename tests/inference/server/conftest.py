"""A server that plays recorded answers, and the engine that asks it, in this process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from edgetop.core.engine_settings import EngineSettings, SamplingSettings
from edgetop.core.records import ModelLoaded, Prefill, Tokens, TurnFinished
from edgetop.inference.engine import Stop, StopFlags
from edgetop.inference.protocol import ChatMessage, Generate, Load, LoadFailed, Measure, Report
from edgetop.inference.server.address import KEY_VARIABLE, ServerChoice
from edgetop.inference.server.engine import ServerEngine
from tests.support.loopback_server import LoopbackServer, loopback_server


class Asking:
    """An engine over a server, and what it reported since the last command."""

    def __init__(self, flags: StopFlags, url: str, **choice: object) -> None:
        self._flags = flags
        self.engine = ServerEngine(msgspec.convert({"url": url, "timeout_s": 60.0, **choice}, ServerChoice))
        self.reports: list[Report] = []

    @property
    def stop(self) -> Stop:
        return Stop(self._flags, 0)

    def request_stop(self) -> None:
        self._flags.set(0)

    def load(self, name: str = ".", **settings: object) -> ModelLoaded | LoadFailed:
        self.reports.clear()
        command = Load(path=name, settings=msgspec.convert(settings, EngineSettings))
        self.engine.load(command, self.stop, self.reports.append)
        last = self.reports[-1]
        assert isinstance(last, ModelLoaded | LoadFailed)
        return last

    def ask(self, text: str = "Hello", *, continue_reply: bool = False, **sampling: object) -> TurnFinished:
        self.reports.clear()
        messages: tuple[ChatMessage, ...] = (ChatMessage("user", text),)
        if continue_reply:
            messages = (*messages, ChatMessage("assistant", "Once"))
        command = Generate(
            turn=1,
            messages=messages,
            sampling=msgspec.convert(sampling, SamplingSettings),
            continue_reply=continue_reply,
        )
        self.engine.generate(command, self.stop, self.reports.append)
        last = self.reports[-1]
        assert isinstance(last, TurnFinished)
        return last

    def measure(self, **test: int) -> TurnFinished:
        self.reports.clear()
        self.engine.measure(Measure(turn=1, **test), self.stop, self.reports.append)
        last = self.reports[-1]
        assert isinstance(last, TurnFinished)
        return last

    def of(self, kind: type[Any]) -> list[Any]:
        return [report for report in self.reports if isinstance(report, kind)]

    @property
    def pieces(self) -> list[str]:
        return [piece for tokens in self.of(Tokens) for piece in tokens.pieces]

    @property
    def stamps(self) -> list[int]:
        return [stamp for tokens in self.of(Tokens) for stamp in tokens.t_us]

    @property
    def prefills(self) -> list[Prefill]:
        return self.of(Prefill)

    def text(self, part: str = "answer") -> str:
        return "".join("".join(tokens.pieces) for tokens in self.of(Tokens) if tokens.part == part)


@pytest.fixture
def wire() -> Iterator[LoopbackServer]:
    with loopback_server() as server:
        yield server


@pytest.fixture
def asking(wire: LoopbackServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Asking]]:
    """Makes engines that ask the server of the test."""
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    fd = StopFlags.create()
    flags = StopFlags(fd)
    os.close(fd)
    yield lambda **choice: Asking(flags, **{"url": wire.url, **choice})
    flags.close()

"""Sources and clocks that do as they are told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import cast

from edgetop.core.sources import Channel, SourceInfo
from edgetop.telemetry.source import Values


class FakeClock:
    """A clock that stands still until it is told to go on; its boot clock goes on while it sleeps, too."""

    def __init__(self, now_us: int = 0) -> None:
        self.now_us = now_us
        self.slept_us = 0

    def __call__(self) -> int:
        return self.now_us

    def boot(self) -> int:
        return self.now_us + self.slept_us


class FakeSource:
    """Reads what the test's script says; an exception in it is raised."""

    def __init__(
        self,
        name: str = "fake",
        *,
        read: Callable[[], object] = lambda: (1.0,),
        period_s: float = 1.0,
        channels: Sequence[str] = (),
        digits: int = 0,
        blocking: bool = False,
    ) -> None:
        self.info = SourceInfo(
            name=name,
            driver="fake",
            period_s=period_s,
            channels=tuple(Channel(name=each, unit="1", digits=digits) for each in channels or (f"{name}.value",)),
        )
        self.blocking = blocking
        self.closed = 0
        self._read = read

    def read(self) -> Values:
        answer = self._read()
        if isinstance(answer, BaseException):
            raise answer
        return cast("Values", answer)

    def close(self) -> None:
        self.closed += 1


def power_source(name: str, read: object, *, unit: str = "W", period_s: float = 0.01) -> FakeSource:
    answers = read if isinstance(read, Iterator) else None
    fake = FakeSource(name, read=lambda: next(answers) if answers is not None else read)
    fake.info = SourceInfo(
        name=name,
        driver="fake",
        kind="power" if unit == "W" else "energy",
        period_s=period_s,
        channels=(Channel(name=f"{name}.all", unit=unit, digits=3, scope="module"),),
        properties={"total": True},
    )
    return fake

"""What a source of readings is.

A family of sensors lives in one file and offers a probe: given the host, it yields the sources it can really read and,
for what it cannot, an `Absent` with the reason and the mend. A probe decides by capability (a plausible reading), never
by the mere presence of a file or a library.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from msgspec import Struct, field

from edgetop.core.clock import Clock, monotonic_us
from edgetop.core.records import Missing, SourceInfo

Values = tuple[float | Missing, ...]
"""One value per channel of the source, in its order, in the channel's unit."""


NO_ENGINE = Missing("no model is running")


def _no_worker() -> int | None:
    return None


def _no_helpers() -> tuple[int, ...]:
    return ()


def _no_engine() -> Missing:
    return NO_ENGINE


class Host(Struct, frozen=True, kw_only=True):
    """The machine that sources read, as far as tests must be able to replace it."""

    sysroot: Path = Path("/")
    """`/sys` and `/proc` are read below this folder."""
    clock: Clock = monotonic_us
    worker_pid: Callable[[], int | None] = _no_worker
    """The process the model runs in; `None` while there is none. It changes when the engine is restarted."""
    helper_pids: Callable[[], tuple[int, ...]] = _no_helpers
    """Processes that work for that one, and hold a part of the model or all of it."""
    no_worker: Callable[[], Missing] = _no_engine
    """Why there is no process to be measured, while there is none."""
    own_pid: int = field(default_factory=os.getpid)
    system: str = sys.platform
    """`linux`, `darwin` and so on: which of the ways to read a quantity there is."""

    def path(self, absolute: str) -> Path:
        """`absolute`, such as `/sys/class/hwmon`, below the sysroot."""
        return self.sysroot / absolute.lstrip("/")


class Absent(Struct, frozen=True, kw_only=True):
    """A source that this host does not give."""

    name: str
    missing: Missing


class SourceLost(Exception):  # noqa: N818 - it says what happened; it is no programmer's error
    """A source that was there does not answer any more; the sampler tries again later."""

    def __init__(self, reason: str, mend: str = "") -> None:
        super().__init__(reason)
        self.missing = Missing(reason, mend)


class Source(Protocol):
    """Something that can be read again and again."""

    @property
    def info(self) -> SourceInfo:
        """What is read, how often, and what is known of it. Constant over the life of the source."""

    @property
    def blocking(self) -> bool:
        """Whether a reading can take longer than a millisecond or two, and so wants a thread of its own."""

    def read(self) -> Values:
        """Read all channels once.

        Raises SourceLost when nothing can be read now.
        """

    def close(self) -> None:
        """Give back what is held open. Reading afterwards is an error."""


class Stamped(Struct, frozen=True):
    """Values, and when they were measured on edgetop's clock, in microseconds."""

    t_us: int
    values: Values


@runtime_checkable
class StampedSource(Source, Protocol):
    """A source whose readings were taken elsewhere, at times of their own, and come several at once or not at all."""

    def read_stamped(self) -> Sequence[Stamped]:
        """Give what has come, in order of time, instead of `read`. Raises SourceLost when nothing can come now."""


Probe = Callable[[Host], Iterator[Source | Absent]]

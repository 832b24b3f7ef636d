"""The contract of a source and of a probe.

A family of sensors lives in one file and offers a probe: given the host, it yields the sources it can really read and,
for what it cannot, an `UnavailableSource` with the reason and the hint. A probe decides by capability (a plausible
reading), never by the mere presence of a file or a library.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, runtime_checkable

from msgspec import Struct

from edgetop.core.sources import SourceInfo, Unavailable
from edgetop.telemetry.host import Host

Values = tuple[float | Unavailable, ...]
"""One value per channel of the source, in its order, in the channel's unit."""


class UnavailableSource(Struct, frozen=True, kw_only=True):
    """A source that this host does not give."""

    name: str
    missing: Unavailable
    retry: bool = False
    """Whether it may be read later: a device that sleeps, a first reading that comes late. It is then probed again."""


class SourceLost(Exception):  # noqa: N818 - it says what happened; it is no programmer's error
    """A source that was there does not answer any more; the sampler tries again later."""

    def __init__(self, reason: str, hint: str = "", *, retry: bool = False) -> None:
        """`retry` says that the next try may succeed."""
        super().__init__(reason)
        self.missing = Unavailable(reason, hint)
        self.retry = retry


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
class PacedSource(Source, Protocol):
    """A source that is read less often while there is little to see, lest the reading itself costs something."""

    @property
    def pause_s(self) -> float:
        """The present period in seconds, no less than that of `info`."""


@runtime_checkable
class ReadAtTheEnd(Source, Protocol):
    """A source whose last moment counts, however lately it was read: a short session's peak of memory."""

    @property
    def reads_at_end(self) -> bool:
        """True."""


@runtime_checkable
class StampedSource(Source, Protocol):
    """A source whose readings were taken elsewhere, at times of their own, and come several at once or not at all."""

    def read_stamped(self) -> Sequence[Stamped]:
        """Give what has come, in order of time, instead of `read`. Raises SourceLost when nothing can come now."""


Probe = Callable[[Host], Iterator[Source | UnavailableSource]]

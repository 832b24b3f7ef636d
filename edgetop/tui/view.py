"""What the panes draw from: a snapshot, the histories behind its graphs, and how things are to be drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from msgspec import Struct

from edgetop.core.energy.supply import Price
from edgetop.core.records import DeviceInfo, Missing
from edgetop.session.session import Session
from edgetop.session.snapshot import Reading, Snapshot, snapshot
from edgetop.tui.glyphs import GlyphLevel
from edgetop.tui.traces import Traces
from edgetop.tui.widgets.lines import Line

Recording = Literal["recording", "off", "trouble", "replay"]


class View(Struct, frozen=True, kw_only=True):
    """One moment of a session, ready to be drawn."""

    snapshot: Snapshot
    device: DeviceInfo
    level: GlyphLevel
    traces: Traces
    """What the graphs show."""
    recording: Recording = "recording"
    load_fraction: float | None = None
    """How far a load has come; `None` when nothing is being loaded or it is not known."""
    paused: bool = False
    """The person has stopped the display; the session goes on."""
    heading: tuple[Line, ...] = ()
    """What stands in the status line instead of model and device: a name, and facts, the most telling first."""
    hidden: frozenset[str] = frozenset()
    """Titles of the panes that the person does not want to see."""
    order: tuple[str, ...] = ()
    """Titles of the panes from the top; empty for the usual order."""
    focus: str = ""
    """Title of the pane that the keys act upon; empty while they do not."""
    price: Price | None = None
    """What energy costs, if the person said so."""

    def value(self, channel: str) -> float | None:
        """The latest reading of a channel; `None` where it is missing."""
        reading = self.snapshot.readings.get(channel)
        return reading.value if isinstance(reading, Reading) else None

    def rails(self) -> list[tuple[str, float]]:
        """Channels in watts beside the headline, with their readings."""
        power = self.snapshot.power
        shown = () if isinstance(power, Missing) else power.channels
        return [
            (name, reading.value)
            for name, reading in self.snapshot.readings.items()
            if name.startswith("power.") and name not in shown and isinstance(reading, Reading)
        ]

    def missing(self, channel: str) -> Missing | None:
        """Why a channel has no reading; `None` where it has one."""
        reading = self.snapshot.readings.get(channel)
        if isinstance(reading, Reading):
            return None
        return reading or Missing("no source on this machine reads it")


class PaneText(NamedTuple):
    """What a pane shows: its headline figure, in its border, and its lines."""

    headline: Line
    lines: Sequence[Line]


PaneDrawing = Callable[[View, int, int], PaneText]
"""Draws a pane into a width and height in cells, border not included."""


def view_of(
    session: Session,
    t_us: int,
    level: GlyphLevel,
    *,
    recording: Recording = "recording",
    load_fraction: float | None = None,
    paused: bool = False,
    heading: tuple[Line, ...] = (),
    price: Price | None = None,
    traces: Traces | None = None,
) -> View:
    """The session as it was at `t_us` microseconds since it began.

    Whoever draws it again and again gives the same `traces` each time, so that graphs cost only what is new in them.
    """
    header = session.header
    now = snapshot(session, t_us)
    return View(
        snapshot=now,
        device=header.device if header is not None else DeviceInfo(hostname=""),
        level=level,
        traces=(Traces() if traces is None else traces).at(session, now),
        recording=recording,
        load_fraction=load_fraction,
        paused=paused,
        heading=heading,
        price=price,
    )

"""Two made-up sessions that have ended, and the replay screen over them with a clock that a test moves."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from edgetop.core.records import Event, ModelLoaded, Record, SourceAdded, SourceMissing, Tokens
from edgetop.session.session import Session
from edgetop.tui.glyphs import GlyphLevel
from edgetop.tui.page_app import PageApp
from edgetop.tui.replay_screen import ReplayScreen
from tests.tui.still_life import S, folded, still_records

END_US = 80 * S
"""After the second answer."""
ENDED = Event(t_us=END_US, kind="session_ended", text="The session ended.")


def recorded() -> list[Record]:
    """A session of two turns, from the beginning to its end."""
    return [*still_records(until_us=END_US - 1), ENDED]


def slower(records: Sequence[Record], by: float = 1.5, quantization: str = "Q8_0") -> list[Record]:
    """The same on a model of another quantization, for which everything takes longer."""

    def later(record: Record) -> Record:
        if isinstance(record, SourceAdded | SourceMissing):
            return record
        if isinstance(record, Tokens):
            return replace(record, t_us=tuple(round(by * t_us) for t_us in record.t_us))
        moved = replace(record, t_us=round(by * record.t_us))
        if isinstance(moved, ModelLoaded):
            return replace(moved, model=replace(moved.model, quantization=quantization))
        return moved

    return [later(record) for record in records]


def pair() -> list[Session]:
    """The two, the second one slower."""
    return [folded(recorded()), folded(slower(recorded()))]


class ReplayApp(PageApp[None]):
    """The replay screen as `edgetop replay` opens it."""

    def __init__(self, sessions: Sequence[Session], level: GlyphLevel = "braille") -> None:
        self.now_us = 0
        self.replay = ReplayScreen(sessions, level=level, clock=lambda: self.now_us)
        super().__init__(lambda _: self.replay, level=level)

"""When the loaded model had nothing to do: what the idle baseline is measured in."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from edgetop.core.records import Event
from edgetop.session.session import Session
from edgetop.session.turn import Turn

LOADED, UNLOADED = "loaded", "unloaded"
UNLOADING_EVENTS = frozenset({"model_loading", "load_failed", "engine_died"})


class Moment(Struct, frozen=True):
    """The device became quiet or busy, or it slept."""

    t_us: int
    what: Literal["quiet", "busy", "suspended"]


class Moments:
    """The moments of a session, kept up as it grows.

    The device is quiet while a model is loaded and no turn runs. A turn that ended because the engine died leaves no
    model behind, whichever of the two was noted first.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._begin()

    def _begin(self) -> None:
        self._found: list[Moment] = []
        self._loads, self._turns, self._events = 0, 0, 0
        self._unfinished: list[Turn] = []
        self._last_event: Event | None = None
        self._last_us: int | None = None
        self._loaded = self._running = self._quiet = False

    def all(self) -> list[Moment]:
        """All of them, in order of time. The list grows; it is another one once a record came late."""
        if self._last_event is not None and self._session.events[self._events - 1] is not self._last_event:
            self._begin()  # one was put before it
        happenings = self._new_happenings()
        if happenings and self._last_us is not None and happenings[0][0] <= self._last_us:
            self._begin()
            happenings = self._new_happenings()
        for t_us, what in happenings:
            self._take(t_us, what)
        return self._found

    def _new_happenings(self) -> list[tuple[int, str]]:
        """What has happened since, in order of time."""
        session = self._session
        happenings: list[tuple[int, str]] = [(load.t_us, LOADED) for load in session.loads[self._loads :]]
        turns = [(turn, False) for turn in self._unfinished]
        turns += [(turn, True) for turn in session.turns[self._turns :]]
        for turn, is_new in turns:
            if is_new:
                happenings.append((turn.started.t_us, "started"))
            if turn.finished is not None:
                happenings.append((turn.finished.t_us, "finished"))
        for event in session.events[self._events :]:
            if event.kind in UNLOADING_EVENTS:
                happenings.append((event.t_us, UNLOADED))
            elif event.kind == "suspended":
                happenings.append((event.t_us, "suspended"))
        self._loads, self._turns, self._events = len(session.loads), len(session.turns), len(session.events)
        self._last_event = session.events[-1] if session.events else None
        self._unfinished = [turn for turn, _ in turns if turn.finished is None]
        # Of one stamp, the order above stays: a turn begins before it ends, and ends before the next one begins.
        happenings.sort(key=lambda happening: happening[0])
        return happenings

    def _take(self, t_us: int, what: str) -> None:
        self._last_us = t_us
        match what:
            case "suspended":
                self._found.append(Moment(t_us, "suspended"))
            case "started" | "finished":
                self._running = what == "started"
            case _:
                self._loaded = what == LOADED
        if self._quiet != (self._loaded and not self._running):
            self._quiet = not self._quiet
            self._found.append(Moment(t_us, "quiet" if self._quiet else "busy"))

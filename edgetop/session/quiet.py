"""When the loaded model had nothing to do: what the idle baseline is measured in."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from edgetop.session.session import Session

LOADED, UNLOADED = "loaded", "unloaded"
UNLOADING_EVENTS = frozenset({"model_loading", "load_failed", "engine_died"})


class Moment(Struct, frozen=True):
    """The device became quiet or busy, or it slept."""

    t_us: int
    what: Literal["quiet", "busy", "suspended"]


def moments_of(session: Session) -> list[Moment]:
    """All moments of a session, in order of time.

    The device is quiet while a model is loaded and no turn runs. A turn that ended because the engine died leaves no
    model behind, whichever of the two was noted first.
    """
    happenings: list[tuple[int, str]] = [(load.t_us, LOADED) for load in session.loads]
    for turn in session.turns:
        happenings.append((turn.started.t_us, "started"))
        if turn.finished is not None:
            happenings.append((turn.finished.t_us, "finished"))
    for event in session.events:
        if event.kind in UNLOADING_EVENTS:
            happenings.append((event.t_us, UNLOADED))
        elif event.kind == "suspended":
            happenings.append((event.t_us, "suspended"))
    # Of one stamp, the order above stays: a turn begins before it ends, and ends before the next one begins.
    happenings.sort(key=lambda happening: happening[0])
    moments: list[Moment] = []
    loaded = running = quiet = False
    for t_us, what in happenings:
        match what:
            case "suspended":
                moments.append(Moment(t_us, "suspended"))
            case "started" | "finished":
                running = what == "started"
            case _:
                loaded = what == LOADED
        if quiet != (loaded and not running):
            quiet = not quiet
            moments.append(Moment(t_us, "quiet" if quiet else "busy"))
    return moments

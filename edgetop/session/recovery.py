"""Sessions from the journals of edgetops that died."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from edgetop.core.records import DeviceInfo, Event, Record, SessionStarted, TurnFinished
from edgetop.session.journal import UnreadableLine
from edgetop.session.session import Session

LINES_TOLD = 10


class Recovered(Struct, frozen=True):
    """What the records of a journal gave."""

    session: Session
    unreadable: tuple[UnreadableLine, ...]


def recover_session(lines: Iterable[Record | UnreadableLine], session_id: str, started_at: str) -> Recovered | None:
    """Fold a journal and end what its edgetop did not come to end; `None` if no record could be read.

    `session_id` and `started_at` are for a journal whose beginning is lost.
    """
    session = Session()
    unreadable: list[UnreadableLine] = []
    for line in lines:
        if isinstance(line, UnreadableLine):
            unreadable.append(line)
            continue
        if session.header is None and not isinstance(line, SessionStarted):
            session.apply(_lost_beginning(line, session_id, started_at))
        session.apply(line)
    if session.header is None:
        return None
    _end_running_turn(session)
    text = "Recovered from the journal of an edgetop that ended without saving the session."
    if unreadable:
        numbers = ", ".join(str(line.line) for line in unreadable[:LINES_TOLD])
        more = ", ..." if len(unreadable) > LINES_TOLD else ""
        text += f" Lines that could not be read: {numbers}{more}."
    session.apply(Event(t_us=session.start_us + session.end_us, kind="recovered", text=text))
    return Recovered(session, tuple(unreadable))


def _lost_beginning(first: Record, session_id: str, started_at: str) -> SessionStarted:
    stamp = getattr(first, "t_us", 0)
    return SessionStarted(
        t_us=stamp[0] if isinstance(stamp, tuple) else stamp,
        session_id=session_id,
        started_at=started_at,
        edgetop_version="unknown",
        device=DeviceInfo(hostname="unknown"),
    )


def _end_running_turn(session: Session) -> None:
    if not session.turns or session.turns[-1].finished is not None:
        return
    turn = session.turns[-1]
    progress = turn.progress(session.end_us)
    cached = progress.cached or 0
    session.apply(
        TurnFinished(
            turn=turn.started.turn,
            t_us=session.start_us + session.end_us,
            stop_reason="failed",
            prompt_tokens=cached + (progress.to_evaluate or 0),
            cached_tokens=cached,
            generated_tokens=progress.generated,
            context_used=cached + progress.evaluated + progress.generated,
            error="edgetop ended before the reply did",
            counted=turn.counted,
        )
    )

"""Going through recorded sessions once, so that any moment of them can then be shown at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgetop.session.checkpoints import Checkpoints
from edgetop.session.energy_account import ENERGY_ACCOUNTS
from edgetop.session.session import Session
from edgetop.session.snapshot import snapshot

LOOKS = 64
"""Sums over turns, gaps and extremes are kept wherever a session was looked at; between two looks it is soon done."""


def prepare(sessions: Sequence[Session]) -> Iterator[None]:
    """Prepare sessions that are complete, some milliseconds of work at a time.

    Until it is through, snapshots of moments that it has not reached lack the energy, and say so. Afterwards a snapshot
    of any moment is the one that it always was, and comes at once.
    """
    unready: list[tuple[Session, Checkpoints]] = []
    for session in {id(session): session for session in sessions}.values():
        checkpoints = Checkpoints(session)
        checkpoints.patient = False
        ENERGY_ACCOUNTS.replace(session, checkpoints)
        unready.append((session, checkpoints))
    for session, _ in unready:
        for look in range(LOOKS + 1):
            snapshot(session, session.end_us * look // LOOKS)
            yield
    for _, checkpoints in unready:
        while checkpoints.extend():
            yield
        yield

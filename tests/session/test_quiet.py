"""The moments of a session are the same however it has grown."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from edgetop.core.records import Event, Record, TurnFinished, TurnStarted
from edgetop.session.meters import ActivityLog
from edgetop.session.session import Session
from tests.support.recorded_sessions import LOADED, START_US, STARTED

EVENTS = ("suspended", "engine_died", "model_loading", "throttled")
_steps = st.lists(
    st.tuples(st.sampled_from(("turn", "end", "load", *EVENTS)), st.integers(-2, 3), st.booleans()), max_size=30
)


def records_of(steps: list[tuple[str, int, bool]]) -> list[tuple[Record, bool]]:
    """Records whose stamps mostly grow, and of each whether the moments are looked at after it."""
    t_us, turns = START_US, 0
    found: list[tuple[Record, bool]] = []
    for what, dt_us, looked in steps:
        t_us += dt_us
        record: Record
        match what:
            case "turn":
                turns += 1
                record = TurnStarted(turn=turns, t_us=t_us, prompt="Say.")
            case "end":
                if not turns:
                    continue
                record = TurnFinished(
                    turn=turns, t_us=t_us, stop_reason="max_tokens", prompt_tokens=1, cached_tokens=0,
                    generated_tokens=1, context_used=2,
                )  # fmt: skip
            case "load":
                record = msgspec.structs.replace(LOADED, t_us=t_us)
            case _:
                record = Event(t_us=t_us, kind=what, text="")
        found.append((record, looked))
    return found


@given(_steps)
def test_moments_that_are_kept_up_are_those_of_the_whole(steps: list[tuple[str, int, bool]]) -> None:
    session = Session()
    session.apply(STARTED)
    kept_up = ActivityLog(session)
    for record, looked in records_of(steps):
        session.apply(record)
        if looked:
            assert kept_up.all() == ActivityLog(session).all()
    assert kept_up.all() == ActivityLog(session).all()


@given(_steps)
def test_the_list_is_another_one_where_one_that_was_told_has_changed(steps: list[tuple[str, int, bool]]) -> None:
    session = Session()
    session.apply(STARTED)
    moments = ActivityLog(session)
    before = moments.all()
    told = list(before)
    for record, _ in records_of(steps):
        session.apply(record)
        now = moments.all()
        if now is before:
            assert now[: len(told)] == told
        before, told = now, list(now)

"""Any moment in any order: what replay shows is what a session read anew shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgetop.core.records import Record
from edgetop.core.sources import Unavailable
from edgetop.session import energy, summary
from edgetop.session import session as series
from edgetop.session.energy import ENERGY_ACCOUNTS, NOT_REACHED, Checkpoints, SessionEnergy
from edgetop.session.replay import prepare
from edgetop.session.session import Session
from edgetop.session.snapshot import Snapshot, snapshot
from edgetop.tui.panes.pane import view_of
from tests.support.recorded_power import SENSORS, record
from tests.support.recorded_sessions import S, event, fold, recordings


@pytest.fixture(autouse=True, scope="module")
def many_marks() -> object:
    """So many of them that a short session has some."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(energy, "READINGS_BETWEEN", 16)
        patch.setattr(summary, "MERGED_AT", 4)
        patch.setattr(summary, "MARKED_AT", 8)
        patch.setattr(series, "EXTENT_EVERY", 8)
        yield


@cache
def powered(kind: str) -> Sequence[Record]:
    """Two turns beside a sensor, some readings of which failed, and the machine slept once."""
    records = record(SENSORS[kind], 5, (6.0, 3.0)).records
    return [*records[:-1], event("suspended", 30 * S), records[-1], event("session_ended", 60 * S)]


def through(session: Session) -> Session:
    for _ in prepare([session]):
        pass
    return session


@cache
def fresh(kind: str, t_us: int) -> Snapshot:
    return snapshot(fold(powered(kind)), t_us)


@cache
def prepared(kind: str) -> Session:
    return through(fold(powered(kind)))


@settings(max_examples=25, deadline=None)
@pytest.mark.parametrize("kind", SENSORS)
@given(tenths=st.lists(st.sampled_from(range(0, 611, 41)), min_size=1, max_size=8))
def test_seeking_in_any_order_shows_what_a_session_read_anew_shows(kind: str, tenths: list[int]) -> None:
    for tenth in tenths:
        assert snapshot(prepared(kind), tenth * S // 10) == fresh(kind, tenth * S // 10)


@pytest.mark.parametrize("kind", SENSORS)
def test_the_end_has_an_energy_and_the_graphs_are_the_same_too(kind: str) -> None:
    prepared, plain = through(fold(powered(kind))), fold(powered(kind))
    for t_us in (60 * S, 20 * S, 40 * S):
        one, other = (view_of(session, t_us, "block") for session in (prepared, plain))
        assert one.snapshot == other.snapshot
        assert one.history.speed(80) == other.history.speed(80)
        assert one.history.power(80) == other.history.power(80)
    assert snapshot(prepared, 60 * S).summary.energy is not None


@given(recordings(), st.lists(st.integers(0, 60 * S), max_size=8))
def test_a_session_without_meters_is_prepared_too(records: list[Record], moments: list[int]) -> None:
    session = through(fold(records))
    for t_us in (*moments, session.end_us):
        assert snapshot(session, t_us) == snapshot(fold(records), t_us)


def test_what_is_not_reached_yet_lacks_the_energy_and_nothing_else() -> None:
    session = fold(powered("noisy"))
    preparation = prepare([session])
    next(preparation)
    early, late = snapshot(session, 0), snapshot(session, 40 * S)
    assert early == fresh("noisy", 0)
    assert late.power == NOT_REACHED
    assert NOT_REACHED.reason in late.summary.energy_missing
    whole = fresh("noisy", 40 * S)
    assert late.readings == whole.readings
    assert late.summary.token_gap_ms == whole.summary.token_gap_ms
    for _ in preparation:
        shown = snapshot(session, 40 * S)
        assert shown == whole or isinstance(shown.power, Unavailable)
    assert snapshot(session, 40 * S) == whole


def test_a_revised_period_late_in_a_session_leaves_a_mark_where_it_happened() -> None:
    slower_than_thought = replace(SENSORS["noisy"], noise=0.0, update_s=0.2, properties={"window_s": 0.0})
    session = fold(record(slower_than_thought, 5, (6.0,)).records)
    marks = Checkpoints(session)
    plain = SessionEnergy(session)
    revisions = []
    for t_us in session.series["power.board"].t_us:
        before = plain.revision
        plain.advance(t_us)
        if plain.revision != before:
            revisions.append(t_us)
    while marks.extend():
        pass
    assert revisions[0] > marks._moments_us[0]
    assert set(revisions) <= set(marks._marks_us)


def test_a_patient_one_goes_through_as_much_as_it_must() -> None:
    session = fold(powered("counter"))
    marks = Checkpoints(session)
    ENERGY_ACCOUNTS.replace(session, marks)
    assert snapshot(session, 20 * S) == fresh("counter", 20 * S)
    assert not marks.complete
    assert snapshot(session, 60 * S) == fresh("counter", 60 * S)

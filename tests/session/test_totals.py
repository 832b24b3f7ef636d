from __future__ import annotations

from math import hypot

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from edgetop.commands.verbs import TOTALS_BY
from edgetop.core.figures import WatchFigures
from edgetop.core.quantity import Interval
from edgetop.session.file import SessionHead
from edgetop.session.listing import GROUPS, totals
from tests.support.recorded_power import with_energy


def head(number: int, *, j: float | None = 60.0, tokens: int = 100, **changed: object) -> SessionHead:
    """A session of `tokens` tokens, all of them measured if `j` is given."""
    file = with_energy()
    energy = file.summary.energy
    assert energy is not None
    if j is not None:
        energy = replace(energy, gross_j=interval(j), j_per_token=interval(j / tokens))
    summary = replace(
        file.summary,
        generated_tokens=tokens,
        turns=2,
        energy=energy if j is not None else None,
        energy_missing="" if j is not None else "no sensor",
    )
    return replace(file, id=str(number), duration_us=1_800_000_000, summary=summary, **changed)


def interval(value: float) -> Interval:
    systematic, random = 0.05 * value, 0.02 * value
    reach = 2 * hypot(systematic, random)
    return Interval(value=value, low=value - reach, high=value + reach, u_systematic=systematic, u_random=random)


def test_the_command_line_offers_the_groups_that_there_are() -> None:
    assert tuple(GROUPS) == TOTALS_BY


def test_what_was_not_measured_stands_apart() -> None:
    (row,) = totals([head(1), head(2, j=None, tokens=40)])
    assert (row.sessions, row.answers, row.hours, row.generated_tokens) == (2, 4, 1.0, 140)
    assert (row.measured_tokens, row.unmeasured_tokens) == (100, 40)
    assert (row.unmeasured_sessions, row.unmeasured_hours) == (1, 0.5)
    assert row.energy_j is not None
    assert row.energy_j.value == 60.0
    assert row.kwh == pytest.approx(60 / 3.6e6)


def test_an_energy_per_token_that_is_next_to_nothing_makes_no_more_tokens_than_there_are() -> None:
    one = head(1)
    assert one.summary.energy is not None
    energy = replace(one.summary.energy, gross_j=interval(1e30), j_per_token=interval(5e-324))
    (row,) = totals([replace(one, summary=replace(one.summary, energy=energy))])
    assert (row.measured_tokens, row.unmeasured_tokens) == (100, 0)


def test_turns_without_energy_in_a_measured_session_are_told_apart() -> None:
    one = head(1)
    (row,) = totals([replace(one, summary=replace(one.summary, generated_tokens=130))])
    assert (row.measured_tokens, row.unmeasured_tokens, row.unmeasured_sessions) == (100, 30, 0)


def test_no_energy_at_all_is_absent_with_every_reason_and_never_zero() -> None:
    other = head(2, j=None)
    (row,) = totals([head(1, j=None), replace(other, summary=replace(other.summary, energy_missing="asleep"))])
    assert row.energy_j is None
    assert row.kwh is None
    assert row.energy_missing == "no sensor; asleep"


def test_meters_that_cover_different_things_are_not_added_up() -> None:
    other = head(2)
    assert other.summary.energy is not None
    at_wall = replace(other, summary=replace(other.summary, energy=replace(other.summary.energy, scope="wall")))
    (row,) = totals([head(1), at_wall])
    assert row.energy_j is None
    assert "cover different things" in row.energy_missing
    apart = totals([head(1), at_wall], ["scope"])
    assert [each.energy_j.value for each in apart if each.energy_j is not None] == [60.0, 60.0]


def test_a_session_that_is_there_twice_counts_once() -> None:
    (row,) = totals([head(1), head(1)])
    assert row.sessions == 1


def test_rows_by_host_and_month_and_a_date_that_is_none() -> None:
    pi, odd = head(1, started_at="2026-10-12T12:00:00+00:00"), head(2, started_at="yesterday")
    rows = totals([pi, replace(odd, device=replace(odd.device, hostname="nas"))], ["host", "month"])
    assert [row.group for row in rows] == [
        {"host": "nas", "month": ""},
        {"host": "pi", "month": "2026-10"},
    ]


def test_a_watch_counts_its_tokens_and_no_answers() -> None:
    watched = replace(head(1, j=None), watch=WatchFigures(generated_tokens=7, at_least=True, energy_missing="none"))
    (row,) = totals([watched])
    assert (row.answers, row.generated_tokens, row.at_least, row.unmeasured_tokens) == (0, 7, True, 7)


@given(st.lists(st.floats(0.01, 1e6), min_size=1, max_size=20))
def test_the_sum_has_the_linear_sum_of_shared_errors_and_no_more(joules: list[float]) -> None:
    (row,) = totals([head(number, j=j) for number, j in enumerate(joules)])
    assert row.energy_j is not None
    assert row.energy_j.value == pytest.approx(sum(joules))
    assert row.energy_j.u_systematic == pytest.approx(0.05 * sum(joules))
    assert row.energy_j.low <= row.energy_j.value <= row.energy_j.high
    assert row.energy_j.u_random <= 0.02 * sum(joules) * (1 + 1e-9)

from __future__ import annotations

from math import hypot

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from edgetop.commands.verbs import TOTALS_BY
from edgetop.core.figures import WatchFigures
from edgetop.core.quantity import Interval
from edgetop.core.records import HostServed, ServiceEntry
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


def test_each_host_of_a_fleet_has_its_own_part() -> None:
    def host(name: str, tokens: int, j: float | None, scope: str = "module") -> ServiceEntry:
        served = HostServed(
            generated_tokens=tokens,
            measured_tokens=0 if j is None else tokens,
            energy_j=None if j is None else interval(j),
            scope="" if j is None else scope,
            energy_missing="no sensor" if j is None else "",
        )
        return ServiceEntry(t_us=0, number=1, kind=f"host {name}", address=f"ssh:{name}", models=("m",), served=served)

    fleet = head(1, j=None, kind="watch", watch=WatchFigures())
    fleet = replace(fleet, services=(host("pi1", 100, 60.0), host("pi2", 50, None), host("nas", 10, 90.0, "wall")))
    nas, pi1, pi2 = totals([fleet], ["host"])
    assert [row.group["host"] for row in (nas, pi1, pi2)] == ["nas", "pi1", "pi2"]
    assert pi1.energy_j is not None
    assert (pi1.energy_j.value, pi1.generated_tokens, pi1.unmeasured_tokens, pi1.hours) == (60.0, 100, 0, 0.5)
    assert (pi2.energy_j, pi2.energy_missing, pi2.unmeasured_tokens, pi2.unmeasured_sessions) == (
        None, "no sensor", 50, 1,
    )  # fmt: skip
    (model,) = totals([fleet], ["model"])
    assert (model.group["model"], model.sessions, model.hours, model.generated_tokens) == ("m", 1, 0.5, 160)
    assert "cover different things" in model.energy_missing
    # Beside sessions of its own the machine that watched is no host of theirs.
    assert [row.group["host"] for row in totals([fleet, head(2)], ["host"])] == ["nas", "pi", "pi1", "pi2"]


@given(st.lists(st.floats(0.01, 1e6), min_size=1, max_size=20))
def test_the_sum_has_the_linear_sum_of_shared_errors_and_no_more(joules: list[float]) -> None:
    (row,) = totals([head(number, j=j) for number, j in enumerate(joules)])
    assert row.energy_j is not None
    assert row.energy_j.value == pytest.approx(sum(joules))
    assert row.energy_j.u_systematic == pytest.approx(0.05 * sum(joules))
    assert row.energy_j.low <= row.energy_j.value <= row.energy_j.high
    assert row.energy_j.u_random <= 0.02 * sum(joules) * (1 + 1e-9)

"""A model on several boards: the sum of their energies holds the truth, and a board that falls silent is missed."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from edgetop.core.energy.tokens import Energy
from edgetop.core.energy.windows import Window
from edgetop.core.records import Record, Sampled, SessionStarted, SourceMissing
from edgetop.core.sources import Unavailable
from edgetop.session.energy import PowerNow
from edgetop.session.energy import energy_of as energy_account
from edgetop.session.file import to_file, to_session
from edgetop.session.file_io import changes, decode_file, encode_file, recomputed
from edgetop.session.meters import ChannelFeed, meters_of
from edgetop.session.session import Session
from edgetop.session.snapshot import snapshot
from edgetop.session.summary import turn_result
from edgetop.tui.panes.column import PANES
from edgetop.tui.panes.pane import view_of
from tests.support.recorded_sessions import START_US, S, fold
from tests.support.simulated_hosts import HostFeed, Path, Ran, run

SEEDS = 60


def energy_of(session: Session) -> Energy:
    figures = turn_result(session, 0, session.end_us).figures
    assert figures.energy is not None, figures.energy_missing
    return figures.energy


def why_not(session: Session) -> str:
    figures = turn_result(session, 0, session.end_us).figures
    assert figures.energy is None
    return figures.energy_missing


def chosen(records: Sequence[Record], power: str) -> Session:
    """The same session, as if the person had chosen hosts."""
    return fold(replace(each, power=power) if isinstance(each, SessionStarted) else each for each in records)


@pytest.mark.parametrize("count", [2, 4])
def test_the_sum_holds_the_truth_in_95_of_100_runs(count: int) -> None:
    held = {"sum": 0, "per token": 0, "share": 0.0}
    for seed in range(SEEDS):
        ran = run(seed, count)
        energy = energy_of(ran.session)
        true_j = sum(ran.truth_j.values())
        assert energy.final
        assert [part.host for part in energy.hosts] == list(ran.truth_j)
        assert sum(part.share for part in energy.hosts) == pytest.approx(1)
        assert sum(part.gross_j.value for part in energy.hosts) == pytest.approx(energy.gross_j.value)
        held["sum"] += energy.gross_j.low <= true_j <= energy.gross_j.high
        assert energy.j_per_token is not None
        held["per token"] += energy.j_per_token.low <= true_j / ran.tokens <= energy.j_per_token.high
        for part in energy.hosts:
            held["share"] += (part.gross_j.low <= ran.truth_j[part.host] <= part.gross_j.high) / count
    assert all(number >= 0.95 * SEEDS for number in held.values()), held


def test_a_line_that_is_slow_one_way_only_needs_the_uncertainty_of_the_clock() -> None:
    """0.8 s back and nothing there: half of it is taken for the clock's, and with perfect meters that is all there is
    to be wrong."""

    def perfect(feeds: list[HostFeed]) -> None:
        for feed in feeds:
            feed.board.kind, feed.board.gain, feed.board.offset_w = "counter", 0.0, 0.0

    missed = 0
    for seed in range(10):
        ran = run(seed, 2, path=Path(200, 800_000, 100), prepare=perfect)
        true_j = sum(ran.truth_j.values())
        energy = energy_of(ran.session)
        assert energy.gross_j.low <= true_j <= energy.gross_j.high
        sure = fold(
            replace(each, values=(each.values[0], 0.0)) if isinstance(each, Sampled) else each for each in ran.records
        )
        figures = turn_result(sure, 0, sure.end_us).figures
        if figures.energy is None:
            assert "the meter's clock is wrong" in str(figures.energy_missing)
            missed += 1
        else:
            assert figures.energy.gross_j.value == energy.gross_j.value
            missed += abs(true_j - energy.gross_j.value) > 2 * figures.energy.gross_j.u_random
    assert missed >= 8


def cut_off(*, begin_s: float, end_s: float) -> Ran:
    """A run in which nothing comes from the first host from `begin_s` to `end_s` after the beginning."""

    def silence(feeds: list[HostFeed]) -> None:
        feeds[0].silent_us = (START_US + begin_s * S, START_US + end_s * S)

    return run(3, 2, turn_s=14.0, prepare=silence)


def test_a_host_that_falls_silent_makes_the_sum_absent_and_comes_back() -> None:
    ran = cut_off(begin_s=7.0, end_s=12.0)
    kinds = [each.kind for each in ran.session.events]
    assert kinds == ["sensor_lost", "sensor_back", "session_ended"]
    assert ran.session.events[0].text.startswith("power.host.pi2 does not answer: it has said nothing for ")
    before = energy_account(ran.session, 6 * S).power_at(6 * S)
    assert isinstance(before, PowerNow)
    assert [part.host for part in before.hosts] == ["pi2", "pi3"]
    assert sum(part.power_w for part in before.hosts) == pytest.approx(before.power_w)
    silent = energy_account(ran.session, 11 * S).power_at(11 * S)
    assert isinstance(silent, Unavailable)
    assert silent.reason.startswith("pi2: it has said nothing for ")
    assert "see whether pi2 is up" in silent.hint
    again = energy_account(ran.session, 19 * S).power_at(19 * S)
    assert isinstance(again, PowerNow)
    assert again.power_w == pytest.approx(sum(part.power_w for part in again.hosts))
    missing = why_not(cut_off(begin_s=7.0, end_s=1e6).session)
    assert missing.startswith("pi2: ")
    assert energy_of(chosen(ran.records, "pi3")).hosts == ()


def test_a_host_that_was_never_there_is_named_and_leaving_it_out_is_a_choice() -> None:
    ran = run(5, 2)
    gone = SourceMissing(name="power.host.pi9", missing=Unavailable("ssh exited with status 255"))
    records = [*ran.records[:3], gone, *ran.records[3:]]
    assert why_not(fold(records)).startswith("pi9: ssh exited with status 255")
    kept = energy_of(chosen(records, "pi2+pi3"))
    assert kept.gross_j == energy_of(ran.session).gross_j


def test_the_figures_are_the_same_from_a_file_and_another_choice_of_hosts_can_be_made_of_it() -> None:
    ran = run(11, 4)
    file = to_file(ran.session)
    read = decode_file(b"".join(encode_file(file)))
    assert changes(read, recomputed(read)) == []
    assert snapshot(to_session(read), read.duration_us) == snapshot(ran.session, read.duration_us)
    energy = read.summary.energy
    assert energy is not None
    assert [part.host for part in energy.hosts] == ["pi2", "pi3", "pi4", "pi5"]
    one = recomputed(read, "pi4").summary.energy
    assert one is not None
    part = next(part for part in energy.hosts if part.host == "pi4")
    assert (one.gross_j, one.hosts) == (part.gross_j, ())


def test_the_power_pane_shows_what_each_host_draws_at_every_width() -> None:
    session = run(2, 4).session
    t_us = 7 * S
    power = energy_account(session, t_us).power_at(t_us)
    assert isinstance(power, PowerNow)
    view = view_of(session, t_us, "ascii")
    for width in (90, 46, 30):
        rows = ["".join(span.text for span in row) for row in PANES["power"].render(view, width, 6)]
        for part in power.hosts:
            assert any(part.host in row and f"{part.power_w:.2f} W" in row for row in rows), (width, part.host)


def test_a_span_that_is_no_turn_has_the_uncertainty_of_the_clock_too() -> None:
    """Such as those of `edgetop watch`."""
    session = run(4, 1, path=Path(200, 800_000, 100)).session
    (meter,) = meters_of(session)
    feed = ChannelFeed(session, meter)
    feed.advance(session.end_us)
    span = feed.measured(4 * S, 9 * S, Unavailable("not asked for"))
    assert isinstance(span, Window)
    mean_w = span.gross.value / span.length_s
    assert span.gross.u.clock == pytest.approx(mean_w * 0.4 / 3**0.5, rel=0.05)
    before = feed.measured(-30 * S, -20 * S, Unavailable("not asked for"))
    assert isinstance(before, Unavailable)
    assert before.reason.startswith("pi2: ")

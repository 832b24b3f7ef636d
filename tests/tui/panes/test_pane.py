"""What the four panes show, in every state that a session can be in."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from rich.cells import cell_len

from edgetop.core.records import Event, Record
from edgetop.core.sources import Unavailable
from edgetop.session.limits import Limit
from edgetop.tui.panes.column import PANES, TITLES
from edgetop.tui.panes.pane import View, view_of
from edgetop.tui.styled_text import width_of
from edgetop.tui.themes import LEVELS, GlyphLevel
from tests.support.demo_session import (
    LOADED,
    NO_POWER,
    NOW_US,
    PMIC,
    STARTED,
    TURN_1_US,
    TURN_2_US,
    S,
    demo_event,
    demo_records,
    demo_view,
    with_readings,
)
from tests.support.hostile_text import acts_on_a_terminal, hostile_text
from tests.support.recorded_sessions import fold


def drawn(title: str, view: View, width: int = 50, height: int = 13, *, zoomed: bool = False) -> str:
    lines = PANES[title].boxed(view, width, height, zoomed=zoomed)
    return "\n".join("".join(span.text for span in line) for line in lines)


def early(*records: Record) -> View:
    return view_of(fold([STARTED, *records]), S, "braille")


@pytest.mark.parametrize(
    ("view", "says"),
    [
        (early(), "The engine is starting."),
        (early(demo_event("model_loading", 0)), "The model is loading."),
        (early(demo_event("load_failed", 0)), "No model loaded: choose one with F4 or /model."),
        (early(demo_event("engine_died", 0)), "The engine stopped: /reload starts it again."),
        (early(replace(LOADED, t_us=0)), "Ask something: figures come with the answer."),
    ],
)
def test_before_the_first_turn_the_tokens_pane_says_what_to_do(view: View, says: str) -> None:
    text = drawn("tokens", view)
    assert says in text
    assert "no turn yet" in text


def test_during_prefill_the_headline_is_the_prefill_rate_and_how_far_it_is() -> None:
    view = demo_view(until_us=TURN_1_US + 300_000)
    assert view.snapshot.phase == "prefill"
    assert "prefill reading 0/38" in drawn("tokens", view).splitlines()[0]


def test_while_tokens_come_the_headline_is_the_decode_rate_and_the_graph_has_its_axis() -> None:
    text = drawn("tokens", demo_view())
    assert "decode 6.46 tok/s" in text.splitlines()[0]
    for words in ("    8┤", "    0┤", "tok/s└-75 s"):
        assert words in text
    figures = [" ".join(line[26:48].split()) for line in text.splitlines()[1:8]]
    assert figures == [
        "prefill 62.5 tok/s", "1st token 0.41 s", "gap p50 158 ms", "gap p95 176 ms", "gap p99 194 ms",
        "mean 6.46 tok/s", "now 7.12 tok/s",
    ]  # fmt: skip


def test_after_the_turn_its_figures_stay_and_nothing_is_now() -> None:
    text = drawn("tokens", demo_view(until_us=TURN_2_US - S))
    assert "decode 6.46 tok/s" in text
    assert "now " not in text


def test_a_time_without_tokens_stays_blank_in_the_graph() -> None:
    rows = drawn("tokens", demo_view(level="ascii")).splitlines()
    lowest = next(row for row in rows if " 0+" in row)[:26]
    # Four seconds a character; the first answer ended 23 s before the second one began.
    assert re.search(r" 0\+ +\|{2,3} {4,6}\|{1,2} +$", lowest)


def test_the_sentence_on_what_limits_the_speed_is_never_cut() -> None:
    view = demo_view()
    sentence = "The weights were read from the disk again: 1234 major page faults a second."
    limited = replace(view, snapshot=replace(view.snapshot, limit=Limit("paging", sentence)))
    for height in (6, 8, 13):
        words = drawn("tokens", limited, height=height).replace("│", " ").split()
        assert sentence in " ".join(words)


def test_what_can_be_done_about_a_limit_stands_below_it_where_there_is_room_and_always_when_zoomed() -> None:
    limit = Limit("contention", "Other processes used 31 % of the processor.", "close them, or use fewer threads")
    view = replace(demo_view(), snapshot=replace(demo_view().snapshot, limit=limit))

    def words(height: int, *, zoomed: bool = False) -> str:
        return " ".join(drawn("tokens", view, height=height, zoomed=zoomed).replace("│", " ").split())

    hint = "Close them, or use fewer threads."
    assert hint in words(13)
    assert hint not in words(8)
    assert hint in words(14, zoomed=True)


@pytest.mark.parametrize("title", TITLES)
@pytest.mark.parametrize("power", [True, False])
@pytest.mark.parametrize("until_us", [0, TURN_1_US + 300_000, NOW_US])
def test_a_zoomed_pane_fits_into_any_room_with_any_glyphs(title: str, power: bool, until_us: int) -> None:
    for level in LEVELS:
        view = demo_view(until_us=until_us, power=power, level=level)
        for width, height in ((160, 40), (80, 16), (40, 9), (12, 5)):
            lines = drawn(title, view, width, height, zoomed=True).splitlines()
            assert len(lines) == height
            assert {cell_len(line) for line in lines} == {width}
            assert level != "ascii" or "\n".join(lines).isascii()


@pytest.mark.parametrize("title", TITLES)
@pytest.mark.parametrize("width", [36, 46, 56, 76, 96, 99, 116, 156])
def test_no_figure_of_a_zoomed_pane_is_cut(title: str, width: int) -> None:
    for line in PANES[title].render_zoomed(demo_view(), width, 60):
        assert width_of(line) <= width, "".join(span.text for span in line)


def test_what_a_meter_has_beyond_its_rails_is_named() -> None:
    text = drawn("power", demo_view(), 120, 36, zoomed=True)
    assert re.search(r"other +0\.911 W +10%", text)
    rows = text.splitlines()
    (legend,) = [row for row in rows if "other" in row and "0.911 W" in row and "%" not in row]
    assert re.search(r"░ other +0\.911 W", legend)


def test_memory_has_a_bar_and_a_history_where_there_is_room() -> None:
    rows = drawn("memory", demo_view(level="ascii"), height=13).splitlines()
    assert re.fullmatch(r"\| \[w+k+c*r*o+ +\] \|", rows[11])
    assert " GiB+-75 s" in rows[10]
    assert re.search(r"1\.5\+ +\|*", rows[1])
    assert "[" not in drawn("memory", demo_view(level="ascii"), height=6)


@pytest.mark.parametrize("width", [36, 47, 50, 56, 80, 120])
def test_graphs_that_stand_above_each_other_have_one_time_axis(width: int) -> None:
    turns = set()
    for title in ("tokens", "memory", "power"):
        rows = drawn(title, demo_view(level="ascii"), width, 18).splitlines()
        turns.add(tuple(mark.start() for mark in re.finditer(r"\^", next(row for row in rows if "+-75 s" in row))))
    assert len(turns) == 1
    assert turns != {()}


def test_what_is_left_of_the_engine_is_told_once_all_that_it_reserved_is_resident() -> None:
    view = demo_view()
    memory = replace(view.snapshot.memory, rest_bytes=None)
    text = drawn("memory", replace(view, snapshot=replace(view.snapshot, memory=memory)))
    assert "n/a" not in text
    assert re.search(r"rest +not yet", text)


def test_memory_says_what_is_reserved_resident_and_left() -> None:
    text = drawn("memory", demo_view(), height=5)
    assert "1.3G of 7.9G" in text.splitlines()[0]
    for words in ("weights 0.987 GiB", "kv 192 MiB", "compute 100 MiB", "resident 1.31 GiB", "available 5.50 GiB"):
        assert words in " ".join(text.split())
    assert "gpu" not in text
    assert re.search(r"rest +38\.5 MiB .*\n.*swap +0 B ", drawn("memory", demo_view(), height=7))


def test_a_gpu_takes_the_place_of_the_least_needed_line() -> None:
    gpu = {"gpu.0.memory_used": 3.0 * 2**30, "gpu.0.memory_total": 24.0 * 2**30, "gpu.0.use": 41.0}
    view = with_readings(demo_view(), gpu)
    text = drawn("memory", view, height=5)
    assert "gpu 3.00 GiB of 24G use 41 %" in " ".join(text.split())
    assert "available" in text
    assert "private" not in text
    assert "private" in drawn("memory", view, height=6)
    assert "gpu +1" in drawn("memory", with_readings(view, {"gpu.1.memory_used": 1.0}), height=6)


def test_what_memory_is_not_known_reads_na_and_never_zero() -> None:
    text = drawn("memory", early(), height=5)
    assert text.count("n/a") == 7
    assert " 0" not in text


def test_power_shows_what_it_covers_its_rails_and_the_idle_power() -> None:
    text = drawn("power", demo_view(), height=8)
    assert "8.69 W  board rails" in text.splitlines()[0]
    figures = [" ".join(line[26:48].split()) for line in text.splitlines()[1:5]]
    assert figures == ["idle 3.10 W", "core 6.12 W", "ddr 1.26 W", "3v3 0.400 W"]
    assert "   10┤" in text


def test_rails_that_have_no_room_are_counted() -> None:
    rails = {f"power.rail_{number:02}": 1.0 for number in range(12)}
    lines = drawn("power", with_readings(demo_view(), rails), height=8).splitlines()
    shown = sum(line.count("rail_") + line.count("core") + line.count("ddr") for line in lines)
    assert f"and {15 - shown} more" in lines[-2]


def test_without_power_the_pane_says_why_and_what_would_give_it() -> None:
    text = drawn("power", demo_view(power=False), height=8)
    assert "n/a" in text.splitlines()[0]
    words = " ".join(text.replace("│", " ").split())
    assert "Virtual machine: power sensors stay with the host." in words
    assert "Use an external meter: --power shelly:HOST." in words
    small = drawn("power", demo_view(power=False), height=4)
    assert "Virtual machine" in small
    assert "To fix it: edgetop doctor" in small


def test_without_power_the_energy_pane_says_what_is_missing() -> None:
    text = drawn("energy", demo_view(power=False), height=5)
    assert "n/a" in text.splitlines()[0]
    assert "No energy per token: virtual machine: power sensors stay with the host." in " ".join(
        text.replace("│", "").split()
    )


def test_before_the_second_token_energy_is_being_measured() -> None:
    text = drawn("energy", demo_view(until_us=TURN_1_US + S), height=5)
    assert "measuring: J/token in a few seconds" in text


def test_energy_has_its_interval_its_basis_and_its_grade() -> None:
    text = drawn("energy", demo_view(until_us=TURN_2_US - S), height=7)
    head, *lines = text.splitlines()
    assert re.search(r" 1\.\d\d ± 0\.\d+ J/token · B · prefill in ╮$", head)
    words = " ".join(" ".join(lines).replace("│", " ").split())
    for said in (
        r"net 0\.\d\d\d J/tok turn [78]\d\.\d J",
        r"prefill 0\.\d\d\d J/tok session 0\.02\d\d Wh",
        r"decode 1\.\d\d J/tok 1 Wh 2\d\d\d tok",
        "Grade B: ",
    ):
        assert re.search(said, words)


def test_energy_that_waits_for_readings_says_so() -> None:
    assert "J/token · B · not final ╮" in drawn("energy", demo_view(), height=7).splitlines()[0]


def test_a_dead_engine_keeps_the_figures_of_its_last_turn() -> None:
    died = Event(t_us=NOW_US, kind="engine_died", text="The engine died.")
    view = demo_view(more=[died])
    assert view.snapshot.phase == "dead"
    assert "6.46 tok/s" in drawn("tokens", view)


@pytest.mark.parametrize("power", [True, False])
@pytest.mark.parametrize("title", TITLES)
@pytest.mark.parametrize("until_us", [0, 3 * S, TURN_1_US + 300_000, TURN_1_US + S, NOW_US])
def test_with_ascii_glyphs_a_pane_is_all_ascii_and_with_any_exactly_as_wide_as_it_is(
    power: bool, title: str, until_us: int
) -> None:
    for level in LEVELS:
        view = demo_view(until_us=until_us, power=power, level=level)
        for width, height in ((50, 13), (50, 5), (30, 4), (8, 3)):
            lines = drawn(title, view, width, height).splitlines()
            assert len(lines) == height
            assert {cell_len(line) for line in lines} == {width}
            assert level != "ascii" or "\n".join(lines).isascii()


@given(hostile_text, st.sampled_from(LEVELS), st.integers(6, 60), st.integers(3, 12))
def test_reasons_and_names_of_sensors_cannot_leave_the_pane(
    text: str, level: GlyphLevel, width: int, height: int
) -> None:
    silent = replace(NO_POWER, missing=Unavailable(text, text[::-1]))
    session = fold([*demo_records(until_us=3 * S, power=False), silent])
    channel = replace(PMIC.channels[1], name=f"power.{text}")
    named = replace(demo_view(until_us=3 * S), level=level)
    named = with_readings(named, {channel.name: 1.5})
    limit = Limit("contention", text)
    named = replace(named, snapshot=replace(named.snapshot, limit=limit))
    for view in (view_of(session, 3 * S, level), named):
        for pane in PANES.values():
            for line in pane.boxed(view, width, height):
                shown = "".join(span.text for span in line)
                assert cell_len(shown) == width
                assert not acts_on_a_terminal(shown)

"""How often a screen draws, by a clock of processor time that the test turns; and the key line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from rich.cells import cell_len
from textual.app import ComposeResult

from edgetop.tui.app import BaseApp
from edgetop.tui.keys import LIVE
from edgetop.tui.screens.monitor import (
    PANES_MAX_S,
    PANES_SHARE,
    TEXT_SHARE,
    TEXT_STEPS_S,
    KeyLine,
    RedrawBudget,
    shown_slots,
)
from tests.support.demo_session import demo_view

ROUNDS = 120


"""Enough to have learnt a cost."""


class Worn:
    """A pace whose rounds cost what the test says."""

    def __init__(self, text_s: float, panes_s: float) -> None:
        self._now_s = 0.0
        self.pace = RedrawBudget(1.0, clock=lambda: self._now_s)
        for number in range(ROUNDS):
            with self.pace.measured():
                self._now_s += text_s
                if number % 3 == 2:
                    self.pace.draws()
                    self._now_s += panes_s


def test_a_fast_machine_draws_as_often_as_it_was_asked_to() -> None:
    pace = Worn(text_s=0.0003, panes_s=0.002).pace
    assert pace.text_every_s == TEXT_STEPS_S[0]
    assert pace.panes_every_s(1.0) == 1.0
    assert pace.panes_every_s(2.0) == 2.0


def test_a_slow_one_draws_more_rarely_but_never_stops() -> None:
    pace = Worn(text_s=0.02, panes_s=0.1).pace
    assert pace.text_every_s == TEXT_STEPS_S[-1]
    assert pace.panes_every_s(1.0) == PANES_MAX_S
    assert pace.panes_every_s(10.0) == 10.0


def test_who_asks_for_more_than_the_default_gets_it() -> None:
    assert Worn(text_s=0.02, panes_s=0.1).pace.panes_every_s(0.5) == 0.5


@given(text_s=st.floats(0, 0.0012), panes_s=st.floats(0.00001, 0.012))
def test_the_shares_are_kept(text_s: float, panes_s: float) -> None:
    pace = Worn(text_s, panes_s).pace
    assert text_s / pace.text_every_s <= TEXT_SHARE * 1.01
    assert panes_s / pace.panes_every_s(1.0) <= PANES_SHARE * 1.01


def test_a_round_that_fails_is_not_learnt_from() -> None:
    worn = Worn(text_s=0.0003, panes_s=0.002)
    with pytest.raises(RuntimeError), worn.pace.measured():
        raise RuntimeError
    assert worn.pace.text_every_s == TEXT_STEPS_S[0]


class KeyLineApp(BaseApp[None]):
    def compose(self) -> ComposeResult:
        yield KeyLine()


@pytest.mark.parametrize("columns", [20, 40, 58, 78, 118])
async def test_the_key_line_shows_a_pause_at_every_width_and_its_cost_where_there_is_room(columns: int) -> None:
    view = replace(demo_view(level="ascii"), paused=True)
    app = KeyLineApp()
    async with app.run_test(size=(columns + 2, 3)):
        keys = app.query_one(KeyLine)
        keys.in_panes = True
        keys.show(view, delay_s=2.0)
        (line,) = keys.plain
        keys.in_panes = False
        keys.show(replace(view, paused=False), delay_s=2.0)
        (running,) = keys.plain
    assert cell_len(line) == cell_len(running) == columns
    assert line.isascii()
    assert columns < 21 or line.startswith("PAUSED: Space resumes")
    assert running.startswith("Esc Panes  F1 Help")
    assert running.endswith("edgetop 1.0 % cpu 46M * every 2 s") == (columns == 118)
    assert ("edgetop 1.0 % cpu" in running) == (columns >= 78)


def test_what_stops_an_answer_comes_first_also_where_the_panes_have_the_keys() -> None:
    first, *_ = shown_slots(LIVE, in_panes=True, idle=frozenset())
    assert (first.printed, first.label) == ("Esc", "Stop")
    assert "Stop" not in [slot.label for slot in shown_slots(LIVE, in_panes=True, idle=frozenset({"stop"}))][:1]

"""Money and hours on the energy pane."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from msgspec.structs import replace

from edgetop.core.energy.duty import TOKENS, Price
from edgetop.core.energy.tokens import grade_text
from edgetop.core.quantity import J_PER_WH, WH_PER_KWH
from edgetop.live import chat_session
from edgetop.live.chat_session import LiveOptions
from edgetop.session.store import Store
from edgetop.tui.app import ChatApp, Display
from edgetop.tui.panes.column import PANES
from edgetop.tui.panes.pane import PaneWidget, View
from edgetop.tui.screens.live import LiveScreen
from edgetop.tui.themes import GlyphLevel
from tests.support.demo_session import DemoLiveSession, demo_records, demo_view, with_readings
from tests.tui.screen_text import until

PRICE = Price(per_kwh=0.30, currency="EUR")


def lines(view: View, width: int = 46) -> list[str]:
    return ["".join(span.text for span in line) for line in PANES["energy"].render(view, width, 8)]


def priced(level: GlyphLevel = "braille") -> View:
    return replace(demo_view(level=level), price=PRICE)


def on_battery(view: View) -> View:
    turn = view.snapshot.turn
    assert turn is not None
    assert turn.figures.energy is not None
    energy = replace(turn.figures.energy, scope="battery")
    turn = replace(turn, figures=replace(turn.figures, energy=energy))
    return with_readings(replace(view, snapshot=replace(view.snapshot, turn=turn)), {"battery.energy": 50 * J_PER_WH})


def test_flags_are_shown_in_the_words_of_run_and_sessions_show() -> None:
    view = demo_view()
    turn = view.snapshot.turn
    assert turn is not None
    assert turn.figures.energy is not None
    energy = replace(turn.figures.energy, flags=("bridged", "other-load"))
    turn = replace(turn, figures=replace(turn.figures, energy=energy))
    flagged = replace(view, snapshot=replace(view.snapshot, turn=turn))
    shown = " ".join("".join(span.text for span in line) for line in PANES["energy"].render_zoomed(flagged, 200, 60))
    for words in ("readings were missing for a part of it", "other programs used the device"):
        assert words in grade_text(energy)
        assert words in shown
    assert "other-load" not in shown


def test_a_price_adds_what_a_million_tokens_and_the_session_cost() -> None:
    view = priced()
    turn = view.snapshot.turn
    assert turn is not None
    assert turn.figures.energy is not None
    per_token = turn.figures.energy.j_per_token
    assert per_token is not None
    session, cost = [line for line in lines(view) if "EUR" in line]
    assert re.fullmatch(r"cost so far [\d.]+ EUR", session)
    shown = re.match(r"([\d.]+) ± ([\d.]+) EUR per million tokens  gross$", cost)
    assert shown is not None
    factor = TOKENS / (J_PER_WH * WH_PER_KWH) * PRICE.per_kwh
    assert abs(float(shown[1]) / (per_token.value * factor) - 1) < 0.01
    assert abs(float(shown[2]) / ((per_token.high - per_token.low) / 2 * factor) - 1) < 0.1


def test_without_a_price_no_money_is_shown() -> None:
    assert not [line for line in lines(demo_view()) if "EUR" in line]
    assert len(lines(priced())) == len(lines(demo_view())) + 2


def test_ascii_has_no_plus_minus_sign() -> None:
    _, cost = [line for line in lines(priced("ascii")) if "EUR" in line]
    assert "+-" in cost
    assert cost.isascii()


def test_a_battery_shows_the_hours_that_are_left_at_this_power() -> None:
    view = on_battery(demo_view())
    (battery,) = [line for line in lines(view) if "battery" in line and " h " in line]
    energy = view.snapshot.turn and view.snapshot.turn.figures.energy
    assert energy
    assert battery.startswith(f"battery {int(50 / energy.mean_w.value)} h ")
    assert battery.endswith(" W")


def test_other_scopes_and_an_unknown_charge_show_no_hours() -> None:
    charged = with_readings(demo_view(), {"battery.energy": 50 * J_PER_WH})
    unknown = with_readings(on_battery(demo_view()), {"battery.energy": None})
    for view in (charged, unknown):
        assert not [line for line in lines(view) if " h " in line]


async def test_the_price_of_the_command_line_reaches_the_pane(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    still = DemoLiveSession(demo_records())
    monkeypatch.setattr(chat_session, "LiveSession", lambda *_arguments: still)
    monkeypatch.setattr(LiveScreen, "action_choose_model", lambda _screen: None)
    app = ChatApp(lambda: (LiveOptions(), Store(tmp_path)), model=None, display=Display(level="block", price=PRICE))
    async with app.run_test(size=(120, 40)) as pilot:
        while not isinstance(app.screen, LiveScreen):
            await pilot.pause()
        still.play(lambda _said: None, lambda _prompt: None)
        screen, pane = app.screen, app.screen.query_one("#energy", PaneWidget)

        def priced_pane() -> bool:
            screen._draw()
            return any("EUR per million tokens" in line for line in pane.plain)

        await until(pilot, priced_pane, "the price on the energy pane")


@pytest.mark.parametrize("width", [116, 76])
def test_each_turn_has_its_bar_with_the_interval_and_the_joules_so_far(width: int) -> None:
    shown = [
        "".join(span.text for span in line)
        for line in PANES["energy"].render_zoomed(demo_view(level="ascii"), width, 30)
    ]
    head = next(line for line in shown if "turn  tokens" in line)
    rows = [line[head.index("turn") :].split() for line in shown[shown.index(head) + 1 :][:2]]
    assert [row[:2] for row in rows] == [["1", "58"], ["2", "30"]]
    first, second = (float(row[2]) for row in rows)
    assert float(rows[0][3]) == first
    assert abs(float(rows[1][3]) - first - second) < 0.6
    for row in rows:
        assert re.fullmatch(r"#+-*\|-*", row[-1])
    assert len(rows[1][-1]) > len(rows[0][-1]) - 2


def test_the_joules_of_all_answers_add_up_and_stand_still_between_them() -> None:
    view = demo_view()
    values = [value for value in view.history.joules(60).values if value is not None]
    assert values == sorted(values)
    assert values[0] == 0.0
    total = view.snapshot.summary.energy
    assert total is not None
    assert values[-1] == pytest.approx(total.gross_j.value, rel=0.01)


def test_turns_before_those_that_are_shown_count_in_the_sum() -> None:
    history = demo_view().history
    all_j = [turn.figures.energy.gross_j.value for turn in history.turns(2) if turn.figures.energy is not None]
    assert history.earlier_j(1) == pytest.approx(all_j[0])
    assert history.earlier_j(2) == 0.0

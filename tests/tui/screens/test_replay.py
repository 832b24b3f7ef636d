"""Replay by its keys and its mouse, and as pictures.

`EDGETOP_WRITE_PICTURES=1` draws the pictures anew; look at what has changed before you keep it.
"""

from __future__ import annotations

import os
import re
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from rich.cells import cell_len
from textual.pilot import Pilot

from edgetop.core.records import ModelLoaded, Tokens, TurnStarted
from edgetop.session.session import Session
from edgetop.tui.chat.chat_view import ChatView
from edgetop.tui.chat.controller import NOT_RECORDED
from edgetop.tui.screens.replay import PlaybackBar, ReplayMonitor, _whole_claims
from edgetop.tui.themes import LEVELS, GlyphLevel
from tests.support.demo_session import TURN_1_US, TURN_2_US, DemoApp, ReplayApp, S, ended_records, two_sessions
from tests.support.recorded_sessions import fold
from tests.tui.screen_text import rows_of, text_of, until, until_shown

GOLDEN = Path(__file__).parents[1] / "golden"
SIZES = ((120, 36), (80, 24), (40, 12))
WIDE, NARROW, SMALL = SIZES


async def until_prepared(pilot: Pilot[Any], app: ReplayApp) -> None:
    await until(pilot, lambda: app.replay.prepared, "all is prepared")
    await pilot.pause()


def playback(app: ReplayApp) -> str:
    return "\n".join(app.replay.query_one(PlaybackBar).plain)


def chats(app: ReplayApp) -> list[str]:
    """What is written in the chats that are shown, wherever it breaks."""
    found = []
    for monitor in app.replay.query(ReplayMonitor):
        if monitor.display:
            blocks = monitor.chat._transcript._blocks
            found.append("\n".join(f"{block.kind}: {block.text}" for block in blocks))
    return found


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("size", SIZES, ids=[f"{columns}x{rows}" for columns, rows in SIZES])
async def test_replay_looks_as_in_the_picture(size: tuple[int, int], level: GlyphLevel) -> None:
    app = ReplayApp(two_sessions(), level=level)
    async with app.run_test(size=size) as pilot:
        await until_prepared(pilot, app)
        await pilot.press("right_square_bracket", "right_square_bracket", *["right"] * 30)
        await until(pilot, lambda: app.replay.player.moments[0] > TURN_2_US, "the second turn")
        await pilot.pause()
        drawn = rows_of(app)
    assert len(drawn) == size[1]
    assert max(map(cell_len, drawn)) <= size[0]
    assert level != "ascii" or "".join(drawn).isascii()
    picture = GOLDEN / f"replay-{size[0]}x{size[1]}-{level}.txt"
    if os.environ.get("EDGETOP_WRITE_PICTURES"):
        picture.write_text("\n".join(drawn) + "\n", encoding="utf-8")
    assert drawn == picture.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize(
    ("width", "rows", "said"),
    [
        (80, 2, "B is 22 % slower than A (5.1 % to 36 %); B takes 27 % more energy a token than A (5.2 % to 54 %)."),
        (78, 1, "B is 22 % slower than A (5.1 % to 36 %)."),
        (38, 1, ""),
    ],
)
def test_no_claim_is_cut_off_in_the_middle(width: int, rows: int, said: str) -> None:
    whole = "B is 22 % slower than A (5.1 % to 36 %); B takes 27 % more energy a token than A (5.2 % to 54 %)."
    assert " ".join("".join(span.text for span in line).strip() for line in _whole_claims(whole, width, rows)) == said
    assert _whole_claims("", width, rows) == []


async def test_sessions_side_by_side_are_drawn_on_the_same_scales() -> None:
    app = ReplayApp(two_sessions())
    async with app.run_test(size=(160, 48)) as pilot:
        await until_prepared(pilot, app)
        drawn = set()
        for key in ("right_square_bracket", "right_square_bracket", "end"):
            await pilot.press(key)
            await pilot.pause()
            pairs = [labels for row in rows_of(app) if len(labels := re.findall(r"([\d.]+)┤", row)) == 2]
            assert len(pairs) >= 2, rows_of(app)
            assert all(one == other for one, other in pairs), pairs
            drawn.add(tuple(map(tuple, pairs)))
        assert len(drawn) > 1, "the scales follow what is drawn"


async def test_a_single_session_looks_like_the_live_screen() -> None:
    app = ReplayApp([fold(ended_records())])
    async with app.run_test(size=WIDE) as pilot:
        await until_prepared(pilot, app)
        await pilot.press("end")
        await until_shown(pilot, "supply itself")
        drawn = text_of(app)
    live = DemoApp(ended_records())
    async with live.run_test(size=WIDE) as pilot:
        await until(pilot, lambda: live.played, "all was played")
        shown = text_of(live)
    for pane in ("tokens", "memory", "power", "energy"):
        (title,) = [row[row.index(f"╭─ {pane} ") :] for row in shown.splitlines() if f"╭─ {pane} " in row]
        assert title in drawn
    assert "Align" not in drawn


async def test_the_chat_at_the_end_is_the_one_that_was_live() -> None:
    live = DemoApp(ended_records())
    async with live.run_test(size=WIDE) as pilot:
        await until(pilot, lambda: live.played, "all was played")
        was = said(live.live_screen._chat)
    assert any("1.42 J/tok" in text for _, text in was)
    app = ReplayApp([fold(ended_records())])
    async with app.run_test(size=WIDE) as pilot:
        await until_prepared(pilot, app)
        await pilot.press("end")
        await until_shown(pilot, "supply itself", "1.42 J/tok")
        (monitor,) = app.replay.query(ReplayMonitor)
        assert said(monitor.chat) == was


def said(chat: ChatView) -> list[tuple[str, str]]:
    """Each text of the chat; how an answer is cut into blocks of Markdown depends on how it came."""
    together = groupby(chat._transcript.blocks, key=lambda block: (block.message, block.kind))
    return [(kind, "".join(block.text for block in blocks)) for (_, kind), blocks in together]


async def test_it_plays_by_the_clock_at_its_speed_until_it_is_paused() -> None:
    app = ReplayApp(two_sessions())
    async with app.run_test(size=WIDE) as pilot:
        player = app.replay.player
        await pilot.press("a", "a")
        assert player.alignment == "time"
        await until_shown(pilot, "‖ 1x  00:00 / 02:00")
        await pilot.press("space")
        await until_shown(pilot, "▶ 1x", "Pause")
        app.now_us += 10 * S
        await until(pilot, lambda: player.moments == (10 * S, 10 * S), "ten seconds")
        await pilot.press("plus", "plus")
        app.now_us += 5 * S
        await until(pilot, lambda: player.moments == (30 * S, 30 * S), "twenty more")
        await until_shown(pilot, "▶ 4x  00:30 / 02:00")
        await pilot.press("space")
        await until_shown(pilot, "‖ 4x", "Play")
        app.now_us += 60 * S
        await pilot.press("minus")
        await until_shown(pilot, "‖ 2x  00:30")
        assert player.moments == (30 * S, 30 * S)


async def test_a_showcase_plays_at_once_from_the_first_prompt_without_idle_time() -> None:
    app = ReplayApp(two_sessions(), plays=True)
    async with app.run_test(size=WIDE) as pilot:
        await until_shown(pilot, "▶ 1x  00:45", "Pause", "idle time cut", "Explain what a PMIC does.")
        assert app.replay.player.moments == (30 * S, 45 * S)


async def test_it_stops_by_itself_at_the_end() -> None:
    app = ReplayApp(two_sessions())
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("space")
        app.now_us += 1000 * S
        await until_shown(pilot, "‖ 1x  02:00 / 02:00")
        await pilot.press("home")
        await until_shown(pilot, "‖ 1x  00:00 / 02:00")


async def test_tokens_appear_and_go_with_the_head_as_they_were_decoded() -> None:
    app = ReplayApp(two_sessions())
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("right_square_bracket")
        await until(pilot, lambda: "user: Explain what a PMIC does." in chats(app)[0], "the prompt")
        assert "assistant" not in chats(app)[0]
        for count, text in ((1, "A *p"), (2, "A *power")):
            await pilot.press("a", "a") if count == 1 else None
            await pilot.press("right")
            await until(pilot, lambda text=text: chats(app)[0].endswith(f"assistant: {text}"), text)  # type: ignore[misc]
        await pilot.press("left")
        await until(pilot, lambda: chats(app)[0].endswith("assistant: A *p"), "one token less")
        await pilot.press("end")
        await until(pilot, lambda: "plugged into USB." in chats(app)[0], "everything")
        assert chats(app)[0].count("tok/s") == 2
        await pilot.press("home")
        await until(pilot, lambda: chats(app) == ["", ""], "nothing yet")


async def test_alignment_changes_with_a_key_and_the_first_session_stays() -> None:
    app = ReplayApp(two_sessions())
    async with app.run_test(size=WIDE) as pilot:
        player = app.replay.player
        await until_shown(pilot, "align: turn")
        await pilot.press("right_square_bracket")
        assert player.moments == (TURN_1_US, round(1.5 * TURN_1_US))
        await pilot.press("right")
        await pilot.press("a")
        await until_shown(pilot, "align: token", "1 / ")
        assert player.moments[0] - TURN_1_US < 2 * S
        await pilot.press("a")
        await until_shown(pilot, "align: time")


async def test_the_differences_follow_the_head() -> None:
    app = ReplayApp(two_sessions())
    async with app.run_test(size=WIDE) as pilot:
        await until_prepared(pilot, app)
        assert "tok/s" not in playback(app)
        await pilot.press("end")
        # Of 6.42 tok/s a third less, of 1.42 J/token half as much more.
        await until_shown(pilot, "B−A  −2.1 tok/s  +0.71 J/token  0B RSS")


async def test_the_bar_is_clicked_and_dragged() -> None:
    app = ReplayApp(two_sessions())
    async with app.run_test(size=WIDE) as pilot:
        line, player = app.replay.query_one(PlaybackBar), app.replay.player
        await until_shown(pilot, "00:00 / ")
        begin, width = line._bar
        left = line.styles.padding.left
        await pilot.mouse_down(line, offset=(left + begin + (width - 1) // 2, 0))
        await until(pilot, lambda: abs(player.share - 0.5) < 0.02, "half of the way")
        await pilot.hover(line, offset=(left + begin + width - 1, 0))
        await until(pilot, lambda: player.share == 1.0, "all of the way")
        await pilot.mouse_up(line, offset=(left + begin + width - 1, 0))
        await pilot.hover(line, offset=(left + begin, 0))
        await pilot.pause()
        assert player.share == 1.0
        await pilot.click(line, offset=(left + begin, 0))
        await until(pilot, lambda: player.share == 0.0, "the beginning")


@pytest.mark.parametrize("size", [NARROW, SMALL])
async def test_below_100_columns_a_key_flips_from_one_session_to_the_next(size: tuple[int, int]) -> None:
    app = ReplayApp(two_sessions())
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: rows_of(app)[0].startswith(" A "), "the first session")
        await pilot.press("x")
        await until(pilot, lambda: rows_of(app)[0].startswith(" B "), "the second session")
        assert len(chats(app)) == 1
        await pilot.press("x")
        await until(pilot, lambda: rows_of(app)[0].startswith(" A "), "the first one again")


async def test_as_many_sessions_stand_side_by_side_as_have_room() -> None:
    app = ReplayApp([*two_sessions(), *two_sessions()])
    async with app.run_test(size=(144, 40)) as pilot:
        await until(pilot, lambda: len(chats(app)) == 3, "three columns")
        await pilot.press("x")
        await until_shown(pilot, " D ")
        assert " A " not in rows_of(app)[0]
        await pilot.resize_terminal(192, 40)
        await until(pilot, lambda: len(chats(app)) == 4, "four columns")
        await pilot.resize_terminal(99, 40)
        await until(pilot, lambda: len(chats(app)) == 1, "one column")


async def test_what_differs_stands_above_each_session() -> None:
    app = ReplayApp(two_sessions())
    async with app.run_test(size=WIDE) as pilot:
        await until_shown(pilot, "A  Q4_K_M · raspberrypi5 · 4 threads", "B  Q8_0 · raspberrypi5 · 4 threads")


async def test_hostile_names_and_prompts_stay_text() -> None:
    hostile, harmless = "\x1b[31m[bold]red\u202e", "\u241b[31m[bold]red<U+202E>"

    def spoilt(session: Session) -> Session:
        session.loads = [
            replace(load, model=replace(load.model, quantization=hostile + load.model.quantization))
            for load in session.loads
        ]
        session.turns[0].started = replace(session.turns[0].started, prompt=hostile)
        return session

    app = ReplayApp([spoilt(session) for session in two_sessions()])
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("right_square_bracket")
        await until_shown(pilot, f"you  {harmless}", f"A  {harmless}Q4_K_M")
        assert not {"\x1b", "\u202e"} & set(text_of(app))


async def test_a_session_without_text_says_so() -> None:
    records = [
        replace(each, prompt=None)
        if isinstance(each, TurnStarted)
        else replace(each, pieces=("",) * len(each.pieces))
        if isinstance(each, Tokens)
        else each
        for each in ended_records()
    ]
    app = ReplayApp([fold(records)])
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("end")
        await until_shown(pilot, NOT_RECORDED, "tok/s · ", "J/tok · first token")


async def test_a_session_without_a_model_or_a_turn_is_played_too() -> None:
    records = [each for each in ended_records() if not isinstance(each, ModelLoaded | TurnStarted)]
    app = ReplayApp([fold(records), fold(records)])
    async with app.run_test(size=NARROW) as pilot:
        await pilot.press("end", "left", "right_square_bracket", "space")
        await until_shown(pilot, "A  raspberrypi5 · no model", "turn 0/0", "B−A  0B RSS")


@pytest.mark.parametrize("keys", ["q", "escape", "f10", "ctrl+c ctrl+c", "ctrl+q"])
async def test_every_key_that_quits_elsewhere_quits(keys: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgetop.tui.app.QUIT_AGAIN_S", 600.0)  # however slow the machine is
    app = ReplayApp(two_sessions())
    async with app.run_test(size=NARROW) as pilot:
        await until_shown(pilot, "align: turn")
        await pilot.press(*keys.split())
        await until(pilot, lambda: not app.is_running or app._exit, "it has quit")
    assert app.return_code == 0


async def test_the_help_knows_the_keys_of_replay() -> None:
    app = ReplayApp(two_sessions())
    async with app.run_test(size=WIDE) as pilot:
        await until_shown(pilot, "align: turn")
        await pilot.press("f1")
        await until_shown(pilot, "align by wall time, by turn, or by token")
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is app.replay, "replay again")


async def test_panes_glyphs_and_themes_change_by_the_keys_of_the_live_screen() -> None:
    app = ReplayApp(two_sessions())
    async with app.run_test(size=WIDE) as pilot:
        await until_shown(pilot, "─ memory ─")
        await pilot.press("2")
        await until(pilot, lambda: "─ memory ─" not in text_of(app), "no memory pane")
        await pilot.press("g", "g")
        await until(pilot, lambda: text_of(app).isascii(), "plain characters")
        theme = app.theme
        await pilot.press("t")
        await until(pilot, lambda: app.theme != theme, "another theme")

"""The panes beside the chat by key: focus, zoom, order, what is shown; in every layout, and the next time too."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.app import App

from edgetop.tui import keys
from edgetop.tui.chat.chat_view import ChatView
from edgetop.tui.panes.column import PANES, TITLES, LayoutStore, PaneColumn, share_rows
from tests.support.demo_session import DemoApp, ReplayApp, demo_records, two_sessions
from tests.tui.screen_text import rows_of, settled_rows, text_of, until, until_shown

WIDE, NARROW, SMALL = (120, 36), (80, 24), (40, 12)


def panes_of(app: App[Any]) -> list[str]:
    """Titles of the panes with a border, from the top; the one with the focus in capitals."""
    found = re.findall(r"(?:╭─|┏━|\+-|#=) (tokens|memory|power|energy) ", "\n".join(rows_of(app)))
    focused = re.findall(r"(?:┏━|#=) (tokens|memory|power|energy) ", "\n".join(rows_of(app)))
    return [title.upper() if title in focused else title for title in found]


def column_of(app: App[Any]) -> PaneColumn:
    return app.screen.query_one(PaneColumn)


def test_every_pane_has_its_digit() -> None:
    assert keys.PANES == TITLES


@given(st.permutations(TITLES), st.integers(0, 4), st.integers(0, 80))
def test_rows_are_shared_so_that_none_is_lost_and_who_is_shown_has_what_it_needs(
    titles: list[str], count: int, rows: int
) -> None:
    shares = share_rows(tuple(titles[:count]), rows)
    shown = {title: share for title, share in shares.items() if share}
    assert all(share >= PANES[title].rows_min for title, share in shown.items())
    assert sum(shown.values()) == (rows if shown else 0)
    if rows >= sum(pane.rows_min for pane in PANES.values()):
        assert set(shown) == set(titles[:count])


async def test_the_focus_is_seen_only_while_the_keys_act_on_panes_and_goes_round() -> None:
    app = DemoApp(demo_records())
    async with app.run_test(size=WIDE) as pilot:
        await until(pilot, lambda: panes_of(app) == [*TITLES], "no focus")
        await pilot.press("escape")
        await until(pilot, lambda: panes_of(app) == ["TOKENS", "memory", "power", "energy"], "the first has it")
        await pilot.press("tab", "tab")
        await until(pilot, lambda: panes_of(app) == ["tokens", "memory", "POWER", "energy"], "the third has it")
        await pilot.press("shift+tab", "shift+tab", "shift+tab")
        await until(pilot, lambda: panes_of(app) == ["tokens", "memory", "power", "ENERGY"], "the last has it")
        await pilot.press("i")
        await until(pilot, lambda: panes_of(app) == [*TITLES], "no focus again")


async def test_a_pane_is_zoomed_over_the_chat_and_back_and_the_prompt_brings_all_back() -> None:
    app = DemoApp(demo_records())
    async with app.run_test(size=WIDE) as pilot:
        await until_shown(pilot, "6.46 tok/s", "by token")
        await pilot.press("escape", "z")
        await until_shown(pilot, "turn  prompt  tokens", "running")
        assert panes_of(app) == ["TOKENS"]
        assert "Explain what a PMIC does" not in text_of(app)
        await pilot.press("tab", "tab", "tab")
        await until_shown(pilot, "36.5 (34.", "PMIC: board rails, strict window", "grade B")
        await pilot.press("z")
        await until_shown(pilot, "Explain what a PMIC does")
        assert panes_of(app) == ["tokens", "memory", "power", "ENERGY"]
        await pilot.press("z")
        await until(pilot, lambda: panes_of(app) == ["ENERGY"], "zoomed again")
        await pilot.press("i")
        await until_shown(pilot, "Explain what a PMIC does")
        assert len(panes_of(app)) == 4


@pytest.mark.parametrize("size", [NARROW, SMALL])
@pytest.mark.parametrize("level", ["braille", "ascii"])
async def test_where_panes_are_folded_a_zoom_opens_one_over_the_chat(size: tuple[int, int], level: Any) -> None:
    app = DemoApp(demo_records(), level=level)
    async with app.run_test(size=size) as pilot:
        await until_shown(pilot, "6.46 tok/s", "supply itself")
        await pilot.press("escape", "tab", "tab")
        if size == NARROW:
            await until_shown(pilot, "\n pwr>8.69 W")
        await pilot.press("z")
        await until(pilot, lambda: panes_of(app) == ["POWER"], "the power pane")
        assert " pwr>" not in text_of(app), "the lines of the other panes leave it their room"
        assert re.search(r"core +6\.12 W", text_of(app))
        assert level != "ascii" or text_of(app).isascii()
        await pilot.press("escape")
        await until_shown(pilot, "supply itself")
        assert panes_of(app) == []


async def test_panes_change_places_and_keep_their_numbers() -> None:
    app = DemoApp(demo_records())
    async with app.run_test(size=WIDE) as pilot:
        await until_shown(pilot, "6.46 tok/s")
        await pilot.press("escape", "right_curly_bracket", "shift+down")
        await until(pilot, lambda: panes_of(app) == ["memory", "power", "TOKENS", "energy"], "tokens are third")
        await pilot.press("tab", "left_curly_bracket")
        await until(pilot, lambda: panes_of(app) == ["memory", "power", "ENERGY", "tokens"], "energy is third")
        await pilot.press("1")
        await until(pilot, lambda: panes_of(app) == ["memory", "power", "ENERGY"], "tokens are gone")
        await pilot.resize_terminal(*NARROW)
        await until_shown(pilot, "\n mem 1.3G", "\n J/t>")
        rows = [row[1:4] for row in rows_of(app)[3:6]]
        assert rows == ["mem", "pwr", "J/t"]


async def test_without_a_pane_there_is_nothing_to_focus_or_zoom() -> None:
    app = DemoApp(demo_records())
    async with app.run_test(size=WIDE) as pilot:
        await until_shown(pilot, "6.46 tok/s")
        await pilot.press("escape", "1", "2", "3", "4")
        await until(pilot, lambda: app.screen.query_one(ChatView).size.width == 116, "the chat is wide")
        await pilot.press("tab", "z", "right_curly_bracket")
        await pilot.pause()
        assert "Explain what a PMIC does" in text_of(app)
        await pilot.press("3")
        await until(pilot, lambda: panes_of(app) == ["POWER"], "one is there again")


async def test_the_time_of_the_graphs_is_changed_by_key_and_said_at_their_axis() -> None:
    app = DemoApp(demo_records())
    async with app.run_test(size=WIDE) as pilot:
        await until_shown(pilot, "-75 s")
        await pilot.press("escape", "greater_than_sign")
        await until_shown(pilot, "-10 min")
        await pilot.press("greater_than_sign", "greater_than_sign", "greater_than_sign")
        await until_shown(pilot, "W└0 s ")
        await pilot.press(*["less_than_sign"] * 9)
        await until_shown(pilot, "-30 s")


async def test_replay_has_the_same_panes_and_keys_for_all_sessions_at_once() -> None:
    app = ReplayApp(two_sessions())
    async with app.run_test(size=(160, 48)) as pilot:
        await until(pilot, lambda: panes_of(app) == sorted([*TITLES] * 2, key=TITLES.index), "the panes of both")
        await pilot.press("end", "tab", "tab", "z")
        await until(pilot, lambda: panes_of(app) == ["MEMORY", "MEMORY"], "both zoomed")
        await pilot.press("z")
        await until(pilot, lambda: len(panes_of(app)) == 8, "all panes")
        await pilot.press("right_parenthesis")
        await until_shown(pilot, "-10 min")


async def test_an_arrangement_is_found_again(tmp_path: Path) -> None:
    file = tmp_path / "layout.json"
    app = DemoApp(demo_records(), layout_store=LayoutStore(file))
    async with app.run_test(size=WIDE) as pilot:
        await until_shown(pilot, "6.46 tok/s")
        await pilot.press("escape", "right_curly_bracket", "4", "greater_than_sign", "t", "g")
        await until(pilot, lambda: app.live_screen._level == "block", "other glyphs")
        theme = app.theme
    found = LayoutStore(file)
    assert (found.level, found.layout.theme) == ("block", theme)
    assert LayoutStore(file, "ascii").level == "ascii"
    app = DemoApp(demo_records(), layout_store=found)
    async with app.run_test(size=WIDE) as pilot:
        await until_shown(pilot, "6.46 tok/s", "-10 min")
        assert panes_of(app) == ["memory", "tokens", "power"]


@pytest.mark.parametrize(
    "content",
    [b"", b"no json", b"[]", b'{"order": 3}', b'{"glyphs": {"braille": "fancy"}}', b"[" * 70_000, b"\xff\xfe"],
)
def test_a_broken_file_is_as_none(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "layout.json"
    file.write_bytes(content)
    layout_store = LayoutStore(file)
    assert layout_store.layout == LayoutStore().layout
    layout_store.change(span="1 h")
    assert LayoutStore(file).layout.span == "1 h"
    assert list(tmp_path.iterdir()) == [file]


def test_what_a_newer_or_an_odd_file_names_and_there_is_not_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "layout.json"
    file.write_text('{"order": ["power", "weather", "power"], "hidden": ["sea"], "span": "1 year", "later": 1}')
    column = PaneColumn()
    column.apply_layout(LayoutStore(file).layout)
    assert column.order == ("power", "tokens", "memory", "energy")
    assert (column.hidden, column.history.span) == (frozenset(), "2 min")


def test_where_nothing_can_be_written_the_screen_goes_on(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    layout_store = LayoutStore(tmp_path / "file" / "layout.json")
    layout_store.change(span="1 h")
    assert layout_store.layout.span == "1 h"


@pytest.mark.parametrize("power", [True, False])
async def test_a_screen_of_another_size_is_the_one_that_would_have_begun_with_it(power: bool) -> None:
    sizes = ((80, 24), (40, 12), (200, 60), (60, 20), (120, 36))
    drawn = {}
    for size in sizes:
        fresh = DemoApp(demo_records(power=power))
        async with fresh.run_test(size=size) as pilot:
            await until(pilot, lambda fresh=fresh: fresh.played, "all was played")  # type: ignore[misc]
            drawn[size] = await settled_rows(pilot, fresh)
    app = DemoApp(demo_records(power=power))
    async with app.run_test(size=(160, 48)) as pilot:
        await until(pilot, lambda: app.played, "all was played")
        for size in sizes:
            await pilot.resize_terminal(*size)
            await until(pilot, lambda size=size: rows_of(app) == drawn[size], f"the screen of {size}")  # type: ignore[misc]

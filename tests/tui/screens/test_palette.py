from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from textual.pilot import Pilot

from edgetop.live.chat_commands import SLASH_COMMANDS, SlashCommand
from edgetop.session.store import Store
from edgetop.settings.resolve import key_choices
from edgetop.tui.app import Display, SingleScreenApp
from edgetop.tui.chat.prompt import Prompt
from edgetop.tui.keys import LIVE, TABLES, remapped
from edgetop.tui.panes.column import PaneColumn
from edgetop.tui.screens.help import PaletteScreen, entries, found, score
from edgetop.tui.screens.live import LiveScreen
from edgetop.tui.screens.monitor import KeyLine
from edgetop.tui.screens.sessions import SessionsScreen
from tests.tui.screen_text import rows_of, text_of, until, until_said, until_shown
from tests.tui.scripted_app import StartApp, start_app

__all__ = ["start_app"]

LOADED = "loaded in"


async def ready(pilot: Pilot[Any]) -> None:
    """Wait for the live screen and its model."""
    await until(pilot, lambda: isinstance(pilot.app.screen, LiveScreen), "the live screen")
    await until_said(pilot, LOADED)


ALL = entries(LIVE, SLASH_COMMANDS)


@given(text=st.text(max_size=40), query=st.text(max_size=6))
def test_what_is_found_has_all_letters_in_order_and_nothing_else_is(text: str, query: str) -> None:
    def is_in(word: str) -> bool:
        letters = iter(text.lower())
        return all(letter in letters for letter in word)

    assert (score(query, text) is not None) == all(is_in(word) for word in query.lower().split())


@pytest.mark.parametrize(
    ("query", "best"),
    [
        ("theme", "next_theme"),
        ("the", "next_theme"),
        ("quit", "app.quit"),
        ("pict", "screenshot"),
        ("nxth", "next_theme"),
        ("model", "choose_model"),
    ],
)
def test_the_best_fit_comes_first(query: str, best: str) -> None:
    assert found(ALL, query)[0].action == best


def test_the_palette_has_every_action_and_every_command() -> None:
    assert {each.action for each in ALL} == {key.action for key in LIVE.keys if key.name != "palette"} | set(
        SLASH_COMMANDS
    )
    assert found(ALL, "") == ALL
    assert found(ALL, "qqq") == []
    cleared = found(ALL, "clear the conversation")
    assert any(isinstance(each.action, SlashCommand) and each.action.name == "clear" for each in cleared)


@pytest.mark.parametrize("size", [(120, 36), (80, 24), (40, 12)])
async def test_an_action_is_found_by_typing_and_done(start_app: StartApp, size: tuple[int, int]) -> None:
    app = start_app()
    async with app.run_test(size=size) as pilot:
        await ready(pilot)
        theme = app.theme
        await pilot.press("ctrl+p")
        await until_shown(pilot, "Commands: Enter runs, Esc closes")
        assert max(map(cell_len, rows_of(app))) <= size[0]
        await pilot.press(*"next theme")
        await until_shown(pilot, "> next theme")
        await pilot.press("enter")
        await until(pilot, lambda: app.theme != theme, "another theme")
        assert isinstance(app.screen, LiveScreen)


async def test_a_command_is_carried_out_and_one_that_needs_more_is_begun_in_the_prompt(start_app: StartApp) -> None:
    app = start_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot)
        await pilot.press("ctrl+p", *"figures of this", "enter")
        await until_said(pilot, "0 turns, 0 tokens")
        await pilot.press("escape", "ctrl+p", *"files text", "enter")
        await until(pilot, lambda: app.screen.query_one(Prompt).text == "/load ", "the command is begun")
        assert app.screen.query_one(Prompt).has_focus


async def test_the_palette_closes_and_says_when_nothing_is_found(start_app: StartApp) -> None:
    app = start_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot)
        await pilot.press("ctrl+p", *"zzzz")
        await until_shown(pilot, "No match")
        await pilot.press("enter", "down", "up", "pagedown")
        assert isinstance(app.screen, PaletteScreen)
        await pilot.press("ctrl+p")
        await until(pilot, lambda: isinstance(app.screen, LiveScreen), "it is closed")


async def test_a_row_of_the_palette_can_be_clicked(start_app: StartApp) -> None:
    app = start_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot)
        await pilot.press("ctrl+p", *"next theme")
        await until_shown(pilot, "> next theme")
        theme = app.theme
        await pilot.click("#list", offset=(3, 0))
        await until(pilot, lambda: app.theme != theme, "another theme")


async def test_keys_of_the_configuration_work_and_are_shown_and_the_old_ones_do_not(start_app: StartApp) -> None:
    choices = key_choices({"next_theme": "ctrl+t", "help": ["F12", "H"], "live": {"screenshot": ""}}, "config.toml")
    app = start_app(keys=remapped(choices, "config.toml"))
    async with app.run_test(size=(120, 36)) as pilot:
        await ready(pilot)
        await until_shown(pilot, "F12 Help")
        theme = app.theme
        await pilot.press("ctrl+t")
        await until(pilot, lambda: app.theme != theme, "a theme by its new key, while the prompt has the keyboard")
        assert app.screen.query_one(Prompt).text == ""
        await pilot.press("escape")
        await until_shown(pilot, "i Prompt", "H Help")
        assert "Picture" not in text_of(app)
        theme = app.theme
        await pilot.press("t", "f1", "s", "f12")
        await until_shown(pilot, "help: Esc closes")
        assert app.theme == theme
        await pilot.press("slash", *"next theme", "enter")
        await until_shown(pilot, "Ctrl+T")
        assert "type into the prompt again" not in text_of(app)
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, LiveScreen), "the help is closed")
        await pilot.press("ctrl+p", *"next theme")
        await until_shown(pilot, "> next theme", "Ctrl+T")


async def test_a_click_on_a_key_does_it(start_app: StartApp) -> None:
    app = start_app()
    async with app.run_test(size=(120, 36)) as pilot:
        await ready(pilot)
        await until_shown(pilot, "F1 Help")
        await pilot.click(KeyLine, offset=(rows_of(app)[-1].index("F1 Help") + 1, 0))
        await until_shown(pilot, "help: Esc closes")
        await pilot.press("escape", "escape")
        await until_shown(pilot, "1-4 Panes")
        at = rows_of(app)[-1].index("1-4 Panes")
        await pilot.click(KeyLine, offset=(at + 8, 0))
        await until(pilot, lambda: app.screen.query_one(PaneColumn).hidden == {"energy"}, "the last of four is hidden")


async def test_a_click_on_a_pane_gives_it_the_focus_and_a_second_one_zooms_it(start_app: StartApp) -> None:
    app = start_app()
    async with app.run_test(size=(120, 36)) as pilot:
        await ready(pilot)
        column = app.screen.query_one(PaneColumn)
        await pilot.click("#memory")
        await until(pilot, lambda: column.focused == "memory", "the memory pane has the focus")
        await until_shown(pilot, "i Prompt")
        assert not column.zoomed
        await pilot.click("#tokens", times=2)
        await until(pilot, lambda: column.zoomed == "tokens", "the tokens pane is zoomed")
        await pilot.press("i", "x")
        await until(pilot, lambda: app.screen.query_one(Prompt).text == "x", "the prompt has the keyboard again")


async def test_a_click_into_the_prompt_gives_it_the_keyboard(start_app: StartApp) -> None:
    app = start_app()
    async with app.run_test(size=(120, 36)) as pilot:
        await ready(pilot)
        await pilot.press("escape")
        await until_shown(pilot, "i Prompt")
        await pilot.click(Prompt)
        await until_shown(pilot, "Esc Panes")
        await pilot.press("t")
        assert app.screen.query_one(Prompt).text == "t"


@pytest.mark.parametrize("size", [(120, 36), (80, 24), (40, 12)])
async def test_at_the_first_start_ever_three_lines_say_what_to_do(
    start_app: StartApp, tmp_path: Path, size: tuple[int, int]
) -> None:
    (tmp_path / "state" / "welcomed").unlink()
    app = start_app("It is.")
    async with app.run_test(size=size) as pilot:
        await ready(pilot)
        first = () if size == (40, 12) else ("Type and press Enter",)  # above what a chat of four rows shows
        await until_said(pilot, *first, "Ctrl+P finds anything by its name", LOADED)
    app = start_app("It is.")
    async with app.run_test(size=size) as pilot:
        await ready(pilot)
        assert "Type and press" not in text_of(app)


async def test_who_has_recorded_sessions_needs_no_welcome(start_app: StartApp, tmp_path: Path) -> None:
    (tmp_path / "state" / "welcomed").unlink()
    (tmp_path / "sessions").mkdir()
    (tmp_path / "sessions" / "20260101-000000-old-0000.json").write_text("{}")
    app = start_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot)
        assert "Type and press" not in text_of(app)


def test_every_screen_has_the_palette_and_the_help() -> None:
    for name, screen in TABLES.items():
        if name not in {"palette", "help"}:
            assert {"palette", "help"} <= {key.name for key in screen.keys}, name


async def test_a_page_has_its_own_help_palette_and_chosen_keys(tmp_path: Path) -> None:
    choices = key_choices({"sessions": {"reverse": "X"}}, "config.toml")
    app = SingleScreenApp(
        lambda level: SessionsScreen(Store(tmp_path), level),
        Display(level="braille", keys=remapped(choices, "config.toml")),
    )
    async with app.run_test(size=(100, 30)) as pilot:
        await until_shown(pilot, "none yet", "X Reverse")
        await pilot.press("f1")
        await until_shown(pilot, "Recorded sessions", "reverse the order")
        await pilot.press("escape")
        await until_shown(pilot, "none yet")
        await pilot.press("ctrl+p", *"reverse")
        await until_shown(pilot, "> reverse the order")
        await pilot.press("enter")
        await until_shown(pilot, "#▼")

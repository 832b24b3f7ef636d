from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from edgetop.core.errors import UsageError
from edgetop.settings import options
from edgetop.settings.option import Option
from edgetop.settings.resolve import Settings, is_of_file, resolve
from edgetop.tui.app import Display, SingleScreenApp
from edgetop.tui.screens.live import LiveScreen
from edgetop.tui.screens.settings import SettingsEditor, SettingsScreen, effect_of, rows_of
from edgetop.tui.themes import LEVELS, GlyphLevel
from tests.tui.screen_text import rows_of as drawn_rows
from tests.tui.screen_text import text_of, until, until_shown
from tests.tui.scripted_app import StartApp, say, start_app

__all__ = ["start_app"]
SIZES = ((120, 36), (80, 24), (40, 12))
THEMES = ("dark", "light", "mono")


class Applied:
    """What was to take effect at once."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def __call__(self, _settings: Settings, option: Option[object]) -> None:
        self.names.append(option.name)


@pytest.fixture
def applied() -> Applied:
    return Applied()


@pytest.fixture
def desk(tmp_path: Path, applied: Applied) -> SettingsEditor:
    file = tmp_path / "config.toml"
    file.write_text("[sampling]\ntemp = 0.3 # cold\n\n[recording]\ntext = false\n")
    settings = resolve({"config": str(file), "ctx": "4k"}, {"EDGETOP_DELAY": "2"})
    return SettingsEditor(settings, file, apply=applied, themes=THEMES)


@pytest.mark.parametrize("option", options.OPTIONS, ids=[option.name for option in options.OPTIONS])
def test_the_text_of_every_setting_says_what_it_is(option: Option[object], desk: SettingsEditor) -> None:
    text = desk.text(option)
    assert text is not None
    if is_of_file(option) and text:
        before = desk.settings[option]
        desk.change(option, text)
        assert desk.settings[option] == before
    assert effect_of(option)


def test_a_change_says_when_it_takes_effect(desk: SettingsEditor, applied: Applied) -> None:
    assert desk.change(options.TEMP, "0.7") == "temp: 0.7, from the next prompt on"
    assert desk.change(options.THREADS, "2") == "threads: 2, when a model is loaded"
    assert desk.change(options.DATA_DIR, "/x") == "data_dir: /x, from the next start on if it is written (Ctrl+S)"
    assert desk.step(options.RECORD) == "record: no, from the next start on if it is written (Ctrl+S)"
    assert applied.names == ["temp", "threads"]
    assert desk.changed() == [options.THREADS, options.TEMP, options.RECORD, options.DATA_DIR]
    asked: tuple[Option[object], ...] = (options.TEMP, options.CTX, options.DELAY, options.TEXT, options.SEED)
    assert [desk.origin(each) for each in asked] == ["changed here", "flag", "environment", "file", "default"]


def test_choices_go_round_and_several_texts_are_typed_in_one_line(desk: SettingsEditor) -> None:
    assert [desk.step(options.THEME).split(",")[0] for _ in range(4)] == [
        "theme: light", "theme: mono", "theme: dark", "theme: light",
    ]  # fmt: skip
    desk.change(options.STOP, "END 'two words'")
    assert desk.settings[options.STOP] == ("END", "two words")
    assert desk.text(options.STOP) == "END 'two words'"
    desk.change(options.STOP, "")
    assert desk.origin(options.STOP) == "default"
    desk.settings = desk.settings.changed(options.SYSTEM, "two\nlines", "here")
    assert desk.text(options.SYSTEM) is None


@pytest.mark.parametrize(
    ("option", "typed", "what"),
    [
        (options.TEMP, "hot", "temp: 'hot' is not valid"),
        (options.STOP, "'open", "a quotation mark is open"),
        (options.OUTPUT, "x", "output is for one run"),
        (options.CONFIG, "x", "config is for one run"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(
    option: Option[object], typed: str, what: str, desk: SettingsEditor, applied: Applied
) -> None:
    before = desk.settings[option]
    with pytest.raises(UsageError) as refused:
        desk.change(option, typed)
    assert what in refused.value.what
    assert refused.value.hint
    assert desk.settings[option] == before
    assert not applied.names


def test_what_is_written_is_what_the_next_start_finds(desk: SettingsEditor) -> None:
    desk.change(options.TEMP, "0.7")
    desk.change(options.TEXT, "")
    desk.change(options.CTX, "8k")
    assert desk.write([options.TEMP]) == f"temp written to {desk.file}"
    assert "# cold" in desk.file.read_text()
    assert desk.origin(options.TEMP) == "file"
    assert desk.write(desk.changed()) == f"2 settings written to {desk.file}; --ctx still comes before it"
    assert desk.changed() == []
    found = resolve({"config": str(desk.file)}, {})
    assert [found[each] for each in (options.TEMP, options.TEXT, options.CTX)] == [0.7, True, 8192]
    assert found.origin(options.TEXT) == "default"


def test_words_find_settings_in_names_flags_and_descriptions() -> None:
    assert rows_of(["kv", "cache"]) == ["engine", options.KV_TYPE, options.CACHE_TYPE_K, options.CACHE_TYPE_V]
    assert options.PRICE_PER_KWH in rows_of(["--price"])
    assert rows_of(["no such thing"]) == []
    assert [row for row in rows_of([]) if isinstance(row, Option)] == list(options.OPTIONS)


Start = Callable[..., SingleScreenApp[None]]


async def choose(pilot: Any, name: str) -> None:
    """Let the filter find a setting by its name."""
    await pilot.press("ctrl+u", *name)
    await until(
        pilot, lambda: re.search(rf">.{name} ", text_of(pilot.app)) and "Enter Change" in text_of(pilot.app), name
    )


async def type_value(pilot: Any, value: str) -> None:
    """Give the chosen setting a value."""
    await pilot.press("enter")
    await until(pilot, lambda: "Enter Change" not in text_of(pilot.app), "a line to type into")
    await pilot.press("ctrl+u", *value, "enter")


@pytest.fixture
def start(desk: SettingsEditor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    monkeypatch.setattr("platformdirs.user_config_path", lambda *_args, **_named: tmp_path / "config")
    return lambda level="braille": SingleScreenApp(lambda chosen: SettingsScreen(desk, chosen), Display(level=level))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("size", SIZES, ids=[f"{columns}x{rows}" for columns, rows in SIZES])
async def test_every_size_shows_the_chosen_setting_and_what_it_is(
    start: Start, desk: SettingsEditor, size: tuple[int, int], level: GlyphLevel
) -> None:
    app = start(level)
    async with app.run_test(size=size) as pilot:
        await until_shown(pilot, "settings", "> model", "GGUF file")
        await pilot.press("end")
        await until_shown(pilot, "> log")
        await pilot.press(*"kv_ty")
        await until_shown(pilot, "> kv_type", "f16", "Type of the KV")
        drawn = drawn_rows(app)
    assert len(drawn) == size[1]
    assert max(map(cell_len, drawn)) <= size[0]
    assert level != "ascii" or "".join(drawn).isascii()


async def test_enter_changes_and_ctrl_s_writes(start: Start, desk: SettingsEditor) -> None:
    app = start()
    async with app.run_test(size=(80, 24)) as pilot:
        await until_shown(pilot, "> model")
        await choose(pilot, "temp")
        await type_value(pilot, "hot")
        await until_shown(pilot, "is not valid; expected a number from 0 to 100")
        await type_value(pilot, "1.5")
        await until_shown(pilot, "temp: 1.5, from the next prompt on", "1 not written", ">*temp")
        await pilot.press("ctrl+s")
        await until_shown(pilot, "temp written to", "> temp")
        assert "not written" not in text_of(app)
        await choose(pilot, "record")
        await pilot.press("enter")
        await until_shown(pilot, ">*record")
        await pilot.press("delete")
        await until_shown(pilot, "> record")
    assert "temp = 1.5 # cold" in desk.file.read_text()


async def test_escape_leaves_filter_and_value_as_they_were(start: Start, desk: SettingsEditor) -> None:
    app = start()
    async with app.run_test(size=(80, 24)) as pilot:
        await until_shown(pilot, "> model")
        await pilot.press(*"nothing like it")
        await until_shown(pilot, "no setting has this")
        await pilot.press("escape")
        await until_shown(pilot, "> model", "Enter Change")
        before = desk.settings
        await pilot.press("enter")
        await until_shown(pilot, "model: _")
        await pilot.press(*"gone", "escape")
        await until_shown(pilot, "> model", "Enter Change")
    assert desk.settings is before


async def test_keys_do_nothing_where_no_setting_is_shown(start: Start, desk: SettingsEditor) -> None:
    before = desk.settings
    app = start()
    async with app.run_test(size=(80, 24)) as pilot:
        await until_shown(pilot, "> model")
        await pilot.press(*"nothing like it")
        await until_shown(pilot, "no setting has this", "Enter Change")
        await pilot.press("enter", "ctrl+s", "delete", "down", "up", "end", "pageup", "ctrl+w")
        await until_shown(pilot, "nothing was changed")
    assert desk.settings is before


# Over the live screen


async def test_a_change_takes_effect_in_the_live_screen(start_app: StartApp, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("EDGETOP_")]:
        monkeypatch.delenv(name)
    app = start_app("Paris.")
    async with app.run_test(size=(100, 30)) as pilot:
        await until_shown(pilot, "loaded in")
        live_screen = app.screen
        assert isinstance(live_screen, LiveScreen)
        conversation = live_screen._live.conversation
        await say(pilot, "/set top_k 7")
        await say(pilot, "/set frequency_penalty 0.5")
        await pilot.press("f2")
        await until_shown(pilot, "> model")
        await choose(pilot, "temp")
        await type_value(pilot, "0.1")
        await until_shown(pilot, "temp: 0.1")
        sampling = conversation.sampling
        assert (sampling.temperature, sampling.top_k, sampling.frequency_penalty) == (0.1, 7, 0.5)
        await choose(pilot, "theme")
        await pilot.press("enter")
        await until(pilot, lambda: app.theme != "edgetop-dark", "another theme")
        await choose(pilot, "delay")
        await type_value(pilot, "5")
        await until(pilot, lambda: live_screen.display_options.delay_s == 5, "another delay")
        await choose(pilot, "threads")
        await type_value(pilot, "3")
        await until(pilot, lambda: live_screen._live.options.engine.n_threads == 3, "threads for the next load")
        assert "n_threads" not in live_screen._live.options.left_open
        await choose(pilot, "price_per_kwh")
        await type_value(pilot, "0.3")
        await until(pilot, lambda: live_screen.display_options.price is not None, "a price")
        await choose(pilot, "system")
        await type_value(pilot, "Be brief.")
        await until(pilot, lambda: conversation.system == "Be brief.", "a system prompt")
        await choose(pilot, "ascii")
        await pilot.press("enter")
        await until(pilot, lambda: live_screen.display_options.level == "ascii", "ASCII")
        await pilot.press("escape", "escape")
        await until(pilot, lambda: app.screen is live_screen, "the live screen")
        await pilot.press("f2")
        await until_shown(pilot, "not written")
        await choose(pilot, "top_k")
        await until_shown(pilot, ">*top_k", "changed here")

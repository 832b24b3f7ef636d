from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.color import Color
from textual.theme import Theme

from edgetop.commands.inputs import chosen_theme
from edgetop.core.errors import UsageError
from edgetop.settings import options
from edgetop.settings.resolve import resolve
from edgetop.tui import themes
from edgetop.tui.app import ChatApp, Display
from edgetop.tui.chat.chat_view import ChatView
from edgetop.tui.chat.transcript import MARKDOWN_ROLES
from edgetop.tui.styled_text import Role
from edgetop.tui.themes import (
    DEFAULT_THEME,
    EDGE,
    FEW_COLOURS_THEME,
    PREFIX,
    QUIET,
    ROLES,
    ThemeError,
    default_theme,
    load_theme,
    load_themes,
    read_theme,
)
from edgetop.tui.widgets import LinesWidget
from tests.support.demo_session import DemoApp, demo_records
from tests.tui.screen_text import until_shown

SHIPPED = Path(__file__).resolve().parents[2] / "themes"
WCAG_AA = 4.5
"""Least contrast of text, WCAG 2.1, success criterion 1.4.3."""
WCAG_GRAPHICS = 3.0
"""Least contrast of what is drawn and means something, WCAG 2.1, success criterion 1.4.11."""
DRAWN: tuple[Role, ...] = ("graph", "prefill", "border")
NAMES = sorted(path.stem for path in SHIPPED.glob("*.toml"))


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("platformdirs.user_config_path", lambda *_args, **_named: tmp_path)
    folder = tmp_path / "themes"
    folder.mkdir()
    return folder


def contrast(one: str, other: str) -> float:
    """WCAG 2.1's contrast ratio of two colours."""

    def luminance(color: str) -> float:
        channels = [channel / 255 for channel in Color.parse(color).rgb]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    brighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


def colours(theme: Theme) -> dict[str, str]:
    return {QUIET: theme.variables[QUIET]} | {role: str(getattr(theme, role)) for role in ROLES}


def test_every_theme_that_is_shipped_loads() -> None:
    assert [theme.name for theme in load_themes()] == [f"{PREFIX}{name}" for name in NAMES]
    assert DEFAULT_THEME in {theme.name for theme in load_themes()}


@pytest.mark.parametrize("name", [name for name in NAMES if name != "ansi"])
def test_text_can_be_read_on_what_it_stands_on(name: str) -> None:
    theme = load_theme(name)
    assert theme is not None
    roles = colours(theme)
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    for ground in ("background", "surface"):
        for role in ("foreground", "accent", "warning", "error", "success", "primary", QUIET):
            assert contrast(roles[role], roles[ground]) >= WCAG_AA, f"{role} on {ground}"
    # The names of keys are written in the background's colour on that of graphs.
    assert contrast(roles["background"], roles["primary"]) >= WCAG_AA


def test_quiet_text_is_quieter_than_text() -> None:
    for name in NAMES:
        theme = load_theme(name)
        assert theme is not None
        roles = colours(theme)
        if name != "ansi":
            assert contrast(roles[QUIET], roles["background"]) < contrast(roles["foreground"], roles["background"])


async def test_every_role_can_be_told_from_what_it_stands_on_as_it_is_drawn() -> None:
    app = DemoApp(demo_records())
    async with app.run_test(size=(120, 36)) as pilot:
        await until_shown(pilot, "decode 6.46 tok/s")
        for name in [name for name in NAMES if name != "ansi"]:
            app.theme = f"{PREFIX}{name}"
            await pilot.pause()
            for widget in app.screen.query(LinesWidget):
                for role in get_args(Role):
                    style = widget._style(role)
                    assert style.color is not None
                    assert style.bgcolor is not None
                    found = contrast(style.color.get_truecolor().hex, style.bgcolor.get_truecolor().hex)
                    least = WCAG_GRAPHICS if role in DRAWN else WCAG_AA
                    assert found >= least, f"{name}: {role} in {widget.id or type(widget).__name__}"
            chat = app.screen.query_one(ChatView)
            for markdown in MARKDOWN_ROLES:
                style = chat._style(markdown)
                if name != "mono":
                    assert style != chat._style("assistant"), f"{name}: {markdown} looks like plain text"
                assert style.color is not None
                assert style.bgcolor is not None
                found = contrast(style.color.get_truecolor().hex, style.bgcolor.get_truecolor().hex)
                assert found >= WCAG_AA, f"{name}: {markdown}"
            box = app.screen.query_one("#chat-box")
            border = box.styles.border_top[1].hex
            assert contrast(border, box.background_colors[1].hex) >= WCAG_GRAPHICS, name


@given(st.tuples(*[st.integers(0, 255)] * 3), st.tuples(*[st.integers(0, 255)] * 3))
def test_the_contrast_is_that_of_the_standard(one: tuple[int, int, int], other: tuple[int, int, int]) -> None:
    colors = Color(*one), Color(*other)
    assert themes.contrast(*colors) == pytest.approx(contrast(colors[0].hex, colors[1].hex))


def test_borders_are_drawn_in_between_text_and_background() -> None:
    for name in [name for name in NAMES if name != "ansi"]:
        theme = load_theme(name)
        assert theme is not None
        roles = colours(theme)
        edge = contrast(theme.variables[EDGE], roles["background"])
        assert WCAG_GRAPHICS <= edge < contrast(roles["foreground"], roles["background"])


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ("not toml [", "it is not TOML: "),
        ("dark = true\n", "it has no table [colors]"),
        ("[colors]\nprimary = 3\n", "it has no colour primary in [colors]"),
        ((SHIPPED / "dark.toml").read_text().replace("#e5c07b", "mud"), "warning = 'mud' is no colour"),
    ],
)
def test_a_broken_theme_says_in_one_line_what_is_wrong(broken: str, why: str, own_folder: Path) -> None:
    file = own_folder / "mine.toml"
    file.write_text(broken)
    with pytest.raises(ThemeError) as refused:
        read_theme(file)
    assert str(refused.value).startswith(why)
    assert "\n" not in str(refused.value)
    settings = resolve({"theme": "mine"}, {})
    with pytest.raises(UsageError) as told:
        chosen_theme(settings)
    assert str(file) in told.value.what
    assert "--theme" in told.value.hint


def test_a_theme_of_ones_own_is_found_by_its_name(own_folder: Path) -> None:
    (own_folder / "mine.toml").write_text((SHIPPED / "dark.toml").read_text())
    assert chosen_theme(resolve({"theme": "mine"}, {})) == "edgetop-mine"
    assert chosen_theme(resolve({"theme": "edgetop-mine"}, {})) == "edgetop-mine"
    with pytest.raises(UsageError) as refused:
        chosen_theme(resolve({"theme": "mina"}, {}))
    assert refused.value.hint == "did you mean mine?"


def test_the_manual_names_every_theme_that_is_shipped() -> None:
    for name in NAMES:
        assert name in options.THEME.about


async def test_the_key_goes_on_to_a_theme_of_ones_own(own_folder: Path) -> None:
    (own_folder / "zebra.toml").write_text((SHIPPED / "dark.toml").read_text())
    app = ChatApp(DemoApp._nothing, model=None, display=Display(level="braille", theme="edgetop-mono"))
    for theme in load_themes():
        app.register_theme(theme)
    seen = []
    for _ in range(len(NAMES) + 1):
        themes.next_theme(app)
        seen.append(app.theme)
    assert set(seen) == {f"{PREFIX}{name}" for name in (*NAMES, "zebra")}


@pytest.mark.parametrize(
    "broken",
    [
        "not toml [",
        "",
        'dark = true\n[colors]\nprimary = "#ffffff"\n',
        (SHIPPED / "dark.toml").read_text().replace("#e5c07b", "mud"),
        (SHIPPED / "dark.toml").read_text().replace("[colors]", "[colours]"),
    ],
)
def test_a_theme_with_a_mistake_is_left_out(broken: str, own_folder: Path) -> None:
    (own_folder / "mine.toml").write_text(broken)
    (own_folder / "latin.toml").write_bytes(b"\xff\xfe")
    assert load_theme("mine") is None
    assert [theme.name for theme in load_themes()] == [f"{PREFIX}{name}" for name in NAMES]


def test_a_theme_of_ones_own_stands_beside_ours_or_in_place_of_one(own_folder: Path) -> None:
    text = (SHIPPED / "dark.toml").read_text().replace("#87d787", "#00ff00")
    (own_folder / "mine.toml").write_text(text)
    (own_folder / "light.toml").write_text(text)
    found = {theme.name: theme for theme in load_themes()}
    assert found["edgetop-mine"].accent == found["edgetop-light"].accent == "#00ff00"
    mine = load_theme("mine")
    assert mine is not None
    assert mine.accent == "#00ff00"


async def test_the_screen_can_be_drawn_in_every_theme() -> None:
    app = DemoApp(demo_records())
    async with app.run_test(size=(120, 36)) as pilot:
        await until_shown(pilot, "decode 6.46 tok/s")
        for name in NAMES:
            app.theme = f"{PREFIX}{name}"
            await pilot.pause()
            await until_shown(pilot, "decode 6.46 tok/s", "SmolLM2")


async def test_a_theme_that_cannot_be_read_leaves_the_default(own_folder: Path) -> None:
    (own_folder / "mine.toml").write_text("[")
    app = ChatApp(DemoApp._nothing, model=None, display=Display(level="braille", theme="edgetop-mine"))
    assert app.theme == DEFAULT_THEME
    assert themes.load_theme("mine") is None


@pytest.mark.parametrize(
    ("environ", "theme"),
    [
        ({"TERM": "xterm"}, FEW_COLOURS_THEME),
        ({"TERM": "linux"}, FEW_COLOURS_THEME),
        ({"TERM": "vt100"}, FEW_COLOURS_THEME),
        ({"TERM": "screen"}, FEW_COLOURS_THEME),
        ({"TERM": "xterm", "COLORTERM": "truecolor"}, DEFAULT_THEME),
        ({"TERM": "xterm-256color"}, DEFAULT_THEME),
        ({"TERM": "tmux-256color"}, DEFAULT_THEME),
        ({"TERM": "xterm-kitty"}, DEFAULT_THEME),
        ({}, FEW_COLOURS_THEME),
    ],
)
def test_a_terminal_with_few_colours_gets_its_own_sixteen(
    environ: dict[str, str], theme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert default_theme(environ) == theme
    for name in ("TERM", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert DemoApp(demo_records(), theme="").theme == theme


def test_scrollbars_have_the_colours_of_the_theme() -> None:
    theme = themes.load_theme("dark")
    assert theme is not None
    assert theme.variables["scrollbar"] == theme.variables[EDGE]
    assert theme.variables["scrollbar-background"] == theme.background
    assert theme.variables["scrollbar-active"] == theme.primary

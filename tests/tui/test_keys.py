from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from textual.keys import Keys
from textual.screen import Screen

from edgetop.core.errors import UsageError
from edgetop.live.chat_commands import SLASH_COMMANDS
from edgetop.settings.resolve import CHARACTERS, MODIFIERS, NAMED, KeyChoice, key_choices, normalised
from edgetop.tui.app import SingleScreenApp
from edgetop.tui.chat.prompt import Prompt
from edgetop.tui.keys import (
    ARROWS,
    LIVE,
    PROMPT_KEYS,
    TABLES,
    KeySlot,
    ScreenKeys,
    conflicting_keys,
    key_name,
    key_slots,
    prompt_takes,
    remapped,
)
from edgetop.tui.screens.compare import CompareScreen
from edgetop.tui.screens.help import MOUSE, WORDS, HelpScreen, PaletteScreen, help_parts, help_text, with_words
from edgetop.tui.screens.live import LiveScreen
from edgetop.tui.screens.models import ModelsScreen
from edgetop.tui.screens.replay import ReplayScreen
from edgetop.tui.screens.sessions import SessionsScreen
from edgetop.tui.screens.settings import SettingsScreen
from edgetop.tui.screens.watch import WatchScreen
from edgetop.tui.styled_text import width_of
from edgetop.tui.widgets import ESSENTIAL, BaseScreen, bindings, keys_in_line

SCREENS: tuple[type[BaseScreen[object]], ...] = (
    LiveScreen, SessionsScreen, CompareScreen, ReplayScreen, ModelsScreen, SettingsScreen, HelpScreen,
    PaletteScreen, WatchScreen,
)  # type: ignore[assignment]  # fmt: skip
FILE = "config.toml"


def shown_keys(place: KeySlot) -> Iterator[str]:
    return (ARROWS.get(key) or key_name(key) for action in place.actions for key in action.keys)


@pytest.mark.parametrize("screen", TABLES.values(), ids=list(TABLES))
class TestEveryTable:
    def test_no_key_does_two_things(self, screen: ScreenKeys) -> None:
        assert conflicting_keys(screen.keys) == []

    def test_every_action_has_a_name_of_its_own_that_a_configuration_file_can_hold(self, screen: ScreenKeys) -> None:
        names = [key.name for key in screen.keys]
        assert len(names) == len(set(names))
        assert all(name.replace("_", "").isalnum() and name == name.lower() for name in names)

    def test_every_action_has_a_key_that_terminals_send(self, screen: ScreenKeys) -> None:
        legacy = {key.value for key in Keys} | {"ctrl+space"}
        for key in screen.keys:
            assert key.keys
            for name in key.keys:
                assert normalised(name) == name
                assert "+" not in name or name in legacy

    def test_its_screen_can_do_every_action(self, screen: ScreenKeys) -> None:
        kind = next(each for each in SCREENS if each.TABLE.name == screen.name)
        for key in screen.keys:
            owner, _, method = key.action.rpartition("app.")
            target: type = SingleScreenApp if "app." in key.action else kind
            assert hasattr(target, f"action_{method.partition('(')[0]}"), f"{screen.name}: {key.action}"
            assert owner == ""

    def test_a_place_in_the_key_line_names_only_keys_of_its_actions(self, screen: ScreenKeys) -> None:
        for typing in (None, True, False):
            for place in key_slots(screen.keys, typing):
                printed = set(shown_keys(place))
                for part in place.printed.split(" "):
                    first, _, last = part.partition("-") if len(part) == 3 else (part, "", part)
                    assert {first, last or first} <= printed

    @pytest.mark.parametrize("width", [35, 55, 73])
    def test_its_help_lists_every_key_and_fits(self, screen: ScreenKeys, width: int) -> None:
        text = help_text(width, help_parts(screen, SLASH_COMMANDS if screen is LIVE else ()))
        assert max(map(cell_len, text.splitlines())) <= width
        words = " ".join(text.split())
        for key in screen.keys:
            for name in key.keys:
                assert f" {key_name(name)} " in words
            assert " ".join(key.description.split()) in words


def test_every_screen_with_a_table_is_among_the_tables() -> None:
    assert {screen.TABLE.name for screen in SCREENS} == set(TABLES)
    assert all(TABLES[screen.TABLE.name] is screen.TABLE for screen in SCREENS)
    assert all(issubclass(screen, Screen) for screen in SCREENS)


def test_the_prompt_has_the_keys_that_type_and_edit_and_leaves_the_others_to_the_screen() -> None:
    edits = {name for binding in Prompt.BINDINGS for name in binding.key.split(",") if "super" not in name}  # type: ignore[union-attr]
    assert all(map(prompt_takes, edits))
    assert all(map(prompt_takes, ["a", "G", "1", "question_mark", "space", "enter", "tab", "alt+enter", "ctrl+j"]))
    assert not any(map(prompt_takes, ["f1", "escape", "ctrl+c", "ctrl+p", "ctrl+z", "pageup", "pagedown", "ctrl+t"]))


def test_the_help_of_the_live_screen_tells_commands_words_and_what_works_where() -> None:
    text = help_text(73, help_parts(LIVE, SLASH_COMMANDS))
    words = " ".join(text.split())
    for term, does in [
        *PROMPT_KEYS,
        *WORDS,
        *MOUSE,
        *((f"/{c.name} {c.argument}", c.description) for c in SLASH_COMMANDS),
    ]:
        assert " ".join(f"{term} {does}".split()) in words
    _, anywhere, panes, *_ = text.split("\n\n")
    assert "  F1 " in anywhere
    assert "  ?  h " not in anywhere
    assert "  ?  h " in panes
    assert "PgDn" in anywhere


def test_the_help_can_be_narrowed_to_words() -> None:
    parts = with_words(help_parts(LIVE, SLASH_COMMANDS), "system prompt")
    assert [(title, [row[0] for row in rows]) for title, rows in parts] == [
        ("Commands, typed into the prompt", ["/system [TEXT]"])
    ]
    assert with_words(help_parts(LIVE), "no such words") == []


def test_while_typing_the_key_line_shows_function_keys_and_in_the_panes_the_keys_of_the_panes() -> None:
    typing = [place.printed for place in key_slots(LIVE.keys, typing=True)]
    assert typing[:7] == ["F1", "F2", "F3", "F4", "F8", "F9", "F10"]
    panes = [(place.printed, place.label) for place in key_slots(LIVE.keys, typing=False)]
    assert [place for place in panes if place[0].startswith("F")] == panes[-5:]
    assert {("z", "Zoom"), ("1-4", "Panes"), ("t", "Theme"), ("?", "Help"), ("q", "Quit")} <= set(panes)


@given(
    screen=st.sampled_from(list(TABLES.values())),
    width=st.integers(0, 200),
    typing=st.sampled_from([None, True, False]),
)
def test_a_key_line_fits_and_its_essential_keys_are_the_last_to_go(
    screen: ScreenKeys, width: int, typing: bool | None
) -> None:
    shown = key_slots(screen.keys, typing)
    line, actions = keys_in_line(shown, width)
    assert width_of(line) <= width
    assert all(0 <= cell < width for cell in actions)
    done = set(actions.values())
    if width >= 30:
        assert all(place.actions[0].action in done for place in shown if place.actions[0].name in ESSENTIAL)


@pytest.mark.parametrize(
    ("written", "known"),
    [
        ("ctrl+t", "ctrl+t"), ("Ctrl+T", "ctrl+t"), ("F5", "f5"), ("?", "question_mark"), ("question_mark",) * 2,
        ("space", "space"), (" ", "space"), ("pgdn", "pagedown"), ("PgUp", "pageup"), ("Esc", "escape"), ("+", "plus"),
        ("ctrl++", "ctrl+plus"), ("G", "G"), ("shift+g", "G"), ("Shift+Ctrl+Left", "ctrl+shift+left"), ("-", "minus"),
        ("ctrl+i", "tab"), ("ctrl+m", "enter"), ("ö", "ö"), ("alt+x", "alt+x"), ("/", "slash"), ("<", "less_than_sign"),
    ],
)  # fmt: skip
def test_keys_are_read_as_people_write_them(written: str, known: str) -> None:
    assert normalised(written) == known


@pytest.mark.parametrize("written", ["", "ctrl+", "hyper+x", "foo", "f25", "\x1b", "ctrl+foo", "a b"])
def test_what_is_no_key_is_refused(written: str) -> None:
    if written == "ctrl+":
        assert normalised(written) == "ctrl+plus"
        return
    with pytest.raises(ValueError, match="a key such as"):
        normalised(written)


@given(
    modifiers=st.sets(st.sampled_from(MODIFIERS)),
    key=st.one_of(st.sampled_from(NAMED), st.characters(min_codepoint=0x21, max_codepoint=0x7E)),
)
def test_reading_a_key_and_printing_it_end_at_the_same_key(modifiers: set[str], key: str) -> None:
    once = normalised("+".join([*modifiers, key]))
    assert normalised(once) == once
    assert normalised(key_name(once)) == once


def test_a_choice_changes_keys_on_every_screen_that_has_the_action_and_one_for_a_screen_goes_before() -> None:
    choices = key_choices({"next_theme": "ctrl+t", "replay": {"next_theme": ["T", "f12"], "play": "w"}}, FILE)
    tables = remapped(choices, FILE)

    def keys(screen: str, name: str) -> tuple[str, ...]:
        return next(key.keys for key in tables[screen].keys if key.name == name)

    assert keys("live", "next_theme") == keys("compare", "next_theme") == ("ctrl+t",)
    assert keys("replay", "next_theme") == ("T", "f12")
    assert keys("replay", "play") == ("w",)
    assert tables["check"] == TABLES["check"]


def test_an_empty_text_takes_the_keys_away() -> None:
    tables = remapped(key_choices({"screenshot": ""}, FILE), FILE)
    assert next(key.keys for key in tables["live"].keys if key.name == "screenshot") == ()
    assert "Picture" not in [place.label for place in key_slots(tables["live"].keys, typing=False)]


def test_two_actions_can_swap_their_keys() -> None:
    tables = remapped(key_choices({"live": {"next_theme": "g", "next_glyphs": "t"}}, FILE), FILE)
    assert conflicting_keys(tables["live"].keys) == []


@pytest.mark.parametrize(
    ("table", "what", "hint"),
    [
        ({"next_them": "x"}, "no action 'next_them'", "did you mean next_theme?"),
        ({"replay": {"pley": "x"}}, r"\[keys.replay\]: there is no action 'pley'", "did you mean play?"),
        ({"replays": {"play": "x"}}, "no screen 'replays'", "did you mean replay?"),
        ({"next_theme": "s"}, "s would do both next_theme and", ""),
        ({"live": {"stop": "f4"}}, "F4 would do both stop and choose_model on the screen 'live'", "keys.live"),
    ],
)
def test_a_choice_that_cannot_be_meant_is_told_in_one_line_with_what_to_do(
    table: dict[str, object], what: str, hint: str
) -> None:
    with pytest.raises(UsageError, match=what) as raised:
        remapped(key_choices(table, FILE), FILE)
    assert raised.value.what.startswith(FILE)
    assert hint in raised.value.hint


@pytest.mark.parametrize("table", [3, {"stop": 5}, {"stop": ["x", 5]}, {"stop": "foo"}, {"live": {"stop": {"x": "y"}}}])
def test_a_table_of_another_form_is_refused(table: object) -> None:
    with pytest.raises(UsageError, match=FILE):
        key_choices(table, FILE)


def test_bindings_and_keymap_go_by_the_same_names() -> None:
    assert all(binding.id == f"live.{key.name}" for binding, key in zip(bindings(LIVE), LIVE.keys, strict=True))
    assert KeyChoice("", "quit", ("x",)) in key_choices({"quit": "x"}, FILE)


def test_keys_of_what_earlier_versions_had_are_no_error() -> None:
    gone = {"picker": {"close": "x"}, "check": {"sort_fits": "f"}, "sort_bits": "b"}
    assert remapped(key_choices(gone, FILE), FILE) == TABLES


def test_names_that_actions_had_before_are_still_read() -> None:
    tables = remapped(key_choices({"toggle_thoughts": "ctrl+t", "sessions": {"go_on": "x"}}, FILE), FILE)
    assert next(key.keys for key in tables["live"].keys if key.name == "toggle_reasoning") == ("ctrl+t",)
    assert next(key.keys for key in tables["sessions"].keys if key.name == "resume") == ("x",)


def test_no_key_of_a_list_is_a_character() -> None:
    for screen in (TABLES["sessions"], TABLES["check"], TABLES["settings"]):
        typed = {
            key for action in screen.keys for key in action.keys if len(key) == 1 or key in CHARACTERS or key == "space"
        }
        assert typed == set(), screen.name


SAME_KEY_OTHER_SUBJECT = {
    ("live", "replay"): {
        "space", "minus", "plus", "equals_sign", "home", "end", "q", "escape",
    },
    ("live", "compare"): {"escape", "q", "enter", "space", "home", "end", "f5", "f6", "up", "down", "j", "k",
                          "pagedown", "pageup"},
    ("replay", "compare"): {"escape", "q", "left", "right", "home", "end", "up", "down", "j", "k", "pagedown", "pageup",
                            "space"},
}  # fmt: skip
"""Keys whose actions differ in name and not in sense: play and pause, slower and faster, the ends, the way back."""


@pytest.mark.parametrize(("one", "other"), list(SAME_KEY_OTHER_SUBJECT))
def test_a_key_does_the_same_on_every_screen(one: str, other: str) -> None:
    does = [{key: action.name for action in TABLES[name].keys for key in action.keys} for name in (one, other)]
    differing = {key for key in does[0].keys() & does[1].keys() if does[0][key] != does[1][key]}
    assert differing == SAME_KEY_OTHER_SUBJECT[one, other] & differing

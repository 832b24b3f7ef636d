"""The one table of actions and keys of all screens, with remapping and conflicts. Without Textual.

Nothing here knows the screen library, so that `edgetop keys` is quick.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from edgetop.core.errors import UsageError
from edgetop.settings.keys import CHARACTERS, KEYS_TABLE, KeyChoice


class KeyAction(NamedTuple):
    """One action: what the screen is to do, the keys for it, what it does in words, and its word in the key line."""

    action: str
    """As Textual runs it on the screen: `stop`, `scroll_chat(1)`, `app.quit`."""
    keys: tuple[str, ...]
    does: str
    label: str = ""
    """Neighbours of one label share a place in the key line."""
    named: str = ""
    """What the configuration file calls it, where the action itself is no name."""

    @property
    def name(self) -> str:
        """What the configuration file calls it."""
        return self.named or self.action.removeprefix("app.")


class ScreenKeys(NamedTuple):
    """The table of one screen."""

    name: str
    """What the configuration file calls the screen."""
    title: str
    keys: tuple[KeyAction, ...]
    has_prompt: bool = False
    """There is a prompt, which takes the keys that type and edit while it has the keyboard."""

    def key_of(self, name: str) -> str:
        """The first key of an action as it is printed; empty where it has none."""
        return next((key_name(key.keys[0]) for key in self.keys if key.name == name and key.keys), "")


GLOBAL_KEYS: tuple[KeyAction, ...] = (
    KeyAction("palette", ("ctrl+p",), "find an action or a command by typing"),
    KeyAction("app.suspend_process", ("ctrl+z",), "to the shell; `fg` comes back, the model goes on", named="suspend"),
    KeyAction("app.interrupt", ("ctrl+c",), "stop the answer; when idle, or twice: quit"),
)
"""What every screen has."""

PAGE: tuple[KeyAction, ...] = (
    KeyAction("help", ("f1", "question_mark", "h"), "help", "Help"),
    *GLOBAL_KEYS,
    KeyAction("app.quit", ("f10",), "quit; the session is saved"),
)
"""What every page has that lies over the live screen or stands alone."""

KEYS: tuple[KeyAction, ...] = (
    KeyAction("help", ("f1", "question_mark", "h"), "help", "Help"),
    KeyAction("settings", ("f2",), "settings: see, change and write them", "Setup"),
    KeyAction("sessions", ("f3", "f5", "f6"), "recorded sessions: list, compare, replay", "Saved"),
    KeyAction("choose_model", ("f4",), "choose another model", "Model"),
    KeyAction("check", ("f8",), "which models fit, how fast, at what energy", "Check"),
    KeyAction("stop", ("f9",), "stop the answer", "Stop"),
    KeyAction("quit", ("f10", "q"), "quit; the session is saved", "Quit"),
    *GLOBAL_KEYS,
    KeyAction("leave_prompt", ("escape",), "leave the prompt, so that the keys of the panes work"),
    KeyAction("enter_prompt", ("i", "enter"), "type into the prompt again"),
    KeyAction("zoom_pane", ("z",), "one pane, all of the room; again: all panes", "Zoom"),
    KeyAction("toggle_pane(1)", ("1",), "show or hide tokens", "Panes", named="toggle_tokens"),
    KeyAction("toggle_pane(2)", ("2",), "show or hide memory", "Panes", named="toggle_memory"),
    KeyAction("toggle_pane(3)", ("3",), "show or hide power", "Panes", named="toggle_power"),
    KeyAction("toggle_pane(4)", ("4",), "show or hide energy", "Panes", named="toggle_energy"),
    KeyAction("focus_pane(1)", ("tab",), "the next pane", named="next_pane"),
    KeyAction("focus_pane(-1)", ("shift+tab",), "the pane before", named="previous_pane"),
    KeyAction("move_pane(1)", ("right_curly_bracket", "shift+down"), "move the pane down", named="pane_down"),
    KeyAction("move_pane(-1)", ("left_curly_bracket", "shift+up"), "move the pane up", named="pane_up"),
    KeyAction(
        "change_span(-1)", ("less_than_sign", "left_parenthesis"), "graphs: a shorter time", named="shorter_time"
    ),
    KeyAction(
        "change_span(1)",
        ("greater_than_sign", "right_parenthesis"),
        "graphs: a longer time, up to the whole session",
        named="longer_time",
    ),
    KeyAction("next_theme", ("t",), "next theme", "Theme"),
    KeyAction("pause", ("space",), "pause the figures; chat and recording go on", "Pause"),
    KeyAction("screenshot", ("s",), "save a picture of the screen (SVG)", "Picture"),
    KeyAction("next_glyphs", ("g",), "glyphs: braille, block, ASCII", "Glyphs"),
    KeyAction("slower", ("minus",), "refresh less often"),
    KeyAction("faster", ("plus", "equals_sign"), "refresh more often"),
    KeyAction("scroll_chat(1)", ("j", "down"), "chat: a line down", named="chat_down"),
    KeyAction("scroll_chat(-1)", ("k", "up"), "chat: a line up", named="chat_up"),
    KeyAction("page_chat(1)", ("pagedown",), "chat: a page down", named="chat_page_down"),
    KeyAction("page_chat(-1)", ("pageup",), "chat: a page up", named="chat_page_up"),
    KeyAction("chat_top", ("home",), "chat: the beginning"),
    KeyAction("chat_end", ("end",), "chat: the end"),
    KeyAction("search", ("slash",), "chat: search", "Search"),
    KeyAction("search_on(1)", ("n",), "chat: the next match", named="search_next"),
    KeyAction("search_on(-1)", ("N",), "chat: the match before", named="search_previous"),
    KeyAction("copy_answer", ("y",), "copy the answer in view, or the last one", "Copy"),
    KeyAction("copy_code", ("Y",), "copy its last code"),
    KeyAction("edit", ("e",), "change the last prompt and ask again in its place"),
    KeyAction("retry", ("r",), "answer the last prompt once more"),
    KeyAction("toggle_thoughts", ("o",), "open or fold the reasoning"),
)

LIVE = ScreenKeys("live", "Live screen", KEYS, has_prompt=True)

PROMPT_KEYS: tuple[tuple[str, str], ...] = (
    ("Enter", "send"),
    ("Alt+Enter  Ctrl+J", "new line"),
    ("Up  Down", "earlier prompts"),
    ("Tab", "complete a command"),
    ("Ctrl+_  Ctrl+Y", "undo, redo"),
)
"""What the prompt itself does with keys, for the help."""

_EDITING = frozenset({
    "up", "down", "left", "right", "home", "end", "backspace", "delete", "enter", "tab", "shift+tab", "space",
    "shift+up", "shift+down", "shift+left", "shift+right", "shift+home", "shift+end",
    "ctrl+left", "ctrl+right", "ctrl+shift+left", "ctrl+shift+right",
    "alt+enter", "alt+backspace", "alt+delete", "ctrl+backspace", "ctrl+shift+k",
    "ctrl+underscore", "ctrl+a", "ctrl+d", "ctrl+e", "ctrl+j", "ctrl+k", "ctrl+u", "ctrl+w", "ctrl+x", "ctrl+y",
})  # fmt: skip


def prompt_takes(key: str) -> bool:
    """Whether a key types or edits, so that the prompt has it while it has the keyboard."""
    return len(key) == 1 or key in CHARACTERS or key in _EDITING


_PRINTED = {
    "pagedown": "PgDn", "pageup": "PgUp", "escape": "Esc", "delete": "Del", "insert": "Ins", "backspace": "Bksp",
}  # fmt: skip


def key_name(key: str) -> str:
    """A key as it is printed: F1, Ctrl+C, ?."""
    *modifiers, last = key.split("+")
    printed = CHARACTERS.get(last) or _PRINTED.get(last)
    if printed is None:
        printed = last.capitalize() if len(last) > 1 or "ctrl" in modifiers else last
    return "+".join([*(modifier.capitalize() for modifier in modifiers), printed])


ARROWS = {"left": "←", "right": "→"}
"""As a key line has them, which has little room."""


class KeySlot(NamedTuple):
    """A place in a key line: the keys as they are printed, what they do in a word, and their actions from the left."""

    printed: str
    label: str
    actions: tuple[KeyAction, ...]


def key_slots(keys: Sequence[KeyAction], typing: bool | None = None) -> list[KeySlot]:
    """What a key line shows of a table.

    `typing` says whether the prompt has the keyboard: then only keys that it does not take are of use, and otherwise
    those that only work now come first. `None` where there is no prompt.
    """
    shown: list[KeySlot] = []
    for key in keys:
        usable = [each for each in key.keys if not (typing and prompt_takes(each))]
        if typing is False:
            usable.sort(key=lambda each: not prompt_takes(each))
        if not key.label or not usable:
            continue
        printed = ARROWS.get(usable[0]) or key_name(usable[0])
        before = shown[-1] if shown and shown[-1].label == key.label else None
        if before is None:
            shown.append(KeySlot(printed, key.label, (key,)))
        else:
            shown[-1] = KeySlot(_together(before.printed, printed), key.label, (*before.actions, key))
    if typing is False:
        shown.sort(key=lambda place: not any(map(prompt_takes, place.actions[0].keys)))
    return shown


def _together(printed: str, further: str) -> str:
    """Keys of one place: 1-4, and else [ ]."""
    first, last = printed[0], printed[-1]
    if further.isdigit() and last.isdigit() and int(further) == int(last) + 1:
        return f"{first}-{further}"
    return f"{printed} {further}"


_CLOSE = "back"

SESSIONS = ScreenKeys(
    "sessions",
    "Recorded sessions",
    (
        KeyAction("replay", ("enter", "f6"), "replay the marked sessions, or the chosen one", "Replay"),
        KeyAction("mark", ("m", "space"), "mark, or take the mark away", "Mark"),
        KeyAction("compare", ("c", "f5"), "compare the marked sessions", "Compare"),
        KeyAction("go_on", ("o",), "go on with its conversation in the chat", "Open"),
        KeyAction("filter", ("slash",), "show only sessions with these words", "Filter"),
        KeyAction("sort(1)", ("s", "greater_than_sign"), "sort by the next column", "Sort", named="sort"),
        KeyAction("sort(-1)", ("S", "less_than_sign"), "sort by the column before", named="sort_back"),
        KeyAction("reverse", ("r", "I"), "turn the order round", "Reverse"),
        KeyAction("tags", ("t",), "change the tags", "Tags"),
        KeyAction("delete", ("d", "delete"), "delete the marked sessions, or the chosen one; asks first", "Delete"),
        KeyAction("unmark", ("U",), "take all marks away"),
        KeyAction("move(1)", ("down", "j"), "the next row", named="down"),
        KeyAction("move(-1)", ("up", "k"), "the row before", named="up"),
        KeyAction("page(1)", ("pagedown",), "a page down", named="page_down"),
        KeyAction("page(-1)", ("pageup",), "a page up", named="page_up"),
        KeyAction("move(-1000000)", ("home", "g"), "the first row", named="top"),
        KeyAction("move(1000000)", ("end", "G"), "the last row", named="bottom"),
        KeyAction("close", ("escape", "q", "f3"), _CLOSE, "Back"),
        *PAGE,
    ),
)

COMPARE = ScreenKeys(
    "compare",
    "Comparison",
    (
        KeyAction("close", ("escape", "q", "f5"), _CLOSE, "Back"),
        KeyAction("replay", ("enter", "f6"), "replay the chosen session beside the base", "Replay"),
        KeyAction("figures(-1)", ("left",), "the figures before", "Figures", named="previous_figures"),
        KeyAction("figures(1)", ("right",), "the next figures", "Figures", named="next_figures"),
        KeyAction("choose_base", ("b",), "hold all results against the chosen one", "Base"),
        KeyAction("sort", ("s",), "sort by the next figure", "Sort"),
        KeyAction("next_glyphs", ("g",), "glyphs: braille, block, ASCII", "Glyphs"),
        KeyAction("next_theme", ("t",), "next theme", "Theme"),
        KeyAction("move(1)", ("down", "j"), "the next row", named="down"),
        KeyAction("move(-1)", ("up", "k"), "the row before", named="up"),
        KeyAction("page(1)", ("pagedown", "space"), "a page down", named="page_down"),
        KeyAction("page(-1)", ("pageup",), "a page up", named="page_up"),
        KeyAction("top", ("home",), "the first row"),
        KeyAction("bottom", ("end", "G"), "the end of the plots"),
        *PAGE,
    ),
)

CHECK = ScreenKeys(
    "check",
    "Check",
    (
        KeyAction("choose", ("enter",), "take the model and the context of the chosen row", "Choose"),
        KeyAction("close", ("escape", "q", "f8"), _CLOSE, "Back"),
        KeyAction("page_details", ("space",), "the next page of the details", "More"),
        KeyAction("sort('fits')", ("f",), "sort by how well it fits; again: turned round", "fit", named="sort_fits"),
        KeyAction("sort('model')", ("n",), "sort by name", "name", named="sort_model"),
        KeyAction("sort('size')", ("s",), "sort by size of the file", "size", named="sort_size"),
        KeyAction("sort('bits')", ("b",), "sort by bits per weight", "bits", named="sort_bits"),
        KeyAction("sort('ctx')", ("c",), "sort by context", "context", named="sort_ctx"),
        KeyAction("sort('memory')", ("m",), "sort by memory", "memory", named="sort_memory"),
        KeyAction("sort('tok/s')", ("d",), "sort by decode speed", "decode", named="sort_decode"),
        KeyAction("sort('J/tok')", ("e",), "sort by energy per token", "energy", named="sort_energy"),
        KeyAction("sort('reading')", ("r",), "sort by pace against reading", "reading", named="sort_reading"),
        KeyAction("move(1)", ("j",), "the next row", named="down"),
        KeyAction("move(-1)", ("k",), "the row before", named="up"),
        *PAGE,
    ),
)

SORT_COLUMNS = {key.name: key.action[6:-2] for key in CHECK.keys if key.action.startswith("sort(")}
"""Columns by the names of the actions that sort by them."""

PICKER = ScreenKeys(
    "picker",
    "Choice of a model",
    (
        KeyAction("choose", ("enter",), "load the model", "Load"),
        KeyAction("close", ("escape", "q", "f4"), _CLOSE, "Back"),
        KeyAction("cursor_down", ("down", "j"), "the next model", named="down"),
        KeyAction("cursor_up", ("up", "k"), "the model before", named="up"),
        *PAGE,
    ),
)

SETTINGS = ScreenKeys(
    "settings",
    "Settings",
    (
        KeyAction("edit", ("enter",), "change the chosen setting", "Change"),
        KeyAction("step", ("space",), "the next value of a switch or a choice"),
        KeyAction("write", ("w",), "write the chosen setting to the configuration file", "Write"),
        KeyAction("filter", ("slash",), "show only settings with these words", "Filter"),
        KeyAction("reset", ("d", "delete"), "back to the default", "Default"),
        KeyAction("write_all", ("W",), "write all that was changed to the configuration file", "Write all"),
        KeyAction("move(1)", ("down", "j"), "the next row", named="down"),
        KeyAction("move(-1)", ("up", "k"), "the row before", named="up"),
        KeyAction("page(1)", ("pagedown",), "a page down", named="page_down"),
        KeyAction("page(-1)", ("pageup",), "a page up", named="page_up"),
        KeyAction("move(-1000)", ("home", "g"), "the first row", named="top"),
        KeyAction("move(1000)", ("end", "G"), "the last row", named="bottom"),
        KeyAction("close", ("escape", "q", "f2"), _CLOSE, "Back"),
        *PAGE,
    ),
)

HELP = ScreenKeys(
    "help",
    "Help",
    (
        KeyAction("close", ("escape", "q", "f1", "h", "question_mark", "enter"), _CLOSE),
        KeyAction("search", ("slash",), "show only what has certain words"),
        KeyAction("scroll(1)", ("j", "down"), "a line down", named="down"),
        KeyAction("scroll(-1)", ("k", "up"), "a line up", named="up"),
        KeyAction("page(1)", ("pagedown", "space"), "a page down", named="page_down"),
        KeyAction("page(-1)", ("pageup",), "a page up", named="page_up"),
        KeyAction("page(-10000)", ("home", "g"), "the beginning", named="top"),
        KeyAction("page(10000)", ("end", "G"), "the end", named="bottom"),
        *GLOBAL_KEYS[1:],
        KeyAction("app.quit", ("f10",), "quit; the session is saved"),
    ),
)

PALETTE = ScreenKeys(
    "palette",
    "Palette",
    (
        KeyAction("close", ("escape", "ctrl+p"), _CLOSE),
        KeyAction("run", ("enter",), "do what is chosen"),
        KeyAction("move(1)", ("down", "tab"), "the next one", named="down"),
        KeyAction("move(-1)", ("up", "shift+tab"), "the one before", named="up"),
        KeyAction("page(1)", ("pagedown",), "a page down", named="page_down"),
        KeyAction("page(-1)", ("pageup",), "a page up", named="page_up"),
        *GLOBAL_KEYS[1:],
        KeyAction("app.quit", ("f10",), "quit; the session is saved"),
    ),
)

REPLAY_KEYS: tuple[KeyAction, ...] = (
    KeyAction("play_or_pause", ("space",), "play or pause", "Play", named="play"),
    KeyAction("flip", ("tab",), "the next session, where not all have room", "Next", named="next_session"),
    KeyAction("step(-1)", ("left",), "the token before", "Token", named="previous_token"),
    KeyAction("step(1)", ("right",), "the next token", "Token", named="next_token"),
    KeyAction(
        "jump_turn(-1)",
        ("left_square_bracket",),
        "the beginning of the turn, or the turn before",
        "Turn",
        named="previous_turn",
    ),
    KeyAction("jump_turn(1)", ("right_square_bracket",), "the next turn", "Turn", named="next_turn"),
    KeyAction("change_speed(-1)", ("minus", "less_than_sign"), "slower, down to 0.25x", "Speed", named="slower"),
    KeyAction(
        "change_speed(1)", ("plus", "equals_sign", "greater_than_sign"), "faster, up to 64x", "Speed", named="faster"
    ),
    KeyAction("align", ("a",), "align by wall time, by turn, or by token", "Align"),
    KeyAction("help", ("f1", "question_mark", "h"), "help", "Help"),
    KeyAction("close", ("q", "escape"), "leave the replay", "Quit"),
    KeyAction("scrub(1)", ("full_stop", "shift+right"), "a hundredth of the way on", named="scrub_on"),
    KeyAction("scrub(-1)", ("comma", "shift+left"), "a hundredth of the way back", named="scrub_back"),
    KeyAction("to_start", ("home",), "the beginning"),
    KeyAction("to_end", ("end",), "the end"),
    KeyAction("zoom_pane", ("z",), "one pane, all of the room; z again: all panes"),
    KeyAction("toggle_pane(1)", ("1",), "show or hide tokens", named="toggle_tokens"),
    KeyAction("toggle_pane(2)", ("2",), "show or hide memory", named="toggle_memory"),
    KeyAction("toggle_pane(3)", ("3",), "show or hide power", named="toggle_power"),
    KeyAction("toggle_pane(4)", ("4",), "show or hide energy", named="toggle_energy"),
    KeyAction("focus_pane(1)", ("p",), "the next pane", named="next_pane"),
    KeyAction("focus_pane(-1)", ("P",), "the pane before", named="previous_pane"),
    KeyAction("move_pane(1)", ("right_curly_bracket", "shift+down"), "move the pane down", named="pane_down"),
    KeyAction("move_pane(-1)", ("left_curly_bracket", "shift+up"), "move the pane up", named="pane_up"),
    KeyAction("change_span(-1)", ("left_parenthesis",), "graphs: a shorter time", named="shorter_time"),
    KeyAction(
        "change_span(1)", ("right_parenthesis",), "graphs: a longer time, up to the whole session", named="longer_time"
    ),
    KeyAction("scroll_chat(1)", ("j", "down"), "chat: a line down", named="chat_down"),
    KeyAction("scroll_chat(-1)", ("k", "up"), "chat: a line up", named="chat_up"),
    KeyAction("page_chat(1)", ("pagedown",), "chat: a page down", named="chat_page_down"),
    KeyAction("page_chat(-1)", ("pageup",), "chat: a page up", named="chat_page_up"),
    KeyAction("next_theme", ("t",), "next theme"),
    KeyAction("next_glyphs", ("g",), "glyphs: braille, block, ASCII"),
    *PAGE[1:],
)

REPLAY = ScreenKeys("replay", "Replay", REPLAY_KEYS)

ABOUT: tuple[tuple[str, str], ...] = (
    ("time", "all sessions begin together and go by their own clocks"),
    ("turn", "each turn of all begins together; who is done with it first waits"),
    ("token", "each session at the moment when it had got so many tokens"),
    ("B−A", "at the play head, what the second has more or less than the first"),
)
"""Words of the transport line."""

WATCH_KEYS: tuple[KeyAction, ...] = (
    KeyAction("help", ("f1", "question_mark", "h"), "help", "Help"),
    KeyAction("sessions", ("f3", "f5", "f6"), "recorded sessions: list, compare, replay", "Saved"),
    KeyAction("app.quit", ("f10", "q"), "quit; the session is saved", "Quit"),
    KeyAction("pause", ("space", "p"), "pause the figures; recording goes on", "Pause"),
    KeyAction("zoom_pane", ("z",), "one pane, all of the room; again: all panes", "Zoom"),
    KeyAction("toggle_pane(1)", ("1",), "show or hide tokens", "Panes", named="toggle_tokens"),
    KeyAction("toggle_pane(2)", ("2",), "show or hide memory", "Panes", named="toggle_memory"),
    KeyAction("toggle_pane(3)", ("3",), "show or hide power", "Panes", named="toggle_power"),
    KeyAction("toggle_pane(4)", ("4",), "show or hide energy", "Panes", named="toggle_energy"),
    KeyAction("next_theme", ("t",), "next theme", "Theme"),
    KeyAction("next_glyphs", ("g",), "glyphs: braille, block, ASCII", "Glyphs"),
    KeyAction("screenshot", ("s",), "save a picture of the screen (SVG)", "Picture"),
    KeyAction("focus_pane(1)", ("tab",), "the next pane", named="next_pane"),
    KeyAction("focus_pane(-1)", ("shift+tab",), "the pane before", named="previous_pane"),
    KeyAction("move_pane(1)", ("right_curly_bracket", "shift+down"), "move the pane down", named="pane_down"),
    KeyAction("move_pane(-1)", ("left_curly_bracket", "shift+up"), "move the pane up", named="pane_up"),
    KeyAction("scroll(1)", ("j", "down"), "the list: a line down", named="down"),
    KeyAction("scroll(-1)", ("k", "up"), "the list: a line up", named="up"),
    KeyAction("scroll(10)", ("pagedown",), "the list: ten lines down", named="page_down"),
    KeyAction("scroll(-10)", ("pageup",), "the list: ten lines up", named="page_up"),
    KeyAction("slower", ("minus",), "refresh less often"),
    KeyAction("faster", ("plus", "equals_sign"), "refresh more often"),
    *GLOBAL_KEYS,
)

WATCH = ScreenKeys("watch", "Watch", WATCH_KEYS)

KeyTables = Mapping[str, ScreenKeys]
"""Tables by the names of their screens."""

TABLES: KeyTables = {
    screen.name: screen for screen in (LIVE, WATCH, SESSIONS, COMPARE, REPLAY, CHECK, PICKER, SETTINGS, HELP, PALETTE)
}


def remapped(choices: Sequence[KeyChoice], where: str, tables: KeyTables = TABLES) -> KeyTables:
    """`tables` with the keys that a person has chosen; `where` names the file for messages.

    A choice for one screen goes before one for all screens. Raises UsageError for a screen or an action that there is
    not, and where one key would do two things on a screen.
    """
    chosen: dict[tuple[str, str], tuple[str, ...]] = {}
    for choice in sorted(choices, key=lambda each: bool(each.screen)):
        for name in _screens_of(choice, where, tables):
            chosen[name, choice.action] = choice.keys
    changed = {
        screen.name: screen._replace(
            keys=tuple(key._replace(keys=chosen.get((screen.name, key.name), key.keys)) for key in screen.keys)
        )
        for screen in tables.values()
    }
    for screen in changed.values():
        _refuse_two_uses(screen, where, chosen)
    return changed


def _screens_of(choice: KeyChoice, where: str, tables: KeyTables) -> list[str]:
    """Screens that a choice is for."""
    if choice.screen and choice.screen not in tables:
        raise UsageError(f"{where} [{KEYS_TABLE}]: there is no screen {choice.screen!r}", _hint(choice.screen, tables))
    asked = [choice.screen] if choice.screen else list(tables)
    having = [name for name in asked if choice.action in _names(tables[name])]
    if not having:
        table = f"{KEYS_TABLE}.{choice.screen}" if choice.screen else KEYS_TABLE
        known = {name for screen in asked for name in _names(tables[screen])}
        raise UsageError(f"{where} [{table}]: there is no action {choice.action!r}", _hint(choice.action, known))
    return having


def _names(screen: ScreenKeys) -> set[str]:
    return {key.name for key in screen.keys}


def _hint(name: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else "`edgetop keys` lists screens and actions"


def _refuse_two_uses(screen: ScreenKeys, where: str, chosen: Collection[tuple[str, str]]) -> None:
    for key, first, second in conflicting_keys(screen.keys):
        moved = first if (screen.name, first.name) in chosen else second
        other = second if moved is first else first
        raise UsageError(
            f"{where} [{KEYS_TABLE}]: {key_name(key)} would do both {moved.name} and {other.name} on the screen "
            f"{screen.name!r}",
            f"choose another key, set it for one screen only as in [{KEYS_TABLE}.live], or give {other.name} another "
            f"one in [{KEYS_TABLE}.{screen.name}]",
        )


def conflicting_keys(keys: Iterable[KeyAction]) -> list[tuple[str, KeyAction, KeyAction]]:
    """Keys that do two things, and those two."""
    does: dict[str, KeyAction] = {}
    pairs = ((key, action) for action in keys for key in action.keys)
    return [(key, does[key], action) for key, action in pairs if does.setdefault(key, action) is not action]

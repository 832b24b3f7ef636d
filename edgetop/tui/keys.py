"""The one table of actions and keys of all screens, with remapping and conflicts. Without Textual."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from edgetop.core.errors import UsageError
from edgetop.settings.resolve import CHARACTERS, KEYS_TABLE, KeyChoice


class KeyAction(NamedTuple):
    """One action: what the screen is to do, the keys for it, what it does in words, and its word in the key line."""

    action: str
    """As Textual runs it on the screen: `stop`, `scroll_chat(1)`, `app.quit`."""
    keys: tuple[str, ...]
    description: str
    label: str = ""
    """Neighbours of one label share a place in the key line."""
    config_name: str = ""
    """What the configuration file calls it, where the action itself is no name."""

    @property
    def name(self) -> str:
        """What the configuration file calls it."""
        return self.config_name or self.action.removeprefix("app.")


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


def _key(action: str, keys: str, description: str, label: str = "", name: str = "") -> KeyAction:
    """A row of a table; `keys` are separated by blanks."""
    return KeyAction(action, tuple(keys.split()), description, label, name)


def _unlabelled(rows: Sequence[KeyAction]) -> tuple[KeyAction, ...]:
    """The rows for a key line that has no room for them."""
    return tuple(row._replace(label="") for row in rows)


def _moves(down: str, up: str, first: str, last: str, page_down: str = "pagedown") -> tuple[KeyAction, ...]:
    """What moves through a list; the arguments are keys."""
    return (
        _key("move(1)", down, "the next row", name="down"),
        _key("move(-1)", up, "the previous row", name="up"),
        _key("page(1)", page_down, "a page down", name="page_down"),
        _key("page(-1)", "pageup", "a page up", name="page_up"),
        *((_key("to_row(0)", first, "the first row", name="top"),) if first else ()),
        *((_key("to_row(-1)", last, "the last row", name="bottom"),) if last else ()),
    )


_PANE_FOCUS = (
    _key("focus_pane(1)", "tab", "the next pane", name="next_pane"),
    _key("focus_pane(-1)", "shift+tab", "the previous pane", name="previous_pane"),
    _key("move_pane(1)", "right_curly_bracket shift+down", "move the pane down", name="pane_down"),
    _key("move_pane(-1)", "left_curly_bracket shift+up", "move the pane up", name="pane_up"),
)
"""What gives the focus to another pane and moves the focused one."""

_GRAPH_SPAN = (
    _key("change_span(-1)", "less_than_sign left_parenthesis", "graphs: a shorter time", name="shorter_time"),
    _key("change_span(1)", "greater_than_sign right_parenthesis", "graphs: a longer time, up to the whole session",
         name="longer_time"),
)  # fmt: skip
"""What changes the time that graphs show."""


PANES = ("tokens", "memory", "power", "energy")
"""The panes whose digits show and hide them, from 1 on."""

_HELP_KEY = _key("app.help", "f1 question_mark h", "help", "Help")

_LIST_HELP_KEY = _key("app.help", "f1", "help", "Help")
"""Of a list, where every character filters."""

_PALETTE_KEY = _key("app.palette", "ctrl+p", "find an action or a command by typing")

_PROCESS_KEYS = (
    _key(
        "app.suspend_process", "ctrl+z", "suspend to the shell; `fg` returns, the model keeps running", name="suspend"
    ),
    _key("app.interrupt", "ctrl+c", "stop the answer, else clear the draft, else quit when pressed twice"),
)

_QUIT_KEY = _key("app.quit", "f10", "quit; the session is saved")

GLOBAL_KEYS = (_PALETTE_KEY, *_PROCESS_KEYS)
"""What every screen has."""

_OVERLAY_KEYS = (_HELP_KEY, *GLOBAL_KEYS, _QUIT_KEY)
"""What every screen has that lies over the live screen or stands alone."""

_LIST_KEYS = (_LIST_HELP_KEY, *GLOBAL_KEYS, _QUIT_KEY)
"""What every list has. None is a character: what is typed into a list filters it."""

_LIST_SORTING = (
    _key("sort(1)", "right", "sort by the next column", "Sort", "sort"),
    _key("sort(-1)", "left", "sort by the previous column", name="sort_back"),
    _key("reverse", "ctrl+r", "reverse the order", "Reverse"),
)

_MARKING = (
    _key("mark", "ctrl+space insert", "mark or unmark", "Mark"),
    _key("ask", "f7", "ask the models of the marked rows one prompt in turn, and see the answers side by side", "Ask"),
    _key("unmark", "ctrl+x", "unmark all"),
)

_ZOOM_KEY = _key("zoom_pane", "z", "zoom the pane (again: show all)", "Zoom")

_PANE_TOGGLES = tuple(
    _key(f"toggle_pane({digit})", str(digit), f"show or hide {pane}", "Panes", f"toggle_{pane}")
    for digit, pane in enumerate(PANES, 1)
)

_THEME_KEY = _key("next_theme", "t", "next theme", "Theme")

_GLYPHS_KEY = _key("next_glyphs", "g", "glyphs: braille, block, ASCII", "Glyphs")

_SCREENSHOT_KEY = _key("screenshot", "s", "save a picture of the screen (SVG)", "Picture")

_REFRESH_KEYS = (
    _key("slower", "minus", "refresh less often"),
    _key("faster", "plus equals_sign", "refresh more often"),
)

_CHAT_SCROLLING = (
    _key("scroll_chat(1)", "j down", "chat: a line down", name="chat_down"),
    _key("scroll_chat(-1)", "k up", "chat: a line up", name="chat_up"),
    _key("page_chat(1)", "pagedown", "chat: a page down", name="chat_page_down"),
    _key("page_chat(-1)", "pageup", "chat: a page up", name="chat_page_up"),
)


def _close_key(keys: str, label: str = "Back") -> KeyAction:
    return _key("close", keys, "back", label)


LIVE = ScreenKeys(
    "live",
    "Live screen",
    (
        _HELP_KEY,
        _key("settings", "f2", "settings: show, change and save them", "Setup"),
        _key("sessions", "f3 f5 f6", "recorded sessions: list, compare, replay", "Saved"),
        _key("choose_model", "f4", "choose another model", "Model"),
        _key("check", "f8", "which models fit, how fast, at what energy", "Check"),
        _key("stop", "f9", "stop the answer", "Stop"),
        _key("app.quit", "f10 q", "quit; the session is saved", "Quit"),
        *GLOBAL_KEYS,
        _key("leave_prompt", "escape", "stop the answer, else leave the prompt, so that the keys of the panes work"),
        _key("enter_prompt", "i enter", "type into the prompt again"),
        _key("copy_answer", "y", "copy the answer in view, or the last one", "Copy"),
        _key("copy_code", "Y", "copy its last code", "Copy"),
        _key("retry", "r", "answer the last prompt once more", "Retry"),
        _key("edit", "e", "edit the last prompt and ask again in its place", "Edit"),
        _key("advice", "d", "what to change for more speed or fewer joules"),
        _key("toggle_reasoning", "o", "open or fold the reasoning", "Reasoning"),
        _ZOOM_KEY,
        *_PANE_TOGGLES,
        *_PANE_FOCUS,
        *_GRAPH_SPAN,
        _THEME_KEY,
        _key("pause", "space", "pause the figures; chat and recording continue", "Pause"),
        _SCREENSHOT_KEY,
        _GLYPHS_KEY,
        *_REFRESH_KEYS,
        *_CHAT_SCROLLING,
        _key("chat_top", "home", "chat: the beginning"),
        _key("chat_end", "end", "chat: the end"),
        _key("search", "slash", "chat: search", "Search"),
        _key("search_on(1)", "n", "chat: the next match", name="search_next"),
        _key("search_on(-1)", "N", "chat: the previous match", name="search_previous"),
    ),
    has_prompt=True,
)

WATCH = ScreenKeys(
    "watch",
    "Watch",
    (
        _HELP_KEY,
        _key("sessions", "f3 f5 f6", "recorded sessions: list, compare, replay", "Saved"),
        _key("app.quit", "f10 q", "quit; the session is saved", "Quit"),
        _key("pause", "space", "pause the figures; recording continues", "Pause"),
        _key("probe", "p", "ask each server for 16 tokens, which it computes: first token and decode speed", "Probe"),
        _ZOOM_KEY,
        *_PANE_TOGGLES,
        _THEME_KEY,
        _GLYPHS_KEY,
        _SCREENSHOT_KEY,
        *_PANE_FOCUS,
        _key("scroll(1)", "j down", "the list: a line down", name="down"),
        _key("scroll(-1)", "k up", "the list: a line up", name="up"),
        _key("scroll(10)", "pagedown", "the list: ten lines down", name="page_down"),
        _key("scroll(-10)", "pageup", "the list: ten lines up", name="page_up"),
        *_REFRESH_KEYS,
        *GLOBAL_KEYS,
    ),
)

REPLAY = ScreenKeys(
    "replay",
    "Replay",
    (
        _key("play_or_pause", "space", "play or pause", "Play", "play"),
        _key("flip", "x", "the next session, where there is no room for all", "Next", "next_session"),
        _key("step(-1)", "left", "the previous token", "Token", "previous_token"),
        _key("step(1)", "right", "the next token", "Token", "next_token"),
        _key("jump_turn(-1)", "left_square_bracket", "the beginning of the turn, or the turn before", "Turn",
             "previous_turn"),
        _key("jump_turn(1)", "right_square_bracket", "the next turn", "Turn", "next_turn"),
        _key("change_speed(-1)", "minus", "slower, down to 0.25x", "Speed", "slower"),
        _key("change_speed(1)", "plus equals_sign", "faster, up to 64x", "Speed", "faster"),
        _key("align", "a", "align by wall time, by turn, or by token", "Align"),
        _HELP_KEY,
        _key("close", "q escape", "leave the replay", "Quit"),
        _key("scrub(1)", "full_stop shift+right", "a hundredth of the length forward", name="scrub_on"),
        _key("scrub(-1)", "comma shift+left", "a hundredth of the length back", name="scrub_back"),
        _key("to_start", "home", "the beginning"),
        _key("to_end", "end", "the end"),
        *_unlabelled((_ZOOM_KEY, *_PANE_TOGGLES)),
        *_PANE_FOCUS,
        *_GRAPH_SPAN,
        *_CHAT_SCROLLING,
        *_unlabelled((_THEME_KEY, _GLYPHS_KEY, _SCREENSHOT_KEY)),
        *GLOBAL_KEYS,
        _QUIT_KEY,
    ),
)  # fmt: skip

SESSIONS = ScreenKeys(
    "sessions",
    "Recorded sessions",
    (
        _key("resume", "enter", "open the chosen session: continue its conversation in the chat", "Open"),
        _MARKING[0],
        _key("compare", "f5", "compare the marked sessions", "Compare"),
        _key("replay", "f6", "replay the marked sessions, or the chosen one", "Replay"),
        *_MARKING[1:],
        _close_key("escape f3"),
        *_LIST_SORTING,
        _key("tags", "ctrl+t", "change the tags", "Tags"),
        _key("export", "ctrl+s", "export the conversation as Markdown into the working folder", "Export"),
        _key("delete", "delete", "delete the marked sessions, or the chosen one; asks first", "Delete"),
        *_moves("down", "up", "home", "end"),
        *_LIST_KEYS,
    ),
)

COMPARE = ScreenKeys(
    "compare",
    "Comparison",
    (
        _close_key("escape q f5"),
        _key("replay", "enter f6", "replay the chosen session beside the base", "Replay"),
        _key("figures(-1)", "left", "the previous figures", "Figures", "previous_figures"),
        _key("figures(1)", "right", "the next figures", "Figures", "next_figures"),
        _key("choose_base", "b", "compare all results with the chosen one", "Base"),
        _key("sort", "f7", "order by the next figure", "Order"),
        _GLYPHS_KEY,
        _THEME_KEY,
        *_moves("down j", "up k", "", "", page_down="pagedown space"),
        _key("top", "home", "the first row"),
        _key("bottom", "end G", "the end of the plots"),
        *_OVERLAY_KEYS,
    ),
)

CHECK = ScreenKeys(
    "check",
    "Models",
    (
        _key("choose", "enter", "choose the model and the context of this row", "Choose"),
        _close_key("escape f4 f8"),
        *_MARKING,
        *_LIST_SORTING,
        _key("page_details", "tab", "the next page of the details", "More"),
        *_moves("down", "up", "home", "end"),
        *_LIST_KEYS,
    ),
)

SETTINGS = ScreenKeys(
    "settings",
    "Settings",
    (
        _key("edit", "enter", "change the chosen setting; of a switch or a choice, the next value", "Change"),
        _key("write", "ctrl+s", "write the chosen setting to the configuration file", "Write"),
        _key("write_all", "ctrl+w", "write all changes to the configuration file", "Write all"),
        _key("reset", "delete", "back to the default", "Default"),
        *_moves("down", "up", "home", "end"),
        _close_key("escape f2"),
        *_LIST_KEYS,
    ),
)

HELP = ScreenKeys(
    "help",
    "Help",
    (
        _close_key("escape q f1 h question_mark enter", label=""),
        _key("search", "slash", "show only what has certain words"),
        _key("scroll(1)", "j down", "a line down", name="down"),
        _key("scroll(-1)", "k up", "a line up", name="up"),
        _key("page(1)", "pagedown space", "a page down", name="page_down"),
        _key("page(-1)", "pageup", "a page up", name="page_up"),
        _key("page(-10000)", "home g", "the beginning", name="top"),
        _key("page(10000)", "end G", "the end", name="bottom"),
        *_PROCESS_KEYS,
        _QUIT_KEY,
    ),
)

PALETTE = ScreenKeys(
    "palette",
    "Palette",
    (
        _close_key("escape ctrl+p", label=""),
        _key("run", "enter", "run the chosen one"),
        *_moves("down tab", "up shift+tab", "", ""),
        *_PROCESS_KEYS,
        _QUIT_KEY,
    ),
)

KeyTables = Mapping[str, ScreenKeys]
"""Tables by the names of their screens."""

TABLES: KeyTables = {
    screen.name: screen for screen in (LIVE, WATCH, SESSIONS, COMPARE, REPLAY, CHECK, SETTINGS, HELP, PALETTE)
}

OLD_NAMES = {"toggle_thoughts": "toggle_reasoning", "go_on": "resume"}
"""Names that actions had in earlier configuration files."""
GONE_SCREENS = {"picker"}
GONE_ACTIONS = {
    "filter",
    "step",
    *(f"sort_{column}" for column in ("fits", "model", "size", "bits", "ctx", "memory", "decode", "energy", "reading")),
}
"""Actions of lists in earlier configuration files, where characters filter now."""


def remapped(choices: Sequence[KeyChoice], where: str) -> KeyTables:
    """`TABLES` with the keys that the user has chosen; `where` names the file for messages.

    A choice for one screen goes before one for all screens. Raises UsageError for a screen or an action that there is
    not, and where one key would do two things on a screen.
    """
    chosen: dict[tuple[str, str], tuple[str, ...]] = {}
    choices = [
        choice._replace(action=OLD_NAMES.get(choice.action, choice.action))
        for choice in choices
        if not _is_gone(choice)
    ]
    for choice in sorted(choices, key=lambda each: bool(each.screen)):
        for name in _screens_of(choice, where):
            chosen[name, choice.action] = choice.keys
    changed = {
        screen.name: screen._replace(
            keys=tuple(key._replace(keys=chosen.get((screen.name, key.name), key.keys)) for key in screen.keys)
        )
        for screen in TABLES.values()
    }
    for screen in changed.values():
        _refuse_two_uses(screen, where, chosen)
    return changed


def _is_gone(choice: KeyChoice) -> bool:
    """Whether a choice is for something that earlier versions had."""
    known = {name for screen in TABLES.values() for name in _names(screen) if choice.screen in {"", screen.name}}
    return choice.screen in GONE_SCREENS or (choice.action in GONE_ACTIONS and choice.action not in known)


def _screens_of(choice: KeyChoice, where: str) -> list[str]:
    """Screens that a choice is for."""
    if choice.screen and choice.screen not in TABLES:
        raise UsageError(f"{where} [{KEYS_TABLE}]: there is no screen {choice.screen!r}", _hint(choice.screen, TABLES))
    asked = [choice.screen] if choice.screen else list(TABLES)
    having = [name for name in asked if choice.action in _names(TABLES[name])]
    if not having:
        table = f"{KEYS_TABLE}.{choice.screen}" if choice.screen else KEYS_TABLE
        known = {name for screen in asked for name in _names(TABLES[screen])}
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

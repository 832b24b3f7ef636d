"""The keys of the live screen, and what a table of keys is: it feeds bindings, key line, help, palette and remapping.

Nothing here knows the screen library, so that `edgetop keys` is quick.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from edgetop.settings.keys import CHARACTERS


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


ANYWHERE: tuple[KeyAction, ...] = (
    KeyAction("palette", ("ctrl+p",), "find an action or a command by typing"),
    KeyAction("app.suspend_process", ("ctrl+z",), "to the shell; `fg` comes back, the model goes on", named="suspend"),
    KeyAction("app.interrupt", ("ctrl+c",), "stop the answer; when idle, or twice: quit"),
)
"""What every screen has."""
PAGE: tuple[KeyAction, ...] = (
    KeyAction("help", ("f1", "question_mark", "h"), "help", "Help"),
    *ANYWHERE,
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
    *ANYWHERE,
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


class Place(NamedTuple):
    """A place in a key line: the keys as they are printed, what they do in a word, and their actions from the left."""

    printed: str
    label: str
    actions: tuple[KeyAction, ...]


def places(keys: Sequence[KeyAction], typing: bool | None = None) -> list[Place]:
    """What a key line shows of a table.

    `typing` says whether the prompt has the keyboard: then only keys that it does not take are of use, and otherwise
    those that only work now come first. `None` where there is no prompt.
    """
    shown: list[Place] = []
    for key in keys:
        usable = [each for each in key.keys if not (typing and prompt_takes(each))]
        if typing is False:
            usable.sort(key=lambda each: not prompt_takes(each))
        if not key.label or not usable:
            continue
        printed = ARROWS.get(usable[0]) or key_name(usable[0])
        before = shown[-1] if shown and shown[-1].label == key.label else None
        if before is None:
            shown.append(Place(printed, key.label, (key,)))
        else:
            shown[-1] = Place(_together(before.printed, printed), key.label, (*before.actions, key))
    if typing is False:
        shown.sort(key=lambda place: not any(map(prompt_takes, place.actions[0].keys)))
    return shown


def _together(printed: str, further: str) -> str:
    """Keys of one place: 1-4, and else [ ]."""
    first, last = printed[0], printed[-1]
    if further.isdigit() and last.isdigit() and int(further) == int(last) + 1:
        return f"{first}-{further}"
    return f"{printed} {further}"

"""Every key of the live screen, in one table that feeds the bindings, the key line and the help."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from textual.binding import Binding

Mode = Literal["always", "panes"]
"""`panes`: only while the prompt does not have the keyboard."""


class KeyAction(NamedTuple):
    """One action: its name, the keys for it, what it does, and its word in the key line."""

    action: str
    keys: tuple[str, ...]
    does: str
    label: str = ""
    mode: Mode = "always"


KEYS: tuple[KeyAction, ...] = (
    KeyAction("help", ("f1",), "help", "Help"),
    KeyAction("help", ("question_mark", "h"), "help", mode="panes"),
    KeyAction("sessions", ("f3", "f5", "f6"), "recorded sessions: list, compare, replay", "Saved"),
    KeyAction("choose_model", ("f4",), "choose another model", "Model"),
    KeyAction("stop", ("f9",), "stop the answer", "Stop"),
    KeyAction("quit", ("f10",), "quit; the session is saved", "Quit"),
    KeyAction("check", ("f8",), "which models fit, how fast, at what energy", "Check"),
    KeyAction("quit", ("q",), "quit; the session is saved", mode="panes"),
    KeyAction("interrupt", ("ctrl+c",), "stop the answer; when idle, or twice: quit"),
    KeyAction("leave_prompt", ("escape",), "leave the prompt, so that the keys below work"),
    KeyAction("enter_prompt", ("i", "enter"), "type into the prompt again", mode="panes"),
    KeyAction("pause", ("space",), "pause the figures; chat and recording go on", mode="panes"),
    KeyAction("slower", ("minus",), "refresh less often", mode="panes"),
    KeyAction("faster", ("plus", "equals_sign"), "refresh more often", mode="panes"),
    KeyAction("toggle_pane(1)", ("1",), "show or hide tokens", mode="panes"),
    KeyAction("toggle_pane(2)", ("2",), "show or hide memory", mode="panes"),
    KeyAction("toggle_pane(3)", ("3",), "show or hide power", mode="panes"),
    KeyAction("toggle_pane(4)", ("4",), "show or hide energy", mode="panes"),
    KeyAction("next_theme", ("t",), "next theme", mode="panes"),
    KeyAction("next_glyphs", ("g",), "glyphs: braille, block, ASCII", mode="panes"),
    KeyAction("screenshot", ("s",), "save a picture of the screen (SVG)", mode="panes"),
    KeyAction("scroll_chat(1)", ("j", "down"), "chat: a line down", mode="panes"),
    KeyAction("scroll_chat(-1)", ("k", "up"), "chat: a line up", mode="panes"),
    KeyAction("page_chat(1)", ("pagedown",), "chat: a page down"),
    KeyAction("page_chat(-1)", ("pageup",), "chat: a page up"),
    KeyAction("chat_top", ("home",), "chat: the beginning", mode="panes"),
    KeyAction("chat_end", ("end",), "chat: the end", mode="panes"),
)

PROMPT_KEYS: tuple[tuple[str, str], ...] = (
    ("Enter", "send"),
    ("Alt+Enter  Ctrl+J", "new line"),
    ("Up  Down", "earlier prompts"),
    ("Tab", "complete a command"),
)
"""What the prompt itself does with keys, for the help."""

PAGE_KEYS = (Binding("ctrl+c", "app.interrupt", show=False), Binding("f10", "app.quit", show=False))
"""What still works on a page over the live screen, such as the help."""

_KEY_NAMES = {
    "question_mark": "?",
    "minus": "-",
    "plus": "+",
    "equals_sign": "=",
    "escape": "Esc",
    "pagedown": "PgDn",
    "pageup": "PgUp",
    "space": "Space",
    "left": "Left",
    "right": "Right",
    "tab": "Tab",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
    "less_than_sign": "<",
    "greater_than_sign": ">",
    "comma": ",",
    "full_stop": ".",
    "enter": "Enter",
    "up": "Up",
    "down": "Down",
    "home": "Home",
    "end": "End",
    "ctrl+c": "Ctrl+C",
}


def key_name(key: str) -> str:
    """A key as it is printed: F1, Ctrl+C, ?."""
    return _KEY_NAMES.get(key) or (key.upper() if len(key) > 1 else key)


def bindings(keys: Sequence[KeyAction] = KEYS) -> list[Binding]:
    """A table as Textual's bindings. Keys that work everywhere go before the prompt's own."""
    return [
        Binding(",".join(key.keys), key.action, key.does, show=False, priority=key.mode == "always") for key in keys
    ]

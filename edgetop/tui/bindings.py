"""Tables of keys as Textual's bindings, and as its keymap."""

from __future__ import annotations

from collections.abc import Iterable

from textual.binding import Binding

from edgetop.tui.keymap import ScreenKeys

NO_KEY = "no_key"
"""A key that no terminal sends. Every action has it, too: Textual leaves out keys that the prompt would type before it
looks for what is to get another key, and would not find an action that had only such keys."""


def bindings(screen: ScreenKeys, *, first: bool = False) -> list[Binding]:
    """A screen's table for its `BINDINGS`.

    A widget that has the keyboard, such as the prompt, has each key before them; with `first` it has what they leave.
    """
    return [
        Binding(",".join((*key.keys, NO_KEY)), key.action, show=False, priority=first, id=_identity(screen, key.name))
        for key in screen.keys
    ]


def keymap(screens: Iterable[ScreenKeys]) -> dict[str, str]:
    """The same tables for `App.set_keymap`, where they are other ones than the screens were made with."""
    return {_identity(screen, key.name): ",".join(key.keys) or NO_KEY for screen in screens for key in screen.keys}


def _identity(screen: ScreenKeys, name: str) -> str:
    return f"{screen.name}.{name}"

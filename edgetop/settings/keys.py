"""Key bindings in the file.

[keys]
    next_theme = "ctrl+t"
    help = ["F1", "?"]
    screenshot = ""

    [keys.replay]
    play = "p"

Which actions and screens there are, only the screens know; here keys are read, and written in one way.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Mapping
from typing import NamedTuple

from edgetop.core.errors import UsageError

KEYS_TABLE = "keys"


class KeyChoice(NamedTuple):
    """The keys that an action is to have in place of its own."""

    screen: str
    """Empty for every screen that has the action."""
    action: str
    keys: tuple[str, ...]
    """As `normalised` gives them; none to take the action's keys away."""


MODIFIERS = ("alt", "ctrl", "shift")
"""In the order in which the screen library writes them."""

_OTHER_NAMES = {"solidus": "slash", "reverse_solidus": "backslash", "commercial_at": "at", "hyphen_minus": "minus",
                "plus_sign": "plus", "low_line": "underscore"}  # fmt: skip


def _name_of(character: str) -> str:
    """A character as the screen library names its key: letters and digits by themselves, all else by Unicode's name."""
    if character.isalnum():
        return character
    name = unicodedata.name(character).lower().replace("-", "_").replace(" ", "_")
    return _OTHER_NAMES.get(name, name)


CHARACTERS: dict[str, str] = {
    _name_of(character): character for character in map(chr, range(0x21, 0x7F)) if not character.isalnum()
}
"""Keys with a name that type a character, such as `question_mark`, and the character."""

NAMED = ("space", "enter", "tab", "escape", "backspace", "delete", "insert", "home", "end", "pageup", "pagedown", "up",
         "down", "left", "right", *(f"f{number}" for number in range(1, 25)))  # fmt: skip
"""Keys that are called by a name."""

_ALIASES = {"esc": "escape", "return": "enter", "pgup": "pageup", "pgdn": "pagedown", "pgdown": "pagedown",
            "page_up": "pageup", "page_down": "pagedown", "del": "delete", "ins": "insert", " ": "space",
            "bksp": "backspace", "control": "ctrl", "option": "alt", "meta": "alt"}  # fmt: skip

_SAME_TO_A_TERMINAL = {"ctrl+i": "tab", "ctrl+m": "enter", "ctrl+left_square_bracket": "escape",
                       "ctrl+at": "ctrl+space"}  # fmt: skip
EXPECTED = "a key such as t, ?, space, F5, pgdn, ctrl+t or alt+x"


def normalised(text: str) -> str:
    """A key as people write it in the one way in which screens know it: `Ctrl+T` is `ctrl+t`, `?` is `question_mark`.

    Raises ValueError, saying what was expected, for what is no key.
    """
    *written, last = _parts(text)
    modifiers = {_ALIASES.get(part.lower(), part.lower()) for part in written}
    if unknown := sorted(modifiers - set(MODIFIERS)):
        raise ValueError(f"{EXPECTED}; {unknown[0]!r} is no modifier, there are {', '.join(MODIFIERS)}")
    key = _base(last)
    if len(key) == 1 and key.isalpha():
        if "ctrl" in modifiers:
            key = key.lower()
        elif "shift" in modifiers:
            key, modifiers = key.upper(), modifiers - {"shift"}
    whole = "+".join([*sorted(modifiers), key])
    return _SAME_TO_A_TERMINAL.get(whole, whole)


def _parts(text: str) -> list[str]:
    """Modifiers and key; a plus at the end is the key itself."""
    if text == " ":
        return [text]
    stripped = text.strip()
    if stripped.endswith("+"):
        before = stripped[:-1].removesuffix("+")
        return [*filter(None, before.split("+")), "+"]
    return [part.strip() for part in stripped.split("+")]


def _base(text: str) -> str:
    if len(text) == 1 and text.isprintable():
        return "space" if text == " " else _name_of(text)
    name = _ALIASES.get(text.lower(), text.lower())
    if name in NAMED or name in CHARACTERS:
        return name
    close = difflib.get_close_matches(name, [*NAMED, *_ALIASES, *CHARACTERS], n=1)
    raise ValueError(f"{EXPECTED}{f'; did you mean {close[0]}?' if close else ''}")


def key_choices(table: object, where: str) -> tuple[KeyChoice, ...]:
    """The table [keys] as read from TOML; `where` names the file. Raises UsageError for what cannot be meant."""
    if not isinstance(table, Mapping):
        raise UsageError(f"{where}: [{KEYS_TABLE}] is no table", 'write [keys], and below it lines like quit = "q"')
    choices: list[KeyChoice] = []
    for name, value in table.items():
        if isinstance(value, Mapping):
            choices += [
                KeyChoice(name, action, _keys(keys, f"{where} [{KEYS_TABLE}.{name}] {action}"))
                for action, keys in value.items()
            ]
        else:
            choices.append(KeyChoice("", name, _keys(value, f"{where} [{KEYS_TABLE}] {name}")))
    return tuple(choices)


def _keys(value: object, where: str) -> tuple[str, ...]:
    texts = value if isinstance(value, list) else [value]
    keys = []
    for text in texts:
        if not isinstance(text, str):
            raise UsageError(f"{where}: {text!r} is no key", f"expected {EXPECTED}, in quotes")
        if text:
            try:
                keys.append(normalised(text))
            except ValueError as error:
                raise UsageError(f"{where}: {text!r} is no key", f"expected {error}") from None
    return tuple(dict.fromkeys(keys))

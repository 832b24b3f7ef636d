"""The tables of all screens, and the same with the keys that a person has chosen."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence

from edgetop.core.errors import UsageError
from edgetop.settings.keys import KEYS_TABLE, KeyChoice
from edgetop.tui.keymap import LIVE, KeyAction, ScreenKeys, key_name
from edgetop.tui.page_keys import CHECK, COMPARE, HELP, PALETTE, PICKER, SESSIONS, SETTINGS
from edgetop.tui.replay_keys import REPLAY
from edgetop.tui.watch_keys import WATCH

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
        raise UsageError(f"{where} [{KEYS_TABLE}]: there is no screen {choice.screen!r}", _mend(choice.screen, tables))
    asked = [choice.screen] if choice.screen else list(tables)
    having = [name for name in asked if choice.action in _names(tables[name])]
    if not having:
        table = f"{KEYS_TABLE}.{choice.screen}" if choice.screen else KEYS_TABLE
        known = {name for screen in asked for name in _names(tables[screen])}
        raise UsageError(f"{where} [{table}]: there is no action {choice.action!r}", _mend(choice.action, known))
    return having


def _names(screen: ScreenKeys) -> set[str]:
    return {key.name for key in screen.keys}


def _mend(name: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else "`edgetop keys` lists screens and actions"


def _refuse_two_uses(screen: ScreenKeys, where: str, chosen: Collection[tuple[str, str]]) -> None:
    for key, first, second in twice_used(screen.keys):
        moved = first if (screen.name, first.name) in chosen else second
        other = second if moved is first else first
        raise UsageError(
            f"{where} [{KEYS_TABLE}]: {key_name(key)} would do both {moved.name} and {other.name} on the screen "
            f"{screen.name!r}",
            f"choose another key, set it for one screen only as in [{KEYS_TABLE}.live], or give {other.name} another "
            f"one in [{KEYS_TABLE}.{screen.name}]",
        )


def twice_used(keys: Iterable[KeyAction]) -> list[tuple[str, KeyAction, KeyAction]]:
    """Keys that do two things, and those two."""
    does: dict[str, KeyAction] = {}
    pairs = ((key, action) for action in keys for key in action.keys)
    return [(key, does[key], action) for key, action in pairs if does.setdefault(key, action) is not action]

"""Verb keys."""

from __future__ import annotations

import argparse

from edgetop.commands.inputs import chosen_keys
from edgetop.commands.output import table, write_data, write_json
from edgetop.settings.resolve import Settings
from edgetop.tui.keys import KeyAction, ScreenKeys, key_name, prompt_takes


def execute(arguments: argparse.Namespace, settings: Settings) -> int:
    """Print the tables, with the keys that the configuration file wants."""
    screens = chosen_keys(settings)
    if arguments.json:
        write_json([_as_json(screen, key) for screen in screens.values() for key in screen.keys])
        return 0
    rows = [["ACTION", "KEYS", "WHAT IT DOES"]]
    for screen in screens.values():
        rows.append([f"[keys.{screen.name}]", "", screen.title])
        rows += [[f"  {key.name}", _in_words(key), key.description] for key in screen.keys]
    write_data(table(rows))
    return 0


def _in_words(key: KeyAction) -> str:
    return "  ".join(map(key_name, key.keys)) or "none"


def _as_json(screen: ScreenKeys, key: KeyAction) -> dict[str, object]:
    return {
        "screen": screen.name,
        "action": key.name,
        "keys": list(key.keys),
        "does": key.description,
        "while_typing": [each for each in key.keys if not prompt_takes(each)] if screen.has_prompt else [],
    }

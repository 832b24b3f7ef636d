"""Every setting, its value and where that comes from, for `edgetop config` and `edgetop doctor`."""

from __future__ import annotations

from typing import Any

from edgetop.settings import options
from edgetop.settings.resolve import Settings
from edgetop.settings.shown import plain, shown


def settings_rows(settings: Settings) -> list[list[str]]:
    """Name and value with its origin, for a table."""
    return [
        [f"{option.section}.{option.name}", f"{shown(settings[option])} ({settings.origin(option)})"]
        for option in options.OPTIONS
    ]


def settings_by_name(settings: Settings) -> dict[str, Any]:
    """Value and origin by name, for JSON."""
    return {
        option.name: {"value": plain(settings[option]), "origin": settings.origin(option)} for option in options.OPTIONS
    }

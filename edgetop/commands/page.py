"""Screens that a verb opens: whether there is a terminal for one, and the settings of the person for it."""

from __future__ import annotations

import difflib
import os
import sys
from typing import TYPE_CHECKING, TypeVar

from edgetop.core.errors import UsageError
from edgetop.settings import options
from edgetop.settings.resolve import Settings

if TYPE_CHECKING:
    from edgetop.tui.page_app import MakeScreen

THEME_PREFIX = "edgetop-"
Result = TypeVar("Result")


def is_terminal() -> bool:
    """Whether a person sits before both ends of us."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))


def show_page(make_screen: MakeScreen[Result], settings: Settings) -> Result | None:
    """Run one screen as the settings of the section `screen` say; what it was dismissed with.

    `make_screen` is to import the screen, since Textual takes longer to import than the rest. Raises UsageError for a
    theme that there is not, and EdgetopError when the screen ended by a defect of its own.
    """
    obey_no_color(settings)
    from edgetop.tui.page_app import run_page  # noqa: PLC0415 - Textual is slow to import, and reads NO_COLOR then

    return run_page(make_screen, theme=chosen_theme(settings), level="ascii" if settings[options.ASCII] else None)


def obey_no_color(settings: Settings) -> None:
    """Let Textual, which reads it from the environment when it is imported, know of --no-color."""
    if settings[options.NO_COLOR]:
        os.environ["NO_COLOR"] = "1"


def chosen_theme(settings: Settings) -> str | None:
    """Name of the theme that was asked for, if one was. Raises UsageError when there is none of that name."""
    from edgetop.tui.themes import load_themes  # noqa: PLC0415 - the same

    name = settings[options.THEME]
    if name is None:
        return None
    known = [theme.name.removeprefix(THEME_PREFIX) for theme in load_themes()]
    if name.removeprefix(THEME_PREFIX) not in known:
        close = difflib.get_close_matches(name, known, n=1)
        raise UsageError(
            f"there is no theme {name!r}", f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
        )
    return THEME_PREFIX + name.removeprefix(THEME_PREFIX)

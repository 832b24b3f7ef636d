"""Opens a screen: terminal, theme, keys."""

from __future__ import annotations

import difflib
import os
import sys
from typing import TYPE_CHECKING, TypeVar

from edgetop.core.errors import UsageError
from edgetop.settings import options
from edgetop.settings.resolve import Settings, price_of

if TYPE_CHECKING:
    from edgetop.tui.app import Display, MakeScreen
    from edgetop.tui.keys import KeyTables


THEME_PREFIX = "edgetop-"
Result = TypeVar("Result")


def is_terminal() -> bool:
    """Whether a person sits before both ends of us."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))


def shows_screens(settings: Settings) -> bool:
    """Whether a person sits there who wants screens, on a terminal that can show them, or before a browser."""
    in_browser = os.environ.get("TEXTUAL_DRIVER", "").endswith(":WebDriver")
    return (is_terminal() or in_browser) and not settings[options.PLAIN] and os.environ.get("TERM", "dumb") != "dumb"


def show_screen(make_screen: MakeScreen[Result], settings: Settings) -> Result | None:
    """Run one screen as the settings of the section `screen` say; what it was dismissed with.

    `make_screen` is to import the screen, since Textual takes longer to import than the rest. Raises UsageError for a
    theme that there is not, and EdgetopError when the screen ended by a defect of its own.
    """
    display = chosen_display(settings)
    from edgetop.tui.app import SingleScreenApp  # noqa: PLC0415 - Textual is slow to import

    app = SingleScreenApp(make_screen, display)
    app.run_to_end()
    if app.signal_code:
        raise SystemExit(app.signal_code)
    return app.return_value


def chosen_display(settings: Settings) -> Display:
    """How screens are to be drawn.

    Raises UsageError for a theme, a screen or an action that there is not, and for a key that would do two things.
    """
    if settings[options.NO_COLOR]:
        # Textual reads it from the environment when it is imported.
        os.environ["NO_COLOR"] = "1"
    from edgetop.tui.app import Display  # noqa: PLC0415 - Textual is slow to import

    return Display(
        level="ascii" if settings[options.ASCII] else None,
        theme=chosen_theme(settings),
        delay_s=settings[options.DELAY],
        price=price_of(settings),
        keys=chosen_keys(settings),
        mouse=settings[options.MOUSE],
    )


def chosen_keys(settings: Settings) -> KeyTables:
    """The keys of all screens, with those that the configuration file wants. Raises UsageError."""
    from edgetop.tui.keys import TABLES, remapped  # noqa: PLC0415 - only where a screen or its keys are shown

    return remapped(settings.keys, str(settings.config_file)) if settings.keys else TABLES


def chosen_theme(settings: Settings) -> str | None:
    """Name of the theme that was asked for, if one was. Raises UsageError when there is none, or it is no theme."""
    from edgetop.tui.themes import theme_files  # noqa: PLC0415 - only where a screen is opened

    asked = settings[options.THEME]
    if asked is None:
        return None
    name, files = asked.removeprefix(THEME_PREFIX), theme_files()
    if name not in files:
        close = difflib.get_close_matches(name, files, n=1)
        raise UsageError(
            f"there is no theme {asked!r}", f"did you mean {close[0]}?" if close else f"there are {', '.join(files)}"
        )
    from edgetop.tui.themes import ThemeError, read_theme  # noqa: PLC0415 - Textual is slow to import

    try:
        read_theme(files[name])
    except ThemeError as error:
        raise UsageError(
            f"the theme {files[name]} cannot be used: {error}", "fix it, or choose another one with --theme"
        ) from None
    return THEME_PREFIX + name

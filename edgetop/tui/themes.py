"""Colour themes by role, from TOML files: those that come with edgetop, and the person's own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import platformdirs
from textual.app import App
from textual.color import Color, ColorParseError
from textual.theme import BUILTIN_THEMES, Theme

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PREFIX = "edgetop-"
DEFAULT_THEME = "edgetop-dark"
_PACKAGE = Path(__file__).resolve().parents[1]
SHIPPED_FOLDERS = (_PACKAGE / "data" / "themes", _PACKAGE.parent / "themes")
"""In an installed wheel, and in a checkout."""
QUIET = "quiet"
"""Variable of the colour for text of second rank: the foreground, a little nearer to the background."""
QUIET_SHARE = 0.7
ROLES = (
    "primary", "secondary", "accent", "foreground", "background", "surface", "panel", "success", "warning", "error",
)  # fmt: skip


def load_themes() -> list[Theme]:
    """All themes that can be read; a person's own replaces one of ours of the same name."""
    paths = {path.stem: path for folder in _folders() for path in sorted(folder.glob("*.toml"))}
    return [theme for path in paths.values() if (theme := _read(path)) is not None]


def load_theme(name: str) -> Theme | None:
    """The theme of a name, without reading the others; `None` if there is none that can be read."""
    for folder in reversed(_folders()):
        path = folder / f"{name.removeprefix(PREFIX)}.toml"
        if path.is_file():
            return _read(path)
    return None


def next_theme(app: App[Any]) -> None:
    """Change an application to the next of our themes."""
    names = [name for name in app.available_themes if name.startswith(PREFIX)]
    here = names.index(app.theme) if app.theme in names else -1
    app.theme = names[(here + 1) % len(names)]


def _folders() -> list[Path]:
    shipped = next((folder for folder in SHIPPED_FOLDERS if folder.is_dir()), None)
    own = platformdirs.user_config_path("edgetop", appauthor=False) / "themes"
    return [own] if shipped is None else [shipped, own]


def _read(path: Path) -> Theme | None:
    """A theme, or `None` for a file that is none: a mistake in a theme must not keep the screen from opening."""
    try:
        with path.open("rb") as file:
            data: dict[str, Any] = tomllib.load(file)
        colors: dict[str, Any] = {role: str(data["colors"][role]) for role in ROLES}
        dark, ansi = bool(data.get("dark", True)), bool(data.get("ansi", False))
        # Colours of cursors and scrollbars, which Textual cannot derive from colours that only the terminal knows.
        variables = BUILTIN_THEMES["ansi-dark" if dark else "ansi-light"].variables if ansi else {}
        quiet = {QUIET: colors["foreground"] if ansi else _quiet(colors["foreground"], colors["background"])}
        theme = Theme(name=f"{PREFIX}{path.stem}", dark=dark, ansi=ansi, variables={**variables, **quiet}, **colors)
        theme.to_color_system().generate()
    except (OSError, ValueError, KeyError, TypeError, ColorParseError):
        return None
    return theme


def _quiet(foreground: str, background: str) -> str:
    return Color.parse(background).blend(Color.parse(foreground), QUIET_SHARE).hex

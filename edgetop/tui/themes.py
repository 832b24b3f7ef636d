"""Theme files, roles, contrast; which characters a terminal has.

Textual is imported where a theme is built, so that shell completion stays quick.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import platformdirs
from msgspec import Struct

from edgetop.io.files import read_toml
from edgetop.io.terminal import terminal_kind

if TYPE_CHECKING:
    from textual.app import App
    from textual.color import Color
    from textual.theme import Theme


_PACKAGE = Path(__file__).resolve().parents[1]
SHIPPED_FOLDERS = (_PACKAGE / "data" / "themes", _PACKAGE.parent / "themes")
"""In an installed wheel, and in a checkout."""

PREFIX = "edgetop-"
DEFAULT_THEME = "edgetop-dark"
FEW_COLOURS_THEME = "edgetop-ansi"
"""Where there are fewer than 256 colours, to which the others' colours would be rounded until most are the same."""

_MANY_COLOURS = frozenset({"256color", "kitty", "direct"})
"""Last parts of `TERM`, as Rich reads them."""
QUIET = "quiet"
"""Variable of the colour for text of second rank: the foreground, a little nearer to the background."""

QUIET_SHARE = 0.7
EDGE = "edge"
"""Variable of the colour for borders: as near to the background as WCAG 2.1 (1.4.11) lets it be."""

EDGE_CONTRAST = 3.0

_SCROLLBAR_GROUNDS = ("background", "background-hover", "background-active", "corner-color")

ROLES = (
    "primary", "secondary", "accent", "foreground", "background", "surface", "panel", "success", "warning", "error",
)  # fmt: skip


class ThemeError(ValueError):
    """A file is no theme; the text says in one line why."""


def user_folder() -> Path:
    """Where the user's own themes are looked for."""
    return platformdirs.user_config_path("edgetop", appauthor=False) / "themes"


def default_theme(environ: Mapping[str, str]) -> str:
    """The theme for a terminal, by what it says of its colours: `COLORTERM`, and the end of `TERM`."""
    if environ.get("COLORTERM", "").strip().lower() in {"truecolor", "24bit"}:
        return DEFAULT_THEME
    ends_in = environ.get("TERM", "").strip().lower().rpartition("-")[2]
    return DEFAULT_THEME if ends_in in _MANY_COLOURS else FEW_COLOURS_THEME


def theme_files() -> dict[str, Path]:
    """The file of every theme by its name; one of the user replaces a shipped one of the same name."""
    shipped = next((folder for folder in SHIPPED_FOLDERS if folder.is_dir()), None)
    folders = [user_folder()] if shipped is None else [shipped, user_folder()]
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.toml"))}


def load_themes() -> list[Theme]:
    """All themes that can be read."""
    return [theme for path in theme_files().values() if (theme := _read(path)) is not None]


def load_theme(name: str) -> Theme | None:
    """The theme of a name, without reading the others; `None` if there is none that can be read."""
    path = theme_files().get(name.removeprefix(PREFIX))
    return None if path is None else _read(path)


def next_theme(app: App[Any]) -> None:
    """Change an application to the next of edgetop's themes."""
    names = [name for name in app.available_themes if name.startswith(PREFIX)]
    here = names.index(app.theme) if app.theme in names else -1
    app.theme = names[(here + 1) % len(names)]


def read_theme(path: Path) -> Theme:
    """The theme in a file. Raises ThemeError."""
    from textual.color import Color, ColorParseError  # noqa: PLC0415 - each Tab in a shell would pay for it
    from textual.theme import BUILTIN_THEMES, Theme  # noqa: PLC0415 - the same

    try:
        data = read_toml(path)
    except OSError as error:
        raise ThemeError(f"it cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ThemeError(f"it is not TOML: {error}") from None
    table = data.get("colors")
    if not isinstance(table, dict):
        raise ThemeError("it has no table [colors]")
    colors: dict[str, Any] = {}
    for role in ROLES:
        if not isinstance(table.get(role), str):
            raise ThemeError(f"it has no colour {role} in [colors]")
        try:
            Color.parse(table[role])
        except ColorParseError:
            raise ThemeError(f"{role} = {table[role]!r} is no colour, such as #87d787") from None
        colors[role] = table[role]
    dark, ansi = bool(data.get("dark", True)), bool(data.get("ansi", False))
    # Colours of cursors and scrollbars, which Textual cannot derive from colours that only the terminal knows.
    variables = BUILTIN_THEMES["ansi-dark" if dark else "ansi-light"].variables if ansi else {}
    derived = dict.fromkeys((QUIET, EDGE), colors["foreground"]) if ansi else _derived(colors)
    theme = Theme(name=f"{PREFIX}{path.stem}", dark=dark, ansi=ansi, variables={**variables, **derived}, **colors)
    theme.to_color_system().generate()
    return theme


def _read(path: Path) -> Theme | None:
    """A theme, or `None` for a file that is none: a mistake in a theme must not prevent the screen from opening."""
    try:
        return read_theme(path)
    except ThemeError:
        return None


def _derived(colors: Mapping[str, str]) -> dict[str, str]:
    """The colours between background and foreground."""
    from textual.color import Color  # noqa: PLC0415 - each Tab in a shell would pay for it

    background, surface, foreground = (Color.parse(colors[role]) for role in ("background", "surface", "foreground"))
    steps = (background.blend(foreground, share / 20) for share in range(1, 21))
    visible = (
        edge for edge in steps if min(contrast(edge, ground) for ground in (background, surface)) >= EDGE_CONTRAST
    )
    edge = next(visible, foreground).hex
    return {
        QUIET: background.blend(foreground, QUIET_SHARE).hex,
        EDGE: edge,
        "scrollbar": edge,
        **dict.fromkeys(("scrollbar-hover", "scrollbar-active"), colors["primary"]),
        **{f"scrollbar-{part}": colors["background"] for part in _SCROLLBAR_GROUNDS},
    }


def contrast(one: Color, other: Color) -> float:
    """The ratio of two colours' luminances, from 1 to 21 (WCAG 2.1, contrast ratio)."""
    brighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


def _luminance(color: Color) -> float:
    """Relative luminance, WCAG 2.1."""
    red, green, blue = (
        channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4
        for channel in (each / 255 for each in color.rgb)
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


GlyphLevel = Literal["braille", "block", "ascii"]
LEVELS: tuple[GlyphLevel, ...] = get_args(GlyphLevel)
"""Richest first; the key that changes glyphs walks through them."""

_ASCII_TERMINALS = ("linux", "dumb", "vt", "ansi", "cons25", "sun", "wsvt")
"""`TERM` of consoles whose fonts hold 256 or 512 characters."""

_BLOCK_TERMINALS = ("putty", "cygwin")
"""`TERM` of emulators whose usual fonts lack braille."""

_COERCED_LOCALES = ("C.UTF-8", "C.utf8", "UTF-8")


class Glyphs(Struct, frozen=True, kw_only=True):
    """The characters of one level."""

    level: GlyphLevel
    border: Literal["round", "solid", "ascii"]
    """Textual's name of the border type."""
    horizontal: str
    vertical: str
    dot: str


_GLYPHS: dict[GlyphLevel, Glyphs] = {
    "braille": Glyphs(level="braille", border="round", horizontal="─", vertical="│", dot="·"),
    "block": Glyphs(level="block", border="solid", horizontal="─", vertical="│", dot="·"),
    "ascii": Glyphs(level="ascii", border="ascii", horizontal="-", vertical="|", dot="*"),
}


def glyphs_for(level: GlyphLevel) -> Glyphs:
    """The characters of `level`."""
    return _GLYPHS[level]


def detect_level(environ: Mapping[str, str]) -> GlyphLevel:
    """The richest level that the locale and `TERM` allow.

    The locale is the first one set of `LC_ALL`, `LC_CTYPE` and `LANG`, as POSIX has it.
    """
    locale = next((environ[name] for name in ("LC_ALL", "LC_CTYPE", "LANG") if environ.get(name)), "")
    if "utf8" not in locale.lower().replace("-", ""):
        return "ascii"
    terminal = terminal_kind(environ).lower()
    if terminal.startswith(_ASCII_TERMINALS):
        return "ascii"
    return "block" if terminal.startswith(_BLOCK_TERMINALS) else "braille"


def without_coerced_locale(environ: Mapping[str, str]) -> Mapping[str, str]:
    """`environ` as it was before Python, which puts an LC_CTYPE of UTF-8 into it in the C locale (PEP 538)."""
    coerced = sys.flags.utf8_mode and not environ.get("PYTHONUTF8") and environ.get("LC_CTYPE") in _COERCED_LOCALES
    return {name: value for name, value in environ.items() if name != "LC_CTYPE"} if coerced else environ

"""Which characters the screen is drawn with, and history graphs drawn with them.

Braille needs a font that few consoles have, block elements one that most have, ASCII none. What a font can show cannot
be asked, so the level is guessed from the locale and the terminal, and a person may set it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from msgspec import Struct

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

_BLOCKS = " ▁▂▃▄▅▆▇█"
_ASCII_STEPS = " .:|"
_BRAILLE_BLANK = 0x2800
_BRAILLE_LEFT = (0x00, 0x40, 0x44, 0x46, 0x47)
_BRAILLE_RIGHT = (0x00, 0x80, 0xA0, 0xB0, 0xB8)
"""Bits of 0 to 4 dots from the bottom up in one column of a braille pattern (Unicode Standard, Braille Patterns)."""


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
    terminal = environ.get("TERM", "dumb").lower()
    if terminal.startswith(_ASCII_TERMINALS):
        return "ascii"
    return "block" if terminal.startswith(_BLOCK_TERMINALS) else "braille"


def without_coerced_locale(environ: Mapping[str, str]) -> Mapping[str, str]:
    """`environ` as it was before Python, which puts an LC_CTYPE of UTF-8 into it in the C locale (PEP 538)."""
    coerced = sys.flags.utf8_mode and not environ.get("PYTHONUTF8") and environ.get("LC_CTYPE") in _COERCED_LOCALES
    return {name: value for name, value in environ.items() if name != "LC_CTYPE"} if coerced else environ


def capacity(width: int, level: GlyphLevel) -> int:
    """How many values a graph of `width` cells shows."""
    return 2 * width if level == "braille" else width


def plot(  # noqa: PLR0917 - the order of a drawing: what, how large, between which bounds, with what
    values: Sequence[float | None], width: int, height: int, low: float, high: float, level: GlyphLevel
) -> list[str]:
    """A filled history graph: `height` lines of `width` cells, top line first, the newest value at the right edge.

    Braille shows two values in a cell, the others one; only the newest `capacity` values are drawn. `None` and NaN are
    gaps and stay blank from top to bottom, while a value of `low` or less still has its lowest mark, so a gap never
    looks like a small value. Values above `high` fill the column. Where `high` is not above `low`, values have the
    lowest mark.
    """
    shown = list(values[-capacity(width, level) :]) if width > 0 else []
    steps = {"braille": 4, "block": len(_BLOCKS) - 1, "ascii": len(_ASCII_STEPS) - 1}[level]
    columns = [_column(value, low, high, steps * height) for value in shown]
    columns = [0] * (capacity(width, level) - len(columns)) + columns
    lines = []
    for row in range(height - 1, -1, -1):
        filled = [min(max(column - row * steps, 0), steps) for column in columns]
        if level == "braille":
            lines.append("".join(map(_braille, filled[::2], filled[1::2])))
        else:
            alphabet = _BLOCKS if level == "block" else _ASCII_STEPS
            lines.append("".join([alphabet[step] for step in filled]))
    return lines


def _column(value: float | None, low: float, high: float, steps: int) -> int:
    """How many of `steps` marks stand above each other for `value`; 0 only for a gap."""
    if value is None or math.isnan(value):
        return 0
    if value <= low or high <= low:
        return 1
    if value >= high:
        return steps
    return max(1, round((value - low) / (high - low) * steps))


def _braille(left: int, right: int) -> str:
    dots = _BRAILLE_LEFT[left] | _BRAILLE_RIGHT[right]
    return chr(_BRAILLE_BLANK + dots) if dots else " "

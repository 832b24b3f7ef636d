"""Braille, block or ASCII: detection from locale and TERM, border and line characters.

Braille needs a font that few consoles have, block elements one that most have, ASCII none. What a font can show cannot
be asked, so the level is guessed from the locale and the terminal, and a person may set it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
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

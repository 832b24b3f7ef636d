from __future__ import annotations

import pytest

from edgetop.tui.themes import GlyphLevel, detect_level, glyphs_for


@pytest.mark.parametrize(
    ("environ", "level"),
    [
        ({"LANG": "en_GB.UTF-8", "TERM": "xterm-256color"}, "braille"),
        ({"LANG": "de_DE.utf8", "TERM": "tmux-256color"}, "braille"),
        ({"LC_ALL": "C", "LANG": "en_GB.UTF-8", "TERM": "xterm"}, "ascii"),
        ({"LC_CTYPE": "C.UTF-8", "LANG": "C", "TERM": "xterm"}, "braille"),
        ({"LC_ALL": "", "LANG": "en_GB.UTF-8", "TERM": "linux"}, "ascii"),
        ({"LANG": "en_GB.UTF-8", "TERM": "putty-256color"}, "block"),
        ({"LANG": "de_DE.ISO-8859-1", "TERM": "xterm"}, "ascii"),
        ({"LANG": "en_GB.UTF-8"}, "ascii"),
        ({}, "ascii"),
    ],
)
def test_level_follows_locale_and_terminal(environ: dict[str, str], level: GlyphLevel) -> None:
    assert detect_level(environ) == level


def test_the_ascii_level_is_ascii() -> None:
    glyphs = glyphs_for("ascii")
    assert (glyphs.horizontal + glyphs.vertical + glyphs.dot).isascii()

"""Styles on their way to the terminal, in as few bytes as they can be told.

Rich names every style in full before each piece of text and takes it back after it, which on a true-colour terminal is
40 bytes for a word of five letters. Over SSH those are what a screen costs. What is said between two styles is found
once and remembered, since a screen has few of them and draws them every second.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

_COLOUR_KINDS = {"2": 5, "5": 3}
"""How many numbers an extended colour has, its own 38 or 48 included (ECMA-48 SGR, ITU-T T.416)."""
_SEEN_ON_BLANKS = {"background", "4", "7", "9", "21", "53"}
"""Besides the background: lines under, through and over the cell, and the exchange of its two colours."""
_REVERSE = "7"

Look = tuple[tuple[str, str], ...]
"""What is switched on: foreground, background, and attributes by their numbers, each with the numbers that do it."""
PLAIN: Look = ()


class Run(NamedTuple):
    """Text in one look. `before` is written as it is, such as a move of the cursor."""

    text: str
    look: Look
    before: str = ""


def written(runs: Iterable[Run]) -> str:
    """The escape sequences that draw `runs`: only what changes between two of them is said; the end is unstyled."""
    parts: list[str] = []
    shown = PLAIN
    for text, look, before in runs:
        if before:
            parts.append(before)
        if text:
            said, shown = _change(shown, look, not text.strip(" "))
            if said:
                parts.append(said)
            parts.append(text)
    if shown:
        parts.append("\x1b[0m")
    return "".join(parts)


@lru_cache(maxsize=1024)
def look_of(numbers: str) -> Look:
    """The look that a sequence of numbers brings about, as Rich writes them for a style."""
    look: dict[str, str] = {}
    for name, each in _settings(numbers):
        if name == "0":
            look.clear()
        else:
            look[name] = each
    return tuple(look.items())


@lru_cache(maxsize=4096)
def _change(shown: Look, wanted: Look, blank: bool) -> tuple[str, Look]:
    """What brings the terminal from one look to the other, and the look that it then has."""
    now, then = dict(shown), dict(wanted)
    if blank and _REVERSE not in then:
        # The colour of letters that are not there may stay what it was.
        seen = {name: numbers for name, numbers in then.items() if name in _SEEN_ON_BLANKS}
        unseen = {name: numbers for name, numbers in now.items() if name not in _SEEN_ON_BLANKS}
        then = seen if now.keys() - seen.keys() - unseen.keys() else {**unseen, **seen}
    if now.keys() - then.keys():
        said = f"\x1b[{';'.join(['0', *then.values()])}m"
    else:
        changed = [numbers for name, numbers in then.items() if now.get(name) != numbers]
        said = f"\x1b[{';'.join(changed)}m" if changed else ""
    return said, tuple(then.items())


def _settings(numbers: str) -> Iterator[tuple[str, str]]:
    """What a sequence sets, one by one; `0` for a reset."""
    each = numbers.split(";") if numbers else []
    at = 0
    while at < len(each):
        number = each[at]
        length = _COLOUR_KINDS.get(each[at + 1], 1) if number in {"38", "48"} and at + 1 < len(each) else 1
        yield _name(number), ";".join(each[at : at + length])
        at += length


def _name(number: str) -> str:
    """What a number is about."""
    code = int(number or 0)
    if 30 <= code <= 39 or 90 <= code <= 97:
        return "foreground"
    if 40 <= code <= 49 or 100 <= code <= 107:
        return "background"
    return str(code)

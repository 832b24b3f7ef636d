"""Styles on their way to the terminal, in as few bytes as they can be told.

Rich names every style in full before each piece of text and takes it back after it, which on a true-colour terminal is
40 bytes for a word of five letters. Over SSH those are what a screen costs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_SEQUENCE = re.compile(r"\x1b\[([0-9;]*)m")
_COLOUR_KINDS = {"2": 5, "5": 3}
"""How many numbers an extended colour has, its own 38 or 48 included (ECMA-48 SGR, ITU-T T.416)."""

_MOVE = re.compile(r"\x1b\[[0-9;]*H")
_SEEN_ON_BLANKS = {"background", "4", "7", "9", "21", "53"}
"""Besides the background: lines under, through and over the cell, and the exchange of its two colours."""

State = dict[str, str]
"""What is switched on: foreground, background, and attributes by their numbers, each with the numbers that do it."""


def shortened(drawn: str) -> str:
    """The same text in the same styles: only what changes between two pieces of text is said.

    Styles are those that Rich writes: a sequence that adds to nothing, and a reset. The end of the text is unstyled.
    """
    parts: list[str] = []
    shown: State = {}
    wanted: State = {}
    at = 0
    for match in _SEQUENCE.finditer(drawn):
        shown = _say(drawn[at : match.start()], shown, wanted, parts)
        wanted = _after(match[1], wanted)
        at = match.end()
    shown = _say(drawn[at:], shown, wanted, parts)
    if shown:
        parts.append("\x1b[0m")
    return "".join(parts)


def _say(text: str, shown: State, wanted: State, parts: list[str]) -> State:
    """Append `text` behind what brings the terminal from one state to the other; the state it is in then."""
    if not text:
        return shown
    if "7" not in wanted and not _MOVE.sub("", text).strip(" "):
        # The colour of letters that are not there may stay what it was.
        seen = {name: numbers for name, numbers in wanted.items() if name in _SEEN_ON_BLANKS}
        unseen = {name: numbers for name, numbers in shown.items() if name not in _SEEN_ON_BLANKS}
        wanted = seen if shown.keys() - seen.keys() - unseen.keys() else {**unseen, **seen}
    if shown.keys() - wanted.keys():
        parts.append(f"\x1b[{';'.join(['0', *wanted.values()])}m")
    else:
        changed = [numbers for name, numbers in wanted.items() if shown.get(name) != numbers]
        if changed:
            parts.append(f"\x1b[{';'.join(changed)}m")
    parts.append(text)
    return wanted


def _after(sequence: str, state: State) -> State:
    """The state after a sequence."""
    new = dict(state)
    for name, numbers in _settings(sequence):
        if name == "0":
            new.clear()
        else:
            new[name] = numbers
    return new


def _settings(sequence: str) -> Iterator[tuple[str, str]]:
    """What a sequence sets, one by one; `0` for a reset."""
    numbers = sequence.split(";") if sequence else ["0"]
    at = 0
    while at < len(numbers):
        number = numbers[at]
        length = _COLOUR_KINDS.get(numbers[at + 1], 1) if number in {"38", "48"} and at + 1 < len(numbers) else 1
        yield _name(number), ";".join(numbers[at : at + length])
        at += length


def _name(number: str) -> str:
    """What a number is about."""
    code = int(number or 0)
    if 30 <= code <= 39 or 90 <= code <= 97:
        return "foreground"
    if 40 <= code <= 49 or 100 <= code <= 107:
        return "background"
    return str(code)

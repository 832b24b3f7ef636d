"""Where somebody reads in a chat, told by the text and not by the line, since another width has other lines."""

from __future__ import annotations

from typing import NamedTuple

from edgetop.tui.chat_block import Place
from edgetop.tui.transcript import Transcript


class ReadingPlace(NamedTuple):
    """A visible character of a block, counted without blanks, since those change with every width."""

    block: int
    ink: int | None
    """`None` is the blank line above the block."""


def reading_place(transcript: Transcript, place: Place) -> ReadingPlace:
    """What is read at the beginning of a line, in the present width."""
    if place.block >= len(transcript.blocks):
        return ReadingPlace(place.block, None)
    gap, lines = transcript.lines_of(place.block)
    if place.line < gap:
        return ReadingPlace(place.block, None)
    return ReadingPlace(place.block, sum(map(_ink, lines[: place.line - gap])))


def line_of(transcript: Transcript, read: ReadingPlace) -> Place:
    """The line that has it, in the present width."""
    if read.block >= len(transcript.blocks) or read.ink is None:
        return transcript.nearest(Place(read.block, 0))
    gap, lines = transcript.lines_of(read.block)
    left = read.ink
    for number, line in enumerate(lines):
        left -= _ink(line)
        if left < 0:
            return Place(read.block, gap + number)
    return Place(read.block, gap + len(lines) - 1)


def _ink(line: str) -> int:
    return len("".join(line.split()))

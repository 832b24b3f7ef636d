"""A play head over recorded sessions. Pure: whoever plays says how much time has passed.

Nothing here looks at a clock or draws; the moment of each session follows from the position alone, and so does
everything that is shown of it (`edgetop.session.snapshot`).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from edgetop.core.clock import US_PER_S
from edgetop.session.alignment import ALIGNMENTS, AlignmentName, aligned, token_after, token_before
from edgetop.session.session import Session

SPEEDS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
GRACE_US = US_PER_S
"""A jump back within this time of playing after a turn began leads to the turn before: it was just jumped to."""


class Player:
    """One or more sessions at one position, which moves while they are played."""

    def __init__(self, sessions: Sequence[Session], alignment: AlignmentName = "time") -> None:
        self.sessions = tuple(sessions)
        self.playing = False
        self.speed = 1.0
        self.position = 0.0
        self._alignment = aligned(alignment, self.sessions)
        self.turn_begins: Sequence[float] = self._alignment.turn_begins()
        """Positions at which a turn begins."""

    @property
    def alignment(self) -> AlignmentName:
        """How the sessions are put beside each other; also what a position is, microseconds or tokens."""
        return self._alignment.name

    @property
    def length(self) -> float:
        """The last position."""
        return self._alignment.length

    @property
    def share(self) -> float:
        """The position as a share of the length."""
        return self.position / self.length if self.length else 1.0

    @property
    def moments(self) -> tuple[int, ...]:
        """Where each session is, in microseconds since it began."""
        return self._alignment.moments(self.position)

    def advance(self, span_us: float) -> None:
        """So much time has passed; what is playing moves on, and stops at the end."""
        if self.playing:
            self.seek(self._alignment.later(self.position, span_us * self.speed))
            self.playing = self.position < self.length

    def play_or_pause(self) -> None:
        """Start or stop; at the end, start over."""
        self.playing = not self.playing
        if self.playing and self.position >= self.length:
            self.position = 0.0

    def change_speed(self, steps: int) -> None:
        """Take one of the SPEEDS faster or slower."""
        self.speed = SPEEDS[min(max(SPEEDS.index(self.speed) + steps, 0), len(SPEEDS) - 1)]

    def align(self, name: AlignmentName) -> None:
        """Put the sessions beside each other in another way; the first one stays where it is."""
        t_us = self.moments[0]
        at_end = self.position >= self.length
        self._alignment = aligned(name, self.sessions)
        self.turn_begins = self._alignment.turn_begins()
        self.seek(self.length if at_end else self._alignment.position_of(0, t_us))

    def align_next(self) -> None:
        """The next way of ALIGNMENTS."""
        self.align(ALIGNMENTS[(ALIGNMENTS.index(self.alignment) + 1) % len(ALIGNMENTS)])

    def seek(self, position: float) -> None:
        """Go to a position, or to the end that it lies beyond."""
        self.position = min(max(position, 0.0), self.length)

    def seek_share(self, share: float) -> None:
        """Go to a share of the length."""
        self.seek(share * self.length)

    def step(self, direction: int) -> None:
        """Pause, and go to the next token of any session, or to the one before; past the last one, to the end."""
        self.playing = False
        look = token_after if direction > 0 else token_before
        stamps_us = [look(session, t_us) for session, t_us in zip(self.sessions, self.moments, strict=True)]
        found = [self._alignment.position_of(index, t_us) for index, t_us in enumerate(stamps_us) if t_us is not None]
        if direction > 0:
            self.seek(min((each for each in found if each > self.position), default=self.length))
        else:
            self.seek(max((each for each in found if each < self.position), default=0.0))

    def jump_turn(self, direction: int) -> None:
        """Go to where the next turn of any session begins, or to where this one did, or the one before."""
        begins = self.turn_begins
        if direction > 0:
            index = bisect_right(begins, self.position)
            self.seek(begins[index] if index < len(begins) else self.length)
            return
        index = bisect_left(begins, self.position - self._grace()) - 1
        self.seek(begins[index] if index >= 0 else 0.0)

    def _grace(self) -> float:
        """How far after the beginning of a turn a jump back still leads to the turn before."""
        return GRACE_US * self.speed if self.playing and self.alignment != "token" else 0.0

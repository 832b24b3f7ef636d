"""Play head, alignment, preparation, differences between snapshots.

An alignment is pure: it knows the stamps of its sessions and nothing of what is played. Its positions begin at 0 and
end at `length`; at either end every session is at its own beginning or end.

Nothing here looks at a clock or draws; the moment of each session follows from the position alone, and so does
everything that is shown of it (`edgetop.session.snapshot`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, chain, pairwise
from typing import Literal

from msgspec import Struct

from edgetop.core.clock import US_PER_S
from edgetop.core.figures import DECODE, J_PER_TOKEN, number_of
from edgetop.session.energy import ENERGY_ACCOUNTS, Checkpoints
from edgetop.session.session import Session
from edgetop.session.snapshot import Snapshot, snapshot

AlignmentName = Literal["time", "turn", "token"]
ALIGNMENTS: tuple[AlignmentName, ...] = ("time", "turn", "token")


class Alignment(ABC):
    """Positions common to several sessions, and the moment of each at a position."""

    name: AlignmentName
    length: float
    """The last position."""

    @abstractmethod
    def moments(self, position: float) -> tuple[int, ...]:
        """The moment of each session, in microseconds since it began."""

    @abstractmethod
    def position_of(self, index: int, t_us: int) -> float:
        """The first position at which the session of an index is at `t_us`, or has passed it."""

    @abstractmethod
    def turn_begins(self) -> list[float]:
        """Positions at which a turn of any session begins, ascending."""

    @abstractmethod
    def later(self, position: float, span_us: float) -> float:
        """Where the head is after `span_us` of playing, which may lie beyond the last position."""


class ByTime(Alignment):
    """All sessions begin together; a position is microseconds."""

    name: AlignmentName = "time"

    def __init__(self, sessions: Sequence[Session]) -> None:
        self._ends_us = [session.end_us for session in sessions]
        self._turns_us = [turn.started.t_us for session in sessions for turn in session.turns]
        self.length = max(self._ends_us)

    def moments(self, position: float) -> tuple[int, ...]:
        """See Alignment. A session that is over stays at its end."""
        return tuple(min(int(position), end_us) for end_us in self._ends_us)

    def position_of(self, index: int, t_us: int) -> float:  # noqa: ARG002 - the same for every session
        """See Alignment."""
        return t_us

    def turn_begins(self) -> list[float]:
        """See Alignment."""
        return sorted(set(self._turns_us))

    def later(self, position: float, span_us: float) -> float:
        """See Alignment."""
        return position + span_us


class ByTurn(Alignment):
    """Turn k of each session begins together, and whatever is done with it first waits for the others.

    A position is microseconds: part k of the way is as long as the longest turn k with the pause after it, and the
    first part is what comes before the first turn.
    """

    name: AlignmentName = "turn"

    def __init__(self, sessions: Sequence[Session]) -> None:
        self._edges_us = [_edges_us(session) for session in sessions]
        parts = max(map(len, self._edges_us)) - 1
        lengths_us = (
            max(edges[part + 1] - edges[part] for edges in self._edges_us if part + 1 < len(edges))
            for part in range(parts)
        )
        self._begins = [0, *accumulate(lengths_us)]
        """Positions at which the parts begin, and the last position."""
        self.length = self._begins[-1]

    def moments(self, position: float) -> tuple[int, ...]:
        """See Alignment."""
        part = min(bisect_right(self._begins, position) - 1, len(self._begins) - 1)
        inside_us = int(position - self._begins[part])
        return tuple(self._moment(edges, part, inside_us) for edges in self._edges_us)

    def position_of(self, index: int, t_us: int) -> float:
        """See Alignment."""
        edges = self._edges_us[index]
        part = min(bisect_right(edges, t_us), len(edges) - 1) - 1
        return self._begins[part] + max(0, t_us - edges[part])

    def turn_begins(self) -> list[float]:
        """See Alignment."""
        return sorted(set(self._begins[1:-1]))

    def later(self, position: float, span_us: float) -> float:
        """See Alignment."""
        return position + span_us

    @staticmethod
    def _moment(edges: Sequence[int], part: int, inside_us: int) -> int:
        if part + 1 >= len(edges):
            return edges[-1]
        # Waiting for the others, it is not yet in its next turn.
        last_us = edges[part + 1] - (part + 2 < len(edges))
        return max(edges[part], min(edges[part] + inside_us, last_us))


class ByToken(Alignment):
    """A position is a number of tokens, and each session is at the moment when it had got so many.

    One that has no more of them is at its end. While it plays, the head keeps the pace of the session with most tokens.
    """

    name: AlignmentName = "token"

    def __init__(self, sessions: Sequence[Session]) -> None:
        self._ends_us = [session.end_us for session in sessions]
        self._stamps_us = [_stamps_us(session) for session in sessions]
        self._firsts = {first for session in sessions for first in _first_tokens(session)}
        self._pace_us = max(self._stamps_us, key=len)
        self.length = len(self._pace_us) - 1

    def moments(self, position: float) -> tuple[int, ...]:
        """See Alignment."""
        count = int(position)
        return tuple(
            end_us if count >= len(stamps_us) - 1 else stamps_us[count]
            for stamps_us, end_us in zip(self._stamps_us, self._ends_us, strict=True)
        )

    def position_of(self, index: int, t_us: int) -> float:
        """See Alignment."""
        return max(0, bisect_right(self._stamps_us[index], t_us) - 1)

    def turn_begins(self) -> list[float]:
        """See Alignment. A turn begins with its first token."""
        return sorted(self._firsts)

    def later(self, position: float, span_us: float) -> float:
        """See Alignment. Between two tokens a position has a fraction."""
        count = int(position)
        if count >= self.length:
            return position
        begin_us, end_us = self._pace_us[count : count + 2]
        t_us = begin_us + (end_us - begin_us) * (position - count) + span_us
        count = bisect_right(self._pace_us, t_us) - 1
        if count >= self.length:
            return self.length
        begin_us, end_us = self._pace_us[count : count + 2]
        return count + (t_us - begin_us) / (end_us - begin_us)


def aligned(name: AlignmentName, sessions: Sequence[Session]) -> Alignment:
    """The alignment of a name for at least one session."""
    kinds: dict[AlignmentName, type[ByTime | ByTurn | ByToken]] = {"time": ByTime, "turn": ByTurn, "token": ByToken}
    return kinds[name](sessions)


def token_before(session: Session, t_us: int) -> int | None:
    """Stamp of the last token earlier than `t_us`."""
    index = session.turn_at(t_us)
    for turn in reversed(session.turns[: 0 if index is None else index + 1]):
        count = bisect_left(turn.token_t_us, t_us)
        if count:
            return turn.token_t_us[count - 1]
    return None


def token_after(session: Session, t_us: int) -> int | None:
    """Stamp of the first token later than `t_us`."""
    for turn in session.turns[session.turn_at(t_us) or 0 :]:
        count = bisect_right(turn.token_t_us, t_us)
        if count < len(turn.token_t_us):
            return turn.token_t_us[count]
    return None


def tokens_until(session: Session, t_us: int) -> int:
    """Tokens that the session had got by `t_us`."""
    index = session.turn_at(t_us)
    if index is None:
        return 0
    earlier = sum(len(turn.token_t_us) for turn in session.turns[:index])
    return earlier + bisect_right(session.turns[index].token_t_us, t_us)


def _edges_us(session: Session) -> list[int]:
    """Where the parts of a session begin, the first at 0 and each other with a turn, and its end."""
    starts_us = (max(0, turn.started.t_us) for turn in session.turns)
    return [0, *accumulate(starts_us, max), max(session.end_us, 0)]


def _first_tokens(session: Session) -> list[int]:
    """By turn, the number of tokens with its first one."""
    counts = accumulate((len(turn.token_t_us) for turn in session.turns), initial=0)
    return [before + 1 for before, after in pairwise(counts) if after > before]


def _stamps_us(session: Session) -> list[int]:
    """By number of tokens, when a session had got so many; ascending."""
    return list(accumulate(chain((0,), *(turn.token_t_us for turn in session.turns)), max))


class Differences(Struct, frozen=True, kw_only=True):
    """The other less the first; `None` where one of them has no such figure."""

    decode_tokens_per_s: float | None
    """Of the current turns."""
    j_per_token: float | None
    """Gross, of the current turns."""
    rss_bytes: int | None
    """Resident memory of the engines now."""


def differences(first: Snapshot, other: Snapshot) -> Differences:
    """How `other` differs from `first`, by the figures that stand in the panes' titles."""

    def of_turn(name: str) -> float | None:
        return _less(*(None if each.turn is None else number_of(each.turn.figures, name) for each in (first, other)))

    rss = _less(first.memory.rss_bytes, other.memory.rss_bytes)
    return Differences(
        decode_tokens_per_s=of_turn(DECODE),
        j_per_token=of_turn(J_PER_TOKEN),
        rss_bytes=None if rss is None else int(rss),
    )


def _less(first: float | None, other: float | None) -> float | None:
    return None if first is None or other is None else other - first


REST_US = 3 * US_PER_S
"""After an answer, before the next one begins where idle time is cut: its figures are to be read."""


def _is_resting(session: Session, t_us: int) -> bool:
    """No turn has begun, or the last one has been over for a while."""
    index = session.turn_at(t_us)
    finished = None if index is None else session.turns[index].finished_at(t_us)
    return index is None or (finished is not None and t_us - finished.t_us >= REST_US)


SPEEDS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
GRACE_US = US_PER_S
"""A jump back within this time of playing after a turn began leads to the turn before: it was just jumped to."""


class Player:
    """One or more sessions at one position, which moves while they are played."""

    def __init__(
        self, sessions: Sequence[Session], alignment: AlignmentName = "time", *, cuts_idle: bool = False
    ) -> None:
        """`cuts_idle` leaves out the time before the first prompt, and most of that between answers, if there are any.

        A session that watched the servers of others has none, and is no idle time.
        """
        self.cuts_idle = cuts_idle and any(session.turns for session in sessions)
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
            if self.cuts_idle and all(map(_is_resting, self.sessions, self.moments)):
                self.seek(next((begin for begin in self.turn_begins if begin > self.position), self.length))
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


LOOKS = 64
"""Sums over turns, gaps and extremes are kept wherever a session was looked at; between two looks it is soon done."""


def prepare(sessions: Sequence[Session]) -> Iterator[None]:
    """Prepare sessions that are complete, some milliseconds of work at a time.

    Until it is through, snapshots of moments that it has not reached lack the energy, and say so. Afterwards a snapshot
    of any moment is the one that it always was, and comes at once.
    """
    unready: list[tuple[Session, Checkpoints]] = []
    for session in {id(session): session for session in sessions}.values():
        checkpoints = Checkpoints(session)
        checkpoints.patient = False
        ENERGY_ACCOUNTS.replace(session, checkpoints)
        unready.append((session, checkpoints))
    for session, _ in unready:
        for look in range(LOOKS + 1):
            snapshot(session, session.end_us * look // LOOKS)
            yield
    for _, checkpoints in unready:
        while checkpoints.extend():
            yield
        yield

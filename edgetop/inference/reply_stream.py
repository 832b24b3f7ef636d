"""Tokens of a reply on their way to the screen, a few together.

Waking the process with the screen costs decoding speed where both share the cores (threads spin at a barrier while one
of them waits for its core), so the first token of a reply leaves at once and the others ten times a second. Until then
their bytes are only kept: what is done between two decodes is missing from the speed.
"""

from __future__ import annotations

from itertools import groupby

from edgetop.core.records import Tokens
from edgetop.inference.engine import Reporter
from edgetop.inference.reply_text import Piece, ReasoningMarks, ReplyText

FLUSH_PERIOD_US = 100_000


class ReplyStream:
    """Collects the tokens of one turn and reports them as `Tokens`."""

    def __init__(
        self, turn: int, report: Reporter, *, stop: tuple[str, ...] = (), opened: ReasoningMarks | None = None
    ) -> None:
        self._turn = turn
        self._report = report
        self._text = ReplyText(stop=stop, opened=opened)
        self._watches = any(stop)
        """Every token may be the last one, so none waits to be looked at."""
        self._tokens: list[tuple[int, bytes]] = []
        self._settled: list[Piece] = []
        self._due_us = 0

    @property
    def stopped(self) -> bool:
        """A stop string was met."""
        return self._text.stopped

    def add(self, t_us: int, data: bytes) -> None:
        """Take a token in: its stamp and its bytes."""
        self._tokens.append((t_us, data))
        if t_us >= self._due_us:
            self.flush()
        elif self._watches:
            self._settle()

    def flush(self) -> None:
        """Report what is settled now."""
        self._settle()
        for part, group in groupby(self._settled, key=lambda piece: piece.part):
            pieces = list(group)
            stamps = tuple(piece.t_us for piece in pieces)
            self._report(Tokens(turn=self._turn, t_us=stamps, pieces=tuple(piece.text for piece in pieces), part=part))
            self._due_us = stamps[-1] + FLUSH_PERIOD_US
        self._settled = []

    def finish(self) -> None:
        """Report everything: the reply has ended."""
        self._settle()
        self._settled += self._text.finish()
        self.flush()

    def _settle(self) -> None:
        for t_us, data in self._tokens:
            self._settled += self._text.push(t_us, data)
        self._tokens = []

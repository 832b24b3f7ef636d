"""One turn of a session: a prompt, its reply, and the stamps of both."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

from edgetop.core.figures import TurnProgress
from edgetop.core.records import Part, Prefill, Tokens, TurnFinished, TurnStarted


class Span:
    """Tokens in a row that belong to the same part of a reply."""

    __slots__ = ("_pieces", "part", "tokens")

    def __init__(self, part: Part, tokens: int = 0, text: str = "") -> None:
        self.part = part
        self.tokens = tokens
        self._pieces = [text]

    def extend(self, pieces: Sequence[str]) -> None:
        """Add one piece of text per token."""
        self._pieces.extend(pieces)
        self.tokens += len(pieces)

    @property
    def text(self) -> str:
        """The pieces joined; joined once, not at every token."""
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0]


class Turn:
    """A turn as it grows. Stamps are microseconds since the session began; those of a stream ascend."""

    __slots__ = (
        "_gaps", "_gaps_of", "cached", "finished", "prefill_done", "prefill_t_us", "reply", "started", "to_evaluate",
        "token_chars", "token_t_us",
    )  # fmt: skip

    def __init__(self, started: TurnStarted) -> None:
        self.started = started
        self.finished: TurnFinished | None = None
        self.prefill_t_us = array("q")
        self.prefill_done = array("q")
        self.to_evaluate: int | None = None
        self.cached: int | None = None
        self.token_t_us = array("q")
        self.token_chars = array("q")
        """Characters (code points) of each token's piece of the reply."""
        self.reply: list[Span] = []
        self._gaps: list[int] = []
        self._gaps_of = 0

    @property
    def last_us(self) -> int:
        """Stamp of the latest thing that happened in the turn."""
        if self.finished is not None:
            return self.finished.t_us
        stamps = (self.started.t_us, *self.prefill_t_us[-1:], *self.token_t_us[-1:])
        return max(stamps)

    @property
    def text(self) -> str:
        """The whole reply, reasoning and answer."""
        return "".join(span.text for span in self.reply)

    def add_prefill(self, record: Prefill, t_us: int) -> None:
        """Note how far the prefill has come."""
        if self.to_evaluate is None:
            self.to_evaluate, self.cached = record.total, record.cached
        self.prefill_t_us.append(t_us)
        self.prefill_done.append(record.done)

    def add_tokens(self, record: Tokens, t_us: Sequence[int]) -> None:
        """Add tokens; `t_us` are the record's stamps since the session began."""
        self.token_t_us.extend(t_us)
        self.token_chars.extend(map(len, record.pieces))
        if not self.reply or self.reply[-1].part != record.part:
            self.reply.append(Span(record.part))
        self.reply[-1].extend(record.pieces)

    def finished_at(self, t_us: int) -> TurnFinished | None:
        """How the turn ended, if it had by `t_us`."""
        return self.finished if self.finished is not None and self.finished.t_us <= t_us else None

    def progress(self, t_us: int) -> TurnProgress:
        """How far the turn has come at `t_us`."""
        prefills = bisect_right(self.prefill_t_us, t_us)
        generated = bisect_right(self.token_t_us, t_us)
        finished = self.finished_at(t_us)
        if finished is not None:
            cached: int | None = finished.cached_tokens
            to_evaluate: int | None = finished.prompt_tokens - finished.cached_tokens
        else:
            cached, to_evaluate = (self.cached, self.to_evaluate) if prefills else (None, None)
        return TurnProgress(
            submitted_us=self.started.t_us,
            prefill_begin_us=self.prefill_t_us[0] if prefills else None,
            prefill_end_us=self.prefill_t_us[prefills - 1] if prefills else None,
            evaluated=self.prefill_done[prefills - 1] if prefills else 0,
            to_evaluate=to_evaluate,
            cached=cached,
            generated=generated,
            first_us=self.token_t_us[0] if generated else None,
            last_us=self.token_t_us[generated - 1] if generated else None,
        )

    def sorted_gaps(self, generated: int) -> list[int]:
        """Gaps between the first `generated` tokens in microseconds, ascending; not to be changed.

        They are kept, so that asking again after some more tokens merges only the new ones.
        """
        if generated < self._gaps_of:
            self._gaps, self._gaps_of = [], 0
        if generated > self._gaps_of:
            stamps = self.token_t_us[max(0, self._gaps_of - 1) : generated]
            self._gaps.extend(later - earlier for earlier, later in pairwise(stamps))
            self._gaps.sort()
            self._gaps_of = generated
        return self._gaps

"""One turn of a session: a prompt, its reply, and the stamps of both."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence

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
        "cached", "counted", "finished", "prefill_done", "prefill_t_us", "reply", "started", "to_evaluate",
        "token_chars", "token_t_us",
    )  # fmt: skip

    def __init__(self, started: TurnStarted) -> None:
        self.started = started
        self.finished: TurnFinished | None = None
        self.prefill_t_us = array("q")
        self.prefill_done = array("q")
        self.to_evaluate: int | None = None
        self.cached: int | None = None
        self.counted = True
        """Each stamp is a token's; otherwise a chunk's, which may hold several."""
        self.token_t_us = array("q")
        self.token_chars = array("q")
        """Characters (code points) of each token's piece of the reply."""
        self.reply: list[Span] = []

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
        self.counted = self.counted and record.counted
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
        stamps = bisect_right(self.token_t_us, t_us)
        finished = self.finished_at(t_us)
        # What a server says at the end of a reply stands above the number of its chunks.
        told = None if self.counted or finished is None or not finished.counted else finished.generated_tokens
        generated = stamps if told is None else told
        if finished is not None and not (told is None and not self.counted and finished.prompt_tokens == 0):
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
            counted=self.counted or told is not None,
            first_tokens=self._first_tokens(generated, stamps),
            stamps=stamps,
            one_each=self.counted or told == stamps,
            first_us=self.token_t_us[0] if stamps else None,
            last_us=self.token_t_us[stamps - 1] if stamps else None,
        )

    def _first_tokens(self, generated: int, stamps: int) -> int:
        """How many of the `generated` tokens have the first stamp.

        Where only their sum is known, the first chunk is taken to hold as many as the mean one.
        """
        if not stamps:
            return 1
        first = bisect_right(self.token_t_us, self.token_t_us[0], hi=stamps)
        return first if generated == stamps else max(1, round(generated * first / stamps))

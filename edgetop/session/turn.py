"""One turn, its progress at a moment, its rates and gaps.

The screen, the session file, reports and comparisons all take them from here. A figure that cannot be computed is
`None`, never 0.
"""

from __future__ import annotations

import zlib
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate, chain, islice, pairwise
from typing import NamedTuple

from msgspec import Struct

from edgetop.core.clock import STOPPED_US, US_PER_S
from edgetop.core.engine_settings import EnginePerf
from edgetop.core.figures import TokenGaps
from edgetop.core.format import format_rate
from edgetop.core.numbers import small
from edgetop.core.records import Prefill, ReplyPart, Tokens, TurnFinished, TurnStarted
from edgetop.core.statistics import percentile_of_pieces

RECENT_US = 2 * US_PER_S
"""The recent decode rate looks this far back, or two gaps where tokens are rarer."""

BATCH_US = 250_000
"""Tokens reach the session some at a time; only a longer silence than this is a stall."""

TOGETHER_US = 500
"""Chunks that follow each other sooner than this left the server together."""

US_PER_MS = 1000


class TurnProgress(Struct, frozen=True, kw_only=True):
    """How far a turn has come at a moment; stamps in microseconds on one clock."""

    submitted_us: int
    prefill_begin_us: int | None = None
    """When the first prompt token was about to be evaluated."""
    prefill_end_us: int | None = None
    """When the last of the `evaluated` ones was."""
    evaluated: int = 0
    to_evaluate: int | None = None
    cached: int | None = None
    generated: int = 0
    hidden: int = 0
    """Those of them that were generated before the first stamp and not shown."""
    counted: bool = True
    """False while a server has not said how many tokens its chunks hold: `generated` is then the number of chunks."""
    first_tokens: int = 1
    """Tokens of the first stamp; more than one where a server sends several together."""
    stamps: int = 0
    """How many of the turn's stamps lie before the moment: as many as tokens, or as chunks."""
    one_each: bool = True
    """Every stamp is that of one token, so that the gaps between them are gaps between tokens."""
    first_us: int | None = None
    last_us: int | None = None
    """The first and the last of the `stamps`."""

    @property
    def after_first(self) -> int | None:
        """Tokens that came after the first stamp; `None` where they have not been counted."""
        return max(0, self.generated - self.hidden - self.first_tokens) if self.counted else None

    @property
    def prefill_us(self) -> int:
        """Time the `evaluated` tokens took, 0 if none has been evaluated."""
        if self.prefill_begin_us is None or self.prefill_end_us is None:
            return 0
        return self.prefill_end_us - self.prefill_begin_us

    @property
    def decode_us(self) -> int:
        """Time from the first to the last token, 0 if there are fewer than two."""
        if self.first_us is None or self.last_us is None:
            return 0
        return self.last_us - self.first_us

    @property
    def first_token_us(self) -> int | None:
        """Time from submitting to the first token."""
        return None if self.first_us is None else self.first_us - self.submitted_us

    @property
    def prompt_tokens(self) -> int | None:
        """All tokens of the prompt, reused ones among them."""
        return None if self.to_evaluate is None else (self.cached or 0) + self.to_evaluate


def tokens_per_s(tokens: int, span_us: int) -> float | None:
    """`tokens` in `span_us` microseconds as a rate; `None` without tokens or time."""
    if tokens <= 0 or span_us <= 0:
        return None
    return tokens * US_PER_S / span_us


def decode_tokens_per_s(progress: TurnProgress) -> float | None:
    """(generated - 1) / (last token - first token): the first token is the prefill's.

    Of tokens that arrive together the first ones are left out together. `None` where they have not been counted.
    """
    return None if progress.after_first is None else tokens_per_s(progress.after_first, progress.decode_us)


def prefill_tokens_per_s(progress: TurnProgress) -> float | None:
    """Tokens evaluated / time from the beginning of the prefill to the logits of the last of them."""
    return tokens_per_s(progress.evaluated, progress.prefill_us)


def first_token_s(progress: TurnProgress) -> float | None:
    """Seconds from submitting to the first token."""
    return None if progress.first_token_us is None else progress.first_token_us / US_PER_S


def token_gaps(*pieces: Sequence[int]) -> TokenGaps | None:
    """Percentiles of the union of ascending sequences of gaps in microseconds.

    `None` without gaps, and where more than one gap in a hundred is 0: tokens that arrived together tell nothing of the
    time between them, and what is left are gaps between chunks.
    """
    together = sum(bisect_right(piece, 0) for piece in pieces)
    if together * 100 > sum(map(len, pieces)):
        return None
    p50, p95, p99, largest = (percentile_of_pieces(pieces, percent) for percent in (50, 95, 99, 100))
    if p50 is None or p95 is None or p99 is None or largest is None:
        return None
    return TokenGaps(p50=p50 / US_PER_MS, p95=p95 / US_PER_MS, p99=p99 / US_PER_MS, max=largest / US_PER_MS)


def recent_tokens_per_s(stamps_us: Sequence[int], count: int, now_us: int) -> float | None:
    """Decode rate over the last two seconds, or the last two gaps where tokens are rarer; `None` before two tokens.

    `stamps_us` are ascending and the first `count` of them have happened. The rate is never more than it would be if
    the next token came now, so that a stall shows while it lasts.
    """
    if count < 2:
        return None
    begin = max(0, min(bisect_left(stamps_us, now_us - RECENT_US, 0, count), count - 3))
    gaps = count - 1 - begin
    first_us = stamps_us[begin]
    achieved = tokens_per_s(gaps, stamps_us[count - 1] - first_us)
    at_best = tokens_per_s(gaps + 1, now_us - BATCH_US - first_us)
    if achieved is None or at_best is None:
        return achieved
    return min(achieved, at_best)


DISAGREE = 0.05
"""Share by which a rate of a server's own may differ from ours before that is marked."""


def disagrees(ours: float | None, theirs: float | None, tokens: int) -> bool:
    """Whether two rates of one reply differ by more than the share, and than one token more or less explains."""
    if ours is None or theirs is None or tokens < 2:
        return False
    return abs(ours - theirs) > (DISAGREE + 1 / tokens) * theirs


def server_words(perf: EnginePerf | None, decode: float | None, prefill: float | None) -> str:
    """What a server says of a reply itself, beside our rates; `!` marks what differs by more than 5 %."""
    if perf is None:
        return ""
    parts = [
        f"{name} {format_rate(theirs)}{'!' if disagrees(ours, theirs, tokens) else ''}"
        for name, ours, theirs, tokens in (
            ("decode", decode, perf.decode_tokens_per_s, perf.decode_tokens),
            ("prefill", prefill, perf.prefill_tokens_per_s, perf.prefill_tokens),
        )
        if theirs is not None
    ]
    if perf.draft_tokens and perf.draft_accepted is not None:
        parts.append(f"{perf.draft_accepted} of {perf.draft_tokens} draft tokens accepted")
    if perf.tokens_per_step is not None:
        parts.append(f"{perf.tokens_per_step:.2f} tokens a step")
    if perf.load_ms is not None and perf.load_ms >= LOAD_SHOWN_MS:
        parts.append(f"loading {perf.load_ms / US_PER_MS:.1f} s")
    return f"server says {', '.join(parts)}" if parts else ""


LOAD_SHOWN_MS = 100.0
"""A server that had its model loaded takes less to say so."""


PAUSE_FACTOR, GAPS_TO_JUDGE = 10, 8
"""A gap of two seconds, and ten times as long as 99 of 100 of at least eight others, is no decoding (judgement: a token
that waits for its weights to be read from the disk again takes up to a second)."""


def pause_of(gap_us: int, others_us: Sequence[int]) -> int | None:
    """For how much of a gap the model stood still, in microseconds; 0 if it did not, `None` while that is unknown."""
    if gap_us < STOPPED_US:
        return 0
    ordered = sorted(others_us)
    usual_us, longest_us = percentile_of_pieces([ordered], 50), percentile_of_pieces([ordered], 99)
    if len(ordered) < GAPS_TO_JUDGE or usual_us is None or longest_us is None:
        return None
    return round(gap_us - usual_us) if gap_us >= PAUSE_FACTOR * longest_us else 0


PIECES_APART = 256
"""Pieces of text are joined when there are so many."""


class Span:
    """Tokens in a row that belong to the same part of a reply."""

    __slots__ = ("_joined", "_pieces", "packed", "part", "tokens")

    def __init__(self, part: ReplyPart, tokens: int = 0, text: str = "", *, packed: bytes = b"") -> None:
        self.part = part
        self.tokens = tokens
        self.packed = packed
        """The text as zlib packs it, in place of the pieces."""
        self._pieces = [] if packed else [text]
        self._joined = 1
        """So many at the beginning are joined: a string for each token takes ten times as much memory."""

    def extend(self, pieces: Sequence[str]) -> None:
        """Add one piece of text per token."""
        self._pieces.extend(pieces)
        self.tokens += len(pieces)
        if len(self._pieces) - self._joined >= PIECES_APART:
            self._pieces[self._joined :] = ["".join(self._pieces[self._joined :])]
            self._joined += 1

    @property
    def text(self) -> str:
        """The pieces joined; joined once, not at every token."""
        if self.packed:
            return zlib.decompress(self.packed).decode("utf-8", "surrogatepass")
        self.join()
        return self._pieces[0]

    def pack(self) -> None:
        """Take a third of the memory; the text then has to be unpacked whenever it is asked for."""
        self.packed, self._pieces = self.as_packed(), []

    def as_packed(self) -> bytes:
        """The text as it is packed."""
        return self.packed or zlib.compress(self.text.encode("utf-8", "surrogatepass"))

    def join(self) -> None:
        """Keep the text in one piece."""
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
            self._joined = 1


class _Packed(NamedTuple):
    """An array of whole numbers as zlib packs it."""

    typecode: str
    data: bytes

    @classmethod
    def of(cls, counts: Iterable[int]) -> _Packed:
        """Numbers from 0."""
        kept = small(counts)
        return cls(kept.typecode, zlib.compress(kept.tobytes()))

    def array(self) -> array[int]:
        """The numbers."""
        return array(self.typecode, zlib.decompress(self.data))


class PackedTurn(Struct, frozen=True, array_like=True):
    """A turn, to be kept in a file of this machine."""

    started: TurnStarted
    finished: TurnFinished | None
    prefill: tuple[int | None, int | None, bytes, bytes]
    """Tokens to evaluate and cached ones; stamps, and how many were done."""
    counted: bool
    tokens: tuple[_Packed, _Packed]
    reply: list[tuple[ReplyPart, int, bytes]]


class Turn:
    """A turn as it grows. Stamps are microseconds since the session began; those of a stream ascend."""

    __slots__ = (
        "_packed", "_token_chars", "_token_t_us", "cached", "counted", "finished", "prefill_done", "prefill_t_us",
        "reply", "started", "to_evaluate",
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
        self._token_t_us = array("q")
        self._token_chars = array("q")
        self._packed: tuple[_Packed, _Packed] | None = None
        """Gaps between the stamps and characters, in place of both."""
        self.reply: list[Span] = []

    @property
    def token_t_us(self) -> array[int]:
        """Stamps of the tokens."""
        if self._packed is None:
            return self._token_t_us
        return array("q", islice(accumulate(self._packed[0].array(), initial=self.started.t_us), 1, None))

    @token_t_us.setter
    def token_t_us(self, stamps_us: array[int]) -> None:
        self._token_t_us = stamps_us

    @property
    def token_chars(self) -> array[int]:
        """Characters (code points) of each token's piece of the reply."""
        return self._token_chars if self._packed is None else self._packed[1].array()

    @token_chars.setter
    def token_chars(self, chars: array[int]) -> None:
        self._token_chars = chars

    def pack(self) -> None:
        """Take a quarter of the memory, once it has ended; what is asked for is then unpacked each time."""
        if self._packed is None and self.finished is not None:
            self._packed = self._packed_tokens()
            self._token_t_us = self._token_chars = array("q")
            for span in self.reply:
                span.pack()

    def _packed_tokens(self) -> tuple[_Packed, _Packed]:
        gaps_us = (later - earlier for earlier, later in pairwise(chain((self.started.t_us,), self._token_t_us)))
        return _Packed.of(gaps_us), _Packed.of(self._token_chars)

    def packed(self) -> PackedTurn:
        """The turn as it is in memory when it is packed; one that has ended then is."""
        self.pack()
        prefill = self.to_evaluate, self.cached, self.prefill_t_us.tobytes(), self.prefill_done.tobytes()
        tokens = self._packed or self._packed_tokens()
        reply = [(span.part, span.tokens, span.as_packed()) for span in self.reply]
        return PackedTurn(self.started, self.finished, prefill, self.counted, tokens, reply)

    @classmethod
    def of(cls, packed: PackedTurn) -> Turn:
        """The turn that was packed."""
        turn = cls(packed.started)
        turn.finished, turn.counted, turn._packed = packed.finished, packed.counted, packed.tokens
        turn.to_evaluate, turn.cached = packed.prefill[:2]
        turn.prefill_t_us, turn.prefill_done = (array("q", each) for each in packed.prefill[2:])
        turn.reply = [Span(part, tokens, packed=text) for part, tokens, text in packed.reply]
        return turn

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

    @property
    def answer(self) -> str:
        """The reply without the reasoning."""
        return "".join(span.text for span in self.reply if span.part == "answer")

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
        if record.reasoned_before:
            for span in self.reply:
                span.part = "reasoning"
        if not self.reply or self.reply[-1].part != record.part:
            self.reply.append(Span(record.part))
        self.reply[-1].extend(record.pieces)

    def finish(self, finished: TurnFinished) -> None:
        """Note how it ended; what there is of it then takes no more memory than need be."""
        self.finished = finished
        for span in self.reply:
            span.join()
        self.token_t_us = array("q", self.token_t_us)
        self.token_chars = small(self.token_chars)

    def finished_at(self, t_us: int) -> TurnFinished | None:
        """How the turn ended, if it had by `t_us`."""
        return self.finished if self.finished is not None and self.finished.t_us <= t_us else None

    def progress(self, t_us: int) -> TurnProgress:
        """How far the turn has come at `t_us`."""
        prefills = bisect_right(self.prefill_t_us, t_us)
        token_t_us = self.token_t_us
        stamps = bisect_right(token_t_us, t_us)
        finished = self.finished_at(t_us)
        # What a server says at the end of a reply stands above the number of its chunks.
        reported = None if self.counted or finished is None or not finished.counted else finished.generated_tokens
        generated = stamps if reported is None else reported
        hidden = 0 if reported is None or finished is None else finished.hidden_tokens
        cached, to_evaluate = (self.cached, self.to_evaluate) if prefills else (None, None)
        # Files of earlier versions have a prompt of 0 tokens where a server did not say.
        if finished is not None and (finished.prompt_tokens or self.counted):
            cached = finished.cached_tokens
            to_evaluate = None if finished.prompt_tokens is None else finished.prompt_tokens - (cached or 0)
        return TurnProgress(
            submitted_us=self.started.t_us,
            prefill_begin_us=self.prefill_t_us[0] if prefills else None,
            prefill_end_us=self.prefill_t_us[prefills - 1] if prefills else None,
            evaluated=self.prefill_done[prefills - 1] if prefills else 0,
            to_evaluate=to_evaluate,
            cached=cached,
            generated=generated,
            hidden=hidden,
            counted=self.counted or reported is not None,
            first_tokens=self._first_tokens(generated - hidden, token_t_us[:stamps]),
            stamps=stamps,
            one_each=self.counted or (reported is not None and reported - hidden == stamps),
            first_us=token_t_us[0] if stamps else None,
            last_us=token_t_us[stamps - 1] if stamps else None,
        )

    def _first_tokens(self, generated: int, token_t_us: Sequence[int]) -> int:
        """How many of the `generated` tokens have the first stamp.

        Where only their sum is known, the first chunk is taken to hold as many as the mean one.
        """
        stamps = len(token_t_us)
        if not stamps:
            return 1
        together_us = 0 if self.counted else TOGETHER_US
        first = 1
        while first < stamps and token_t_us[first] - token_t_us[first - 1] <= together_us:
            first += 1
        return first if generated == stamps else max(1, round(generated * first / stamps))

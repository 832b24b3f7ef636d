"""The figures of a turn and of a session: their names, and the one place where each is computed.

The screen, the session file, reports and comparisons all take them from here. A figure that cannot be computed is
`None`, never 0.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from edgetop.core.clock import US_PER_S
from edgetop.core.energy.figures import Energy
from edgetop.core.percentile import percentile_of_pieces
from edgetop.core.records import StopReason

LimitedBy = Literal["memory-bandwidth", "compute", "throttled", "contention", "paging", "swap", "unknown"]

ENERGY_MISSING = "no power source was recorded"
BANDWIDTH_MISSING = "the memory bandwidth of this machine has not been measured: `edgetop check MODEL` does it"
RECENT_US = 2 * US_PER_S
"""The recent decode rate looks this far back, or two gaps where tokens are rarer."""
BATCH_US = 250_000
"""Tokens reach the session some at a time; only a longer silence than this is a stall."""
US_PER_MS = 1000


class TokenGaps(Struct, frozen=True, kw_only=True):
    """Milliseconds between one token and the next. Percentiles are interpolated (`edgetop.core.percentile`)."""

    p50: float
    p95: float
    p99: float
    max: float


class TurnFigures(Struct, frozen=True, kw_only=True):
    """What one turn achieved, up to a moment or in all."""

    decode_tokens_per_s: float | None = None
    """(generated - 1) / (last token - first token)."""
    prefill_tokens_per_s: float | None = None
    """Prompt tokens evaluated / prefill time; tokens reused from the KV cache are not among them."""
    first_token_s: float | None = None
    """From submitting to the first token, template and tokenizing included."""
    token_gap_ms: TokenGaps | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    generated_tokens: int = 0
    stop_reason: StopReason | None = None
    limited_by: LimitedBy = "unknown"
    energy: Energy | None = None
    energy_missing: str = ENERGY_MISSING
    """Why `energy` is null, and what would give it; empty when it is there."""


class MemoryFigures(Struct, frozen=True, kw_only=True):
    """What the engine reserved, and the extremes that were measured, in bytes."""

    weights_bytes: int | None = None
    kv_bytes: int | None = None
    compute_bytes: int | None = None
    rss_peak_bytes: int | None = None
    """Largest resident set of the process that holds the model."""
    available_min_bytes: int | None = None
    swap_peak_bytes: int | None = None
    gpu_peak_bytes: int | None = None
    """Sum of the largest amounts in use on each GPU, by whatever process."""


class OwnCost(Struct, frozen=True, kw_only=True):
    """What edgetop itself took: at a moment, or as mean (processor) and peak (memory) of a session."""

    cpu_percent: float | None = None
    """Of one core."""
    rss_bytes: int | None = None


class Summary(Struct, frozen=True, kw_only=True):
    """The figures of a session. The warm-up turns of a benchmark do not count.

    Rates are totals over all turns divided by totals, so that a long turn weighs more than a short one; gaps are those
    of all turns pooled; the first token is the median of the turns; `load_s` and `stop_reason` are the last ones.
    """

    decode_tokens_per_s: float | None = None
    prefill_tokens_per_s: float | None = None
    first_token_s: float | None = None
    token_gap_ms: TokenGaps | None = None
    load_s: float | None = None
    turns: int = 0
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    generated_tokens: int = 0
    stop_reason: StopReason | None = None
    memory: MemoryFigures = MemoryFigures()
    bandwidth_use: float | None = None
    """Bytes that decoding had to read from memory, per second, over the bandwidth that was measured on this machine."""
    bandwidth_use_missing: str = BANDWIDTH_MISSING
    """Why `bandwidth_use` is null, and what would give it; empty when it is there."""
    limited_by: LimitedBy = "unknown"
    """What limited the turns that took the longest together."""
    energy: Energy | None = None
    energy_missing: str = ENERGY_MISSING
    """Why `energy` is null, and what would give it; empty when it is there."""
    own_cost: OwnCost = OwnCost()


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
        return max(0, self.generated - self.first_tokens) if self.counted else None

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
        if self.cached is None or self.to_evaluate is None:
            return None
        return self.cached + self.to_evaluate


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

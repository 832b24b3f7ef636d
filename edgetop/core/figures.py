"""The table of figures; summary structs of turn, session and watch.

The screen, the session file, reports and comparisons all take them from here. A figure that cannot be computed is
`None`, never 0.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from edgetop.core.energy.tokens import Energy, ServedEnergy
from edgetop.core.records import StopReason

LimitedBy = Literal["memory-bandwidth", "compute", "throttled", "contention", "paging", "swap", "unknown"]

ENERGY_MISSING = "no power source was recorded"

BANDWIDTH_MISSING = "the memory bandwidth of this machine has not been measured: `edgetop check MODEL` does it"


class TokenGaps(Struct, frozen=True, kw_only=True):
    """Milliseconds between one token and the next. Percentiles are interpolated (`edgetop.core.statistics`)."""

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


class WatchFigures(Struct, frozen=True, kw_only=True):
    """What the servers did for all their users together, from the first look at them on.

    A figure that is not known is `None`, never 0.
    """

    watched_s: float = 0.0
    """From the first look at a server that counts its tokens to the last one."""
    left_out_s: float = 0.0
    """Of that, the time in which it is not known what was generated: a server was started anew, or did not answer."""
    left_out: str = ""
    """Why, the last time."""
    generating_s: float = 0.0
    """Time in which a request was under way, or tokens came."""
    generated_tokens: int | None = None
    prompt_tokens: int | None = None
    """Prompt tokens evaluated; those reused from the KV cache are not among them, as far as the servers tell."""
    tokens_per_s: float | None = None
    """Generated tokens over `generating_s`: of all requests together, their prefill included."""
    energy: ServedEnergy | None = None
    energy_missing: str = "no power source was recorded"
    """Why `energy` is null, and what would give it; empty when it is there."""


Unit = Literal["tok/s", "s", "ms", "J", "bytes"]

DECODE, PREFILL, FIRST_TOKEN = "decode_tokens_per_s", "prefill_tokens_per_s", "first_token_s"

GAP_P95, LOAD, RSS_PEAK = "token_gap_ms.p95", "load_s", "memory.rss_peak_bytes"

J_PER_TOKEN, NET_J_PER_TOKEN = "energy.j_per_token", "energy.net_j_per_token"

DECODE_J_PER_TOKEN = "energy.decode_j_per_token"  # noqa: S105 - no password

LEAST, MOST = 1e-12, 1e18
"""No figure in its own unit is below or above; what is, was not measured."""

REPETITIONS_LEAST = 3
"""With fewer turns or repetitions their spread is not known."""


class ComparedFigure(Struct, frozen=True, kw_only=True):
    """One figure."""

    name: str
    heading: str
    """Short, for a column."""
    label: str
    """In words."""
    unit: Unit
    higher_is_better: bool = False
    share: int = 1
    """Of the false alarms that a row of figures is allowed, in proportion to the others' shares."""


FIGURES: tuple[ComparedFigure, ...] = (
    ComparedFigure(name=DECODE, heading="decode", label="decode speed", unit="tok/s", higher_is_better=True, share=5),
    ComparedFigure(name=PREFILL, heading="prefill", label="prefill speed", unit="tok/s", higher_is_better=True),
    ComparedFigure(name=FIRST_TOKEN, heading="first", label="time to the first token", unit="s"),
    ComparedFigure(name=GAP_P95, heading="gap p95", label="gap between tokens, 95 % are shorter", unit="ms"),
    ComparedFigure(name=LOAD, heading="load", label="model load", unit="s"),
    ComparedFigure(name=J_PER_TOKEN, heading="J/tok", label="energy per token, gross", unit="J", share=5),
    ComparedFigure(name=NET_J_PER_TOKEN, heading="net J/tok", label="energy per token, net of idle", unit="J"),
    ComparedFigure(name=DECODE_J_PER_TOKEN, heading="dec J/tok", label="energy per decoded token", unit="J"),
    ComparedFigure(name=RSS_PEAK, heading="memory", label="peak memory of the engine", unit="bytes"),
)

BY_NAME: dict[str, ComparedFigure] = {figure.name: figure for figure in FIGURES}
"""In the order of `FIGURES`."""


def is_plausible(value: float) -> bool:
    """Whether a value, as a file states it, can be that of a figure; NaN, zero and negative ones cannot."""
    return LEAST <= value <= MOST

"""The figures that are compared: their names, as in every other output, their units and which way is better."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

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

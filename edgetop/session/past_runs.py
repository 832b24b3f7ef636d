"""Prediction against measurement, from session heads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isfinite
from typing import Literal

from msgspec import Struct

from edgetop.core.figures import Summary
from edgetop.core.quantity import Interval
from edgetop.core.records import DeviceInfo, LoadEntry, Prediction
from edgetop.core.sources import Scope
from edgetop.core.statistics import percentile
from edgetop.session.file import SessionHead, TurnEntry

GENERATED_MIN = 32
"""A rate over fewer tokens is not held against a prediction."""

PREFILLED_MIN = 64
"""A prompt of a few tokens is over before the processor has warmed up; its rate says little of long ones."""

FIRST_MINUTE_US = 60_000_000

DISTURBED = frozenset({"throttled", "contention", "paging", "swap"})
"""Limits that are not the machine's own."""

Quantity = Literal["memory", "decode", "prefill", "first token", "energy"]


class PredictedVsMeasured(Struct, frozen=True, kw_only=True):
    """One figure, predicted and measured, in the unit of its name."""

    quantity: Quantity
    predicted: float
    low: float | None
    high: float | None
    """The interval that was predicted; `None` for memory, which is predicted to the byte."""
    measured: float

    @property
    def error(self) -> float:
        """Predicted over measured, less 1: 0.1 is 10 % too much."""
        return self.predicted / self.measured - 1

    @property
    def inside(self) -> bool | None:
        """Whether the measured figure lies in the interval that was predicted."""
        return None if self.low is None or self.high is None else self.low <= self.measured <= self.high


class MeasuredRun(Struct, frozen=True, kw_only=True):
    """What a session reached."""

    depth_tokens: float
    """Tokens in the KV cache while decoding, in the mean."""
    decode_tokens: int
    decode_tokens_per_s: float | None
    evaluated_tokens: float
    """Of the prompt, per turn."""
    prefill_tokens_per_s: float | None
    first_token_s: float | None


class Outcome(Struct, frozen=True, kw_only=True):
    """What was expected of a session, and what it measured."""

    session_id: str
    started_at: str
    device: DeviceInfo
    load: LoadEntry
    prediction: Prediction
    measured: MeasuredRun
    energy_scope: Scope | None
    decode_j_per_token: float | None
    prefill_j_per_token: float | None
    held: tuple[PredictedVsMeasured, ...]
    """One for each figure that was both predicted and measured."""


def outcome_of(head: SessionHead, turns: Sequence[TurnEntry] | None = None) -> Outcome | None:
    """Prediction and measurement of a session.

    `turns` are those of the file, which a benchmark's figures have to be made from: its tests differ in depth, and some
    only warm up. `None` where nothing was predicted, where several models were loaded, whose figures are mixed in the
    summary, or where something disturbed the measurement: a comparison with that would teach the wrong thing.
    """
    summary = head.summary
    if len(head.loads) != 1 or len(head.predictions) != 1 or summary.limited_by in DISTURBED:
        return None
    if turns and head.bench is not None and head.bench.soak_s:
        # A prediction is of a device that is cool; what it keeps up after half an hour is another figure.
        until_us = turns[0].stamps.submitted_us + FIRST_MINUTE_US
        turns = [turn for turn in turns if turn.stamps.submitted_us < until_us]
    measured = _of_summary(summary) if turns is None else _of_turns(turns)
    if measured is None:
        return None
    joules = None if summary.energy is None else summary.energy.decode_j_per_token
    prediction = head.predictions[0].prediction
    pairs: list[tuple[Quantity, Interval | int | None, float | None]] = [
        ("memory", prediction.memory_bytes, summary.memory.rss_peak_bytes),
        ("decode", prediction.decode_at(measured.depth_tokens), measured.decode_tokens_per_s),
        ("prefill", prediction.prefill_tokens_per_s, measured.prefill_tokens_per_s),
        ("first token", prediction.first_token_at(measured.evaluated_tokens), measured.first_token_s),
        ("energy", prediction.decode_j_per_token, None if joules is None else joules.value),
    ]
    return Outcome(
        session_id=head.id,
        started_at=head.started_at,
        device=head.device,
        load=head.loads[0],
        prediction=prediction,
        measured=measured,
        energy_scope=None if summary.energy is None else summary.energy.scope,
        decode_j_per_token=None if joules is None else joules.value,
        prefill_j_per_token=_value(None if summary.energy is None else summary.energy.prefill_j_per_token),
        held=tuple(held for held in (_held(*pair) for pair in pairs) if held is not None),
    )


def _of_summary(summary: Summary) -> MeasuredRun | None:
    if not summary.turns:
        return None
    prompt, cached = summary.prompt_tokens or 0, summary.cached_tokens or 0
    evaluated_tokens = (prompt - cached) / summary.turns
    long_enough = evaluated_tokens >= PREFILLED_MIN
    return MeasuredRun(
        depth_tokens=prompt / summary.turns + summary.generated_tokens / summary.turns / 2,
        decode_tokens=summary.generated_tokens,
        decode_tokens_per_s=summary.decode_tokens_per_s if summary.generated_tokens >= GENERATED_MIN else None,
        evaluated_tokens=evaluated_tokens,
        prefill_tokens_per_s=summary.prefill_tokens_per_s if long_enough else None,
        first_token_s=summary.first_token_s if long_enough else None,
    )


def _of_turns(turns: Sequence[TurnEntry]) -> MeasuredRun | None:
    """Decoding and prefill each from the turns that count and have enough of it."""
    counted = [turn for turn in turns if not turn.warmup and turn.end is not None]
    decoded = [turn for turn in counted if turn.figures.generated_tokens >= GENERATED_MIN]
    read = [turn for turn in counted if _evaluated(turn) >= PREFILLED_MIN]
    # A prompt behind other tokens is read more slowly than the one that was predicted.
    read = [turn for turn in read if not turn.figures.cached_tokens] or read
    decode_tokens = sum(turn.figures.generated_tokens for turn in decoded)
    decode_s = _total_s((turn.figures.generated_tokens, turn.figures.decode_tokens_per_s) for turn in decoded)
    read_tokens = sum(map(_evaluated, read))
    read_s = _total_s((_evaluated(turn), turn.figures.prefill_tokens_per_s) for turn in read)
    if not (decode_s or read_s):
        return None
    depths = [(turn.figures.prompt_tokens or 0) + turn.figures.generated_tokens / 2 for turn in decoded]
    return MeasuredRun(
        depth_tokens=sum(depths) / len(depths) if depths else 0.0,
        decode_tokens=decode_tokens,
        decode_tokens_per_s=decode_tokens / decode_s if decode_s else None,
        evaluated_tokens=read_tokens / len(read) if read else 0.0,
        prefill_tokens_per_s=read_tokens / read_s if read_s else None,
        first_token_s=None,
    )


def _evaluated(turn: TurnEntry) -> int:
    return (turn.figures.prompt_tokens or 0) - (turn.figures.cached_tokens or 0)


def _total_s(runs: Iterable[tuple[int, float | None]]) -> float:
    return sum(tokens / rate for tokens, rate in runs if rate)


def _value(figure: Interval | None) -> float | None:
    return None if figure is None else figure.value


class PredictionAccuracy(Struct, frozen=True, kw_only=True):
    """How good the predictions of one figure have been."""

    quantity: Quantity
    count: int
    median_error: float
    """Half of the predictions were this far off or less, whichever way."""
    median_bias: float
    """Above 0 where predictions are mostly too high."""
    inside: int | None
    """How many of the measured figures lay in the predicted interval; `None` for a figure without one."""


def records_of(outcomes: Iterable[Outcome]) -> list[PredictionAccuracy]:
    """By figure, those figures that were ever held against a measurement."""
    by_quantity: dict[Quantity, list[PredictedVsMeasured]] = {}
    for outcome in outcomes:
        for held in outcome.held:
            by_quantity.setdefault(held.quantity, []).append(held)
    return [_record(quantity, all_held) for quantity, all_held in by_quantity.items()]


def _record(quantity: Quantity, all_held: list[PredictedVsMeasured]) -> PredictionAccuracy:
    errors = [held.error for held in all_held]
    judged = [held.inside for held in all_held if held.inside is not None]
    return PredictionAccuracy(
        quantity=quantity,
        count=len(errors),
        median_error=percentile(sorted(map(abs, errors)), 50) or 0.0,
        median_bias=percentile(sorted(errors), 50) or 0.0,
        inside=sum(judged) if judged else None,
    )


def _held(quantity: Quantity, predicted: Interval | int | None, measured: float | None) -> PredictedVsMeasured | None:
    if predicted is None or measured is None or measured <= 0:
        return None
    if isinstance(predicted, int):
        return PredictedVsMeasured(quantity=quantity, predicted=predicted, low=None, high=None, measured=measured)
    if not all(map(isfinite, (predicted.value, predicted.low, predicted.high, measured))):
        return None
    return PredictedVsMeasured(
        quantity=quantity, predicted=predicted.value, low=predicted.low, high=predicted.high, measured=measured
    )

"""What recorded and running sessions teach of a machine: prediction against measurement, past runs, idle power.

The arithmetic of learning is that of `edgetop.fit.learning`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isfinite
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.clock import US_PER_S
from edgetop.core.figures import Summary, TurnFigures
from edgetop.core.format import unix_s
from edgetop.core.quantity import Interval
from edgetop.core.records import DeviceInfo, Event, LoadEntry, ModelLoaded, PastRun, Prediction, machine_key
from edgetop.core.sources import Scope
from edgetop.core.statistics import percentile
from edgetop.io.files import FILE_SUFFIX
from edgetop.session.file import SessionHead, TurnEntry
from edgetop.session.file_io import SessionFileError, load_file, load_head
from edgetop.session.meters import IDLE_BASELINE, IDLE_WORDS, ago
from edgetop.session.session import Session
from edgetop.session.summary import turn_result

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
    sustained_tokens_per_s: float | None
    """Decode rate in the last minute of a soak, `sustained_after_s` after it began; `None` of what is no soak."""
    sustained_after_s: float
    held: tuple[PredictedVsMeasured, ...]
    """One for each figure that was both predicted and measured."""


def outcome_of(head: SessionHead, turns: Sequence[TurnEntry] | None = None) -> Outcome | None:
    """Prediction and measurement of a session.

    `turns` are those of the file, which a benchmark's figures have to be made from: its tests differ in depth, and some
    only warm up. `None` where nothing was predicted, where several models were loaded, whose figures are mixed in the
    summary, or where something disturbed the measurement: a comparison with that would teach the wrong thing.
    """
    summary = head.summary
    soaked = turns is not None and head.bench is not None and bool(head.bench.soak_s)
    # That a device throttles in the end is what a soak is to show.
    disturbed = summary.limited_by in DISTURBED and not (soaked and summary.limited_by == "throttled")
    if len(head.loads) != 1 or len(head.predictions) != 1 or disturbed or summary.paused_s:
        return None
    sustained, after_s = None, 0.0
    if turns and soaked:
        # A prediction is of a device that is cool; what it keeps up after half an hour is another figure.
        begin_us, end_us = turns[0].stamps.submitted_us, turns[-1].stamps.submitted_us
        last = [turn.figures for turn in turns if turn.stamps.submitted_us >= end_us - FIRST_MINUTE_US]
        sustained, after_s = _of_turns(last), (end_us - begin_us) / US_PER_S
        turns = [
            turn
            for turn in turns
            if turn.stamps.submitted_us < begin_us + FIRST_MINUTE_US and turn.figures.limited_by not in DISTURBED
        ]
    measured = (
        _of_summary(summary)
        if turns is None
        else _of_turns(turn.figures for turn in turns if not turn.warmup and turn.end is not None)
    )
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
        sustained_tokens_per_s=None if sustained is None else sustained.decode_tokens_per_s,
        sustained_after_s=after_s,
        held=tuple(held for held in (_predicted_vs_measured(*pair) for pair in pairs) if held is not None),
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


def _of_turns(turns: Iterable[TurnFigures], generated_min: int = GENERATED_MIN) -> MeasuredRun | None:
    """Decoding and prefill each from the turns that have enough of it."""
    turns = list(turns)
    decoded = [turn for turn in turns if turn.generated_tokens >= generated_min and turn.decode_tokens_per_s]
    read = [turn for turn in turns if _evaluated(turn) >= PREFILLED_MIN]
    # A prompt behind other tokens is read more slowly than the one that was predicted.
    read = [turn for turn in read if not turn.cached_tokens] or read
    decode_tokens = sum(turn.generated_tokens for turn in decoded)
    decode_s = _total_s((turn.generated_tokens, turn.decode_tokens_per_s) for turn in decoded)
    read_tokens = sum(map(_evaluated, read))
    read_s = _total_s((_evaluated(turn), turn.prefill_tokens_per_s) for turn in read)
    if not (decode_s or read_s):
        return None
    depths = [(turn.prompt_tokens or 0) + turn.generated_tokens / 2 for turn in decoded]
    return MeasuredRun(
        depth_tokens=sum(depths) / len(depths) if depths else 0.0,
        decode_tokens=decode_tokens,
        decode_tokens_per_s=decode_tokens / decode_s if decode_s else None,
        evaluated_tokens=read_tokens / len(read) if read else 0.0,
        prefill_tokens_per_s=read_tokens / read_s if read_s else None,
        first_token_s=None,
    )


def _evaluated(turn: TurnFigures) -> int:
    return (turn.prompt_tokens or 0) - (turn.cached_tokens or 0)


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


def _predicted_vs_measured(
    quantity: Quantity, predicted: Interval | int | None, measured: float | None
) -> PredictedVsMeasured | None:
    if predicted is None or measured is None or measured <= 0:
        return None
    if isinstance(predicted, int):
        return PredictedVsMeasured(quantity=quantity, predicted=predicted, low=None, high=None, measured=measured)
    if not all(map(isfinite, (predicted.value, predicted.low, predicted.high, measured))):
        return None
    return PredictedVsMeasured(
        quantity=quantity, predicted=predicted.value, low=predicted.low, high=predicted.high, measured=measured
    )


SESSIONS_MAX = 200
"""The newest ones; older ones say little of today's engine and today's machine."""


def outcomes_in(folder: Path, device: DeviceInfo, *, limit: int = SESSIONS_MAX) -> list[Outcome]:
    """Predictions and measurements of the newest sessions of a folder that were recorded on `device`, as it is now."""
    key = machine_key(device)
    found = map(outcome_in, _newest(folder, limit))
    return [outcome for outcome in found if outcome is not None and machine_key(outcome.device) == key]


def outcome_in(path: Path) -> Outcome | None:
    """Prediction and measurement in one session's file; `None` where there are none, or the file is not a session."""
    try:
        head = load_head(path)
        if not head.predictions:
            return None
        return outcome_of(head, None if head.bench is None else load_file(path).turns)
    except SessionFileError:
        return None  # `edgetop sessions validate` tells of it


def _newest(folder: Path, limit: int) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(folder.glob("[!.]*" + FILE_SUFFIX), key=lambda path: path.name, reverse=True)[:limit]


def past_run_of(outcome: Outcome) -> PastRun | None:
    """An outcome as a past run; `None` where nothing was decoded long enough to be measured."""
    return _past_run(
        outcome.measured,
        outcome.load,
        machine_key=machine_key(outcome.device),
        session=outcome.session_id,
        measured_at=outcome.started_at,
        prediction=outcome.prediction,
        decode_j_per_token=outcome.decode_j_per_token,
        prefill_j_per_token=outcome.prefill_j_per_token,
        energy_scope=outcome.energy_scope,
        sustained_tokens_per_s=outcome.sustained_tokens_per_s,
        sustained_after_s=outcome.sustained_after_s,
    )


def _past_run(
    measured: MeasuredRun,
    load: LoadEntry,
    *,
    prediction: Prediction | None,
    **known: Any,  # noqa: ANN401 - fields of PastRun
) -> PastRun | None:
    if measured.decode_tokens_per_s is None:
        return None
    model, settings = load.model, load.settings
    return PastRun(
        **known,
        model_name=model.name,
        architecture=model.architecture,
        parameters=model.parameters or 0,
        size_bytes=model.size_bytes or 0,
        file_type=model.quantization,
        weight_bytes_per_token=None if prediction is None else prediction.bytes_per_token,
        threads=settings.n_threads or 1,
        gpu_layers=settings.n_gpu_layers or 0,
        type_k=settings.type_k,
        type_v=settings.type_v,
        depth_tokens=round(measured.depth_tokens),
        decode_tokens=measured.decode_tokens,
        decode_tokens_per_s=measured.decode_tokens_per_s,
        prefill_tokens=round(measured.evaluated_tokens),
        prefill_tokens_per_s=measured.prefill_tokens_per_s,
    )


TURNS_MAX = 40
"""Of one load, the newest."""


def past_runs_of_session(session: Session, t_us: int) -> tuple[PastRun, ...]:
    """What a session that goes on teaches of its machine, each model for itself, the last one first.

    Turns that something disturbed are left out, as those of recorded sessions are.
    """
    if session.header is None:
        return ()
    found = []
    until_us = t_us
    for load in reversed(session.loads):
        last = session.turn_at(until_us)
        results = [
            turn_result(session, index, t_us).figures
            for index in ([] if last is None else range(max(0, last + 1 - TURNS_MAX), last + 1))
            if session.turns[index].started.t_us >= load.t_us
        ]
        measured = _of_turns(
            (each for each in results if each.limited_by not in DISTURBED and not each.paused_s), generated_min=1
        )
        prediction = session.prediction_at(until_us)
        until_us = load.t_us - 1
        if measured is None or measured.decode_tokens < GENERATED_MIN:
            continue
        run = _past_run(
            measured,
            load,
            machine_key=machine_key(session.header.device),
            session="this session",
            measured_at=session.header.started_at,
            prediction=prediction,
        )
        if run is not None:
            found.append(run)
    return tuple(found)


IDLE_LOOKED_AT = 50
"""The newest sessions in which an idle power is searched."""


def last_idle(folder: Path, device: DeviceInfo, load: ModelLoaded, now_unix_s: float) -> Event | None:
    """The last idle power that was measured on this machine with this model loaded, as the session is to keep it.

    A machine in another power mode or with another governor is the same; what has changed is said.
    """
    for path in _newest(folder, IDLE_LOOKED_AT):
        try:
            head = load_head(path)
        except SessionFileError:
            continue
        if (began_s := unix_s(head.started_at)) is None:
            continue
        measured_s = began_s + head.duration_us / US_PER_S
        energy, then = head.summary.energy, head.device
        if energy is None or energy.idle_w is None or len(head.loads) != 1:
            continue
        if any(IDLE_WORDS in flag for flag in energy.flags):
            continue  # it had none of its own
        if head.loads[0].model.name != load.model.name or head.loads[0].model.size_bytes != load.model.size_bytes:
            continue
        alike = {"power_mode": device.power_mode, "governor": device.governor}
        if machine_key(replace(then, **alike)) != machine_key(device):
            continue
        changed = [name.replace("_", " ") for name, now in alike.items() if getattr(then, name) != now]
        age_s = max(0.0, now_unix_s - measured_s)
        return Event(
            t_us=load.t_us,
            kind=IDLE_BASELINE,
            text=f"Idle power of an earlier session ({head.id}): {energy.idle_w.value:.3g} W, {ago(age_s)} ago.",
            data={
                "power_w": energy.idle_w.value,
                "u_w": energy.idle_w.u_random,
                "age_s": age_s,
                "scope": energy.scope,
                "source": energy.source,
                "changed": ", ".join(changed),
            },
        )
    return None

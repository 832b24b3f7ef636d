"""A result from session files, repetitions pooled."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from math import sqrt
from pathlib import Path
from statistics import fmean, median

import msgspec
from msgspec.structs import replace

from edgetop.core.clock import US_PER_S
from edgetop.core.energy.duty import Duty
from edgetop.core.figures import (
    COMPARED,
    DECODE,
    MOST,
    REPETITIONS_LEAST,
    Figure,
    LimitedBy,
    Weight,
    is_plausible,
    number_of,
    reason_of,
    value_of,
    with_duty,
)
from edgetop.core.format import format_duration
from edgetop.core.quantity import Interval
from edgetop.core.records import DeviceInfo
from edgetop.core.text import distinct
from edgetop.session.compare.result import Condition, Made, RepeatedFigure, Result, flags_text
from edgetop.session.file import SeriesEntry, SessionFile, TurnEntry
from edgetop.session.history import Speed, speed_over_time

CONDITIONS: dict[LimitedBy, tuple[Condition, str]] = {
    "throttled": ("throttled", "The device was throttled"),
    "contention": ("contention", "Other programs used the processor"),
    "cpu-quota": ("cpu-quota", "The container's CPU quota was used up"),
    "paging": ("paging", "The weights were read from the disk again"),
    "swap": ("swap", "Memory of the engine was in swap"),
}

DISTURBED_PERCENT = 10.0
"""Of one core, used by edgetop itself; on four cores 2.5 % of the device. The live screen uses 1 to 2 %."""

FINGERPRINT_DIGITS = 12

COMBINATIONS: dict[str, Made] = {"ratio": "ratio", "median": "median", "pooled": "pooled"}
"""How the figure of a session comes from its turns; of what is not here, the turns have none."""


def session_result(file: SessionFile, path: Path, duty: Duty | None = None) -> Result:
    """The result in a session file for a use of the model, without warm-up turns."""
    turns = tuple(turn for turn in file.turns if not turn.warmup)
    file = replace(file, turns=turns, summary=with_duty(file.summary, duty))
    load = file.loads[-1] if file.loads else None
    energy = file.summary.energy
    prompts = [_prompt_key(turn) for turn in file.turns]
    depths = [depth for turn in file.turns if (depth := turn.figures.prompt_tokens) is not None]
    found = _figures(file)
    return Result(
        name=path.stem if file.bench is None else file.bench.setting,
        origin=str(path),
        bench="" if file.bench is None else f"{file.bench.plan} {file.bench.setting}",
        kind="session",
        when=file.started_at,
        device=file.device.model or file.device.cpu,
        host=file.device.hostname,
        model=distinct(each.model.name for each in file.loads),
        quantization=distinct(each.model.quantization for each in file.loads),
        bits_per_weight=None if load is None else load.model.bits_per_weight,
        sha256="" if load is None else load.model.sha256,
        size_bytes=None if load is None else load.model.size_bytes,
        parameters=None if load is None else load.model.parameters,
        threads=None if load is None else load.settings.n_threads,
        gpu_layers=None if load is None else load.settings.n_gpu_layers,
        kv_types="" if load is None or load.engine.server else f"{load.settings.type_k}/{load.settings.type_v}",
        flags="" if load is None or load.engine.server else flags_text(load.settings.flags),
        n_ctx=None if load is None else load.settings.n_ctx,
        depth=round(fmean(depths)) if depths else None,
        power_mode=_power_mode(file.device),
        soak="" if file.bench is None or not file.bench.soak_s else f"over {format_duration(file.bench.soak_s)}",
        engine="" if load is None else load.engine.label,
        stamps="" if load is None else load.engine.stamps,
        prompts=_fingerprint(list(dict.fromkeys(prompts))),
        sequence=_fingerprint(prompts),
        turns=len(file.turns),
        generated_tokens=file.summary.generated_tokens,
        tags=file.tags,
        conditions=_conditions(file),
        energy_scope=None if energy is None else energy.scope,
        energy_source="" if energy is None else energy.source,
        energy_grade=None if energy is None else energy.grade,
        energy_grade_reason="" if energy is None else energy.grade_reason,
        energy_method="" if energy is None else energy.method,
        absent=_absent(file, found),
        figures=found,
        speed=_speed(file.turns),
    )


def _power_mode(device: DeviceInfo) -> str:
    """What the device was allowed to do; under a quota, with the CPUs that it was granted."""
    mode = device.power_mode or device.governor
    quota = "" if device.cpu_quota is None else f"{device.cpu_quota:g} CPUs"
    return ", ".join(part for part in (mode, quota) if part)


def _decode_s(turn: TurnEntry) -> float | None:
    rate = turn.figures.decode_tokens_per_s
    return (turn.figures.generated_tokens - 1) / rate if rate else None


def _prefill_s(turn: TurnEntry) -> float | None:
    rate = turn.figures.prefill_tokens_per_s
    if turn.prefill is None or not turn.prefill.done or not rate:
        return None
    return turn.prefill.done[-1] / rate


WEIGHTS: dict[Weight, Callable[[TurnEntry], float | None]] = {
    "": lambda _: 1.0,
    "decode seconds": _decode_s,
    "prefill seconds": _prefill_s,
    "generated tokens": lambda turn: float(turn.figures.generated_tokens),
}
"""What a turn weighs in the figure of its session."""


def _figures(file: SessionFile) -> dict[str, RepeatedFigure]:
    """What was measured, each figure with its repetitions; one that is not above 0 cannot be and is left out."""
    found = {name: measured for name, figure in COMPARED.items() if (measured := _measured(figure, file)) is not None}
    decode = found.get(DECODE)
    if decode is not None and len(decode.repetitions) < REPETITIONS_LEAST:
        found[DECODE] = replace(decode, within=_within(file.turns))
    return found


def _measured(figure: Figure, file: SessionFile) -> RepeatedFigure | None:
    """A figure of the session, and of the turns that have it, each with its weight."""
    total = value_of(file.summary, figure.name)
    value = number_of(file.summary, figure.name)
    if value is None or not is_plausible(value):
        return None
    made = COMBINATIONS.get(figure.combined, "single")
    repetitions = [
        (each, weight)
        for turn in (() if made == "single" else file.turns)
        if (each := number_of(turn.figures, figure.name)) is not None and is_plausible(each)
        if (weight := WEIGHTS[figure.weight](turn)) is not None and is_plausible(weight)
    ]
    u_random, u_systematic = (total.u_random, total.u_systematic) if isinstance(total, Interval) else (0.0, 0.0)
    return RepeatedFigure(
        value=value,
        made=made,
        repetitions=tuple(each for each, _ in repetitions),
        weights=tuple(weight for _, weight in repetitions) if made == "ratio" else (),
        u_random=min(abs(u_random), MOST),
        u_systematic=min(abs(u_systematic), MOST),
    )


def _within(turns: Iterable[TurnEntry]) -> float | None:
    """How well the mean gap between the tokens of one or two turns is known, which stands for their decode speed."""
    from edgetop.core.bootstrap import mean_uncertainty  # noqa: PLC0415 - numpy, where there are few turns only

    return mean_uncertainty([gap_us for turn in turns for gap_us in turn.tokens.dt_us[1:]])


def _absent(file: SessionFile, found: dict[str, RepeatedFigure]) -> dict[str, str]:
    """Why each figure that was not found is missing."""
    lacking = [figure for name, figure in COMPARED.items() if name not in found]
    return {
        figure.name: reason_of(file.summary, figure) if file.loads or figure.reason else "no model was loaded"
        for figure in lacking
    }


def _conditions(file: SessionFile) -> dict[Condition, str]:
    conditions: dict[Condition, str] = {}
    for limit, (name, sentence) in CONDITIONS.items():
        turns = sum(turn.figures.limited_by == limit for turn in file.turns)
        if turns:
            conditions[name] = f"{sentence} in {turns} of {len(file.turns)} turns."
    if any(_runs_on_battery(series) for series in file.series):
        conditions["on battery"] = "The device ran on its battery."
    own = file.summary.own_cost.cpu_percent
    if own is not None and own > DISTURBED_PERCENT:
        conditions["edgetop disturbed"] = f"edgetop itself used {own:.0f} % of a core."
    return conditions


def _runs_on_battery(series: SeriesEntry) -> bool:
    """Whether a battery gave power: its gauge has readings only while it discharges."""
    return any(
        channel.scope == "battery" and any(value is not None for value in series.values.get(channel.name, []))
        for channel in series.source.channels
    )


def _speed(turns: Sequence[TurnEntry]) -> Speed | None:
    stamps = [
        list(accumulate(turn.tokens.dt_us, initial=turn.stamps.submitted_us))[1:] for turn in turns if turn.tokens.dt_us
    ]
    return speed_over_time([[t_us / US_PER_S for t_us in turn] for turn in stamps])


def _prompt_key(turn: TurnEntry) -> str:
    """What was asked; without text the number of tokens must do, and of random tokens the test's name."""
    if turn.task and not turn.prompt:
        return turn.task
    if turn.prompt is None:
        return f"{turn.figures.prompt_tokens} tokens"
    return f"{turn.system or ''}\x00{turn.prompt}"


def _fingerprint(texts: Sequence[str]) -> str:
    if not texts:
        return ""
    return _digest(msgspec.json.encode([text.encode("utf-8", "replace").hex() for text in texts]))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:FINGERPRINT_DIGITS]


def pooled(results: Sequence[Result]) -> list[Result]:
    """The results, those of one setting of one benchmark as one, in the place of the first of them."""
    by_setting: dict[object, list[Result]] = {}
    for index, result in enumerate(results):
        by_setting.setdefault(result.bench or index, []).append(result)
    return [_as_one(alike) if len(alike) > 1 else alike[0] for alike in by_setting.values()]


def _as_one(alike: Sequence[Result]) -> Result:
    first = alike[0]
    names = dict.fromkeys(name for result in alike for name in result.figures)
    figures = {
        # A figure that one of them lacks would be that of fewer rounds than the others.
        name: _pooled([result.figures[name] for result in alike])
        for name in names
        if all(name in result.figures for result in alike)
    }
    absent = {name: why for result in alike for name, why in result.absent.items() if name not in figures}
    return replace(
        first,
        more_origins=tuple(result.origin for result in alike[1:]),
        sequence=_digest("".join(result.sequence for result in alike).encode()),
        turns=sum(result.turns for result in alike),
        generated_tokens=sum(result.generated_tokens for result in alike),
        conditions={name: text for result in reversed(alike) for name, text in result.conditions.items()},
        absent=absent,
        figures=figures,
    )


def _pooled(parts: Sequence[RepeatedFigure]) -> RepeatedFigure:
    """One figure of several sessions. The systematic error of the meter stays; the rest averages out."""
    made = "mean" if parts[0].made == "single" else parts[0].made
    repetitions = tuple(value for part in parts for value in (part.repetitions or (part.value,)))
    weights = tuple(weight for part in parts for weight in part.weights)
    if made == "ratio" and len(weights) == len(repetitions):
        value = sum(each * weight for each, weight in zip(repetitions, weights, strict=True)) / sum(weights)
    else:
        value, weights = (median(repetitions) if made == "median" else fmean(repetitions)), ()
    return RepeatedFigure(
        value=value,
        made=made,
        repetitions=repetitions,
        weights=weights,
        u_random=sqrt(sum(part.u_random**2 for part in parts)) / len(parts),
        u_systematic=fmean(part.u_systematic for part in parts),
    )

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

from edgetop.core import figures
from edgetop.core.clock import US_PER_S
from edgetop.core.energy.tokens import Energy
from edgetop.core.figures import LimitedBy, is_plausible
from edgetop.core.quantity import Interval
from edgetop.session.compare.result import Condition, Made, RepeatedFigure, Result
from edgetop.session.file import LoadEntry, SeriesEntry, SessionFile, TurnEntry
from edgetop.session.history import Speed, speed_over_time

CONDITIONS: dict[LimitedBy, tuple[Condition, str]] = {
    "throttled": ("throttled", "The device was throttled"),
    "contention": ("contention", "Other programs used the processor"),
    "paging": ("paging", "The weights were read from the disk again"),
    "swap": ("swap", "Memory of the engine was in swap"),
}

DISTURBED_PERCENT = 10.0
"""Of one core, taken by edgetop itself; on four cores 2.5 % of the device. The live screen takes 1 to 2 %."""

FINGERPRINT_DIGITS = 12

ENERGY: dict[str, Callable[[Energy], Interval | None]] = {
    figures.J_PER_TOKEN: lambda energy: energy.j_per_token,
    figures.NET_J_PER_TOKEN: lambda energy: energy.net_j_per_token,
    figures.DECODE_J_PER_TOKEN: lambda energy: energy.decode_j_per_token,
}


def session_result(file: SessionFile, path: Path) -> Result:
    """The result in a session file; what was only to warm up does not count."""
    file = msgspec.structs.replace(file, turns=tuple(turn for turn in file.turns if not turn.warmup))
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
        model=_joined(each.model.name for each in file.loads),
        quantization=_joined(each.model.quantization for each in file.loads),
        bits_per_weight=None if load is None else load.model.bits_per_weight,
        size_bytes=None if load is None else load.model.size_bytes,
        parameters=None if load is None else load.model.parameters,
        threads=None if load is None else load.settings.n_threads,
        gpu_layers=None if load is None else load.settings.n_gpu_layers,
        kv_types="" if load is None else f"{load.settings.type_k}/{load.settings.type_v}",
        n_ctx=None if load is None else load.settings.n_ctx,
        depth=round(fmean(depths)) if depths else None,
        power_mode=file.device.power_mode or file.device.governor,
        engine="" if load is None else f"{load.engine.name} {load.engine.version}".strip(),
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


def _figures(file: SessionFile) -> dict[str, RepeatedFigure]:
    """What was measured, each figure with its repetitions; one that is not above 0 cannot be and is left out."""
    summary, turns = file.summary, file.turns
    gaps = summary.token_gap_ms
    candidates: dict[str, RepeatedFigure | None] = {
        figures.DECODE: _measured(
            summary.decode_tokens_per_s,
            "ratio",
            [(turn.figures.decode_tokens_per_s, _decode_s(turn)) for turn in turns],
        ),
        figures.PREFILL: _measured(
            summary.prefill_tokens_per_s,
            "ratio",
            [(turn.figures.prefill_tokens_per_s, _prefill_s(turn)) for turn in turns],
        ),
        figures.FIRST_TOKEN: _measured(
            summary.first_token_s, "median", [(turn.figures.first_token_s, 1.0) for turn in turns]
        ),
        figures.GAP_P95: _measured(
            None if gaps is None else gaps.p95,
            "pooled",
            [(None if gap is None else gap.p95, 1.0) for gap in (turn.figures.token_gap_ms for turn in turns)],
        ),
        figures.LOAD: _measured(summary.load_s, "single", []),
        **{name: _energy(file, of) for name, of in ENERGY.items()},
        figures.RSS_PEAK: _measured(summary.memory.rss_peak_bytes, "single", []),
    }
    found = {name: measured for name, measured in candidates.items() if measured is not None}
    decode = found.get(figures.DECODE)
    if decode is not None and len(decode.repetitions) < figures.REPETITIONS_LEAST:
        found[figures.DECODE] = msgspec.structs.replace(decode, within=_within(turns))
    return found


def _measured(
    value: float | None,
    made: Made,
    repetitions: Sequence[tuple[float | None, float | None]],
    of: Interval | None = None,
) -> RepeatedFigure | None:
    if value is None or not is_plausible(value):
        return None
    kept = [
        (each, weight)
        for each, weight in repetitions
        if each is not None and weight is not None and is_plausible(each) and is_plausible(weight)
    ]
    return RepeatedFigure(
        value=value,
        made=made,
        repetitions=tuple(each for each, _ in kept),
        weights=tuple(weight for _, weight in kept) if made == "ratio" else (),
        u_random=0.0 if of is None else min(abs(of.u_random), figures.MOST),
        u_systematic=0.0 if of is None else min(abs(of.u_systematic), figures.MOST),
    )


def _energy(file: SessionFile, of: Callable[[Energy], Interval | None]) -> RepeatedFigure | None:
    """An energy per token: of the session, and of the turns that were measured, each weighing its tokens."""
    total = None if file.summary.energy is None else of(file.summary.energy)
    if total is None:
        return None
    repetitions: list[tuple[float | None, float | None]] = []
    for turn in file.turns:
        figure = None if turn.figures.energy is None else of(turn.figures.energy)
        repetitions.append((None if figure is None else figure.value, float(turn.figures.generated_tokens)))
    return _measured(total.value, "ratio", repetitions, total)


def _decode_s(turn: TurnEntry) -> float | None:
    rate = turn.figures.decode_tokens_per_s
    return (turn.figures.generated_tokens - 1) / rate if rate else None


def _prefill_s(turn: TurnEntry) -> float | None:
    rate = turn.figures.prefill_tokens_per_s
    if turn.prefill is None or not turn.prefill.done or not rate:
        return None
    return turn.prefill.done[-1] / rate


def _within(turns: Iterable[TurnEntry]) -> float | None:
    """How well the mean gap between the tokens of one or two turns is known, which stands for their decode speed."""
    from edgetop.core.bootstrap import mean_uncertainty  # noqa: PLC0415 - numpy, where there are few turns only

    return mean_uncertainty([gap_us for turn in turns for gap_us in turn.tokens.dt_us[1:]])


def _absent(file: SessionFile, found: dict[str, RepeatedFigure]) -> dict[str, str]:
    energy = file.summary.energy
    absent: dict[str, str] = {}
    for name in ENERGY:
        if name in found:
            continue
        if energy is None:
            absent[name] = file.summary.energy_missing
        else:
            missing = energy.missing.get(name.removeprefix("energy."))
            absent[name] = missing.reason if missing is not None else "it was not measured"
    absent.update({name: _reason(name, file.loads) for name in figures.BY_NAME if name not in found | absent})
    return absent


def _reason(name: str, loads: Sequence[LoadEntry]) -> str:
    if not loads:
        return "no model was loaded"
    return "the engine's memory was not read" if name == figures.RSS_PEAK else "no turn gave it"


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
        conditions["edgetop disturbed"] = f"edgetop itself took {own:.0f} % of a core."
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
    encoded = msgspec.json.encode([text.encode("utf-8", "replace").hex() for text in texts])
    return hashlib.sha256(encoded).hexdigest()[:FINGERPRINT_DIGITS] if texts else ""


def _joined(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(name for name in names if name))


def pooled(results: Sequence[Result]) -> list[Result]:
    """The results, those of one setting of one benchmark put together where the first of them stands."""
    by_setting: dict[object, list[Result]] = {}
    for index, result in enumerate(results):
        by_setting.setdefault(result.bench or index, []).append(result)
    return [_one(alike) if len(alike) > 1 else alike[0] for alike in by_setting.values()]


def _one(alike: Sequence[Result]) -> Result:
    first = alike[0]
    names = dict.fromkeys(name for result in alike for name in result.figures)
    figures = {
        # A figure that one of them lacks would be that of fewer rounds than the others.
        name: _pooled([result.figures[name] for result in alike])
        for name in names
        if all(name in result.figures for result in alike)
    }
    absent = {name: why for result in alike for name, why in result.absent.items() if name not in figures}
    sequence = "".join(result.sequence for result in alike)
    return replace(
        first,
        more_origins=tuple(result.origin for result in alike[1:]),
        sequence=hashlib.sha256(sequence.encode()).hexdigest()[:FINGERPRINT_DIGITS],
        turns=sum(result.turns for result in alike),
        generated_tokens=sum(result.generated_tokens for result in alike),
        conditions={name: text for result in reversed(alike) for name, text in result.conditions.items()},
        absent=absent,
        figures=figures,
    )


def _pooled(parts: Sequence[RepeatedFigure]) -> RepeatedFigure:
    """One figure of several sessions. What the meter gets wrong in each alike stays; the rest averages out."""
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

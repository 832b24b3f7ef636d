"""Results from any file: a session, repetitions pooled, llama-bench's output, or Ollama's.

Fields of llama-bench have the names of llama.cpp's tools/llama-bench. A `pp` test gives the prefill speed and a `tg`
test the decode speed; those of one configuration make one result. A `pg` test is neither and is left out.

Of Ollama, several blocks in one file are repetitions. The durations are Go's: `4.07ms`, `1m2.5s`.
"""

from __future__ import annotations

import csv
import hashlib
import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, islice
from math import sqrt
from pathlib import Path, PurePath
from statistics import fmean, median
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from edgetop.core.clock import US_PER_S
from edgetop.core.energy.duty import Duty
from edgetop.core.figures import (
    COMPARED,
    DECODE,
    LOAD,
    MOST,
    PREFILL,
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
from edgetop.core.sources import SourceInfo
from edgetop.core.text import distinct
from edgetop.io.files import as_utf8
from edgetop.session.compare.result import Condition, Made, RepeatedFigure, Result, flags_text
from edgetop.session.file import SeriesEntry, SessionFile, TurnEntry
from edgetop.session.file_io import SessionFileError, decode_file, load_without_readings, read_bytes
from edgetop.session.snapshot import Speed, speed_over_time

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
    found = {name: measured for name, figure in COMPARED.items() if (measured := _of_session(figure, file)) is not None}
    decode = found.get(DECODE)
    if decode is not None and len(decode.repetitions) < REPETITIONS_LEAST:
        found[DECODE] = replace(decode, within=_within(file.turns))
    return found


def _of_session(figure: Figure, file: SessionFile) -> RepeatedFigure | None:
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
    paused_s = [turn.figures.paused_s for turn in file.turns if turn.figures.paused_s]
    if paused_s:
        conditions["paused"] = f"The model stood still for {sum(paused_s):.1f} s in {len(paused_s)} turns."
    if any(_runs_on_battery(series) for series in file.series):
        conditions["on battery"] = "The device ran on its battery."
    own = file.summary.own_cost.cpu_percent
    if own is not None and own > DISTURBED_PERCENT:
        conditions["edgetop disturbed"] = f"edgetop itself used {own:.0f} % of a core."
    return conditions


def _has_battery(source: SourceInfo) -> bool:
    return any(channel.scope == "battery" for channel in source.channels)


def _runs_on_battery(series: SeriesEntry) -> bool:
    """Whether a battery gave power: its gauge has readings only while it discharges."""
    return any(
        channel.scope == "battery" and any(value is not None for value in series.values.get(channel.name, []))
        for channel in series.source.channels
    )


def _speed(turns: Sequence[TurnEntry]) -> Speed | None:
    stamps = (accumulate(turn.tokens.dt_us, initial=turn.stamps.submitted_us) for turn in turns if turn.tokens.dt_us)
    # A list takes four times the memory of an array: 150 MiB for a day.
    return speed_over_time([array("d", (t_us / US_PER_S for t_us in islice(each, 1, None))) for each in stamps])


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


TESTS_MAX = 10_000

CSV_REPETITIONS = 5
"""CSV has the spread and not the number of repetitions; this is the default of llama-bench."""

_QUANTIZATION = re.compile(r"\b((?:I?Q\d\w*|TQ\d\w*|MXFP4\w*|B?F16|F32|all F32)(?: - (?:Small|Medium|Large|XS|XXS))?)")
_SIZES = {" - Small": "_S", " - Medium": "_M", " - Large": "_L", " - XS": "_XS", " - XXS": "_XXS"}
T = TypeVar("T")


Whole = Annotated[int, Meta(ge=-(2**53), le=2**53)]
"""A count or a size in somebody else's file."""


class LlamaBenchTest(Struct, frozen=True, kw_only=True):
    """One test of llama-bench, with the fields that are used here."""

    avg_ts: float
    stddev_ts: float = 0.0
    samples_ts: tuple[float, ...] = ()
    n_prompt: Whole
    n_gen: Whole
    n_depth: Whole = 0
    model_filename: str = ""
    model_type: str = ""
    model_size: Whole | None = None
    model_n_params: Whole | None = None
    build_commit: str = ""
    build_number: Whole | None = None
    cpu_info: str = ""
    gpu_info: str = ""
    backends: str = ""
    n_threads: Whole | None = None
    n_gpu_layers: Whole | None = None
    n_batch: Whole | None = None
    n_ubatch: Whole | None = None
    type_k: str = ""
    type_v: str = ""
    flash_attn: bool | int | str | None = None
    cpu_mask: str = ""
    n_cpu_moe: Whole = 0
    tensor_buft_overrides: str = ""
    test_time: str = ""


def llama_bench_json(data: bytes) -> list[LlamaBenchTest]:
    """Tests in a JSON array or in lines of JSON. Raises SessionFileError, which names the place."""
    if data.lstrip()[:1] == b"[":
        return _decoded(data, list[LlamaBenchTest], "")
    tests = []
    for number, line in enumerate(data.splitlines(), 1):
        if line.strip():
            tests.append(_decoded(line, LlamaBenchTest, f"line {number}: "))
        if len(tests) > TESTS_MAX:
            break
    return tests


def llama_bench_csv(text: str) -> list[LlamaBenchTest]:
    """Tests in CSV with a line of headings. Raises SessionFileError, which names the line."""
    rows = csv.DictReader(text.splitlines())
    tests = []
    try:
        for row in rows:
            given = {name: value for name, value in row.items() if name is not None and value not in {None, ""}}
            tests.append(_converted(given, rows.line_num))
            if len(tests) > TESTS_MAX:
                break
    except csv.Error as error:
        raise SessionFileError(f"line {rows.line_num}: {error}") from None
    return tests


def llama_bench_results(tests: Sequence[LlamaBenchTest], name: str, origin: str) -> list[Result]:
    """The results of a file's tests. Raises SessionFileError if none is one that can be compared."""
    if len(tests) > TESTS_MAX:
        raise SessionFileError(f"it has more than {TESTS_MAX} tests")
    for index, test in enumerate(tests):
        if not (is_plausible(test.avg_ts) and 0 <= test.stddev_ts <= MOST):
            raise SessionFileError(f"$[{index}].avg_ts: a speed must be above 0, and its spread not negative")
        if not all(map(is_plausible, test.samples_ts)):
            raise SessionFileError(f"$[{index}].samples_ts: a speed must be above 0")
    pairs = list(_pairs(tests))
    if not pairs:
        raise SessionFileError("it has no pp test and no tg test", "run llama-bench with -p and -n above 0")
    several = len(pairs) > 1
    return [_result(prefill, decode, name, origin, several=several) for prefill, decode in pairs]


def _pairs(tests: Sequence[LlamaBenchTest]) -> Iterator[tuple[LlamaBenchTest | None, LlamaBenchTest | None]]:
    """The pp and tg tests of each configuration, first with first, second with second."""
    configurations: dict[tuple[object, ...], tuple[list[LlamaBenchTest], list[LlamaBenchTest]]] = {}
    for test in tests:
        if (test.n_prompt > 0) == (test.n_gen > 0):
            continue
        key = tuple(
            getattr(test, field)
            for field in LlamaBenchTest.__struct_fields__
            if field not in {"avg_ts", "stddev_ts", "samples_ts", "n_prompt", "n_gen", "test_time"}
        )
        prefills, decodes = configurations.setdefault(key, ([], []))
        (prefills if test.n_prompt > 0 else decodes).append(test)
    for prefills, decodes in configurations.values():
        for index in range(max(len(prefills), len(decodes))):
            yield (
                prefills[index] if index < len(prefills) else None,
                decodes[index] if index < len(decodes) else None,
            )


_FLASH_ATTENTION = {"1": "on", "true": "on", "0": "off", "false": "off"}
"""As llama-bench writes it; before it was chosen by itself, false was the default."""


def _flags(test: LlamaBenchTest) -> dict[str, str]:
    given = {
        "--flash-attn": _FLASH_ATTENTION.get(str(test.flash_attn).lower(), ""),
        "--cpu-mask": "" if not test.cpu_mask.strip("0x") else test.cpu_mask.lower().removeprefix("0x"),
        "--n-cpu-moe": str(test.n_cpu_moe or ""),
        "--override-tensor": test.tensor_buft_overrides.replace("none", "").replace(";", ","),
    }
    return {flag: value for flag, value in given.items() if value}


def _result(
    prefill: LlamaBenchTest | None, decode: LlamaBenchTest | None, name: str, origin: str, *, several: bool
) -> Result:
    test = decode or prefill
    assert test is not None  # noqa: S101 - a pair has at least one
    titles = [f"pp{prefill.n_prompt}"] if prefill is not None else []
    titles += [f"tg{decode.n_gen}"] if decode is not None else []
    asked = "+".join(titles) + (f" @ d{test.n_depth}" if test.n_depth else "")
    figured = {figure: _measured(each) for figure, each in ((DECODE, decode), (PREFILL, prefill)) if each}
    bits = None
    if test.model_size and test.model_n_params and test.model_n_params > 0:
        bits = test.model_size * 8 / test.model_n_params
    runs_on_cpu = test.backends.upper() in {"CPU", "BLAS", "CPU,BLAS", "BLAS,CPU"}
    build = f"b{test.build_number}" if test.build_number else ""
    return Result(
        name=f"{name} {asked}" if several else name,
        origin=origin,
        kind="llama-bench",
        when=test.test_time,
        device=", ".join(text for text in (test.cpu_info, "" if runs_on_cpu else test.gpu_info) if text),
        model=PurePath(test.model_filename).stem or test.model_type,
        quantization=quantization_of(test.model_type),
        bits_per_weight=bits,
        size_bytes=test.model_size,
        parameters=test.model_n_params,
        threads=test.n_threads,
        gpu_layers=0 if runs_on_cpu else test.n_gpu_layers,
        kv_types=f"{test.type_k}/{test.type_v}" if test.type_k and test.type_v else "",
        flags=flags_text(_flags(test)),
        depth=test.n_depth,
        engine=" ".join(text for text in ("llama.cpp", build, test.build_commit) if text),
        prompts=asked,
        sequence="",
        turns=max(len(each.samples_ts) for each in (prefill, decode) if each is not None),
        absent={each: "llama-bench does not measure it" for each in COMPARED if each not in figured},
        figures=figured,
    )


def _measured(test: LlamaBenchTest) -> RepeatedFigure:
    if len(test.samples_ts) >= REPETITIONS_LEAST:
        return RepeatedFigure(value=test.avg_ts, made="mean", repetitions=test.samples_ts)
    if test.stddev_ts > 0:
        count = len(test.samples_ts) or CSV_REPETITIONS
        return RepeatedFigure(value=test.avg_ts, made="mean", deviation=test.stddev_ts, count=count)
    return RepeatedFigure(value=test.avg_ts, made="single")


def quantization_of(model_type: str) -> str:
    """`Q4_K_M` of `llama 1B Q4_K - Medium`; empty where the text names none."""
    found = _QUANTIZATION.search(model_type)
    if found is None:
        return ""
    label = found[1].removeprefix("all ")
    for words, short in _SIZES.items():
        if label.endswith(words):
            return label.removesuffix(words) + short
    return label


def _decoded(data: bytes, kind: type[T], place: str) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise SessionFileError(place + explained(error)) from None


def _converted(row: dict[str, str], line: int) -> LlamaBenchTest:
    try:
        return msgspec.convert(row, LlamaBenchTest, strict=False)
    except (msgspec.MsgspecError, ValueError) as error:
        raise SessionFileError(f"line {line}: {explained(error)}") from None


def explained(error: Exception) -> str:
    """What is wrong, the place first."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    what, _, place = str(error).partition(" - at `")
    return f"{place.rstrip('`')}: {what}"[:200] if place else what[:200]


_LINE = re.compile(
    r"^\s*(?P<name>total duration|load duration|prompt eval count|prompt eval duration|prompt eval rate|eval count"
    r"|eval duration|eval rate):\s*(?P<value>[^\r\n]{1,60}?)\s*$"
)

_DURATION = re.compile(r"(\d{1,12}(?:\.\d{1,12})?)(h|ms|µs|μs|us|ns|m|s)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "µs": 1e-6, "μs": 1e-6, "us": 1e-6, "ns": 1e-9}
_MODEL = re.compile(r"\bollama run\s+(?:--?\S+\s+)*(?P<model>[\w./:-]{1,200})")
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[@-_])")

BLOCKS_MAX = 10_000


class OllamaBlock(Struct, frozen=True, kw_only=True):
    """The figures below one answer; what was not printed is `None`."""

    load_s: float | None = None
    prompt_tokens: int | None = None
    prompt_s: float | None = None
    generated_tokens: int | None = None
    decode_s: float | None = None


def is_ollama_output(text: str) -> bool:
    """Whether the text has such a block."""
    return re.search(r"^[^\S\n]*eval (?:rate|count|duration):", text, re.MULTILINE) is not None


def ollama_result(text: str, name: str, origin: str) -> Result:
    """The blocks of a text as one result. Raises SessionFileError, which names the line."""
    blocks = _blocks(_ESCAPES.sub("", text))
    model = _MODEL.search(text)
    # A first load takes seconds; while the model stays resident, later blocks have only milliseconds.
    loads = [block.load_s for block in blocks if block.load_s]
    found = {
        DECODE: _rate([(block.generated_tokens, block.decode_s) for block in blocks]),
        PREFILL: _rate([(block.prompt_tokens, block.prompt_s) for block in blocks]),
        LOAD: RepeatedFigure(value=max(loads), made="single") if loads else None,
    }
    measured = {figure: each for figure, each in found.items() if each is not None}
    if not measured:
        raise SessionFileError("its durations and counts are all 0 or missing")
    lengths = [str(block.prompt_tokens) for block in blocks if block.prompt_tokens]
    return Result(
        name=name,
        origin=origin,
        kind="ollama",
        model="" if model is None else model["model"],
        engine="ollama",
        prompts=" ".join(["tokens", *dict.fromkeys(lengths)])[:100] if lengths else "",
        turns=len(blocks),
        generated_tokens=sum(block.generated_tokens or 0 for block in blocks),
        absent={each: "ollama run --verbose does not print it" for each in COMPARED if each not in measured},
        figures=measured,
    )


def _rate(parts: list[tuple[int | None, float | None]]) -> RepeatedFigure | None:
    """Tokens per second over all blocks, and of each."""
    known = [(tokens, span_s) for tokens, span_s in parts if tokens and span_s]
    if not known:
        return None
    made: Made = "ratio" if len(known) > 1 else "single"
    return RepeatedFigure(
        value=sum(tokens for tokens, _ in known) / sum(span_s for _, span_s in known),
        made=made,
        repetitions=tuple(tokens / span_s for tokens, span_s in known),
        weights=tuple(span_s for _, span_s in known),
    )


def _blocks(text: str) -> list[OllamaBlock]:
    """Blocks in order: one ends where a name comes again."""
    blocks: list[OllamaBlock] = []
    seen: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        found = _LINE.match(line)
        if found is None:
            continue
        if found["name"] in seen:
            blocks.append(_block(seen))
            seen = {}
            if len(blocks) >= BLOCKS_MAX:
                raise SessionFileError(f"line {number}: it has more than {BLOCKS_MAX} blocks of figures")
        try:
            _check(found["name"], found["value"])
        except ValueError as error:
            raise SessionFileError(f"line {number}: {found['name']}: {error}") from None
        seen[found["name"]] = found["value"]
    return [*blocks, _block(seen)] if seen else blocks


def _check(name: str, value: str) -> None:
    if name.endswith("duration"):
        _seconds(value)
    elif name.endswith("count"):
        _count(value)


def _block(seen: dict[str, str]) -> OllamaBlock:
    def span_s(name: str) -> float | None:
        return _seconds(seen[name]) if name in seen else None

    def count(name: str) -> int | None:
        return _count(seen[name]) if name in seen else None

    return OllamaBlock(
        load_s=span_s("load duration"),
        prompt_tokens=count("prompt eval count"),
        prompt_s=span_s("prompt eval duration"),
        generated_tokens=count("eval count"),
        decode_s=span_s("eval duration"),
    )


def _count(text: str) -> int:
    found = re.fullmatch(r"(\d{1,12})(?: token\(s\))?", text, re.ASCII)
    if found is None:
        raise ValueError("this is not a number of tokens")
    return int(found[1])


def _seconds(text: str) -> float:
    parts = list(_DURATION.finditer(text))
    if not parts or "".join(part[0] for part in parts) != text:
        raise ValueError("this is not a duration such as 1.5s or 20ms")
    return sum(float(part[1]) * _SECONDS[part[2]] for part in parts)


SESSION_MARK = b'"edgetop-session"'
MARK_WITHIN_BYTES = 4096
IMPORT_LARGEST_BYTES = 16 * 2**20
"""Of a file that is not a session."""

IMPORTED_FOLDER = "imported"
"""Where such files are kept, below the sessions."""

KINDS = "a session of edgetop, llama-bench's JSON, JSONL or CSV, or what `ollama run --verbose` prints"


def read_results(path: Path, duty: Duty | None = None) -> list[Result]:
    """The results in a file: one, or several where it holds several configurations.

    Raises SessionFileError, one line that names the file and the place in it.
    """
    try:
        if is_session(read_bytes(path, MARK_WITHIN_BYTES)):
            return [session_result(load_without_readings(path, _has_battery), path, duty)]
        data = as_utf8(read_bytes(path))
        if is_session(data):
            return [session_result(decode_file(data), path, duty)]
        return _imported(data, path)
    except SessionFileError as error:
        what = error.what.removeprefix(f"{path}: ")
        raise SessionFileError(f"{path}: {what}", error.hint or f"it must be {KINDS}") from None


def read_all(paths: Iterable[Path], duty: Duty | None = None) -> list[Result]:
    """The results in all of the files; sessions of the same setting of a benchmark are one result.

    `duty` is a use of the model to give the figures of, `None` that which was recorded.

    Raises SessionFileError.
    """
    return pooled([result for path in paths for result in read_results(path, duty)])


def is_session(data: bytes) -> bool:
    """Whether these are the bytes of a session file, be it whole or broken."""
    return data.lstrip()[:1] == b"{" and SESSION_MARK in data[:MARK_WITHIN_BYTES]


def _imported(data: bytes, path: Path) -> list[Result]:
    if len(data) > IMPORT_LARGEST_BYTES:
        raise SessionFileError(f"it has {len(data) / 2**20:.0f} MiB, more than any result of a bench")
    begin = data.lstrip()[:1]
    if begin in {b"[", b"{"}:
        return llama_bench_results(llama_bench_json(data), path.stem, str(path))
    text = data.decode("utf-8", "replace")
    heading = text.partition("\n")[0]
    if "avg_ts" in heading and "," in heading:
        return llama_bench_results(llama_bench_csv(text), path.stem, str(path))
    if is_ollama_output(text):
        return [ollama_result(text, path.stem, str(path))]
    raise SessionFileError("it is not a result that can be compared")

"""The types of a comparison, the attributes in which results differ, and flags."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

from msgspec import Struct

from edgetop.core.energy.uncertainty import Letter
from edgetop.core.format import format_significant
from edgetop.core.sources import Scope
from edgetop.session.snapshot import Speed

Kind = Literal["session", "llama-bench", "ollama"]
Condition = Literal[
    "throttled", "contention", "cpu-quota", "paging", "swap", "paused", "on battery", "edgetop disturbed"
]
"""What kept a run from being a clean measurement. The first five are those of `limited_by`."""

Made = Literal["ratio", "mean", "median", "pooled", "single"]
"""How a value comes from its repetitions: a ratio of totals, their mean or median, a percentile of what is in all of
them, or there is only the one."""


class RepeatedFigure(Struct, frozen=True, kw_only=True):
    """One figure of a result."""

    value: float
    """As the session's summary or the bench has it, in the figure's own unit."""
    made: Made
    repetitions: tuple[float, ...] = ()
    """The same figure of each turn or repetition."""
    weights: tuple[float, ...] = ()
    """What each repetition weighs in a ratio of totals: its seconds for tokens per second, its tokens for joules per
    token; empty where all weigh the same."""
    deviation: float | None = None
    """Standard deviation of one repetition, where a bench gives only that and `count`."""
    count: int | None = None
    """Number of repetitions behind `deviation`."""
    within: float | None = None
    """Relative standard uncertainty of the value from what happened inside the turns: block bootstrap of token gaps."""
    u_random: float = 0.0
    """The sensor's standard uncertainty of the value that differs from window to window."""
    u_systematic: float = 0.0
    """The part that all windows of this meter share; it cancels on the same device and source only."""


class Result(Struct, frozen=True, kw_only=True):
    """Figures of one run, and what it ran on. An empty text or `None` is not known."""

    name: str
    """Short: the file's name without its ending, and the place in it where a file holds several results."""
    origin: str
    """The file."""
    more_origins: tuple[str, ...] = ()
    """Other sessions of the same setting of a benchmark, whose repetitions are here as well."""
    bench: str = ""
    """The setting of the benchmark that it is a part of; results of the same one are repetitions of each other."""
    kind: Kind
    when: str = ""
    """Wall clock, ISO 8601."""
    device: str = ""
    """The kind of machine: its board, or else its processor."""
    host: str = ""
    """The one machine of that kind."""
    model: str = ""
    quantization: str = ""
    bits_per_weight: float | None = None
    sha256: str = ""
    """Of the model's file; empty where it is not known."""
    size_bytes: int | None = None
    parameters: int | None = None
    threads: int | None = None
    gpu_layers: int | None = None
    kv_types: str = ""
    """`f16/f16`: of keys and values."""
    flags: str = ""
    """Flags of llama.cpp beyond these, or DEFAULT_FLAGS."""
    n_ctx: int | None = None
    depth: int | None = None
    """Tokens in the context where decoding began: of a session the mean over its turns."""
    power_mode: str = ""
    """Of the device, or else the processor's governor."""
    soak: str = ""
    """How long its tests were done over and over, where they were: `over 30 min 0 s`."""
    engine: str = ""
    """Name and version or build."""
    stamps: str = ""
    """When its tokens were stamped: at their `decode`, or at the `arrival` of a server's chunk."""
    prompts: str = ""
    """Fingerprint of the different prompts in their order; equal ones ask the same. Of a bench, its test: `pp512`."""
    sequence: str = ""
    """Fingerprint of all prompts with their repetitions: of equal ones, repetition belongs to repetition."""
    turns: int = 0
    """Turns or repetitions."""
    generated_tokens: int = 0
    tags: tuple[str, ...] = ()
    conditions: dict[Condition, str] = {}
    """With a sentence each."""
    energy_scope: Scope | None = None
    energy_source: str = ""
    energy_grade: Letter | None = None
    energy_grade_reason: str = ""
    energy_method: str = ""
    absent: dict[str, str] = {}
    """Why a figure is missing, by its name."""
    figures: dict[str, RepeatedFigure] = {}
    """By the names of `edgetop.core.figures`."""
    speed: Speed | None = None

    @property
    def origins(self) -> tuple[str, ...]:
        """All files it was made from."""
        return (self.origin, *self.more_origins)


Verdict = Literal["base", "better", "worse", "same", "unclear", "unlike", "absent"]
"""`same`: any difference is small; `unclear`: noise hides whether there is one; `unlike`: the two cannot be
compared; `absent`: this result or the base lacks the figure."""

FlagName = Literal[
    "other device", "other power scope", "other power source", "other grade", "other prompts", "other context length",
    "other depth", "other engine build", "other model file", "other power mode", "other kind", "throttled",
    "contention", "cpu-quota", "paging", "swap", "paused", "on battery", "edgetop disturbed",
    "other stamps", "other length",
]  # fmt: skip


class Cell(Struct, frozen=True, kw_only=True):
    """One figure of one result, and how it stands to the base."""

    value: float | None = None
    low: float | None = None
    """95 % interval of the value, the sensor's systematic error included; `None` where the spread is not known."""
    high: float | None = None
    missing: str = ""
    """Why there is no value."""
    change_percent: float | None = None
    """From the base; `None` for the base itself and where either lacks the figure."""
    change_low: float | None = None
    """95 % interval of the change for this figure alone; `None` where the spread is not known."""
    change_high: float | None = None
    p_value: float | None = None
    """Chance of so large a difference without a true one; `None` where the spread is not known."""
    verdict: Verdict = "absent"
    """Held to the 5 % of false alarms that all figures of a row share."""
    why: str = ""
    """What the verdict rests on, in one line."""
    repetitions: int = 0
    best: bool = False
    """Of all results that can be compared in this figure, and there are at least two."""


class Flag(Struct, frozen=True, kw_only=True):
    """Why this result is not like the base, or not a clean measurement."""

    name: FlagName
    text: str
    """One sentence."""


class Row(Struct, frozen=True, kw_only=True):
    """One result."""

    result: Result
    title: str
    """Says only what differs between the results of its group."""
    cells: dict[str, Cell]
    """By name of the figure; the same names in every row."""
    flags: tuple[Flag, ...] = ()
    is_base: bool = False
    on_front: bool = False
    """No other result is both faster and takes less energy for a token."""


class Group(Struct, frozen=True, kw_only=True):
    """Results that have what `title` names in common."""

    title: str
    """Empty when there is only one group."""
    rows: tuple[int, ...]
    """Indices into `Comparison.rows`."""


class Attribute(Struct, frozen=True, kw_only=True):
    """Something in which results may differ, such as threads."""

    name: str
    values: tuple[str, ...]
    """One for each row; a single one where all are alike."""


class Comparison(Struct, frozen=True, kw_only=True):
    """Results compared with one of them."""

    rows: tuple[Row, ...]
    base: int
    """Index of the row that the others are compared with."""
    groups: tuple[Group, ...]
    figures: tuple[str, ...]
    """Names of the figures that at least one result has, in the order of `FIGURES`."""
    differing: tuple[Attribute, ...]
    alike: tuple[Attribute, ...]
    front: tuple[int, ...]
    """Rows on the Pareto front of energy per token against tokens per second, the fastest first."""
    front_note: str = ""
    """Why there is no front, or what it leaves out."""
    notes: tuple[str, ...] = ()
    """How the intervals and verdicts were made, in sentences."""


KIND_NAMES: dict[Kind, str] = {"session": "edgetop", "llama-bench": "llama-bench", "ollama": "ollama"}


DEFAULT_FLAGS = "default flags"


def flags_text(flags: Mapping[str, str]) -> str:
    """Flags and their values in one line."""
    return " ".join(f"{flag} {value}" for flag, value in flags.items()) or DEFAULT_FLAGS


class _Reader(NamedTuple):
    name: str
    read: Callable[[Result], str]
    """The value in words that can stand alone in a title; empty where it is not known."""


def _number(value: float | None, words: str) -> str:
    return "" if value is None else words.format(format_significant(value, 3) if value % 1 else f"{value:.0f}")


_ATTRIBUTES: tuple[_Reader, ...] = (
    _Reader("device", lambda result: result.device),
    _Reader("host", lambda result: result.host),
    _Reader("model", lambda result: result.model),
    _Reader("quantization", lambda result: result.quantization),
    _Reader("bits per weight", lambda result: _number(result.bits_per_weight, "{} bits")),
    _Reader("power mode", lambda result: result.power_mode),
    _Reader("threads", lambda result: _number(result.threads, "{} thr")),
    _Reader("GPU layers", lambda result: _number(result.gpu_layers, "{} GPU layers")),
    _Reader("KV types", lambda result: f"KV {result.kv_types}" if result.kv_types else ""),
    _Reader("flags", lambda result: result.flags),
    _Reader("context", lambda result: _number(result.n_ctx, "ctx {}")),
    _Reader("engine", lambda result: result.engine),
    _Reader("measured by", lambda result: KIND_NAMES[result.kind]),
    _Reader("test", lambda result: result.prompts if result.kind == "llama-bench" else ""),
    _Reader("tags", lambda result: " ".join(result.tags)),
)

_SECONDARY = frozenset({"engine", "measured by", "tags"})
"""In titles only where others do not distinguish the results; flags name them too."""

_DETAILS = frozenset({"bits per weight", "host", "measured by"})
"""Left out where the attributes before them distinguish the results as well."""


def attributes_of(results: Sequence[Result]) -> tuple[list[Attribute], list[Attribute]]:
    """The attributes that differ, with a value for each result, and those that are alike, with one.

    What is unknown of some results is neither a difference nor alike.
    """
    differing: list[Attribute] = []
    alike: list[Attribute] = []
    for attribute in _ATTRIBUTES:
        values = tuple(attribute.read(result) for result in results)
        known = {value for value in values if value}
        if len(known) < 2:
            if all(values) and values[0] != DEFAULT_FLAGS:
                alike.append(Attribute(name=attribute.name, values=values[:1]))
            continue
        before = [each.values for each in differing]
        if attribute.name not in _DETAILS or _distinct([*before, values]) > _distinct(before):
            differing.append(Attribute(name=attribute.name, values=values))
    return differing, alike


def grouped(differing: Sequence[Attribute], results: Sequence[Result]) -> tuple[list[Group], list[str]]:
    """Groups by the first attribute that several results share and not all, and a title for each result.

    A title says what differs besides the group; where that does not distinguish results, secondary attributes are
    added, and then their names.
    """
    group_by = next((attribute for attribute in differing if 1 < len(set(attribute.values)) < len(results)), None)
    keys = [""] * len(results) if group_by is None else list(group_by.values)
    others = [attribute for attribute in differing if attribute is not group_by]
    titles = _titles([attribute for attribute in others if attribute.name not in _SECONDARY], results)
    for further in (_titles(others, results), [result.name for result in results]):
        counted = Counter(zip(keys, titles, strict=True))
        titles = [
            title if title and counted[key, title] == 1 else f"{title} {more.removeprefix(title).strip()}".strip()
            for key, title, more in zip(keys, titles, further, strict=True)
        ]
    groups = [
        Group(
            title=key or ("" if group_by is None else f"{group_by.name} not known"),
            rows=tuple(index for index, each in enumerate(keys) if each == key),
        )
        for key in dict.fromkeys(keys)
    ]
    return groups, titles


def _distinct(columns: Sequence[Sequence[str]]) -> int:
    """How many results these values distinguish."""
    return len(set(zip(*columns, strict=True)))


def _titles(attributes: Sequence[Attribute], results: Sequence[Result]) -> list[str]:
    return [
        " ".join(attribute.values[index] for attribute in attributes if attribute.values[index])
        for index in range(len(results))
    ]


DEPTH_RATIO, DEPTH_TOKENS = 1.25, 64
"""Contexts at the beginning of decoding differ when one is longer by both."""


def flags_of(result: Result, base: Result) -> tuple[Flag, ...]:
    """What sets a result apart from the base, and what kept it from being a clean measurement.

    What is unknown of one of the two is not a difference. The base is compared with itself.
    """
    flags = [
        _other("other kind", "Measured by", KIND_NAMES[result.kind], KIND_NAMES[base.kind]),
        _other("other device", "It ran on", result.device, base.device)
        or _other("other device", "It ran on another machine of the same kind,", result.host, base.host),
        _other("other length", "It is what the device did", result.soak or "at first", base.soak or "at first"),
        _other("other power mode", "Its power mode was", result.power_mode, base.power_mode),
        _engine(result, base),
        _model_file(result, base),
        _other("other stamps", "Its tokens were stamped at their", result.stamps, base.stamps),
        _other("other context length", "Its context length was", _text(result.n_ctx), _text(base.n_ctx)),
        _depth(result, base),
        _prompts(result, base),
        _scope(result, base),
        _source(result, base),
        _other("other grade", "Its energy has grade", result.energy_grade or "", base.energy_grade or ""),
        *(Flag(name=name, text=text) for name, text in result.conditions.items()),
    ]
    return tuple(flag for flag in flags if flag is not None)


def _other(name: FlagName, words: str, value: str, base: str) -> Flag | None:
    if not value or not base or value == base:
        return None
    return Flag(name=name, text=f"{words} {value}, the base {base}.")


def _engine(result: Result, base: Result) -> Flag | None:
    # Older sessions do not say who built their engine, which is behind its version now, or not from which commit, which
    # is behind that.
    shorter, longer = sorted((result.engine, base.engine), key=len)
    return (
        None
        if longer.startswith((f"{shorter} (", f"{shorter.removesuffix(')')}, "))
        else _other("other engine build", "Its engine was", result.engine, base.engine)
    )


def _model_file(result: Result, base: Result) -> Flag | None:
    if (result.model, result.quantization) != (base.model, base.quantization):
        return None
    return _other("other model file", "The SHA-256 of its model's file is", result.sha256[:16], base.sha256[:16])


def _depth(result: Result, base: Result) -> Flag | None:
    if result.depth is None or base.depth is None:
        return None
    low, high = sorted((result.depth, base.depth))
    if high <= DEPTH_RATIO * low or high - low < DEPTH_TOKENS:
        return None
    return Flag(
        name="other depth",
        text=f"Decoding began with {result.depth} tokens in the context, the base with {base.depth}.",
    )


def _prompts(result: Result, base: Result) -> Flag | None:
    if not result.prompts or not base.prompts or result.prompts == base.prompts or result.kind != base.kind:
        return None
    if result.kind == "llama-bench":
        return Flag(name="other prompts", text=f"Its test was {result.prompts}, the base's {base.prompts}.")
    return Flag(name="other prompts", text="It was asked other prompts than the base.")


def _scope(result: Result, base: Result) -> Flag | None:
    scopes = [(each.energy_scope or "").replace("_", " ") for each in (result, base)]
    return _other("other power scope", "Its energy covers", *scopes)


def _source(result: Result, base: Result) -> Flag | None:
    if result.energy_scope != base.energy_scope:
        return None  # a flag already
    return _other("other power source", "Its energy was read from", result.energy_source, base.energy_source)


def _text(value: int | None) -> str:
    return "" if value is None else str(value)

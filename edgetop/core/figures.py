"""The table of figures, and the structs that hold those of a turn, a session and a watch.

Whatever shows, exports, compares or explains a figure is made from its row in `FIGURES`: `sessions show`, panes, CSV
and Parquet, comparisons and `--fail-if`, reports, benchmarks, the schema, `docs/figures.md`. A new figure is a field of
a struct, a row here, and its computation (`edgetop.session.summary` or `edgetop.core.energy.tokens`).

A figure that cannot be computed is `None`, never 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from math import isfinite
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.energy.duty import NO_BATTERY, NO_RATE, Duty, DutyBasis, DutyFigures, answer_j, duty_figures
from edgetop.core.energy.tokens import Energy, ServedEnergy
from edgetop.core.format import NOT_AVAILABLE, format_bytes, format_rate, format_seconds, format_significant
from edgetop.core.quantity import Interval, exact, plus_minus, with_interval
from edgetop.core.records import StopReason
from edgetop.core.sources import Unavailable

LimitedBy = Literal["memory-bandwidth", "compute", "throttled", "contention", "cpu-quota", "paging", "swap", "unknown"]

ENERGY_MISSING = "no power source was recorded"
METHODS = {
    "strict": "readings between the stamps, shifted by the meter's lag",
    "extended": "until a slow meter has settled, less the idle energy of both edges",
}
BANDWIDTH_MISSING = "the memory bandwidth of this machine has not been measured: `edgetop check MODEL` does it"


class TokenGaps(Struct, frozen=True, kw_only=True):
    """Milliseconds between one token and the next. Percentiles are interpolated (`edgetop.core.statistics`)."""

    p50: float
    p95: float
    p99: float
    max: float


class MemoryFigures(Struct, frozen=True, kw_only=True):
    """What the engine reserved, and the extremes that were measured, in bytes."""

    weights_bytes: int | None = None
    kv_bytes: int | None = None
    compute_bytes: int | None = None
    rss_peak_bytes: int | None = None
    available_min_bytes: int | None = None
    swap_peak_bytes: int | None = None
    gpu_peak_bytes: int | None = None


class OwnCost(Struct, frozen=True, kw_only=True):
    """What edgetop itself took: at a moment, or as mean (processor) and peak (memory) of a session."""

    cpu_percent: float | None = None
    """Of one core."""
    rss_bytes: int | None = None


class TurnFigures(Struct, frozen=True, kw_only=True):
    """What one turn achieved, up to a moment or in all."""

    decode_tokens_per_s: float | None = None
    prefill_tokens_per_s: float | None = None
    first_token_s: float | None = None
    token_gap_ms: TokenGaps | None = None
    paused_s: float | None = None
    decode_unpaused_tokens_per_s: float | None = None
    prefill_unpaused_tokens_per_s: float | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    generated_tokens: int = 0
    stop_reason: StopReason | None = None
    limited_by: LimitedBy = "unknown"
    energy: Energy | None = None
    energy_missing: str = ENERGY_MISSING
    """Why `energy` is null, and what would give it; empty when it is there."""


class Summary(TurnFigures, frozen=True, kw_only=True):
    """The figures of a session: those of its turns together, and its own. Warm-up turns of a benchmark do not count."""

    load_s: float | None = None
    turns: int = 0
    memory: MemoryFigures = MemoryFigures()
    bandwidth_use: float | None = None
    bandwidth_use_missing: str = BANDWIDTH_MISSING
    """Why `bandwidth_use` is null, and what would give it; empty when it is there."""
    own_cost: OwnCost = OwnCost()
    duty: DutyFigures = DutyFigures()
    """Of the default use; `with_duty` gives those of another one."""


class WatchFigures(Struct, frozen=True, kw_only=True):
    """What the servers did for all their users together, since they were first polled."""

    watched_s: float = 0.0
    left_out_s: float = 0.0
    left_out: str = ""
    """Why, the last time."""
    generating_s: float = 0.0
    generated_tokens: int | None = None
    at_least: bool = False
    """Some server's tokens are counted only as far as they were seen: there were more."""
    prompt_tokens: int | None = None
    """Prompt tokens evaluated; those reused from the KV cache are not among them, as far as the servers say."""
    tokens_per_s: float | None = None
    energy: ServedEnergy | None = None
    energy_missing: str = ENERGY_MISSING
    """Why `energy` is null, and what would give it; empty when it is there."""


Unit = Literal["tok/s", "s", "ms", "h", "J", "W", "Wh", "tokens/Wh", "bytes", "tokens", "%", ""]

Kind = Literal["count", "speed", "time", "energy", "power", "memory", "share", "text", "reason"]
"""`share` is a fraction of 1; `reason` is a text that says why other figures are missing."""

Subject = Literal["turn", "session", "test", "setting", "watch"]
"""What has a figure; `test` and `setting` are those of a benchmark."""

Combined = Literal["sum", "ratio", "pooled", "median", "mean", "maximum", "minimum", "last", "longest"]
"""How turns make the value of a session: a sum; a ratio of totals, so that long turns weigh more; a percentile of what
is in all turns together; the median or mean of the turns; the extreme reading; the last one; what held the longest."""

Weight = Literal["", "decode seconds", "prefill seconds", "generated tokens"]

Evidence = Literal["stamps", "readings", "engine", "rules"]
"""What a figure rests on: stamps of tokens, readings of sensors, what the engine says; and rules, which get better from
version to version, so that `sessions validate` does not compute it again."""


class Figure(Struct, frozen=True, kw_only=True):
    """One figure: a row of the table."""

    name: str
    """As in JSON, and where it is found in the figures of a turn, a session or a watch."""
    label: str
    """In words."""
    kind: Kind
    of: tuple[Subject, ...]
    formula: str
    """What it is, or how it is computed, in one sentence without a full stop."""
    source: str
    """Where its inputs come from."""
    unit: Unit = ""
    heading: str = ""
    """Short, for a column; empty for a figure that has none."""
    better: Literal["higher", "lower", ""] = ""
    combined: Combined = "last"
    weight: Weight = ""
    """What each turn weighs in a ratio of totals."""
    numerator: str = ""
    """The energy that is spread over the tokens; a benchmark divides its sum by the tokens of the test."""
    share: int = 0
    """Of the 5 % of false alarms that a comparison is allowed, in proportion to the others; 0: it is not compared."""
    spread: float | None = None
    """Relative standard deviation from turn to turn that is assumed where fewer than three turns show none (judgement:
    decoding on boards that are not throttled repeats within 1 to 3 %, on shared machines within 5 %). `None` for what
    depends on the prompt, the page cache or what the processor did before."""
    same: Literal["", "scope", "prompts"] = ""
    """What two results must have in common for this figure to be comparable."""
    reason: str = ""
    """Name of the figure that says why this one is missing."""
    absent: str = "no turn gave it"
    """Why it is missing where no reason is recorded."""
    only_known: bool = False
    """Not shown to people where it is missing: nothing of the kind happened."""
    rests_on: tuple[Evidence, ...]
    csv: str = ""
    """Heading in CSV where it is not the last part of the name."""
    exported: bool = True
    """Has columns in the exported table of turns."""
    listed: bool = False
    """Has a column where turns, or the tests of a benchmark, are listed for people."""

    @property
    def column(self) -> str:
        """Heading in CSV, and key in the flat rows of a benchmark."""
        return self.csv or self.name.rpartition(".")[2]

    @property
    def heading_with_unit(self) -> str:
        """Heading of a column whose cells have no unit (`cell_of`); what is in joules or bytes says so by itself."""
        return self.heading if self.unit in {"J", "bytes", "tokens", ""} else f"{self.heading} {self.unit}"


DECODE, PREFILL, FIRST_TOKEN = "decode_tokens_per_s", "prefill_tokens_per_s", "first_token_s"
GAP_P95, LOAD, LOAD_J, RSS_PEAK = "token_gap_ms.p95", "load_s", "duty.load_j", "memory.rss_peak_bytes"
J_PER_TOKEN, NET_J_PER_TOKEN = "energy.j_per_token", "energy.net_j_per_token"
DECODE_J_PER_TOKEN = "energy.decode_j_per_token"  # noqa: S105 - no password

_STAMPS = "stamps of the tokens, taken in the process that decodes; of a server, when they arrive"

_ENGINE = "the engine; of a server, its own count"

_READINGS = "the readings of the power sensor between the stamps of the turn"

_ENERGY = "energy_missing"

_stamped = partial(Figure, rests_on=("stamps",), source=_STAMPS)

_energy = partial(
    Figure, kind="energy", unit="J", combined="ratio", reason=_ENERGY, rests_on=("readings", "rules"), source=_READINGS
)

_energy_text = partial(Figure, kind="text", reason=_ENERGY, rests_on=("rules",))

_memory = partial(
    Figure, kind="memory", unit="bytes", of=("session",), combined="maximum", rests_on=("readings",),
    absent="it was not read",
)  # fmt: skip

_duty = partial(
    Figure, kind="energy", of=("session", "setting"), better="lower", combined="mean", exported=False,
    rests_on=("readings", "rules"), source="the figures above, and what the user said of the use",
)  # fmt: skip

_watch = partial(
    Figure, of=("watch",), combined="sum", rests_on=("readings",), absent="no server counts its tokens",
    source="polls of the servers",
)  # fmt: skip

FIGURES: tuple[Figure, ...] = (
    _stamped(
        name="turns", label="turns", unit="", kind="count", of=("session",), combined="sum",
        formula="turns of the session, without the warm-up of a benchmark", source="the session",
    ),
    Figure(
        name="stop_reason", label="ended by", heading="ended", kind="text", of=("turn", "session"), listed=True,
        rests_on=("engine",), absent="the turn has not ended",
        formula="why the reply ended; of a session that of the last turn", source="the engine",
    ),
    Figure(
        name="prompt_tokens", label="prompt tokens", heading="prompt tok", unit="tokens", kind="count",
        of=("turn", "session", "watch"), combined="sum", listed=True, rests_on=("engine",),
        formula="all tokens of the prompt, template included; of watched servers those that were evaluated",
        source=_ENGINE,
    ),
    Figure(
        name="cached_tokens", label="prompt tokens from the cache", heading="cached", unit="tokens", kind="count",
        of=("turn", "session"), combined="sum", listed=True, rests_on=("engine",),
        formula="tokens of the prompt that were reused from the KV cache", source=_ENGINE,
    ),
    _stamped(
        name="generated_tokens", label="generated tokens", heading="tokens", unit="tokens", kind="count",
        of=("turn", "session", "watch"), combined="sum", listed=True,
        formula="tokens of the reply, reasoning included", source=_ENGINE,
    ),
    _stamped(
        name=DECODE, label="decode speed", heading="decode", unit="tok/s", kind="speed", better="higher",
        of=("turn", "session"), combined="ratio", weight="decode seconds", share=5, spread=0.05, listed=True,
        formula="(generated tokens - 1) / (last token - first token); `bench` prints it as `avg_ts` of a tg test",
    ),
    _stamped(
        name="decode_unpaused_tokens_per_s", label="decode speed without the pauses", unit="tok/s", kind="speed",
        of=("turn", "session"), combined="ratio", weight="decode seconds", absent="it was not paused",
        only_known=True,
        formula="as decode speed, over the time in which the model did not stand still",
    ),
    _stamped(
        name="paused_s", label="stood still", unit="s", kind="time", of=("turn", "session"), combined="sum",
        absent="it was not paused", only_known=True,
        formula="gaps between tokens of 2 s or more, ten times as long as 99 of 100 others, less an ordinary one",
    ),
    _stamped(
        name=PREFILL, label="prefill speed", heading="prefill", unit="tok/s", kind="speed", better="higher",
        of=("turn", "session"), combined="ratio", weight="prefill seconds", share=1, listed=True,
        formula="prompt tokens evaluated, without those from the cache / time from the beginning of the prefill to the "
        "logits of the last of them; `bench` prints it as `avg_ts` of a pp test",
        source="progress of the prefill, stamped in the process that decodes; of a server, what it reports",
    ),
    _stamped(
        name="prefill_unpaused_tokens_per_s", label="prefill speed without the pauses", unit="tok/s", kind="speed",
        of=("turn", "session"), combined="ratio", weight="prefill seconds", absent="it was not paused",
        only_known=True,
        formula="as prefill speed, over the time in which the model did not stand still",
        source="progress of the prefill, stamped in the process that decodes",
    ),
    _stamped(
        name=FIRST_TOKEN, label="time to the first token", heading="first", unit="s", kind="time", better="lower",
        of=("turn", "session", "test"), combined="median", share=1, same="prompts", listed=True,
        formula="from submitting the prompt to the first token, template and tokenizing included",
    ),
    *(
        Figure(
            name=f"token_gap_ms.{part}", label=label, heading=f"gap {part}", unit="ms", kind="time", better="lower",
            of=("turn", "session"), combined="pooled", share=int(part == "p95"), rests_on=("stamps",),
            csv=f"token_gap_{part}_ms", formula=formula, source=_STAMPS,
            absent="fewer than two tokens with stamps of their own",
        )
        for part, label, formula in (
            ("p50", "gap between tokens, median", "median of the times between one token and the next"),
            ("p95", "gap between tokens, 95 % are shorter", "95th percentile of these times, interpolated"),
            ("p99", "gap between tokens, 99 % are shorter", "99th percentile of these times, interpolated"),
            ("max", "longest gap between tokens", "the longest of these times"),
        )
    ),
    _stamped(
        name=LOAD, label="model load", heading="load", unit="s", kind="time", better="lower",
        of=("session", "setting"), share=1, absent="no model was loaded",
        formula="from the request to load the model until it can answer; of a benchmark the mean of its loads",
        source="the clock of the process that loads",
    ),
    Figure(
        name="limited_by", label="limited by", heading="limited by", kind="text", of=("turn", "session"),
        combined="longest", listed=True, rests_on=("rules",),
        formula="the bottleneck: throttling, paging, swap, other processes, else memory bandwidth or arithmetic",
        source="readings of throttling, page faults, swap and processor load; the prediction for this machine",
    ),
    _energy_text(
        name="energy.scope", label="energy covers", of=("turn", "session", "watch"), csv="energy_scope",
        formula="what the meter covers, from one package to the wall socket", source="the sensor's driver",
    ),
    _energy_text(
        name="energy.source", label="energy read from", of=("turn", "session", "watch"), csv="energy_source",
        formula="the sensors whose readings were used", source="the sensor",
    ),
    _energy_text(
        name="energy.method", label="energy method", of=("turn", "session"), exported=False,
        formula="; ".join(f"{name}: {text}" for name, text in METHODS.items()),
        source="the meter's lag and period",
    ),
    _energy_text(
        name="energy.grade", label="grade of the energy", of=("turn", "session", "watch"), csv="energy_grade",
        formula="how far the energy can be trusted, A to D, from its uncertainty, its scope and its flags",
        source="the rules in `edgetop/core/energy/uncertainty.py`",
    ),
    _energy(
        name="energy.gross_j", label="energy, gross", of=("turn", "session", "watch"), combined="sum",
        formula="all energy from submitting to the last token; the pauses between turns are left out",
    ),
    _energy(
        name="energy.net_j", label="energy, net of idle", of=("turn", "session", "watch"), combined="sum",
        formula="gross energy - idle power × length of the turns", source=f"{_READINGS}, and in idle spans",
    ),
    _energy(
        name="energy.mean_w", label="mean power", unit="W", kind="power", of=("turn", "session", "watch"),
        formula="gross energy / length of the turns",
    ),
    _energy(
        name="energy.idle_w", label="idle power", unit="W", kind="power", of=("turn", "session", "setting", "watch"),
        combined="mean", exported=False,
        formula="power with the model loaded and nothing to do, interpolated between idle spans before and after",
        source="the readings of the power sensor in idle spans",
    ),
    _energy(
        name="energy.peak_w", label="peak power", unit="W", kind="power", of=("turn", "session"), combined="maximum",
        exported=False, formula="the greatest single reading within a turn",
    ),
    _energy(
        name=J_PER_TOKEN, label="energy per token, gross", heading="J/tok", better="lower",
        of=("turn", "session", "test", "watch"), weight="generated tokens", share=5, spread=0.05, same="scope",
        numerator="energy.gross_j", listed=True,
        formula="gross energy / tokens generated; of a benchmark's test over the tokens that the test is about",
    ),
    _energy(
        name=NET_J_PER_TOKEN, label="energy per token, net of idle", heading="net J/tok", better="lower",
        of=("turn", "session", "test", "watch"), weight="generated tokens", share=1, spread=0.05, same="scope",
        numerator="energy.net_j", formula="net energy / tokens generated", source=f"{_READINGS}, and in idle spans",
    ),
    _energy(
        name=DECODE_J_PER_TOKEN, label="energy per decoded token", heading="dec J/tok", better="lower",
        of=("turn", "session"), weight="generated tokens", share=1, spread=0.05, same="scope",
        formula="gross energy from the first to the last token / (tokens generated - 1)",
    ),
    _energy(
        name="energy.prefill_j_per_token", label="energy per prompt token", heading="pre J/tok", better="lower",
        of=("turn", "session"), formula="gross energy from submitting to the first token / prompt tokens evaluated",
    ),
    _energy(
        name="energy.tokens_per_wh", label="tokens per watt-hour", unit="tokens/Wh", better="higher",
        of=("turn", "session", "watch"), exported=False, formula="3600 / gross energy per token",
    ),
    _energy(
        name="energy.generating_j_per_token", label="energy per token, generating", better="lower", of=("watch",),
        formula="gross energy of the time in which requests were under way / tokens of all users",
        source="the readings of the power sensor, and the servers' counts of requests and tokens",
    ),
    _energy(
        name="energy.waiting_j_per_token", label="energy per token, waiting", better="lower", of=("watch",),
        formula="gross energy of the time in which no request was under way / tokens of all users",
        source="the readings of the power sensor, and the servers' counts of requests and tokens",
    ),
    _duty(
        name="duty.unloaded_w", label="idle power without the model", unit="W", kind="power",
        formula="power before a model is loaded, with nothing to do", source=f"{_READINGS[:34]} before the load",
    ),
    _duty(
        name=LOAD_J, label="energy of a load", unit="J", heading="load J",
        formula="gross energy from the request to load the model until it can answer; of several loads the last",
        source=f"{_READINGS[:34]} during the load",
    ),
    _duty(
        name="duty.answer_j", label="energy of an answer", unit="J", heading="answer J",
        formula="energy of a turn + (`--answer-tokens` - its tokens) × energy per decoded token",
    ),
    _duty(
        name="duty.kept_wh_per_day", label="energy per day, model kept loaded", unit="Wh", heading="kept/day", share=1,
        same="scope", spread=0.05,
        formula="energy of `--requests-per-hour` answers, and idle power with the model for the rest of the time",
    ),
    _duty(
        name="duty.reloaded_wh_per_day", label="energy per day, model loaded for each answer", unit="Wh", share=1,
        heading="reloaded/day", same="scope", spread=0.05,
        formula="energy of `--requests-per-hour` answers and loads, and idle power without the model for the rest",
    ),
    _duty(
        name="duty.kept_battery_h", label="battery life, model kept loaded", unit="h", kind="time", better="higher",
        heading="battery kept", share=1, same="scope", spread=0.05,
        formula="`--battery-wh` / mean power with the model kept loaded",
    ),
    _duty(
        name="duty.reloaded_battery_h", label="battery life, model loaded for each answer", unit="h", kind="time",
        better="higher", heading="battery reloaded", share=1, same="scope", spread=0.05,
        formula="`--battery-wh` / mean power with the model loaded for each answer",
    ),
    _duty(
        name="duty.unload_after_s", label="unloading pays after a pause of", unit="s", kind="time", better="",
        formula="(energy of a load - idle power without the model × its length) / idle power that the model adds",
    ),
    Figure(
        name=_ENERGY, label="why there is no energy", kind="reason", of=("turn", "session", "watch"),
        rests_on=("rules",), formula="reason and remedy; empty when there is one", source="edgetop",
    ),
    _memory(
        name=RSS_PEAK, label="peak memory of the engine", heading="memory", better="lower", of=("session", "setting"),
        share=1, spread=0.01, absent="the engine's memory was not read",
        formula="largest resident set of the process that holds the model",
        source="`/proc/PID/status`, once a second",
    ),
    _memory(
        name="memory.weights_bytes", label="memory reserved for weights", rests_on=("engine",),
        absent="the engine did not say", source="the engine", formula="size of the weight buffers", combined="last",
    ),
    _memory(
        name="memory.kv_bytes", label="memory reserved for the KV cache", rests_on=("engine",),
        absent="the engine did not say", source="the engine", formula="size of the KV cache and the recurrent state",
        combined="last",
    ),
    _memory(
        name="memory.compute_bytes", label="memory reserved for computing", rests_on=("engine",),
        absent="the engine did not say", source="the engine", formula="size of the compute buffers", combined="last",
    ),
    _memory(
        name="memory.available_min_bytes", label="least memory available", combined="minimum",
        formula="the least memory that was available to programs, within the limits of the control group",
        source="`/proc/meminfo` and the control group, once a second",
    ),
    _memory(
        name="memory.swap_peak_bytes", label="peak swap in use", formula="the most swap in use on the device",
        source="`/proc/meminfo` and the control group, once a second",
    ),
    _memory(
        name="memory.gpu_peak_bytes", label="peak GPU memory", absent="no GPU memory was read",
        formula="the largest amounts in use on each GPU, by whatever process, added up", source="the GPU's driver",
    ),
    Figure(
        name="bandwidth_use", label="memory bandwidth in use", kind="share", of=("session", "setting"),
        combined="ratio", reason="bandwidth_use_missing", rests_on=("rules",),
        formula="bytes that decoding has to read from memory, per second / the bandwidth that was measured here",
        source="the model's header (weights and KV cache read per token), stamps, and the probe of `edgetop check`",
    ),
    Figure(
        name="bandwidth_use_missing", label="why the bandwidth in use is missing", kind="reason", of=("session",),
        rests_on=("rules",), formula="reason and remedy; empty when it is there", source="edgetop",
    ),
    Figure(
        name="own_cost.cpu_percent", label="processor time of edgetop", unit="%", kind="share", of=("session",),
        combined="mean", rests_on=("readings",), absent="it was not read",
        formula="processor time of the process that records / time, in per cent of one core",
        source="`/proc/self/stat`, once a second",
    ),
    _memory(
        name="own_cost.rss_bytes", label="memory of edgetop",
        formula="largest resident set of the process that records", source="`/proc/self/status`, once a second",
    ),
    _watch(
        name="watched_s", label="watched", unit="s", kind="time",
        formula="from the first poll of a server that counts its tokens to the last",
    ),
    _watch(
        name="left_out_s", label="left out", unit="s", kind="time",
        formula="of that, the time of which it is not known what was generated: a server was restarted, or silent",
    ),
    _watch(
        name="generating_s", label="generating", unit="s", kind="time",
        formula="time in which a request was under way, or tokens came",
    ),
    _watch(
        name="tokens_per_s", label="speed over all users", unit="tok/s", kind="speed",
        formula="tokens generated / time of generating, of all requests together, their prefill included",
    ),
)  # fmt: skip

BY_NAME: dict[str, Figure] = {figure.name: figure for figure in FIGURES}

COMPARED: dict[str, Figure] = {figure.name: figure for figure in FIGURES if figure.share}
"""Those that `edgetop compare` judges, in the order of its columns."""

OF_TURN, OF_SESSION, OF_TEST, OF_SETTING = (
    tuple(figure for figure in FIGURES if subject in figure.of) for subject in ("turn", "session", "test", "setting")
)

TURN_COLUMNS = tuple(figure for figure in OF_TURN if figure.listed)
"""Where turns are listed for people; the cells are `turn_cells`."""

UNLOADED_UNKNOWN = Unavailable("not measured", "run --idle SECONDS waits before the load, too")
NO_ENERGY_OF_LOAD = Unavailable("not measured", "run --idle SECONDS reads power before the load")


def with_duty(summary: Summary, duty: Duty | None) -> Summary:
    """The figures of a session with those of a use of the model; `None` for the one that was recorded."""
    if duty is None:
        duty = summary.duty.use
    known, energy = summary.duty, summary.energy
    turns, rate, first_s = summary.turns or 1, summary.decode_tokens_per_s, summary.first_token_s
    no_energy = Unavailable(summary.energy_missing)
    basis = DutyBasis(
        answer_j=no_energy
        if energy is None
        else answer_j(energy, known.measured_tokens or summary.generated_tokens / turns, duty.answer_tokens),
        answer_s=Unavailable("too few tokens were generated")
        if not rate or first_s is None
        else exact(first_s + (duty.answer_tokens - 1) / rate),
        idle_w=no_energy if energy is None else energy.idle_w or energy.missing.get("idle_w", no_energy),
        unloaded_w=known.unloaded_w or known.missing.get("unloaded_w", UNLOADED_UNKNOWN),
        load_j=known.load_j or known.missing.get("load_j", NO_ENERGY_OF_LOAD),
        load_s=Unavailable("no model was loaded") if summary.load_s is None else exact(summary.load_s),
    )
    figures = replace(duty_figures(basis, duty), measured_tokens=known.measured_tokens)
    return replace(summary, duty=figures)


LEAST, MOST = 1e-12, 1e18
"""No figure in its own unit is below or above; what is, was not measured."""

REPETITIONS_LEAST = 3
"""With fewer turns or repetitions their spread is not known."""


def is_plausible(value: float) -> bool:
    """Whether a value, as a file states it, can be that of a figure; NaN, zero and negative ones cannot."""
    return LEAST <= value <= MOST


def value_of(figures: Any, name: str) -> Any:  # noqa: ANN401 - a number, a text, an interval or `None`
    """What the figures of a turn, a session or a watch have under a name; `None` where it is missing."""
    for part in name.split("."):
        if figures is None:
            return None
        figures = figures.get(part) if isinstance(figures, Mapping) else getattr(figures, part)
    return figures


def number_of(figures: object, name: str) -> float | None:
    """The value of a figure that is a number, without its interval."""
    value = value_of(figures, name)
    return value.value if isinstance(value, Interval) else value


def reason_of(figures: object, figure: Figure) -> str:
    """Why the figures of a turn, a session or a watch lack this one."""
    part, _, key = figure.name.rpartition(".")
    missing = getattr(value_of(figures, part), "missing", {}).get(key) if part else None
    if missing is not None:
        return str(missing)
    return (value_of(figures, figure.reason) if figure.reason else "") or figure.absent


def text_of(figure: Figure, value: Any, *, interval: bool = True) -> str:  # noqa: ANN401, PLR0911 - as `value_of`
    """A value as people read it, with its unit and, if it has one, its interval."""
    if value is None or (isinstance(value, float) and not isfinite(value)):
        return NOT_AVAILABLE
    if isinstance(value, Interval):
        return f"{with_interval(value) if interval else plus_minus(value)} {figure.unit}"
    match figure.unit:
        case "tok/s":
            return format_rate(value)
        case "s":
            return format_seconds(value)
        case "bytes":
            return format_bytes(value)
        case "tokens":
            return str(value)
    if figure.kind == "share":
        return f"{value:.1f} %" if figure.unit else f"{100 * value:.0f} %"
    if isinstance(value, str):
        return value.replace("_", " ")
    return f"{format_significant(value) if isinstance(value, float) else value} {figure.unit}".rstrip()


def cell_of(figure: Figure, value: float | None) -> str:
    """A number as it stands below `Figure.heading_with_unit`."""
    if value is None or not isfinite(value):
        return NOT_AVAILABLE
    return format_bytes(value) if figure.unit == "bytes" else format_significant(value)


def turn_cells(figures: TurnFigures) -> list[str]:
    """A turn below the headings of `TURN_COLUMNS`, each value with its unit."""
    return [text_of(figure, value_of(figures, figure.name), interval=False) for figure in TURN_COLUMNS]


def is_asked_for(figures: TurnFigures, figure: Figure) -> bool:
    """False for what did not happen, for options that were not given, and for energy whose lack one row says."""
    if figure.only_known and value_of(figures, figure.name) is None:
        return False
    if not isinstance(figures, Summary) or not figure.name.startswith("duty."):
        return True
    return figures.energy is not None and figures.duty.missing.get(figure.column) not in {NO_RATE, NO_BATTERY}


def rows_of(figures: TurnFigures, *, reasons: bool = True) -> dict[str, str]:
    """The figures of a turn or a session for people: label and text, with the reason of what is missing.

    Where there is no energy one row says why; without `reasons`, that is the only one.
    """
    rows = {}
    for figure in OF_SESSION if isinstance(figures, Summary) else OF_TURN:
        if figure.kind == "reason":
            continue
        if figure.name.startswith("energy.") and figures.energy is None:
            rows["energy"] = f"{NOT_AVAILABLE}: {figures.energy_missing}"
            continue
        if not is_asked_for(figures, figure):
            continue
        value = value_of(figures, figure.name)
        why = f": {reason_of(figures, figure)}" if value is None and reasons else ""
        rows[figure.label] = text_of(figure, value) + why
    return rows

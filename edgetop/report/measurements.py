"""The figures of one recorded session, each with how it came about, what its interval means or why it is missing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Struct

from edgetop.core.energy.figures import Energy, Figure
from edgetop.core.figures import Summary
from edgetop.core.format import NOT_AVAILABLE, format_bytes, format_rate, format_seconds, format_significant
from edgetop.core.records import Missing
from edgetop.session.file import SeriesEntry

METHODS = {
    "strict": "the meter's readings between the stamps of a turn's beginning and end, shifted by the meter's lag",
    "extended": "the meter's readings from before a turn until it has settled after it, less the idle energy of both "
    "edges, since the meter is slow",
}
DEFINITIONS: dict[str, tuple[str, str]] = {
    "j_per_token": ("J/token, gross", "all energy from submitting to the last token over the tokens generated"),
    "net_j_per_token": ("J/token, net", "the same less what the loaded model draws while idle"),
    "decode_j_per_token": ("J/token, decode", "from the first to the last token, over the tokens after the first"),
    "prefill_j_per_token": ("J/token, prefill", "from submitting to the first token, over the prompt tokens evaluated"),
    "tokens_per_wh": ("tokens/Wh", "the inverse of gross J/token"),
    "gross_j": ("energy of all turns, J", "the pauses between turns not among it"),
    "net_j": ("net energy, J", "the same less idle power times the length of the turns"),
    "idle_w": ("idle power, W", "with the model loaded and nothing to do, before and after the turns"),
    "mean_w": ("mean power, W", "over the turns"),
    "peak_w": ("peak power, W", "the greatest single reading within a turn"),
}


class Fact(Struct, frozen=True, kw_only=True):
    """A name and what is the case."""

    name: str
    value: str
    differs: bool = False
    """Another session of the report has another value."""


class Measurement(Struct, frozen=True, kw_only=True):
    """One figure and how it came about."""

    name: str
    value: str
    interval: str = ""
    parts: str = ""
    """Of the interval's half width: systematic and random."""
    how: str


def measurements_of(summary: Summary) -> list[Measurement]:
    """The session's figures without energy, and how they are computed."""
    gaps, memory, cost = summary.token_gap_ms, summary.memory, summary.own_cost
    return [
        Measurement(
            name="decode speed",
            value=format_rate(summary.decode_tokens_per_s),
            how="(tokens − 1) ÷ (last token − first token), the turns added up",
        ),
        Measurement(
            name="prefill speed",
            value=format_rate(summary.prefill_tokens_per_s),
            how="prompt tokens evaluated ÷ prefill time; tokens reused from the KV cache are not counted",
        ),
        Measurement(
            name="first token",
            value=format_seconds(summary.first_token_s),
            how="from submitting to the first token, template and tokenizing included; median of the turns",
        ),
        Measurement(
            name="gaps between tokens",
            value=NOT_AVAILABLE
            if gaps is None
            else ", ".join(
                f"{label} {format_significant(value)}"
                for label, value in (("p50", gaps.p50), ("p95", gaps.p95), ("p99", gaps.p99), ("max", gaps.max))
            )
            + " ms",
            how="stamped in the process that decodes; percentiles over all turns",
        ),
        Measurement(name="model load", value=format_seconds(summary.load_s), how="until the model can answer"),
        Measurement(
            name="memory peak",
            value=format_bytes(memory.rss_peak_bytes),
            how="largest resident set of the process that holds the model, read once a second",
        ),
        Measurement(
            name="memory reserved",
            value=f"weights {format_bytes(memory.weights_bytes)}, KV {format_bytes(memory.kv_bytes)}, "
            f"compute {format_bytes(memory.compute_bytes)}",
            how="as the engine says",
        ),
        Measurement(
            name="memory bandwidth in use",
            value=NOT_AVAILABLE if summary.bandwidth_use is None else f"{100 * summary.bandwidth_use:.0f} %",
            how=summary.bandwidth_use_missing or "bytes that decoding has to read ÷ the bandwidth of this machine",
        ),
        Measurement(
            name="limited by",
            value=summary.limited_by,
            how="what held back the turns that took longest together, as far as the readings tell",
        ),
        Measurement(
            name="edgetop's own cost",
            value=f"processor {_percent(cost.cpu_percent)}, memory {format_bytes(cost.rss_bytes)}",
            how="mean share of one core and peak memory of the process that recorded",
        ),
    ]


def energy_measurements(energy: Energy) -> Iterator[Measurement]:
    """The energy figures with their intervals; why one is missing where it is."""
    for name, (label, how) in DEFINITIONS.items():
        figure: Figure | None = getattr(energy, name)
        if figure is None:
            missing = energy.missing.get(name)
            why = f"missing: {because(missing)}" if missing is not None else "missing"
            yield Measurement(name=label, value=NOT_AVAILABLE, how=why)
            continue
        yield Measurement(
            name=label,
            value=format_significant(figure.value),
            interval=f"{format_significant(figure.low)} to {format_significant(figure.high)}",
            parts=f"{_share(figure.u_systematic, figure.value)} and {_share(figure.u_random, figure.value)}",
            how=how,
        )


def energy_basis(energy: Energy, series: Sequence[SeriesEntry]) -> list[Fact]:
    """What the energy figures rest on."""
    names = energy.source.split(" + ")
    drivers = ", ".join(entry.source.driver for entry in series if entry.source.name in names)
    grade = f"{energy.grade}" + (f": {energy.grade_reason}" if energy.grade_reason else "")
    facts = [
        ("covers", energy.scope.replace("_", " ")),
        ("source", f"{energy.source} ({drivers})" if drivers else energy.source),
        ("method", f"{energy.method}: {METHODS[energy.method]}"),
        ("grade", grade),
        ("a better grade", energy.grade_mend),
        ("flags", ", ".join(energy.flags)),
        ("bridged", f"{100 * energy.estimated_share:.1f} % of the time rests on no reading"),
        ("final", "" if energy.final else "no: readings were still to come when the recording ended"),
    ]
    return [Fact(name=name, value=value) for name, value in facts if value]


def because(missing: Missing) -> str:
    """Why something is not there, and what would bring it."""
    return f"{missing.reason}; {missing.mend}" if missing.mend else missing.reason


def _share(part: float, value: float) -> str:
    return f"{100 * part / abs(value):.1f} %" if value else format_significant(part, 2)


def _percent(value: float | None) -> str:
    return NOT_AVAILABLE if value is None else f"{value:.1f} %"

"""What each plot shows in words, and the same as a table: for those who cannot see it, and for print."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from edgetop.core.clock import US_PER_S
from edgetop.core.figures import Summary
from edgetop.core.format import NOT_AVAILABLE, format_bytes, format_rate, format_seconds, format_significant
from edgetop.core.records import Missing
from edgetop.report.time_series import History, Phase, TimeSeries
from edgetop.session.comparison.comparison import Comparison
from edgetop.session.comparison.figures import DECODE, J_PER_TOKEN

WINDOWS = 24
"""Lines of the table of a session's course."""
GAPS_TOLD = 3
HOW_DRAWN = (
    "Hatched is prefill, plainly shaded is decode; a broken line is a gap in the readings. Where there are more steps "
    "than the picture has columns, each column shows its least and its greatest value."
)


class Caption(Struct, frozen=True, kw_only=True):
    """A plot in words and numbers."""

    title: str
    sentences: tuple[str, ...]
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...] = ()


def energy_caption(comparison: Comparison, keys: Sequence[str], names: Sequence[str]) -> Caption:
    """Energy per token against speed."""
    front = [f"{keys[index]} {names[index]}" for index in comparison.front]
    absent = [
        f"{key} is not in it: {why}."
        for key, row in zip(keys, comparison.rows, strict=True)
        if (why := row.cells[J_PER_TOKEN].missing if J_PER_TOKEN in row.cells else "no result has energy")
    ]
    sentences = [
        "Right is faster, down takes less energy; bars are 95 % intervals. Marks differ in shape and bear the letter.",
        f"Pareto front, where nothing else is both faster and takes less: {', '.join(front)}." if front else "",
        comparison.front_note,
        *absent,
    ]
    return Caption(
        title="Energy per token against speed",
        sentences=tuple(sentence for sentence in sentences if sentence),
        headings=("result", "tok/s", "J/token", "on the front"),
        rows=tuple(
            (
                f"{keys[index]} {names[index]}",
                _number(row.cells[DECODE].value if DECODE in row.cells else None),
                _number(row.cells[J_PER_TOKEN].value if J_PER_TOKEN in row.cells else None),
                "yes" if row.on_front else "no",
            )
            for index, row in enumerate(comparison.rows)
        ),
    )


def speed_caption(comparison: Comparison, keys: Sequence[str], names: Sequence[str]) -> Caption:
    """Speed over time."""
    rows = []
    for index, row in enumerate(comparison.rows):
        speed = row.result.speed
        rates = [] if speed is None else [rate for rate in speed.tokens_per_s if rate is not None]
        cells = (
            (NOT_AVAILABLE,) * 3
            if speed is None or not rates
            else (format_significant(min(rates)), format_significant(max(rates)), format_seconds(speed.step_s))
        )
        rows.append((f"{keys[index]} {names[index]}", *cells))
    return Caption(
        title="Speed over time",
        sentences=("Mean decode rate in equal steps; the line is broken where nothing was decoded.",),
        headings=("result", "slowest step, tok/s", "quickest step, tok/s", "length of a step"),
        rows=tuple(rows),
    )


def session_caption(title: str, series: TimeSeries, summary: Summary) -> Caption:
    """The course of one session; its rows are those of `session_windows`."""
    sentences = [
        _speed_sentence(series, summary),
        _power_sentence(series, summary),
        f"Memory: {format_bytes(summary.memory.rss_peak_bytes)} at the most; dashed is what no file backs."
        if series.resident is not None
        else "Memory of the engine was not read.",
        HOW_DRAWN,
    ]
    return Caption(
        title=title,
        sentences=tuple(sentences),
        headings=("from", "phase", "tok/s, mean", "W, least to greatest", "MiB, greatest"),
    )


def session_windows(series: TimeSeries) -> tuple[tuple[str, ...], ...]:
    """The course of a session in equal windows."""
    length_s = series.length_s / WINDOWS
    rows = []
    for window in range(WINDOWS):
        begin_s, end_s = window * length_s, (window + 1) * length_s
        power = [] if isinstance(series.power, Missing) else series.power.between(begin_s, end_s)
        rows.append(
            (
                format_seconds(begin_s) if begin_s else "0 s",
                _phase_words(series, begin_s, end_s),
                _over(lambda rates: sum(rates) / len(rates), series.speed.between(begin_s, end_s)),
                f"{format_significant(min(power))} to {format_significant(max(power))}" if power else NOT_AVAILABLE,
                _over(max, [] if series.resident is None else series.resident.between(begin_s, end_s)),
            )
        )
    return tuple(rows)


def _speed_sentence(series: TimeSeries, summary: Summary) -> str:
    speed = format_rate(summary.decode_tokens_per_s)
    step = format_seconds(series.speed.step_us / US_PER_S)
    return f"Speed while decoding: {speed}{_extremes(series.speed, 'tok/s')}, in steps of {step}."


def _power_sentence(series: TimeSeries, summary: Summary) -> str:
    if isinstance(series.power, Missing):
        mend = f" ({series.power.mend})" if series.power.mend else ""
        return f"No power: {series.power.reason}{mend}."
    energy = summary.energy
    idle = (
        ""
        if energy is None or energy.idle_w is None
        else f", idle {format_significant(energy.idle_w.value)} W (dotted)"
    )
    mean = "" if energy is None else f", {format_significant(energy.mean_w.value)} W in the mean of the turns"
    gaps = series.power.gaps
    told = ", ".join(f"{format_seconds(begin_s)} to {format_seconds(end_s)}" for begin_s, end_s in gaps[:GAPS_TOLD])
    more = f" and {len(gaps) - GAPS_TOLD} more" if len(gaps) > GAPS_TOLD else ""
    missing = f"; readings are missing from {told}{more}" if gaps else "; no reading is missing"
    return f"Power{idle}{mean}{_extremes(series.power, 'W')}{missing}."


def _extremes(history: History, unit: str) -> str:
    present = [value for value in history.values if value is not None]
    if not present:
        return ""
    return f", from {format_significant(min(present))} to {format_significant(max(present))} {unit}"


def _phase_words(series: TimeSeries, begin_s: float, end_s: float) -> str:
    def meets(phases: Sequence[Phase]) -> bool:
        return any(phase.begin_s < end_s and phase.end_s > begin_s for phase in phases)

    words = [word for word, phases in (("prefill", series.prefills), ("decode", series.decodes)) if meets(phases)]
    return " and ".join(words) or "idle"


def _over(reduce: Callable[[Sequence[float]], float], values: Sequence[float]) -> str:
    return format_significant(reduce(values)) if values else NOT_AVAILABLE


def _number(value: float | None) -> str:
    return NOT_AVAILABLE if value is None else format_significant(value)

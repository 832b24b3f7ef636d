"""A meter's log that is joined to a session afterwards: the offset of its clock, and the source that comes of it.

The offset is found by least squares: the log's power is explained by a constant, a slow drift and what the session
knows of its load (prefill, decoding, loading, a load pulse; the processor's load where there is nothing else), each as
its mean over the time that a reading averages over. What is not known of the offset, at 95 %, has three parts: the
range in which the residual grows by less than its noise allows (the profile of the likelihood, with the residual's
autocorrelation), half the difference between the offsets by the beginnings and by the ends of the work alone, and
`LAG_S`, by which power may follow work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import hypot, inf, sqrt
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.clock import US_PER_S
from edgetop.core.errors import EdgetopError
from edgetop.core.records import EventEntry
from edgetop.core.sources import Channel, PowerProperties, Scope, SourceInfo, to_properties
from edgetop.session.file import SeriesEntry, SessionFile, to_session
from edgetop.session.file_io import recomputed
from edgetop.session.meter_log import MeterLog
from edgetop.session.meters import load_start_us, pulse_spans
from edgetop.session.session import Session

SOURCE: Final = "power.attached"
ATTACHED: Final = "power_attached"
LAG_S = 0.05
"""Power follows work by some milliseconds, on a crowded machine by more: regulators, scheduling, a token under way
(judgement; up to 0.08 s on a virtual board)."""

GRID_S = 0.05
GRID_MOST = 2_000_000
CANDIDATES = 5
APART_S = 1.0
"""Offsets nearer to each other are one."""

ALIKE = 0.8
"""Two offsets of which one explains this share of what the other does cannot be distinguished."""

EXPLAINED_LEAST = 0.5
"""A log of whose power the load explains less does not follow it; of n readings, by 2/√n more: a few fit by chance."""

COVERED_LEAST = 0.5
"""A log has to cover this share of the session's work."""

QUIET_S = 1.0
"""Work that follows a load sooner has no beginning of its own: what a load draws is not known beforehand."""

LIKELY = 4.0
"""χ² of one parameter at 95 %."""

UNSURE_S = 2.0
"""An offset that is not known better than this is none."""

RATE_FROM_S = 600.0
RATE_MOST = 3e-4
"""Quartz clocks are off by less."""

NEAR_S = 600.0
"""Clocks that show the date agree within this."""

AROUND_S = 60.0
KEPT_MOST = 200_000
"""Readings that a session file takes of a log."""

Floats = npt.NDArray[np.float64]


class NotAlignedError(EdgetopError):
    """The log does not fit the session, or fits it at several places."""


class Alignment(Struct, frozen=True, kw_only=True):
    """Where a log belongs: its stamps times (1 + rate) plus `offset_s` are seconds since the session began."""

    offset_s: float
    u_s: float
    """The offset is known to ± this, at 95 %."""
    rate_ppm: float | None
    """By how much the log's clock is slow; `None` for a log too short to tell."""
    rate_u_ppm: float | None
    explained: float
    """Share of the power's variance that the session's load explains."""
    averaged: bool
    """Readings are means since the one before."""
    by: tuple[str, ...]
    """What it was aligned by."""


class _Load(NamedTuple):
    """Something that draws power, as its integral over time."""

    name: str
    t_s: Floats
    integral: Floats

    def mean(self, t_s: Floats, window_s: float) -> Floats:
        """Its mean over the `window_s` before each moment."""
        ends = np.interp(t_s, self.t_s, self.integral)
        return (ends - np.interp(t_s - window_s, self.t_s, self.integral)) / window_s


def _spans_load(name: str, spans: Sequence[tuple[float, float]]) -> _Load:
    edges = np.array([edge for span in spans for edge in span], dtype=np.float64)
    lengths = np.array([end - begin for begin, end in spans])
    integral = np.zeros(len(edges))
    integral[1::2] = np.cumsum(lengths)
    integral[2::2] = integral[1:-1:2]
    return _Load(name, edges, integral)


def loads_of(session: Session) -> list[_Load]:
    """What the session knows of its load, in seconds since it began."""
    prefill, decode = [], []
    for turn in session.turns:
        progress = turn.progress(session.end_us)
        begin_us = progress.submitted_us if progress.prefill_begin_us is None else progress.prefill_begin_us
        if progress.last_us is not None and progress.first_us is not None:
            prefill.append((begin_us / US_PER_S, progress.first_us / US_PER_S))
            decode.append((progress.first_us / US_PER_S, progress.last_us / US_PER_S))
        elif progress.prefill_end_us is not None:
            prefill.append((begin_us / US_PER_S, progress.prefill_end_us / US_PER_S))
    loading = [(load_start_us(load) / US_PER_S, load.t_us / US_PER_S) for load in session.loads if load.load_s > 0]
    pulses = [(begin_us / US_PER_S, end_us / US_PER_S) for begin_us, end_us in pulse_spans(session)]
    known = {"prefill": prefill, "decoding": decode, "loading": loading, "load pulse": pulses}
    found = [_spans_load(name, sorted(spans)) for name, spans in known.items() if spans]
    if not prefill and not pulses and (channel := session.find_channel("cpu.total")) is not None:
        series, column = channel
        t_s = np.array(series.t_us[:], dtype=np.float64) / US_PER_S
        share = np.nan_to_num(np.array(series.columns[column].values[:], dtype=np.float64)) / 100
        if len(t_s) > 1 and share.any():
            integral = np.concatenate([[0.0], np.cumsum(share[1:] * np.diff(t_s))])
            found.append(_Load("processor load", t_s, integral))
    return found


class _Fit(NamedTuple):
    residual: float
    """Sum of the squares that nothing explains."""
    total: float
    rows: int
    correlation: float
    """Of the residual of one reading with that of the next."""
    gains: Floats
    """W that each load adds."""

    @property
    def explained(self) -> float:
        """Share of the variance, less what any loads would explain by chance (the adjusted R²)."""
        free = self.rows - len(self.gains) - 2
        if free < 1 or self.total <= 0:
            return 0.0
        return 1 - self.residual / free / (self.total / (self.rows - 1))


class _Problem:
    """A log against the loads of a session."""

    def __init__(self, log: MeterLog, loads: Sequence[_Load], length_s: float) -> None:
        self.log, self.loads, self.length_s = log, loads, length_s
        self.work = [load for load in loads if load.name != "loading"] or list(loads)
        self.windows_s = [log.period_s] if log.averaged else [log.period_s, min(0.02, log.period_s)]
        """A reading is the mean since the one before, or what was drawn at its moment."""

    def rows(self, offset_s: float) -> npt.NDArray[np.bool_]:
        """The readings that lie in the session, or near it."""
        t_s = self.log.t_s + offset_s
        return (t_s > -AROUND_S) & (t_s < self.length_s + AROUND_S)

    def fit(self, rows: npt.NDArray[np.bool_], offset_s: float, window_s: float, rate: float = 0.0) -> _Fit:
        t_s = self.log.t_s[rows] * (1 + rate) + offset_s
        power_w = self.log.power_w[rows]
        drift = (t_s - t_s[0]) / max(t_s[-1] - t_s[0], 1e-9) - 0.5
        columns = [np.ones(len(t_s)), drift, *(load.mean(t_s, window_s) for load in self.loads)]
        matrix = np.column_stack(columns)
        solution, *_ = np.linalg.lstsq(matrix, power_w, rcond=None)
        rest = power_w - matrix @ solution
        squares = float(rest @ rest)
        correlation = float(rest[1:] @ rest[:-1]) / squares if squares > 0 else 0.0
        total = float(np.var(power_w)) * len(power_w)
        return _Fit(squares, total, len(t_s), min(max(correlation, 0.0), 0.95), solution[2:])

    def covered(self, offset_s: float) -> float:
        """The share of the work that lies within the log."""
        begin_s, end_s = self.log.t_s[0] + offset_s, self.log.t_s[-1] + offset_s
        inside = [
            float(np.interp(end_s, each.t_s, each.integral) - np.interp(begin_s, each.t_s, each.integral))
            for each in self.work
        ]
        return sum(inside) / max(sum(float(each.integral[-1]) for each in self.work), 1e-9)

    def candidates(self) -> list[tuple[float, float]]:
        """Offsets at which all of the work together explains most, with how much each does: the best first."""
        log = self.log
        span_s = float(log.t_s[-1] - log.t_s[0])
        step_s = max(log.period_s, GRID_S, (span_s + self.length_s) / GRID_MOST)
        grid = np.arange(log.t_s[0], log.t_s[-1] + step_s, step_s)
        steps_s = np.diff(log.t_s, prepend=log.t_s[0] - log.period_s)
        power = (
            np.diff(np.interp(grid, log.t_s, np.cumsum(log.power_w * np.minimum(steps_s, 5 * log.period_s)))) / step_s
        )
        power = power - power.mean()
        ticks = np.arange(0.0, self.length_s + step_s, step_s)
        busy = np.sum([load.mean(ticks[1:], step_s) for load in self.work], axis=0)
        n, m = len(power), len(busy)
        size = 1 << (n + m).bit_length()
        spectrum = np.conj(np.fft.rfft(busy, size)) * np.fft.rfft(power, size)
        product = np.fft.irfft(spectrum, size)
        shifts = np.arange(-(m - 1), n)
        sums = np.concatenate([[0.0], np.cumsum(busy)])
        squares = np.concatenate([[0.0], np.cumsum(busy**2)])
        begin, end = np.clip(-shifts, 0, m), np.clip(n - shifts, 0, m)
        seen, seen_squares = sums[end] - sums[begin], squares[end] - squares[begin]
        spread = seen_squares - seen**2 / n
        common = product[shifts % size]
        gain = np.where((common > 0) & (spread > 1e-9), common**2 / np.maximum(spread, 1e-9), 0.0)
        offsets = -(grid[0] + shifts * step_s)
        apart = max(1, round(max(APART_S, 4 * step_s) / step_s))
        found: list[tuple[float, float]] = []
        gain = gain.copy()
        while len(found) < CANDIDATES and len(gain):
            at = int(np.argmax(gain))
            if gain[at] <= 0:
                break
            found.append((float(offsets[at]), float(gain[at])))
            low, high = _peak_span(gain, at)
            gain[max(0, min(low, at - apart)) : max(high, at + apart) + 1] = 0.0
        return found


def _peak_span(heights: Floats, top: int) -> tuple[int, int]:
    """From where to where it goes down from a top on both sides."""
    low = high = top
    while low > 0 and 0 < heights[low - 1] <= heights[low]:
        low -= 1
    while high + 1 < len(heights) and 0 < heights[high + 1] <= heights[high]:
        high += 1
    return low, high


def align(log: MeterLog, session: Session, started_unix_s: float | None = None) -> Alignment:
    """Find where a log belongs. Raises NotAlignedError with the reason.

    `started_unix_s` is when the session began by the wall clock, for logs that have the date.
    """
    loads = loads_of(session)
    if not loads:
        raise NotAlignedError(
            "the session has no turn, no load and no load pulse to align by", "record with --sync-pulse"
        )
    problem = _Problem(log, loads, session.end_us / US_PER_S)
    found = problem.candidates()
    if log.has_date and started_unix_s is not None:
        near = [each for each in found if abs(each[0] + started_unix_s) < NEAR_S]
        found = near or found
    if not found:
        raise NotAlignedError("the log's power never rises with the session's load", "is it the log of this session?")
    step_s = max(log.period_s, GRID_S)
    (explained, coarse_s), *others = _best_first(problem, [offset_s for offset_s, _ in found], step_s)
    others = [each for each in others if abs(each[1] - coarse_s) > max(APART_S, 4 * step_s)]
    if others and others[0][0] > ALIKE * explained:
        other_s = others[0][1]
        raise NotAlignedError(
            f"the load repeats: the log fits as well {abs(other_s - coarse_s):.1f} s "
            f"{'later' if other_s > coarse_s else 'earlier'}",
            "record with --sync-pulse, which makes a load that does not repeat",
        )
    rows = problem.rows(coarse_s)
    if int(rows.sum()) < 2 * len(loads) + 6:
        raise NotAlignedError(f"only {int(rows.sum())} readings lie in the session", "use a quicker meter")
    offset_s, half_s, window_s, best = _refined(problem, rows, coarse_s, step_s)
    inside = rows & (log.t_s + offset_s >= 0) & (log.t_s + offset_s <= problem.length_s)
    power_w = log.power_w[inside]
    covered = problem.covered(offset_s)
    if covered < COVERED_LEAST:
        raise NotAlignedError(
            f"where the log fits best, it covers {100 * covered:.0f} % of the session's work",
            "let the meter log from before the session until after it",
        )
    explained = best.explained
    gains = [float(gain) for load, gain in zip(loads, best.gains, strict=True) if load in problem.work]
    if len(power_w) < 2 * len(loads) + 4 or explained < EXPLAINED_LEAST + 2 / sqrt(best.rows) or min(gains) <= 0:
        raise NotAlignedError(
            f"the log's power does not follow the session's load, which explains {100 * max(explained, 0):.0f} % of it",
            "is it the log of this session, and of this device?",
        )
    edges = sum(len(load.t_s) for load in problem.work)
    resolution_s = 0.7 * log.period_s / sqrt(max(1, edges))
    differ_s = _edges_differ_s(problem, rows, offset_s, window_s, session)
    u_s = hypot(half_s, differ_s / 2, resolution_s, _unclear_s(session), LAG_S)
    if u_s > UNSURE_S:
        raise NotAlignedError(
            f"the offset is only known to ± {u_s:.1f} s", "record with --sync-pulse, or a quicker meter"
        )
    rate, rate_u = _rate(problem, rows, offset_s, window_s, u_s)
    if rate is not None:
        # The offset belongs to the middle of the session.
        middle_s = float(np.mean(log.t_s[inside]))
        offset_s -= rate * middle_s
    return Alignment(
        offset_s=offset_s,
        u_s=u_s,
        rate_ppm=None if rate is None else rate * 1e6,
        rate_u_ppm=None if rate_u is None else rate_u * 1e6,
        explained=explained,
        averaged=log.averaged or window_s == log.period_s,
        by=tuple(load.name for load in loads),
    )


def _best_first(problem: _Problem, offsets_s: Sequence[float], step_s: float) -> list[tuple[float, float]]:
    """How much of the power near any of the offsets is explained at each, by all loads, and where: the most first."""
    rows = np.any([problem.rows(offset_s) for offset_s in offsets_s], axis=0)
    if not rows.any():
        raise NotAlignedError("no reading of the log lies in the session", "is it the log of this session?")
    found = []
    for offset_s in offsets_s:
        grid = np.linspace(offset_s - 1.5 * step_s, offset_s + 1.5 * step_s, 13)
        fits = [
            (problem.fit(rows, float(each), window_s), float(each)) for window_s in problem.windows_s for each in grid
        ]
        fit, at_s = min(fits, key=lambda each: each[0].residual)
        found.append((fit.explained, at_s))
    return sorted(found, reverse=True)


def _refined(
    problem: _Problem, rows: npt.NDArray[np.bool_], coarse_s: float, step_s: float
) -> tuple[float, float, float, _Fit]:
    """The offset, half of the range in which it may be, and the window that fits best, with its fit."""
    centre_s, reach_s = coarse_s, 2.5 * step_s
    bests = []
    for window_s in problem.windows_s:
        at_s = centre_s
        for width_s in (reach_s, reach_s / 8, reach_s / 64):
            grid = np.linspace(at_s - width_s, at_s + width_s, 21)
            residuals = [problem.fit(rows, float(each), window_s).residual for each in grid]
            at_s = float(grid[int(np.argmin(residuals))])
            if width_s < 0.002:
                break
        bests.append((problem.fit(rows, at_s, window_s), at_s, window_s))
    best, at_s, window_s = min(bests, key=lambda each: each[0].residual)
    allowed = best.residual + LIKELY * _noise(best, len(problem.loads))
    low_s, high_s = inf, -inf
    for fit, each_s, each_window_s in bests:
        if fit.residual > allowed:
            continue

        def within(offset_s: float, window_s: float = each_window_s) -> bool:
            return problem.fit(rows, offset_s, window_s).residual <= allowed

        low_s = min(low_s, _last_within(within, each_s, -step_s))
        high_s = max(high_s, _last_within(within, each_s, step_s))
    return (low_s + high_s) / 2, (high_s - low_s) / 2, window_s, best


def _noise(fit: _Fit, loads: int) -> float:
    """Variance of the residual, as large as its autocorrelation makes it count."""
    degrees = max(1, fit.rows - loads - 3)
    return fit.residual / degrees * (1 + fit.correlation) / (1 - fit.correlation)


def _last_within(within: Callable[[float], bool], begin_s: float, step_s: float) -> float:
    """How far one can go from where it holds, by halving; at most four steps."""
    inner_s, outer_s = begin_s, begin_s + step_s
    for _ in range(3):
        if not within(outer_s):
            break
        inner_s, outer_s = outer_s, outer_s + step_s
    for _ in range(10):
        middle_s = (inner_s + outer_s) / 2
        if within(middle_s):
            inner_s = middle_s
        else:
            outer_s = middle_s
    return outer_s


def _edges_differ_s(
    problem: _Problem, rows: npt.NDArray[np.bool_], offset_s: float, window_s: float, session: Session
) -> float:
    """By how much the offset by the beginnings of the work and that by its ends differ; 0 where that is not known."""
    t_s, step_s = problem.log.t_s + offset_s, max(problem.log.period_s, GRID_S)
    ends: dict[str, list[float]] = {"begin": [], "end": []}
    for turn in session.turns:
        progress = turn.progress(session.end_us)
        if progress.last_us is not None:
            ends["begin"].append(progress.submitted_us / US_PER_S)
            ends["end"].append(progress.last_us / US_PER_S)
    found = []
    for edges in ends.values():
        about_s = 2 * window_s + max(0.5, 3 * step_s)
        near = np.zeros(len(t_s), dtype=bool)
        for edge_s in edges:
            near |= abs(t_s - edge_s) < about_s
        chosen = rows & near
        if int(chosen.sum()) < 4 * len(problem.loads) + 8:
            return 0.0
        grid = np.linspace(offset_s - 1.5 * step_s, offset_s + 1.5 * step_s, 31)
        residuals = np.array([problem.fit(chosen, float(each), window_s).residual for each in grid])
        least = residuals.min()
        found.append(float(grid[residuals <= least * (1 + 1e-9)].mean()))
    return abs(found[0] - found[1])


def _unclear_s(session: Session) -> float:
    """How far the beginning of the work may be off, where it follows a load without a pause in every turn."""
    asked_us = [event.t_us for event in session.events if event.kind == "model_loading"]
    loads = [
        (max((each for each in asked_us if each <= load.t_us), default=load_start_us(load)), load.t_us)
        for load in session.loads
    ]
    ends_us = [load_us for _, load_us in loads] + [turn.last_us for turn in session.turns]
    starts_us = [turn.started.t_us for turn in session.turns]
    quiet_us = [
        start_us - max((end_us for end_us in ends_us if end_us <= start_us), default=0) for start_us in starts_us
    ]
    if not starts_us or max(quiet_us) >= QUIET_S * US_PER_S:
        return 0.0
    return max((load_us - begin_us for begin_us, load_us in loads), default=0) / US_PER_S


def _rate(
    problem: _Problem, rows: npt.NDArray[np.bool_], offset_s: float, window_s: float, u_s: float
) -> tuple[float | None, float | None]:
    """How much slower than the session's clock the log's one goes, and to ± what; `None` for a short log."""
    t_s = problem.log.t_s[rows]
    span_s = float(t_s[-1] - t_s[0])
    if span_s < RATE_FROM_S:
        return None, None
    middle_s = float(t_s.mean())
    rates = np.linspace(-RATE_MOST, RATE_MOST, 61)
    fits = [problem.fit(rows, offset_s - float(rate) * middle_s, window_s, float(rate)) for rate in rates]
    residuals = np.array([fit.residual for fit in fits])
    best = int(np.argmin(residuals))
    allowed = residuals[best] + LIKELY * _noise(fits[best], len(problem.loads) + 1)
    likely = rates[residuals <= allowed]
    half = float(likely[-1] - likely[0]) / 2 + float(rates[1] - rates[0]) / 2
    return float(likely[0] + likely[-1]) / 2, hypot(half, u_s / span_s * sqrt(12))


def with_log(
    file: SessionFile, log: MeterLog, found: Alignment, *, path: str, scope: Scope | None, gain: float | None
) -> SessionFile:
    """The file with the log as its power source, and all figures by it.

    Raises NotAlignedError where no reading lies in the session.
    """
    t_s = log.t_s * (1 + (found.rate_ppm or 0.0) * 1e-6) + found.offset_s
    inside = (t_s >= 0) & (t_s <= file.duration_us / US_PER_S)
    t_s, power_w = t_s[inside], log.power_w[inside]
    if len(t_s) < 2:
        raise NotAlignedError("no reading of the log lies in the session", "is it the log of this session?")
    period_s = log.period_s
    if len(t_s) > KEPT_MOST:
        together = -(-len(t_s) // KEPT_MOST)
        whole = len(t_s) // together * together
        t_s, power_w = t_s[together - 1 : whole : together], power_w[:whole].reshape(-1, together).mean(axis=1)
        period_s *= together
    info = SourceInfo(
        name=SOURCE,
        driver="attached log",
        path=path,
        kind="power",
        period_s=period_s,
        channels=(Channel(name=SOURCE, unit="W", digits=5, label="attached log", scope=scope or "board_input"),),
        properties=to_properties({
            SOURCE: PowerProperties(
                window_s=period_s if found.averaged else 0.0,
                update_s=period_s,
                gain=gain,
                stamp_s=found.u_s,
                total=True,
                flags=() if scope is not None else ("assumed-scope",),
            )
        }),
    )  # fmt: skip
    t_us = np.round(t_s * US_PER_S).astype(np.int64)
    entry = SeriesEntry(
        source=info,
        dt_us=[int(each) for each in np.diff(t_us, prepend=0)],
        values={SOURCE: [round(float(each), 5) for each in power_w]},
    )
    event = EventEntry(t_us=file.duration_us, kind=ATTACHED, text=words(found, path), data=_data(found))
    changed = replace(
        file,
        series=(*(each for each in file.series if each.source.name != SOURCE), entry),
        events=(*(each for each in file.events if each.kind != ATTACHED), event),
        absent={name: why for name, why in file.absent.items() if name != "power"},
    )
    return recomputed(changed, SOURCE)


def session_of(file: SessionFile) -> Session:
    """The session of a file, without a log that was joined to it before."""
    return to_session(replace(file, series=tuple(each for each in file.series if each.source.name != SOURCE)))


def words(found: Alignment, path: str) -> str:
    """What was done, in one line."""
    rate = "" if found.rate_ppm is None else f", its clock {found.rate_ppm:+.0f} ± {found.rate_u_ppm:.0f} ppm slow"
    return (
        f"Power of {path} joined by {', '.join(found.by)}: offset {found.offset_s:.3f} ± {found.u_s:.3f} s{rate}; "
        f"the load explains {100 * found.explained:.0f} % of it."
    )


def _data(found: Alignment) -> dict[str, str | float | bool]:
    shown: Mapping[str, float | None] = {
        "offset_s": found.offset_s, "u_s": found.u_s, "rate_ppm": found.rate_ppm, "rate_u_ppm": found.rate_u_ppm,
        "explained": found.explained,
    }  # fmt: skip
    return {name: value for name, value in shown.items() if value is not None}

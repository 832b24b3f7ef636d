"""How far the energy estimator is from the truth, against the two naive estimators, on synthetic loads and sensors.

    python benchmarks/energy_estimator.py [--runs 150] [--seed 1]

Each run draws a load (idle, prefill, a decode whose power rises and falls with every token, idle again), a sensor of
one kind with a gain and an offset error inside its prior, random phases of its updates and jitter of its polling. The
estimator sees the readings and the stamps only. Printed per kind of sensor and length of the decode: the bias of each
estimator as a share of the true energy, the share of runs whose interval holds the truth, and the median half-width
of the interval. `random alone` is the stricter question: with the drawn gain and offset taken out, does the random
part of the interval by itself hold the truth?

A second table is of what goes wrong with sensors: readings that come late, fall silent or stand still, gauges that
update every 10 s, other load while the device should be idle, counters that are reset, and loads with a structure of
their own. There a figure may be absent, and the share of runs without one is printed too.

The load and the sensors are models. This does not validate any hardware.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import comb, isnan
from statistics import fmean, median

import numpy as np
from msgspec.structs import replace as replace_meter
from numpy.typing import NDArray

from benchmarks import run_benchmark
from edgetop.core.energy.baselines import Spans, no_other_load
from edgetop.core.energy.windows import ChannelEstimator, Extension, TurnSpan, TurnWindows, Window, measure
from edgetop.core.quantity import Quantity
from edgetop.core.sources import Meter

STEP_S = 0.001
IDLE_W, PREFILL_W, DECODE_W = 4.0, 11.0, 9.0
PREFILL_S = 0.4
DECODES_S = (0.6, 3.0, 6.0, 12.0)

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Sensor:
    """A kind of sensor: what edgetop is told of it, and what it truly does."""

    label: str
    meter: Meter
    update_s: float
    """0 for one that is current at every reading."""
    window_s: float
    quiet_s: float


SENSORS = (
    Sensor(
        "Pi 5, 21 Hz point",
        Meter(name="pi", kind="power", scope="board_rails", poll_s=1 / 21, window_s=0.0, gain=0.03, lsb_w=0.001),
        0.0, 0.0, 16.0,
    ),
    Sensor(
        "INA3221, 50 Hz",
        Meter(
            name="ina", kind="power", scope="module", poll_s=0.02, window_s=0.0066, gain=0.01, offset_w=0.08, lsb_w=0.04
        ),
        0.0066, 0.0066, 16.0,
    ),
    Sensor(
        "NVML instant 100/100",
        Meter(name="instant", kind="power", scope="gpu_board", poll_s=0.03, window_s=0.1, gain=0.07, lsb_w=0.001),
        0.1, 0.1, 16.0,
    ),
    Sensor(
        "NVML 1-s average",
        Meter(name="average", kind="power", scope="gpu_board", poll_s=0.03, window_s=1.0, gain=0.07, lsb_w=0.001),
        0.1, 1.0, 20.0,
    ),
    Sensor(
        "plug, 1 Hz",
        Meter(name="plug", kind="power", scope="wall", poll_s=0.5, window_s=1.0, gain=0.03, offset_w=0.5, lsb_w=0.1),
        1.0, 1.0, 45.0,
    ),
    Sensor(
        "battery, 1 Hz",
        Meter(name="battery", kind="power", scope="battery", poll_s=0.5, gain=0.07, lsb_w=0.001),
        1.0, 1.0, 45.0,
    ),
    Sensor(
        "RAPL counter, 20 Hz",
        Meter(name="rapl", kind="energy", scope="cpu_package", poll_s=0.05, gain=0.05, lsb_j=6.1e-5, wrap_j=262143.33),
        0.001, 0.0, 16.0,
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Load:
    """A true power over time as its cumulative energy, and the stamps of the turn in it."""

    energy_j: Array
    start_s: float
    first_token_s: float
    end_s: float

    def at(self, t_s: Array | float) -> Array:
        """The true cumulative energy at some moments."""
        t = np.arange(len(self.energy_j)) * STEP_S
        return np.asarray(np.interp(t_s, t, self.energy_j), dtype=np.float64)

    def between(self, start_s: float, end_s: float) -> float:
        """The true energy of a span."""
        return float(self.at(end_s) - self.at(start_s))


def draw_load(rng: np.random.Generator, decode_s: float, quiet_s: float, *, structured: bool = False) -> Load:
    """A turn between two quiet spans; the decode swings with each of 8 to 25 tokens a second, and all is noisy.

    A structured one begins slowly, and its decode halts for a while now and then, as on a busy small machine.
    """
    start_s = quiet_s + rng.uniform(0, 1)
    prefill_s = PREFILL_S + (rng.uniform(0, 1) if structured else 0.0)
    first_s, end_s = start_s + prefill_s, start_s + prefill_s + decode_s
    t = np.arange(0, end_s + quiet_s, STEP_S)
    tokens_per_s = rng.uniform(8, 25)
    swing = np.where((t * tokens_per_s) % 1 < 0.6, 0.16, -0.24)
    slow = np.repeat(rng.normal(0, 0.06, len(t) // 50 + 1), 50)[: len(t)]
    white = rng.normal(0, 0.05, len(t))
    power = IDLE_W * (1 + white + slow / 2)
    prefill, decode = (t >= start_s) & (t < first_s), (t >= first_s) & (t < end_s)
    power[prefill] = PREFILL_W * (1 + white + slow)[prefill]
    power[decode] = DECODE_W * (1 + white + slow + swing)[decode]
    if structured:
        low = 1.3 * IDLE_W * (1 + white + slow)
        power[prefill] = np.where(t < first_s - PREFILL_S, low, power)[prefill]
        for begin_s in rng.uniform(first_s, end_s, round(1 + decode_s)):
            halted = decode & (t >= begin_s) & (t < begin_s + rng.uniform(0.05, 0.3))
            power[halted] = low[halted]
    return Load(np.concatenate([[0.0], np.cumsum(power) * STEP_S]), start_s, first_s, end_s)


@dataclass(frozen=True)
class Readings:
    """What a sensor said, and the errors that it had."""

    t_s: Array
    values: Array
    gain: float
    offset_w: float
    measured_s: Array
    """When the sensor measured each."""


def draw_readings(rng: np.random.Generator, sensor: Sensor, load: Load) -> Readings:
    """Poll a sensor with jitter over the whole of a load."""
    meter = sensor.meter
    gain = rng.uniform(-meter.gain, meter.gain)
    offset_w = rng.uniform(-meter.offset_w, meter.offset_w)
    end_s = (len(load.energy_j) - 1) * STEP_S
    regular = np.arange(rng.uniform(0, meter.poll_s), end_s, meter.poll_s)
    polls = np.sort(regular + rng.uniform(0, 0.2 * meter.poll_s, len(regular)))
    polls = polls[(polls > max(sensor.window_s, 0.01)) & (polls < end_s)]
    updates = polls
    if sensor.update_s:
        phase = rng.uniform(0, sensor.update_s)
        updates = np.floor((polls - phase) / sensor.update_s) * sensor.update_s + phase
    if meter.kind == "energy":
        values = load.at(updates) * (1 + gain) + 1000.0
    else:
        window_s = max(sensor.window_s, STEP_S)
        power = (load.at(updates) - load.at(updates - window_s)) / window_s
        values = power * (1 + gain) + offset_w
    return Readings(polls, np.round(values / meter.lsb) * meter.lsb, gain, offset_w, updates)


def estimated(
    sensor: Sensor, load: Load, seen: Readings, other_load: Spans = no_other_load
) -> tuple[ChannelEstimator, TurnSpan]:
    """The estimator after all readings; NaN is one that failed."""
    estimator = ChannelEstimator(sensor.meter, other_load)
    span = TurnSpan(
        submitted_us=round(load.start_s * 1e6),
        first_token_us=round(load.first_token_s * 1e6),
        last_us=round(load.end_s * 1e6),
        evaluated_tokens=100,
        generated_tokens=max(2, round(10 * (load.end_s - load.first_token_s))),
    )
    estimator.idle_from(0)
    estimator.busy_from(span.submitted_us)
    estimator.idle_from(span.last_us)
    for t_s, value in zip(seen.t_s.tolist(), seen.values.tolist(), strict=True):
        estimator.read(round(t_s * 1e6), None if isnan(value) else value)
    return estimator, span


def naive(sensor: Sensor, load: Load, seen: Readings) -> tuple[float, float]:
    """The trapezoid of the readings inside the window, and their mean times its length; in joules.

    For a counter: the difference of the readings inside the window, and the same scaled up to its length.
    """
    inside = (seen.t_s >= load.start_s) & (seen.t_s <= load.end_s)
    t_s, values = seen.t_s[inside], seen.values[inside]
    length_s = load.end_s - load.start_s
    if len(values) < 2:
        return 0.0, float(values.sum()) * length_s if sensor.meter.kind == "power" else 0.0
    if sensor.meter.kind == "energy":
        risen = float(values[-1] - values[0])
        return risen, risen / float(t_s[-1] - t_s[0]) * length_s
    area = float(((values[1:] + values[:-1]) / 2 * np.diff(t_s)).sum())  # np.trapezoid is newer than the oldest numpy
    return area, float(values.mean()) * length_s


@dataclass
class Score:
    """How one estimator did over the runs of one cell, as shares of the true energy."""

    errors: list[float] = field(default_factory=list)
    held: list[bool] = field(default_factory=list)
    held_by_random: list[bool] = field(default_factory=list)
    reach: list[float] = field(default_factory=list)

    def add(self, quantity: Quantity, truth_j: float, seen: Readings, offset_j: float) -> None:
        """Score one estimate of an energy that a perfect meter would have given as `truth_j`."""
        error_j = (quantity.value - offset_j) / (1 + seen.gain) - truth_j
        self.errors.append(error_j / truth_j)
        self.held.append(abs(quantity.value - truth_j) <= 2 * quantity.u.combined)
        self.held_by_random.append(abs(error_j) <= 2 * quantity.u.random)
        self.reach.append(2 * quantity.u.combined / abs(truth_j))

    def shown(self) -> str:
        """Bias, coverage, coverage by the random part alone, half-width."""
        if not self.errors:
            return "n/a"
        alone = 100 * fmean(self.held_by_random)
        bias, coverage, reach = (100 * f for f in (fmean(self.errors), fmean(self.held), median(self.reach)))
        return f"{bias:+.1f} %, {coverage:.0f} ({alone:.0f}) %, ±{reach:.1f} %"


NAMES = ("strict gross", "strict net", "extended gross", "extended net", "shown gross", "shown decode")


@dataclass
class Cell:
    """One kind of sensor at one length."""

    trapezoid: list[float] = field(default_factory=list)
    mean_times_t: list[float] = field(default_factory=list)
    scores: dict[str, Score] = field(default_factory=lambda: {name: Score() for name in NAMES})


def run_once(rng: np.random.Generator, sensor: Sensor, decode_s: float, cell: Cell) -> None:
    """Draw one run and score every estimator on it."""
    load = draw_load(rng, decode_s, sensor.quiet_s)
    seen = draw_readings(rng, sensor, load)
    truth_j = load.between(load.start_s, load.end_s)
    length_s = load.end_s - load.start_s
    offset_w = 0.0 if sensor.meter.kind == "energy" else seen.offset_w
    for biases, estimate_j in zip((cell.trapezoid, cell.mean_times_t), naive(sensor, load, seen), strict=True):
        biases.append(((estimate_j - offset_w * length_s) / (1 + seen.gain) - truth_j) / truth_j)
    estimator, span = estimated(sensor, load, seen)
    idle = estimator.baseline.idle(span.submitted_us, span.last_us)
    net_truth_j = truth_j - IDLE_W * length_s
    for name, extension in (("strict", Extension(False, False)), ("extended", Extension(True, True))):
        window = measure(estimator.curve, span.submitted_us, span.last_us, idle, extension)
        if not isinstance(window, Window) or window.net is None:
            raise SystemExit(f"no estimate for {sensor.label}: {window}")
        cell.scores[f"{name} gross"].add(window.gross, truth_j, seen, offset_w * length_s)
        cell.scores[f"{name} net"].add(window.net, net_truth_j, seen, 0.0)
    turn = estimator.turn(span)
    if isinstance(turn, TurnWindows):
        cell.scores["shown gross"].add(turn.turn.gross, truth_j, seen, offset_w * length_s)
        if isinstance(turn.decode, Window):
            decode_j = load.between(load.first_token_s, load.end_s)
            cell.scores["shown decode"].add(turn.decode.gross, decode_j, seen, offset_w * decode_s)


def cells(runs: int, seed: int) -> Iterator[tuple[float, Sensor, Cell]]:
    """All cells of the table, each from a seed of its own."""
    for i, sensor in enumerate(SENSORS):
        for j, decode_s in enumerate(DECODES_S):
            cell = Cell()
            rng = np.random.default_rng((seed, i, j))
            for _ in range(runs):
                run_once(rng, sensor, decode_s, cell)
            yield decode_s, sensor, cell


Fault = Callable[[np.random.Generator, Load, Readings], Readings]


def none(_rng: np.random.Generator, _load: Load, seen: Readings) -> Readings:
    """Nothing is wrong."""
    return seen


def as_published(seen: Readings, update_s: float) -> Readings:
    """One reading an update, as a meter's program prints them, instead of one a poll."""
    first = np.unique(np.floor(seen.t_s / update_s), return_index=True)[1]
    return replace(seen, t_s=seen.t_s[first], values=seen.values[first])


def stamped(_rng: np.random.Generator, _load: Load, seen: Readings) -> Readings:
    """Each reading with the time at which it was measured, whenever it came."""
    first = np.unique(seen.measured_s, return_index=True)[1]
    return replace(seen, t_s=seen.measured_s[first], values=seen.values[first])


def published(rng: np.random.Generator, _load: Load, seen: Readings) -> Readings:
    """Lines without stamps: a program reads the meter ten times a second, and its lines are read up to 50 ms later."""
    lines = as_published(seen, 0.1)
    return replace(lines, t_s=lines.t_s + rng.uniform(0, 0.05, len(lines.t_s)))


def crowded(rng: np.random.Generator, load: Load, seen: Readings) -> Readings:
    """Lines of a program on a crowded machine: each a mean of the last 0.1 s, 0.1 to 0.2 s after the line before."""
    t_s = np.cumsum(rng.uniform(0.1, 0.2, len(seen.t_s)))
    t_s = t_s[t_s < seen.t_s[-1]]
    power = (load.at(t_s) - load.at(t_s - 0.1)) / 0.1
    return replace(seen, t_s=t_s + rng.uniform(0, 0.02, len(t_s)), values=power * (1 + seen.gain) + seen.offset_w)


def late(_rng: np.random.Generator, _load: Load, seen: Readings) -> Readings:
    """All readings are 1.5 s late, and nothing says so."""
    return replace(seen, t_s=seen.t_s + 1.5)


def silent(rng: np.random.Generator, load: Load, seen: Readings) -> Readings:
    """For 0.5 to 4 s about the turn nothing is read."""
    begin_s = rng.uniform(load.start_s - 1, load.end_s)
    received = (seen.t_s < begin_s) | (seen.t_s > begin_s + rng.uniform(0.5, 4))
    return replace(seen, t_s=seen.t_s[received], values=seen.values[received])


def lost_at_the_end(rng: np.random.Generator, load: Load, seen: Readings) -> Readings:
    """Polls fail for 0.5 to 3 s, just after the answer."""
    begin_s = load.end_s + rng.uniform(0, 0.3)
    lost = (seen.t_s >= begin_s) & (seen.t_s < begin_s + rng.uniform(0.5, 3))
    return replace(seen, values=np.where(lost, np.nan, seen.values))


def frozen(rng: np.random.Generator, load: Load, seen: Readings) -> Readings:
    """The reading stands still for 1 to 20 s about the turn."""
    begin_s = rng.uniform(load.start_s - 2, load.end_s)
    still = (seen.t_s >= begin_s) & (seen.t_s < begin_s + rng.uniform(1, 20))
    value = seen.values[max(0, int(np.searchsorted(seen.t_s, begin_s)) - 1)]
    return replace(seen, values=np.where(still, value, seen.values))


def reset(rng: np.random.Generator, load: Load, seen: Readings) -> Readings:
    """The counter is away for 0.2 to 4 s of the turn and comes back from zero, less than 500 J before its wrap."""
    begin_s = rng.uniform(load.start_s, load.end_s)
    end_s = begin_s + rng.uniform(0.2, 4)
    start_j = WRAP_J - rng.uniform(200, 500) - 1000.0
    values = seen.values + start_j
    back = seen.t_s >= end_s
    values[back] -= values[back][0] if back.any() else 0.0
    return replace(seen, values=np.where((seen.t_s >= begin_s) & ~back, np.nan, values))


WRAP_J = 65532.61


@dataclass(frozen=True)
class Kind:
    """Something that goes wrong, with a kind of sensor."""

    label: str
    sensor: Sensor
    fault: Fault = none
    structured: bool = False
    disturbed: bool = False
    """Other load runs while the device should be idle, but not during the turn."""


STREAM = Sensor(
    "stream, 10 Hz",
    Meter(
        name="stream", kind="power", scope="dc_in", poll_s=0.05, update_s=0.1, window_s=0.1, gain=0.02, lsb_w=0.001
    ),
    0.1, 0.1, 16.0,
)  # fmt: skip
PI, INA, _, _, PLUG, _, RAPL = SENSORS
AMD = replace(RAPL, meter=replace_meter(RAPL.meter, wrap_j=WRAP_J, gain=0.1, update_s=0.001))
SLOW_BATTERY = Sensor(
    "battery, 10 s",
    Meter(name="battery", kind="power", scope="battery", poll_s=0.5, window_s=1.0, gain=0.07, lsb_w=0.001),
    10.0, 10.0, 260.0,
)  # fmt: skip

KINDS = (
    Kind("stream, stamped", STREAM, stamped),
    Kind("stream, unstamped", STREAM, published),
    Kind("stream, 1.5 s late", STREAM, late),
    Kind("stream, silent", STREAM, silent),
    Kind("plug, lost at the end", PLUG, lost_at_the_end),
    Kind("stream, frozen", STREAM, frozen),
    Kind("INA3221, frozen", INA, frozen),
    Kind("battery, every 10 s", SLOW_BATTERY),
    Kind("RAPL, other load in idle", RAPL, disturbed=True),
    Kind("AMD, reset near wrap", AMD, reset),
    Kind("INA3221, structured", INA, structured=True),
    Kind("Pi 5, structured", PI, structured=True),
    Kind("stream, structured", STREAM, published, structured=True),
    Kind("stream, crowded", STREAM, crowded, structured=True),
)

KINDS_DECODES_S = (1.0, 3.0, 10.0)

PARTS = ("gross", "net", "prefill", "decode")


@dataclass
class KindCell:
    """How the shown figures of one kind did."""

    runs: int = 0
    scores: dict[str, Score] = field(default_factory=lambda: {name: Score() for name in PARTS})


def run_kind(rng: np.random.Generator, kind: Kind, decode_s: float, cell: KindCell) -> None:
    """Draw one run of what goes wrong, and score the figures that are shown."""
    sensor = kind.sensor
    load = draw_load(rng, decode_s, sensor.quiet_s, structured=kind.structured)
    idle_w = IDLE_W
    other_load: Spans = no_other_load
    if kind.disturbed:
        t = np.arange(len(load.energy_j)) * STEP_S
        quiet_s = np.minimum(t, load.start_s) + np.maximum(0.0, t - load.end_s - 1.0)
        load = replace(load, energy_j=load.energy_j + 3.0 * quiet_s)

        def other_load(start_us: int, end_us: int) -> Sequence[tuple[int, int]]:
            ends = ((start_us, round(load.start_s * 1e6)), (round((load.end_s + 1) * 1e6), end_us))
            return [(max(a, start_us), min(b, end_us)) for a, b in ends if a < b and b > start_us and a < end_us]

    seen = kind.fault(rng, load, draw_readings(rng, sensor, load))
    estimator, span = estimated(sensor, load, seen, other_load)
    cell.runs += 1
    turn = estimator.turn(span)
    if not isinstance(turn, TurnWindows):
        return
    offset_w = 0.0 if sensor.meter.kind == "energy" else seen.offset_w
    spans = {"prefill": (load.start_s, load.first_token_s), "decode": (load.first_token_s, load.end_s)}
    shown: dict[str, Quantity] = {"gross": turn.turn.gross}
    if turn.turn.net is not None:
        shown["net"] = turn.turn.net
    shown |= {name: part.gross for name in spans if isinstance(part := getattr(turn, name), Window)}
    for name, quantity in shown.items():
        start_s, end_s = spans.get(name, (load.start_s, load.end_s))
        length_s = end_s - start_s
        truth_j = load.between(start_s, end_s) - (idle_w * length_s if name == "net" else 0.0)
        if quantity.relative <= SHOWN_TO:
            cell.scores[name].add(quantity, truth_j, seen, 0.0 if name == "net" else offset_w * length_s)


SHOWN_TO = 0.5
"""A figure with a wider interval than this share of it is not shown."""


def kind_goals_missed(kind: Kind, decode_s: float, cell: KindCell) -> list[str]:
    """The goals that a kind misses: 2 % of bias, and coverage that is not clearly below 95 % (binomial, 2 %)."""
    missed = []
    for name, score in cell.scores.items():
        count = len(score.held)
        if count >= 20 and name == "gross" and abs(fmean(score.errors)) > 0.02:
            missed.append(f"{kind.label}, {decode_s:g} s: {name} is biased by {100 * fmean(score.errors):+.1f} %")
        outside = count - sum(score.held)
        if outside and tail(count, outside) < 0.02:
            missed.append(f"{kind.label}, {decode_s:g} s: {name} holds the truth in {sum(score.held)} of {count}")
    return missed


def tail(count: int, outside: int, share: float = 0.05) -> float:
    """How likely so many misses, or more, are among `count` when each has the probability `share`."""
    return 1.0 - sum(comb(count, k) * share**k * (1 - share) ** (count - k) for k in range(outside))


def print_kinds(runs: int, seed: int) -> list[str]:
    """The second table; the goals that were missed."""
    print("\nWhat goes wrong. Of the shown figures: bias, runs inside of those with a figure, median ±2u; share n/a.\n")
    print("| decode | kind | " + " | ".join(PARTS) + " | n/a |")
    print("|---" * (3 + len(PARTS)) + "|")
    missed: list[str] = []
    for i, kind in enumerate(KINDS):
        for j, decode_s in enumerate(KINDS_DECODES_S):
            cell = KindCell()
            rng = np.random.default_rng((seed, 100 + i, j))
            for _ in range(runs):
                run_kind(rng, kind, decode_s, cell)
            shown = " | ".join(
                f"{100 * fmean(score.errors):+.1f} %, {sum(score.held)}/{len(score.held)}, "
                f"±{100 * median(score.reach):.1f} %"
                if score.held
                else "n/a"
                for score in cell.scores.values()
            )
            absent = 100 * (1 - len(cell.scores["gross"].held) / cell.runs)
            print(f"| {decode_s:g} s | {kind.label} | {shown} | {absent:.0f} % |", flush=True)
            missed += kind_goals_missed(kind, decode_s, cell)
    return missed


def goals_missed(decode_s: float, sensor: Sensor, cell: Cell) -> list[str]:
    """The goals that a cell misses: 1 % of bias of the extended net from 3 s on, and 95 % of coverage everywhere."""
    missed = []
    bias = fmean(cell.scores["extended net"].errors)
    if decode_s >= 3 and abs(bias) > 0.01:
        missed.append(f"{sensor.label}, {decode_s} s: extended net is biased by {100 * bias:+.1f} %")
    for name, score in cell.scores.items():
        if score.held and fmean(score.held) < 0.95:
            missed.append(f"{sensor.label}, {decode_s} s: {name} holds the truth in {100 * fmean(score.held):.0f} %")
    return missed


KIND_RUNS = 40 / 150
"""So many runs of each kind of fault for one of the first table."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=150, help="runs per cell")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only-faults", action="store_true", help="print the second table alone")
    options = parser.parse_args()
    print(
        f"{options.runs} runs per cell, seed {options.seed}. Naive columns: bias. The others: bias with gain and offset"
    )
    print("taken out, coverage of ±2u (by the random part alone), median ±2u.\n")
    print("| decode | sensor | trapezoid inside | mean × T | " + " | ".join(NAMES) + " |")
    print("|---" * (4 + len(NAMES)) + "|")
    missed: list[str] = []
    for decode_s, sensor, cell in () if options.only_faults else cells(options.runs, options.seed):
        shown = " | ".join(cell.scores[name].shown() for name in NAMES)
        first, second = 100 * fmean(cell.trapezoid), 100 * fmean(cell.mean_times_t)
        print(f"| {decode_s:g} s | {sensor.label} | {first:+.1f} % | {second:+.1f} % | {shown} |", flush=True)
        missed += goals_missed(decode_s, sensor, cell)
    missed += print_kinds(max(1, round(options.runs * KIND_RUNS)), options.seed)
    print("\nGoals missed:" if missed else "\nAll goals met.")
    for line in missed:
        print(f"- {line}")


if __name__ == "__main__":
    run_benchmark(main)

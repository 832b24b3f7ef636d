"""The device table against published measurements: fits its rates, and says how well each device is predicted.

    python -m benchmarks.device_fit            n, bias, median, worst, coverage, width; models left out
    python -m benchmarks.device_fit --as-is    the same with the table as it stands
    python -m benchmarks.device_fit --write    write the fitted rates into edgetop/fit/devices.csv and devices.toml
    python -m benchmarks.device_fit --unseen   rows that were never fitted to, with the table as it stands
    python -m benchmarks.device_fit --rows     every row

`published.csv` beside this program holds the measurements, each with its source: llama-bench and chats of llama.cpp,
of Ollama (a version of llama.cpp, sometimes an old one), and of MLC and vLLM, which compute in their own way and count
for nothing here. A row is predicted by what the *other* models of its device say, and where there are none by the other
devices of its kind: the time of a token is

    bytes / rate + weights of fewer than 8 bits * weight_ps + layers * layer_us

with one share of the data sheet's rate, one layer_us and one weight_ps for each kind of GPU, times what the device
itself is off by. The Jetson's modes have enough rows for their own; of processors the rate of reading is fitted, and of
Cortex-A72 the time per weight of each type too. Energy is watts that come with a mode and joules that come with each
weight. Bands are what the rows left out deviate by, no wider: the root mean square of the logarithms, of a device that
has few rows or none over the devices of its kind.
"""

from __future__ import annotations

import argparse
import csv
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from math import comb, exp, log, sqrt
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from benchmarks import run_benchmark
from edgetop.core.engine_settings import EngineSettings
from edgetop.core.quantity import banded
from edgetop.core.quantity import sigma_of as sigma_in
from edgetop.core.sources import Unavailable
from edgetop.fit.devices import DESKTOP, DESKTOP_THREADS, ROWS, TABLE, Device, load_devices, machine_of, mode_of
from edgetop.fit.machine import (
    KERNELS,
    Kernels,
    Machine,
    Processor,
    attention_work,
    gpu_kernels,
    threads_worth,
    weights_by_type,
)
from edgetop.fit.model_facts import ModelFacts, PublishedModel, published_models
from edgetop.fit.speed import OLLAMA, EngineRatio, predict_energy, predict_speed

PUBLISHED = Path(__file__).with_name("published.csv")
UNSEEN = Path(__file__).with_name("unseen.csv")
"""Found after the table was fitted, and kept apart from it: the rate of every model that is known here, in a stated
quantization (Ollama's own is Q4_K_M), wholly on a device of the table; the doubtful ones among them."""

SETTINGS = EngineSettings()
"""Those of rows that do not say what stays on the CPU."""

ENGINES = ("llama.cpp", "Ollama")
SIGMA_LEAST = 0.06
"""Boards of one kind differ by so much: memory chips, cooling, version of the engine."""

KINDS_APART = 0.12
"""... and devices of one kind by this much at least, where few of them were measured."""

OWN_BAND_ROWS = 8
"""A device with so many rows has a band of its own, not that of its kind."""

ALONE = {"decode": 0.35, "prefill": 0.6}
"""... and by judgement of a kind of which one device was measured."""

Figures = Mapping[str, float]


class Row(Struct, frozen=True, eq=False, kw_only=True):
    """A published measurement."""

    name: str
    device: str
    mode: str
    model: str
    engine: str
    facts: ModelFacts
    settings: EngineSettings = SETTINGS
    threads: int
    depth_tokens: int
    prompt_tokens: int
    decode_tokens_per_s: float
    prefill_tokens_per_s: float | None
    j_per_token: float | None

    @property
    def is_shared_out(self) -> bool:
        """Whether a part of the model lies on the CPU of the computer around a graphics card."""
        return self.settings != SETTINGS

    @property
    def place(self) -> tuple[str, str]:
        """Device and mode."""
        return self.device, self.mode


class Outcome(Struct, frozen=True, kw_only=True):
    """A prediction beside what was published."""

    row: Row
    figure: str
    predicted: float
    low: float
    high: float
    measured: float

    @property
    def held(self) -> bool:
        """Whether the band holds the measurement."""
        return self.low <= self.measured <= self.high


def published(file: Path = PUBLISHED) -> list[Row]:
    """All rows of the engines that are predicted."""
    table = load_devices()
    models = {
        each.name: each for each in (*published_models(), *published_models(Path(__file__).with_name("models.csv")))
    }
    with file.open(newline="", encoding="utf-8") as opened:
        return [_row(cells, table[cells["device"]], models) for cells in csv.DictReader(opened)
                if cells["engine"] in ENGINES]  # fmt: skip


def _row(cells: Mapping[str, str], device: Device, models: Mapping[str, PublishedModel]) -> Row:
    label = "Q8_0" if cells["quantization"] == "Q8_K_XL" else cells["quantization"]
    facts = models[cells["model"]].facts(label)
    if cells["size_mb"]:
        # A file that is made otherwise is the better witness of how many bytes are read.
        factor = float(cells["size_mb"]) * 1e6 / facts.tensor_bytes
        if abs(factor - 1) > 0.03:
            facts = replace(facts, weight_bytes_per_token=round(facts.weight_bytes_per_token * factor))
    return Row(
        name=cells["id"],
        device=device.name,
        mode=mode_of(device, cells["mode"] or None) or device.default_mode,
        model=cells["model"],
        engine=cells["engine"],
        facts=facts,
        settings=_settings(cells["on_cpu"]),
        threads=DESKTOP_THREADS if cells["on_cpu"] else int(cells["threads"] or device.cores or 4),
        depth_tokens=int(cells["depth"]),
        prompt_tokens=int(cells["prompt"] or 0),
        decode_tokens_per_s=float(cells["decode_tokens_per_s"]),
        prefill_tokens_per_s=float(cells["prefill_tokens_per_s"]) if cells["prefill_tokens_per_s"] else None,
        j_per_token=float(cells["j_per_token"]) if cells["j_per_token"] else None,
    )


def _settings(on_cpu: str) -> EngineSettings:
    """What a row says of the layers and experts that are not on the card, such as `n_gpu_layers=44`."""
    name, _, value = on_cpu.partition("=")
    if not name:
        return SETTINGS
    return replace(SETTINGS, **{name: (value,) if name == "override_tensor" else int(value)})


def as_llama_cpp(row: Row) -> Row:
    """A row of Ollama at the rate that llama.cpp would have."""
    return replace(row, decode_tokens_per_s=1 / OLLAMA[_processor_of(row)].without(1 / row.decode_tokens_per_s))


def _processor_of(row: Row) -> str:
    return "cpu" if load_devices()[row.device].modes[row.mode].gpu is None else "gpu"


def not_negative(
    terms: Sequence[Sequence[float]], wanted: Sequence[float], usual: float = 0.0, weight: float = 0.2
) -> list[float]:
    """Least squares with no coefficient below zero: the most negative one is left out until none is.

    Coefficients that the rows hardly tell are drawn to what is `usual` for them.
    """
    matrix, values = np.array(terms), np.array(wanted)
    if usual:
        matrix = np.vstack([matrix, weight / usual * np.eye(matrix.shape[1])])
        values = np.concatenate([values, np.full(matrix.shape[1], weight)])
    kept = list(range(matrix.shape[1]))
    while True:
        found = np.linalg.lstsq(matrix[:, kept], values, rcond=None)[0]
        if not kept or (found >= 0).all():
            break
        kept.pop(int(np.argmin(found)))
    whole = [0.0] * matrix.shape[1]
    for index, value in zip(kept, found, strict=True):
        whole[index] = float(value)
    return whole


def _work(facts: ModelFacts) -> tuple[float, float]:
    """Weights of fewer than 8 bits that a token is multiplied with, and of all but the output for a prefill."""
    packed = sum(n for kind, n in weights_by_type(facts).items() if kind not in {"f32", "f16", "bf16", "q8_0"})
    output = (facts.n_vocab or 0) * (facts.n_embd or 0)
    return packed, float(max(facts.compute_parameters - output, facts.compute_parameters // 2))


def _read_bytes(row: Row) -> float:
    return row.facts.weight_bytes_per_token + attention_work(row.facts, SETTINGS, row.depth_tokens).size_bytes


class Fit:
    """The table's rates from some of the rows."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = [row for row in rows if row.engine == "llama.cpp" and not row.is_shared_out]
        # Rows of Ollama stand in for a device that nobody measured with llama.cpp.
        self._others = [as_llama_cpp(row) for row in rows if row.engine != "llama.cpp"]
        self.table = load_devices()
        with ROWS.open(newline="", encoding="utf-8") as opened:
            self.cells = {each["name"]: each for each in csv.DictReader(opened)}
        self._kinds: dict[str, dict[str, float]] = {}

    def _usable(self, device: str, mode: str = "default") -> list[Row]:
        own = [row for row in self._rows if row.place == (device, mode)]
        return own or [row for row in self._others if row.place == (device, mode)]

    # Devices of devices.csv

    def kind(self, kind: str) -> dict[str, float]:
        """Shares of the data sheet that a kind of GPU reaches, by all of its devices together."""
        if kind not in self._kinds:
            names = [name for name, cells in self.cells.items() if _family(cells["kind"]) == kind]
            if not any(self._usable(name) for name in names):  # nothing known of its kind: as all GPUs
                names = list(self.cells)
            used = [(row, float(self.cells[name]["peak_gb_s"]) * 1e9) for name in names for row in self._usable(name)]
            weight = {name: 1 / max(1, len(self._usable(name))) ** 0.5 for name in names}
            terms = [[weight[row.device] * each * row.decode_tokens_per_s
                      for each in (_read_bytes(row) / peak, _work(row.facts)[0] / peak, row.facts.n_layer or 0)]
                     for row, peak in used]  # fmt: skip
            read, packed, layer_s = not_negative(terms, [weight[row.device] for row, _ in used])
            if read < 1 / 0.95:  # nobody reads faster than the data sheet
                read = 1 / 0.95
                rest = [weight[row.device] * (1 - read * _read_bytes(row) / peak * row.decode_tokens_per_s)
                        for row, peak in used]  # fmt: skip
                packed, layer_s = not_negative([each[1:] for each in terms], rest)
            shares = self._prefill_shares(names) or self._prefill_shares(self.cells)
            self._kinds[kind] = {"read": read, "packed": packed, "layer_s": layer_s,
                                 "prefill": exp(mean(shares))}  # fmt: skip
        return self._kinds[kind]

    def _prefill_shares(self, names: Iterable[str]) -> list[float]:
        """Logarithms of the shares of the data sheet's arithmetic that prefills reach."""
        return [log(self._prefill_flops(row) / (float(self.cells[name]["tflops"]) * 1e12))
                for name in names for row in self._usable(name) if row.prefill_tokens_per_s]  # fmt: skip

    def of_row(self, name: str) -> dict[str, float]:
        """The rates of one device of devices.csv."""
        cells, own = self.cells[name], self._usable(name)
        kind, peak = self.kind(_family(cells["kind"])), float(cells["peak_gb_s"]) * 1e9
        factor = 1.0
        if own:
            ratios = [log(1 / row.decode_tokens_per_s / _kind_time_s(row, kind, peak)) for row in own]
            factor = exp(mean(ratios))
        rate = min(peak / kind["read"] / factor, 0.95 * peak)
        shares = [log(self._prefill_flops(row)) for row in own if row.prefill_tokens_per_s]
        flops = exp(mean(shares)) if shares else kind["prefill"] * float(cells["tflops"]) * 1e12
        return {
            "reading_gb_s": rate / 1e9,
            "weight_ps": kind["packed"] / peak * factor * 1e12,
            "layer_us": kind["layer_s"] * factor * 1e6,
            "prefill_gflops": flops / 1e9,
        }

    def _prefill_flops(self, row: Row) -> float:
        return 2 * _work(row.facts)[1] * (row.prefill_tokens_per_s or 0)

    # Jetson modes

    def of_jetson(self, device: str, mode: str) -> dict[str, float] | None:
        """The arithmetic of a mode; the rate of reading is two thirds of the data sheet, less where clocks are low."""
        own = [row for row in self._usable(device, mode) if row.engine == "llama.cpp"]
        gpu = self.table[device].modes[mode].gpu
        if len(own) < 3 or gpu is None:
            return None
        rate = gpu.reading_gb_s * 1e9
        terms = [
            [each * row.decode_tokens_per_s for each in (_work(row.facts)[0], row.facts.n_layer or 0)] for row in own
        ]
        wanted = [1 - _read_bytes(row) / rate * row.decode_tokens_per_s for row in own]
        weight_s, layer_s = not_negative(terms, wanted)
        return {"weight_ps": weight_s * 1e12, "layer_us": layer_s * 1e6}

    def power(self, device: str, mode: str) -> tuple[dict[int, float], float] | None:
        """Watts that come with a mode and a number of threads (0 for a GPU), and joules that come with each weight."""
        own = [row for row in self._usable(device, mode) if row.engine == "llama.cpp" and row.j_per_token]
        if len(own) < 3:
            return None
        on_gpu = self.table[device].modes[mode].gpu is not None
        counts = [0] if on_gpu else sorted({row.threads for row in own})
        terms = []
        for row in own:
            scale = 1 / (row.j_per_token or 1)
            seconds = [scale / row.decode_tokens_per_s * (on_gpu or row.threads == count) for count in counts]
            terms.append([*seconds, row.facts.compute_parameters * scale])
        *watts, weight_j = not_negative(terms, [1.0] * len(own))
        return dict(zip(counts, watts, strict=True)), weight_j

    def _with_power(self, machine: Machine, row: Row) -> Machine:
        found, known = self.power(*row.place), machine.power
        if found is None or known is None:
            return machine
        band = sigma_in(next(iter(known.decode_w.values())))
        watts = {count: banded(each, band) for count, each in found[0].items()}
        return replace(machine, power=replace(known, decode_w=watts, weight_j=found[1]))

    # Processors

    def of_cpu(self, device: str, mode: str = "default") -> dict[int, float]:
        """What the measured numbers of threads read, in GB/s, found by the predictions themselves."""
        found: dict[int, float] = {}
        for threads in sorted({row.threads for row in self._usable(device, mode)}):
            own = [row for row in self._usable(device, mode) if row.threads == threads]
            machine = machine_of(self.table[device], mode)
            found[threads] = _solve(lambda rate, own=own, machine=machine: _off_by(own, machine, rate))  # type: ignore[misc]
        return found

    def reading_of(self, device: str, mode: str) -> dict[str, str]:
        """The line of the table with what was measured; other numbers of threads as they are in it."""
        cpu = self.table[device].modes[mode].cpu
        found = self.of_cpu(device, mode)
        if cpu is None or device == "pi4" or not found:
            return {}
        rates = {int(count): rate for count, rate in cpu.reading_gb_s.items()} | found
        return {"reading_gb_s": "{ " + ", ".join(f"{n} = {rates[n]:.3g}" for n in sorted(rates)) + " }"}

    def of_a72(self) -> tuple[float, dict[str, float], dict[str, float]]:
        """GB/s, picoseconds per weight of one core by type when decoding, and those of a prefill."""
        own = [row for row in self._rows if row.device == "pi4"]
        whole = [row for row in own if row.facts.file_type == "F16"]
        rate = mean(_read_bytes(row) * row.decode_tokens_per_s for row in whole)
        kinds = sorted({kind for row in own for kind in weights_by_type(row.facts) if kind not in {"f32", "f16"}})
        worth = threads_worth(4)
        terms, wanted, reading, spent = [], [], [], []
        for row in own:
            by_type = weights_by_type(row.facts)
            scale = row.decode_tokens_per_s / worth
            terms.append([by_type.get(kind, 0.0) * scale for kind in kinds])
            wanted.append(1 - _read_bytes(row) / rate * row.decode_tokens_per_s)
            share = _work(row.facts)[1] / sum(by_type.values())
            pace = (row.prefill_tokens_per_s or 0) / worth * share
            reading.append([by_type.get(kind, 0.0) * pace for kind in ["f16", *kinds]])
            spent.append(1.0)
        decode = not_negative(terms, wanted, usual=45e-12)
        prefill = not_negative(reading, spent, usual=430e-12)
        times = {kind: value * 1e12 for kind, value in zip(kinds, decode, strict=True)}
        return rate / 1e9, times, {k: v * 1e12 for k, v in zip(["f16", *kinds], prefill, strict=True)}

    def machine(self, row: Row) -> Machine:
        """What a row is predicted on."""
        machine = self._with_power(as_it_is(self.table, row), row)
        if row.device in self.cells:
            found = self.of_row(row.device)
            return _on_gpu(machine, found)
        if row.device == "pi4":
            rate, decode, prefill = self.of_a72()
            kernels = a72(decode, prefill)
            cpu = machine.cpu or Processor(name="", bandwidth_bytes_per_s={})
            scaled = {1: rate * 0.72, 2: rate * 0.95, 4: rate}
            return replace(machine, cpu=replace(cpu, kernels=replace(kernels, sigma=_sigma_of(cpu.kernels)),
                           prefill_flops=None,
                           bandwidth_bytes_per_s={n: banded(each * 1e9, 0) for n, each in scaled.items()}))  # fmt: skip
        if machine.gpu is not None:
            jetson = self.of_jetson(row.device, row.mode)
            return machine if jetson is None else _on_gpu(machine, jetson)
        rates = self.of_cpu(row.device, row.mode)
        return _reading(machine, rates[row.threads], row.threads) if row.threads in rates else machine


def as_it_is(table: Mapping[str, Device], row: Row) -> Machine:
    """The device of a row by the table, with a computer around it where a part of the model lies there."""
    machine = machine_of(table[row.device], row.mode)
    return replace(machine, cpu=DESKTOP) if row.is_shared_out else machine


def _family(kind: str) -> str:
    return "apple" if kind.startswith("apple") and kind != "apple-m5" else kind


def _kind_time_s(row: Row, kind: Figures, peak: float) -> float:
    return (kind["read"] * _read_bytes(row) + kind["packed"] * _work(row.facts)[0]) / peak + kind["layer_s"] * (
        row.facts.n_layer or 0
    )


def _sigma_of(kernels: Kernels | None) -> float:
    return kernels.sigma if kernels is not None else 0.3


def a72(decode_ps: Figures, prefill_ps: Figures) -> Kernels:
    """The constants of Cortex-A72 with these times per weight."""
    return replace(
        KERNELS["arm-neon"],
        decode_s={"f16": 0.0, **{kind: each * 1e-12 for kind, each in decode_ps.items()}},
        prefill_s={kind: each * 1e-12 for kind, each in prefill_ps.items() if each},
    )


def _on_gpu(machine: Machine, found: Figures) -> Machine:
    gpu = machine.gpu
    if gpu is None:
        return machine
    rate, flops = gpu.bandwidth_bytes_per_s[0], gpu.prefill_flops
    if "reading_gb_s" in found:
        rate = banded(found["reading_gb_s"] * 1e9, 0)
    if "prefill_gflops" in found:
        flops = banded(found["prefill_gflops"] * 1e9, 0.25 if flops is None else sigma_in(flops))
    kernels = gpu_kernels(
        weight_s=found["weight_ps"] * 1e-12, layer_s=found["layer_us"] * 1e-6, sigma=_sigma_of(gpu.kernels)
    )
    return replace(machine, gpu=replace(gpu, bandwidth_bytes_per_s={0: rate}, kernels=kernels, prefill_flops=flops))


def _reading(machine: Machine, rate_gb_s: float, threads: int) -> Machine:
    cpu = machine.cpu
    if cpu is None:
        return machine
    rates = {**cpu.bandwidth_bytes_per_s, threads: banded(rate_gb_s * 1e9, 0)}
    return replace(machine, cpu=replace(cpu, bandwidth_bytes_per_s=rates))


def _decode(row: Row, machine: Machine) -> float:
    return float(_predicted(row, machine).decode_tokens_per_s.value)


def _off_by(rows: Sequence[Row], machine: Machine, rate_gb_s: float) -> float:
    return mean(log(_decode(row, _reading(machine, rate_gb_s, row.threads)) / row.decode_tokens_per_s) for row in rows)


def _solve(off_by: Callable[[float], float]) -> float:
    """The rate in GB/s at which predictions are right in the mean, by halving."""
    low, high = 0.5, 500.0
    for _ in range(40):
        middle = sqrt(low * high)
        low, high = (middle, high) if off_by(middle) < 0 else (low, middle)
    return sqrt(low * high)


def _predicted(row: Row, machine: Machine) -> Any:  # noqa: ANN401 - a prediction; there always is one
    speed = predict_speed(
        row.facts, machine, settings=row.settings, threads=row.threads, depth_tokens=row.depth_tokens,
        prompt_tokens=row.prompt_tokens,
    )  # fmt: skip
    if isinstance(speed, Unavailable):
        raise SystemExit(f"{row.name}: {speed.reason}")
    return speed


def outcomes(rows: Sequence[Row], *, as_is: bool) -> list[Outcome]:
    """Each row predicted: by the table as it is, or by the other models of its device."""
    found = []
    table = load_devices()
    for row in rows:
        others = [each for each in rows if each.device != row.device or each.model != row.model]
        machine = as_it_is(table, row) if as_is else _left_out(row, others)
        speed = _predicted(row, machine)
        ollama = None if row.engine != "Ollama" else OLLAMA[_processor_of(row)] if as_is else of_ollama(others, row)
        decode = speed.decode_tokens_per_s
        if ollama is not None:
            decode = ollama.rate(decode)
        figures = [("decode", decode, row.decode_tokens_per_s)]
        if row.prefill_tokens_per_s and speed.prefill_tokens_per_s is not None:
            figures.append(("prefill", speed.prefill_tokens_per_s, row.prefill_tokens_per_s))
        if row.j_per_token:
            energy = predict_energy(row.facts, machine, speed, settings=SETTINGS, threads=row.threads,
                                    depth_tokens=row.depth_tokens)  # fmt: skip
            if not isinstance(energy, Unavailable):
                joules = energy.decode_j_per_token
                if ollama is not None:
                    joules = banded(joules.value * ollama.joules, max(ollama.joules_sigma, sigma_in(joules)))
                figures.append(("energy", joules, row.j_per_token))
        found += [
            Outcome(row=row, figure=name, predicted=each.value, low=each.low, high=each.high, measured=measured)
            for name, each, measured in figures
        ]
    return found


def of_ollama(rows: Sequence[Row], like: Row) -> EngineRatio:
    """Figures of Ollama by those of llama.cpp, on what computes in a row; rows deviate so with their model left out.

    On processors the time of a token is a multiple, on GPUs it is longer by the same time for all models: there its own
    part of the work stands out where a token takes a few milliseconds.
    """
    processor = _processor_of(like)
    ratio = token_s = 0.0
    if processor == "cpu":
        ratio, decode_sigma = _typical(rows, processor, _time_ratio, lambda row, usual: _time_ratio(row) - usual)
    else:
        token_s, decode_sigma = _typical(
            rows, processor, _added_s, lambda row, usual: log(_token_s(row) / (_predicted_s(row) + max(0.0, usual)))
        )
    joules, joules_sigma = _typical(rows, processor, _joules_ratio, lambda row, usual: _joules_ratio(row) - usual)
    decode = exp(-ratio)
    if not joules_sigma:  # nobody measured it: the power is the same, and the time is not
        return EngineRatio(decode, decode_sigma, 1 / decode, decode_sigma)
    return EngineRatio(decode, decode_sigma, exp(joules), joules_sigma, max(0.0, token_s))


def _typical(
    rows: Sequence[Row], processor: str, figure: Callable[[Row], float], off_by: Callable[[Row, float], float]
) -> tuple[float, float]:
    """The middle one of the models, since it computes single ones with another program, and what the others are off."""
    known: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        there = row.engine != "llama.cpp" and _processor_of(row) == processor and row.device in _with_llama_cpp()
        if there and (figure is not _joules_ratio or row.j_per_token):
            known.setdefault((row.device, row.model), []).append(row)
    by_model = {name: mean(map(figure, each)) for name, each in known.items()}
    errors = [off_by(row, median([each for other, each in by_model.items() if other != name] or [0.0]))
              for name, own in known.items() for row in own]  # fmt: skip
    return median(by_model.values() or [0.0]), sqrt(mean(off**2 for off in errors)) if errors else 0.0


@cache
def _predicted_s(row: Row) -> float:
    """Time of a token in llama.cpp by the table."""
    return float(1 / _decode(row, machine_of(load_devices()[row.device], row.mode)))


def _token_s(row: Row) -> float:
    return 1 / row.decode_tokens_per_s


def _added_s(row: Row) -> float:
    return _token_s(row) - _predicted_s(row)


def _time_ratio(row: Row) -> float:
    return log(_token_s(row) / _predicted_s(row))


@cache
def _joules_ratio(row: Row) -> float:
    machine = machine_of(load_devices()[row.device], row.mode)
    energy = predict_energy(row.facts, machine, _predicted(row, machine), settings=SETTINGS, threads=row.threads,
                            depth_tokens=row.depth_tokens)  # fmt: skip
    return 0.0 if isinstance(energy, Unavailable) else log((row.j_per_token or 0) / energy.decode_j_per_token.value)


@cache
def _with_llama_cpp() -> frozenset[str]:
    return frozenset(row.device for row in published() if row.engine == "llama.cpp")


_FITS: dict[tuple[str, str], Fit] = {}


def _left_out(row: Row, others: Sequence[Row]) -> Machine:
    fit = _FITS.setdefault((row.device, row.model), Fit(others))
    return fit.machine(row)


def coverage_interval(held: int, count: int) -> tuple[float, float]:
    """Clopper and Pearson's interval of 95 % for a share, by halving."""

    def tail(share: float, least: int) -> float:
        return sum(comb(count, k) * share**k * (1 - share) ** (count - k) for k in range(least, count + 1))

    def solve(wanted: float, least: int) -> float:
        low, high = 0.0, 1.0
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (middle, high) if tail(middle, least) < wanted else (low, middle)
        return low

    return (solve(0.025, held) if held else 0.0), (solve(0.975, held + 1) if held < count else 1.0)


def print_table(title: str, found: Sequence[Outcome], group: Callable[[Outcome], str]) -> None:
    """One line a group."""
    print(f"\n{title}\n{'':40}{'n':>5}{'bias':>8}{'median':>8}{'worst':>8}{'in band':>9}{'width':>7}")
    groups: dict[str, list[Outcome]] = {}
    for each in found:
        groups.setdefault(group(each), []).append(each)
    for name, members in sorted(groups.items()):
        errors = [each.predicted / each.measured - 1 for each in members]
        width = exp(mean(log(each.high / each.low) for each in members))
        held = sum(each.held for each in members)
        worst = max(errors, key=abs)
        line = f"{name:40}{len(members):5}{mean(errors):+8.1%}{median(map(abs, errors)):8.1%}{worst:+8.1%}"
        low, high = coverage_interval(held, len(members))
        interval = f"  ({low:.0%} to {high:.0%})" if len(members) >= 10 else ""
        print(f"{line}{held / len(members):9.0%}{width:6.2f}x{interval}")


def sigma_of(found: Iterable[Outcome]) -> float:
    """Root mean square of the logarithms of what predictions are off by."""
    logs = [log(each.predicted / each.measured) for each in found]
    return sqrt(mean(each**2 for each in logs)) if logs else 0.0


def write(rows: Sequence[Row]) -> None:
    """Put what was fitted into the table."""
    fit = Fit(rows)
    found = outcomes(rows, as_is=False)
    _write_rows(fit, rows, found)
    text = TABLE.read_text()
    for device, mode in sorted({row.place for row in rows if row.device not in fit.cells}):
        own = [each for each in found if each.row.place == (device, mode)]
        native = [each for each in own if each.row.engine == "llama.cpp"] or own
        gpu = fit.table[device].modes[mode].gpu
        section = f"{device}.modes.{mode}.{'cpu' if gpu is None else 'gpu'}"
        settings: dict[str, str] = {}
        if gpu is not None:
            settings |= {key: f"{each:.3g}" for key, each in (fit.of_jetson(device, mode) or {}).items()}
        else:
            settings |= fit.reading_of(device, mode)
        decode = [each for each in native if each.figure == "decode"]
        if len(decode) >= 4:
            settings["sigma"] = f"{max(SIGMA_LEAST, sigma_of(decode)):.3g}"
        prefill = [each for each in native if each.figure == "prefill"]
        if len(prefill) >= 4:
            settings["prefill_sigma"] = f"{max(SIGMA_LEAST, sigma_of(prefill)):.3g}"
        text = set_in_section(text, section, settings)
        power = fit.power(device, mode)
        if power is not None:
            energy = [each for each in native if each.figure == "energy"]
            watts = ", ".join(f"{count} = {each:.3g}" for count, each in power[0].items())
            figures = {
                "decode_w": f"{power[0][0]:.3g}" if 0 in power[0] else f"{{ {watts} }}",
                "weight_pj": f"{power[1] * 1e12:.3g}",
                "token_sigma": f"{max(SIGMA_LEAST, sigma_of(energy)):.3g}",
            }
            text = set_in_section(text, f"{device}.modes.{mode}.power", figures)
        print(section, settings)
    print("Cortex-A72, for edgetop/fit/machine.py:", fit.of_a72())
    for device in ("pi5", "orin-nano-super"):
        like = next(row for row in rows if row.device == device)
        print(f"Ollama on a {_processor_of(like)}, for edgetop/fit/speed.py:", of_ollama(rows, like))
    TABLE.write_text(text)


def _write_rows(fit: Fit, rows: Sequence[Row], found: Sequence[Outcome]) -> None:
    by_family: dict[str, dict[str, list[Outcome]]] = {}
    for each in found:
        if each.row.device in fit.cells:
            by_family.setdefault(_family(fit.cells[each.row.device]["kind"]), {}).setdefault(each.figure, []).append(
                each
            )
    for name, cells in fit.cells.items():
        family = by_family.get(_family(cells["kind"]), {})
        own = [row for row in rows if row.device == name and not row.is_shared_out]
        for key, value in fit.of_row(name).items():
            cells[key] = f"{value:.4g}"
        for key, figure in (("sigma", "decode"), ("prefill_sigma", "prefill")):
            known: dict[str, list[Outcome]] = {}
            for each in family.get(figure, []):
                if each.row.engine == "llama.cpp" and not each.row.is_shared_out:
                    known.setdefault(each.row.device, []).append(each)
            devices = len(known)
            if len(known.get(name, [])) >= OWN_BAND_ROWS:
                band = sigma_of(known[name])
            else:
                # Each device counts once: one with many rows says little of the others.
                band = sqrt(mean(sigma_of(each) ** 2 for each in known.values())) if devices > 1 else ALONE[figure]
            if not any(figure == "decode" or row.prefill_tokens_per_s for row in own):
                band = max(KINDS_APART, band * sqrt(1 + 1 / max(1, devices)))
            cells[key] = f"{max(SIGMA_LEAST, band):.3g}"
        cells["rows"] = str(len(own))
    with ROWS.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.DictWriter(opened, fieldnames=list(next(iter(fit.cells.values()))), lineterminator="\n")
        writer.writeheader()
        writer.writerows(fit.cells.values())


def set_in_section(text: str, section: str, settings: Mapping[str, str]) -> str:
    """The text of a TOML file with keys of one section set."""
    begin = text.index(f"[{section}]")
    end = text.find("\n[", begin)
    part = text[begin : end if end > 0 else None]
    for key, value in settings.items():
        line = f"{key} = {value}"
        changed, count = re.subn(rf"(?m)^{key} = .*$", line, part)
        part = changed if count else part.rstrip("\n") + f"\n{line}"
    return text[:begin] + part.rstrip("\n") + (text[end:] if end > 0 else "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--as-is", action="store_true", help="the table as it stands, nothing left out")
    parser.add_argument("--unseen", action="store_true", help="rows that were never fitted to, by that table")
    parser.add_argument("--write", action="store_true", help="write the fitted rates into the table")
    parser.add_argument("--rows", action="store_true", help="every row")
    arguments = parser.parse_args()
    rows = published(UNSEEN if arguments.unseen else PUBLISHED)
    if arguments.write:
        write(published())
        return
    found = outcomes(rows, as_is=arguments.as_is or arguments.unseen)
    kinds = Fit(rows).cells
    if arguments.rows:
        for each in found:
            print(f"{each.figure:8}{each.row.name:52}{each.measured:10.3g} predicted {each.predicted:10.3g} "
                  f"({each.low:.3g} to {each.high:.3g}) {each.predicted / each.measured - 1:+.0%}")  # fmt: skip
    for figure in ("decode", "prefill", "energy"):
        here = [each for each in found if each.figure == figure]
        native = [each for each in here if each.row.engine == "llama.cpp"]
        print_table(f"{figure}, llama.cpp", native, lambda each: f"{each.row.device} {each.row.mode}")
        print_table(f"{figure} by class", native, lambda each: _class_of(each.row, kinds))
        print_table(f"{figure}, pooled", [*here, *here], _each_and_all())


def _each_and_all() -> Callable[[Outcome], str]:
    """Groups by engine when rows come the first time, and all of them when they come again."""
    seen: set[int] = set()

    def group(each: Outcome) -> str:
        again = id(each) in seen
        seen.add(id(each))
        return "all rows" if again else each.row.engine

    return group


def _class_of(row: Row, cells: Mapping[str, Mapping[str, str]]) -> str:
    device = row.device
    if row.is_shared_out:
        return "partly on the CPU"
    if device in cells:
        return _family(cells[device]["kind"])
    return "jetson" if device.startswith(("orin", "agx")) else "boards and processors"


if __name__ == "__main__":
    run_benchmark(main)

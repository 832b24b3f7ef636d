"""What this device has done before: its own recorded runs, and how the next one follows from them.

A run is carried over to another depth, another number of threads or another size of the same quantization by the ratio
of the two predicted times; what the formulas get wrong in the same way for both cancels out. The further it is carried,
the wider the band.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import exp, hypot, log, sqrt
from statistics import median, pstdev
from typing import Literal

from msgspec import Struct

from edgetop.core.engine import EngineSettings
from edgetop.core.records import Scope
from edgetop.fit.model_facts import ModelFacts

Kinship = Literal["same", "other threads", "other size"]
"""How a run resembles what is to be predicted, nearest first."""

TOKENS_MIN = 8
"""Shorter runs are mostly noise."""
NEWEST = 5
"""So many of the nearest runs are used."""
_SIGMA: dict[Kinship, float] = {"same": 0.07, "other threads": 0.16, "other size": 0.12}
"""Of one run, before it is carried anywhere: from one session to the next, and by kinship. By judgement, and adjusted
to how often the bands of `benchmarks/speed_prediction.py` held on one machine; `other size` is judgement alone."""
_CARRIED_SIGMA = 0.08
"""... and so much more for each factor e that the predicted time differs by."""
_SIZES_MAX = 8.0
"""A model more than so many times larger or smaller teaches nothing."""


class Experience(Struct, frozen=True, kw_only=True):
    """One measured run of a recorded session. Rates are of the whole run."""

    session: str
    """Where it is recorded, in words for a person: the session's name."""
    measured_at: str
    """Wall clock, ISO 8601."""
    machine_key: str
    """`edgetop.fit.machine_profile.machine_key` of the device as it was then, power mode among it."""
    model_name: str
    architecture: str
    parameters: int
    size_bytes: int
    """Bytes of all weights, as the engine says."""
    file_type: str
    """llama.cpp's label of the quantization, such as `Q4_K_M`."""
    weight_bytes_per_token: int | None = None
    """`None` where the model's file is no longer there to be asked."""
    threads: int
    gpu_layers: int = 0
    type_k: str = "f16"
    type_v: str = "f16"
    depth_tokens: int
    """Mean number of tokens in the KV cache while the reply was decoded."""
    decode_tokens: int
    decode_tokens_per_s: float
    prefill_tokens: int = 0
    prefill_tokens_per_s: float | None = None
    decode_j_per_token: float | None = None
    prefill_j_per_token: float | None = None
    energy_scope: Scope | None = None
    disturbed: bool = False
    """Throttled, paging, swapping or beside other busy processes: not what the device can do."""


Runs = Mapping[Kinship, Sequence[Experience]]
"""Own runs by kinship, the newest first."""


class Carried(Struct, frozen=True, kw_only=True):
    """What own runs say of one figure."""

    value: float
    sigma: float
    kinship: Kinship
    runs: tuple[Experience, ...]

    @property
    def words(self) -> str:
        """Which runs, for a person."""
        newest = self.runs[0]
        many = f"{len(self.runs)} own runs" if len(self.runs) > 1 else "own run"
        how = {
            "same": "of this model",
            "other threads": f"of this model with {newest.threads} threads",
            "other size": f"of {newest.model_name} {newest.file_type}",
        }[self.kinship]
        return f"{many} {how}, the newest {newest.measured_at[:10]}"


def related(
    experience: Iterable[Experience],
    facts: ModelFacts,
    settings: EngineSettings,
    *,
    machine_key: str,
    threads: int,
    gpu_layers: int,
) -> Runs:
    """The runs on this machine that can teach something, by kinship, the newest first."""
    found: dict[Kinship, list[Experience]] = {}
    for run in sorted(experience, key=lambda run: run.measured_at, reverse=True):
        if run.machine_key != machine_key or not machine_key or run.disturbed or run.decode_tokens < TOKENS_MIN:
            continue
        if (run.type_k, run.type_v) != (settings.type_k, settings.type_v) or run.file_type != facts.file_type:
            continue
        if bool(run.gpu_layers) != bool(gpu_layers):
            continue
        kinship = _kinship(run, facts, threads, gpu_layers)
        if kinship is not None:
            found.setdefault(kinship, []).append(run)
    return found


def _kinship(run: Experience, facts: ModelFacts, threads: int, gpu_layers: int) -> Kinship | None:
    same_model = (run.architecture, run.parameters) == (facts.architecture, facts.parameters)
    if same_model:
        offloaded = min(run.gpu_layers, facts.n_layer or run.gpu_layers)
        if offloaded != gpu_layers:
            return None
        return "same" if run.threads == threads or gpu_layers else "other threads"
    known = run.weight_bytes_per_token or run.size_bytes
    if (run.threads != threads and not gpu_layers) or known <= 0 or facts.weight_bytes_per_token <= 0:
        return None
    ratio = facts.weight_bytes_per_token / known
    return "other size" if 1 / _SIZES_MAX <= ratio <= _SIZES_MAX else None


def carry(
    runs: Runs,
    figure: Callable[[Experience], float | None],
    ratio: Callable[[Experience, Kinship], float],
) -> Carried | None:
    """The figure as the nearest runs have it, each times its `ratio`; `None` where no run has it.

    `ratio` is what is to be predicted over what the run did, by the formulas.
    """
    for kinship, sigma in _SIGMA.items():
        values, logs, used = [], [], []
        for run in runs.get(kinship, ()):
            measured = figure(run)
            by = ratio(run, kinship)
            if measured is None or measured <= 0 or by <= 0:
                continue
            values.append(measured * by)
            logs.append(abs(log(by)))
            used.append(run)
            if len(used) == NEWEST:
                break
        if used:
            spread = pstdev([log(value) for value in values]) if len(values) > 1 else 0.0
            one = hypot(sigma, spread, _CARRIED_SIGMA * median(logs))
            return Carried(value=exp(median(map(log, values))), sigma=one, kinship=kinship, runs=tuple(used))
    return None


def spread_of(ratios: Sequence[float]) -> float:
    """Deviation of the logarithm of ratios, from their absolute deviations from the median, which outliers leave alone.

    1.4826 makes the median absolute deviation that of a normal distribution. sqrt(1 + 1/n) is for the next one.
    """
    logs = [log(ratio) for ratio in ratios]
    middle = median(logs)
    return 1.4826 * median([abs(each - middle) for each in logs]) * sqrt(1 + 1 / len(logs))

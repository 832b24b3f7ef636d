"""Sessions of the same setting of a benchmark are one result, and what was measured in each is a repetition."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from math import sqrt
from statistics import fmean, median

from msgspec.structs import replace

from edgetop.session.comparison.result import Measured, Result

FINGERPRINT_DIGITS = 12


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
        name: _measured([result.figures[name] for result in alike])
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


def _measured(parts: Sequence[Measured]) -> Measured:
    """One figure of several sessions. What the meter gets wrong in each alike stays; the rest averages out."""
    made = "mean" if parts[0].made == "single" else parts[0].made
    repetitions = tuple(value for part in parts for value in (part.repetitions or (part.value,)))
    weights = tuple(weight for part in parts for weight in part.weights)
    if made == "ratio" and len(weights) == len(repetitions):
        value = sum(each * weight for each, weight in zip(repetitions, weights, strict=True)) / sum(weights)
    else:
        value, weights = (median(repetitions) if made == "median" else fmean(repetitions)), ()
    return Measured(
        value=value,
        made=made,
        repetitions=repetitions,
        weights=weights,
        u_random=sqrt(sum(part.u_random**2 for part in parts)) / len(parts),
        u_systematic=fmean(part.u_systematic for part in parts),
    )

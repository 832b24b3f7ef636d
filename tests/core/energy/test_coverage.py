"""A small, seeded share of `benchmarks/energy_estimator.py`."""

from __future__ import annotations

from statistics import fmean

import numpy as np
import pytest

from benchmarks.energy_estimator import SENSORS, Cell, Sensor, goals_missed, run_once


@pytest.mark.parametrize("sensor", SENSORS, ids=lambda sensor: sensor.label)
def test_the_interval_holds_the_truth_and_the_shown_figure_is_closer_than_the_naive_one(sensor: Sensor) -> None:
    rng = np.random.default_rng(20)
    cell = Cell()
    for _ in range(40):
        run_once(rng, sensor, 3.0, cell)
    assert goals_missed(3.0, sensor, cell) == []
    shown = fmean(abs(error) for error in cell.scores["shown gross"].errors)
    assert shown < fmean(abs(error) for error in cell.trapezoid)

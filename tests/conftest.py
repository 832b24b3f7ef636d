"""Fixtures for all tests."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from edgetop.io import model_file
from edgetop.telemetry import registry
from tests.support.requirements import need_demo_model

# Times are shown in the zone of the machine.
os.environ["TZ"] = "UTC"
os.environ["COLORTERM"] = "truecolor"  # else the default theme follows the terminal of whoever runs the tests
time.tzset()

# On a shared machine a deadline would measure the neighbours, not the code.
settings.register_profile("edgetop", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("edgetop")


@pytest.fixture(autouse=True)
def _environment_as_it_was() -> Iterator[None]:
    """A command that runs in the test's own process chooses an engine for that process; the next test has its own."""
    before = dict(os.environ)
    yield
    if dict(os.environ) != before:
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(autouse=True)
def _patient_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe that is slow since the machine is crowded is waited for."""
    monkeypatch.setattr(registry, "PROBE_S", 60.0)


@pytest.fixture(autouse=True)
def _keeps_no_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left in the cache of whoever runs the tests."""
    monkeypatch.setattr(model_file, "_KEPT_FROM_BYTES", sys.maxsize)


@pytest.fixture(scope="session")
def small_model() -> Path:
    """The real quantized model of the `demo` extra: SmolLM2-135M-Instruct."""
    return need_demo_model()

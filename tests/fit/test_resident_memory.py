"""Predicted memory against the peak resident set of a worker that has really decoded."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.memory_prediction import Measured, load_and_ask
from edgetop.core.engine_settings import EngineSettings
from edgetop.fit.memory import MemoryNeed, memory_need
from edgetop.fit.model_facts import read_facts
from edgetop.inference.llama.dry_load import dry_load
from tests.support.gguf_files import write_model

ALLOCATED_WITHIN, RESIDENT_WITHIN = 0.02, 0.05
PAGES_BYTES = 4 * 2**20
"""How far the worker's own pages are off: the more of its libraries the page cache has, the more are mapped at once."""


def check(path: Path, settings: EngineSettings, prompt_words: int = 540) -> None:
    facts = read_facts(path)
    measured = load_and_ask(path, settings, prompt_words=prompt_words, facts=facts)
    assert isinstance(measured, Measured), measured
    told = dry_load(path, settings)
    for need in (memory_need(facts, settings), memory_need(facts, settings, allocated=told)):  # type: ignore[arg-type]
        assert isinstance(need, MemoryNeed), need
        assert need.allocated_bytes == pytest.approx(measured.allocated_bytes, rel=ALLOCATED_WITHIN)
        assert need.total_bytes == pytest.approx(measured.peak_bytes, rel=RESIDENT_WITHIN, abs=PAGES_BYTES)


@pytest.mark.parametrize(("n_ctx", "kv_type"), [(2048, "f16"), (8192, "q8_0")])
def test_a_real_model_takes_what_is_predicted(small_model: Path, n_ctx: int, kv_type: str) -> None:
    check(small_model, EngineSettings(n_ctx=n_ctx, type_k=kv_type, type_v=kv_type, n_threads=1))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["mixtral", "gemma3", "deepseek2", "mamba", "lfm2"])
def test_models_of_other_kinds_take_what_is_predicted(tmp_path: Path, kind: str) -> None:
    check(write_model(tmp_path / "tiny.gguf", kind), EngineSettings(n_ctx=4096, n_threads=1))


def test_without_flash_attention_scores_are_kept_twice(tmp_path: Path) -> None:
    """Once where the library says so, and half of that again where it does not; both as the context fills up."""
    settings = EngineSettings(n_ctx=4096, n_threads=1, flash_attention="off")
    check(write_model(tmp_path / "tiny.gguf", "mixtral"), settings, prompt_words=4000)

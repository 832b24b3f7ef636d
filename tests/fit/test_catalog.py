from __future__ import annotations

from pathlib import Path

import pytest

from edgetop.core.engine_settings import EngineSettings
from edgetop.core.sources import Unavailable
from edgetop.fit.memory import MemoryNeed, memory_need
from edgetop.fit.model_facts import MIXES, PublishedModel, published_models, read_facts
from edgetop.inference.llama.dry_load import dry_load, dry_load_header

LISTED = {model.name: model for model in published_models()}
SETTINGS = EngineSettings(n_ctx=2048, n_threads=2, n_threads_batch=2)


@pytest.mark.parametrize("model", LISTED.values(), ids=lambda model: model.name)
def test_the_dimensions_make_as_many_weights_as_the_card_states(model: PublishedModel) -> None:
    assert model.facts("F16").parameters == int(model.row["parameters"])
    assert model.source.startswith("huggingface.co/")
    assert len(model.date) == 7
    assert set(model.quantizations) <= set(MIXES)


@pytest.mark.parametrize(
    ("name", "quantization", "size_bytes"),
    [  # files that were published: llama-bench's column of sizes, tests of a Raspberry Pi 4
        ("gemma-3-270m-it", "F16", 536308224), ("gemma-3-270m-it", "Q8_0", 285018624),
        ("gemma-3-270m-it", "Q6_K", 276447744), ("gemma-3-270m-it", "Q5_K_M", 253499904),
        ("gemma-3-270m-it", "Q5_1", 253684224), ("gemma-3-270m-it", "Q5_0", 247417344),
        ("gemma-3-270m-it", "Q4_K_M", 246587904), ("gemma-3-270m-it", "Q4_1", 241150464),
        ("gemma-3-270m-it", "Q4_0", 234883584), ("gemma-3-270m-it", "Q3_K_L", 239860224),
        ("gemma-3-270m-it", "Q3_K_S", 230183424), ("gemma-3-270m-it", "IQ3_M", 232466944),
    ],
)  # fmt: skip
def test_a_quantization_has_the_size_that_llama_cpp_gives_it(name: str, quantization: str, size_bytes: int) -> None:
    assert LISTED[name].facts(quantization).tensor_bytes == size_bytes


@pytest.mark.parametrize("model", LISTED.values(), ids=lambda model: model.name)
def test_the_formulas_say_what_llama_cpp_says_of_the_same_header(model: PublishedModel) -> None:
    """A sparse file with nothing but the header, which llama.cpp takes for the model."""
    facts = model.facts(model.quantizations[0])
    told = dry_load_header(facts.header, facts.n_vocab or 0, SETTINGS)
    if isinstance(told, Unavailable) and "does not report" in told.reason:
        pytest.skip(told.reason)
    assert not isinstance(told, Unavailable), told
    need = memory_need(facts, SETTINGS)
    assert isinstance(need, MemoryNeed)
    allocated = sum(size or 0 for size in (told.weights_bytes, told.kv_bytes, told.compute_bytes, told.output_bytes))
    # Of the graph of lfm2 the formulas plan a little more than ggml does.
    within = 6e-3 if facts.architecture == "lfm2" else 1e-4
    assert need.allocated_bytes == pytest.approx(allocated, rel=within)


def test_a_header_alone_gives_the_breakdown_of_the_whole_file(small_model: Path) -> None:
    facts = read_facts(small_model)
    whole = dry_load(small_model, SETTINGS)
    if isinstance(whole, Unavailable):
        pytest.skip(whole.reason)
    assert dry_load_header(facts.header, facts.n_vocab or 0, SETTINGS) == whole

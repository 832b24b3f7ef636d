"""The memory a model needs: by the formulas, from what the library told, and what of it fits."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from edgetop.core.engine_settings import EngineSettings, MemoryBreakdown
from edgetop.core.gguf import GgufArray, read_header
from edgetop.core.records import ModelLoaded
from edgetop.core.sources import Unavailable
from edgetop.fit.compute_buffer import CHECKED
from edgetop.fit.memory import (
    MemoryNeed,
    MemoryRoom,
    fitting_kv_type,
    largest_context,
    main_memory,
    memory_need,
    vocabulary_bytes,
)
from edgetop.fit.model_facts import ModelFacts, facts_of, published_models, read_facts
from edgetop.inference.client import EngineProcess
from edgetop.inference.protocol import Hello
from tests.support.engine_worker import EngineWorker
from tests.support.gguf_architectures import ARCHITECTURES, Architecture, llama
from tests.support.gguf_files import model_bytes, write_model

AVX2 = frozenset({"AVX2"})
LISTED = {model.name: model for model in published_models()}
ROUNDING_BYTES = 6 * 5300
"""The library's log has two decimals of a MiB, for up to six buffers."""
SETTINGS = (
    EngineSettings(n_ctx=512, n_threads=1),
    EngineSettings(n_ctx=4096, n_ubatch=128, n_threads=1),
    EngineSettings(n_ctx=2048, flash_attention="off", n_threads=1),
    EngineSettings(n_ctx=300, type_k="q8_0", type_v="q8_0", n_threads=1),
)


@pytest.fixture(scope="module")
def talk() -> Iterator[EngineWorker]:
    with EngineProcess.start() as engine:
        yield EngineWorker(engine)


@pytest.fixture(scope="module")
def features(talk: EngineWorker) -> frozenset[str]:
    greeting = talk.until(Hello)
    return frozenset(re.findall(r"\b([A-Z][A-Z0-9_]*) = 1\b", greeting.engine.system_info))


def need_of(facts: ModelFacts, settings: EngineSettings, features: frozenset[str] = AVX2) -> MemoryNeed:
    need = memory_need(facts, settings, features=features)
    assert isinstance(need, MemoryNeed), need
    return need


def room_of(available_bytes: int) -> MemoryRoom:
    return main_memory(available_bytes=available_bytes, total_bytes=2**36)


def head_64(kind: str) -> Architecture:
    """Relatives of the llama architecture with heads of 64 numbers, which quantized caches rotate."""
    heads = 1 if kind in {"qwen2", "phi3"} else 4  # whose heads together are as wide as the residual stream
    made = llama(kv=1)
    made.tensors = {name: shape for name, shape in made.tensors.items() if name != "rope_freqs.weight"}
    made.name = kind
    made.metadata = {key.replace("llama.", f"{kind}."): value for key, value in made.metadata.items()}
    made.metadata |= {f"{kind}.attention.key_length": 64, f"{kind}.attention.value_length": 64}
    made.metadata |= {f"{kind}.attention.head_count": heads, f"{kind}.attention.head_count_kv": 1}
    made.metadata |= {f"{kind}.rope.dimension_count": 64}
    for layer in range(2):
        block = f"blk.{layer}."
        made.tensors[f"{block}attn_q.weight"] = (64, 64 * heads)
        made.tensors[f"{block}attn_output.weight"] = (64 * heads, 64)
        made.tensors |= {f"{block}attn_{name}.weight": (64, 64) for name in ("k", "v")}
        if kind == "qwen2":
            made.tensors |= {f"{block}attn_q.bias": (64,), f"{block}attn_k.bias": (64,), f"{block}attn_v.bias": (64,)}
        if kind == "qwen3":
            made.tensors |= {f"{block}attn_{name}_norm.weight": (64,) for name in ("q", "k")}
        if kind == "phi3":
            del made.tensors[f"{block}ffn_gate.weight"], made.tensors[f"{block}attn_q.weight"]
            del made.tensors[f"{block}attn_k.weight"], made.tensors[f"{block}attn_v.weight"]
            made.tensors |= {f"{block}attn_qkv.weight": (64, 192), f"{block}ffn_up.weight": (64, 256)}
    if kind == "phi3":
        made.metadata["phi3.rope.scaling.original_context_length"] = 4096
    return made


MODELS: dict[str, Architecture] = {
    **{name: make() for name, make in ARCHITECTURES.items()},
    **{f"{kind} head 64": head_64(kind) for kind in ("llama", "qwen2", "qwen3", "phi3")},
}


@pytest.mark.parametrize("name", [name for name, made in MODELS.items() if made.name in CHECKED])
def test_the_formulas_say_what_the_library_allocates(
    talk: EngineWorker, features: frozenset[str], tmp_path: Path, name: str
) -> None:
    # The library wants special tokens of a model that is called after Phi 3.
    path = write_model(tmp_path / "tiny.gguf", MODELS[name], metadata={"general.name": "Tiny"})
    facts, compared = read_facts(path), 0
    for settings in SETTINGS:
        loaded = talk.load(path, settings)
        if not isinstance(loaded, ModelLoaded):
            continue  # heads too short for blocks of 32
        compared += 1
        need = need_of(facts, settings, features)
        real = loaded.memory
        assert need.kv_bytes == pytest.approx(real.kv_bytes, abs=ROUNDING_BYTES)
        assert need.compute_bytes == pytest.approx(real.compute_bytes, abs=ROUNDING_BYTES)
        assert need.weights_bytes + need.repack_bytes == pytest.approx(real.weights_bytes, abs=ROUNDING_BYTES)
        assert need.allocated_bytes == pytest.approx(sum(real.by_buffer.values()), rel=0.02)
        assert not need.note
    assert compared >= 3


@pytest.mark.parametrize("weights", ["q4_0", "q8_0", "q4_K", "f16"])
def test_repacked_weights_are_told_apart(
    talk: EngineWorker, features: frozenset[str], tmp_path: Path, weights: str
) -> None:
    path = write_model(tmp_path / "tiny.gguf", "mixtral", weights=weights)
    loaded = talk.load(path, SETTINGS[0])
    assert isinstance(loaded, ModelLoaded)
    need = need_of(read_facts(path), SETTINGS[0], features)
    assert need.repack_bytes == pytest.approx(loaded.memory.by_buffer.get("CPU_REPACK model", 0), abs=ROUNDING_BYTES)
    assert need.droppable_bytes <= min(need.repack_bytes, need.weights_bytes)


@pytest.mark.parametrize("kind", ["qwen3next", "gemma3n"])
def test_where_no_formula_is_known_the_reason_says_so_and_the_library_still_answers(tmp_path: Path, kind: str) -> None:
    facts = read_facts(write_model(tmp_path / "tiny.gguf", kind))
    found = memory_need(facts, SETTINGS[0])
    assert isinstance(found, Unavailable)
    assert facts.architecture in found.reason
    told = MemoryBreakdown(weights_bytes=7, kv_bytes=5, compute_bytes=3, output_bytes=1, by_buffer={"CPU KV": 5})
    need = memory_need(facts, SETTINGS[0], allocated=told)
    assert isinstance(need, MemoryNeed)
    assert (need.allocated_bytes, need.basis) == (16, "llama.cpp")


def test_what_the_library_told_is_taken_as_it_is_and_sorted(tmp_path: Path) -> None:
    facts = read_facts(write_model(tmp_path / "tiny.gguf", weights="q4_0"))
    by_buffer = {
        "CPU_Mapped model": 1000,
        "CPU_REPACK model": 300,
        "CUDA0 model": 5000,
        "CUDA0 KV": 700,
        "CUDA0 compute": 60,
        "CUDA_Host compute": 40,
        "CPU output": 4,
    }
    told = MemoryBreakdown(weights_bytes=6300, kv_bytes=700, compute_bytes=100, output_bytes=4, by_buffer=by_buffer)
    need = memory_need(facts, EngineSettings(n_ctx=512), allocated=told, features=AVX2)
    assert isinstance(need, MemoryNeed)
    assert (need.weights_bytes, need.repack_bytes, need.droppable_bytes) == (6000, 300, 300)
    assert (need.gpu_bytes, need.gpu_block_bytes) == (5760, 5000)
    assert need.allocated_bytes == sum(by_buffer.values())
    assert need.total_bytes - need.process_bytes == need.allocated_bytes
    assert need.needed_bytes == need.total_bytes - 300


def test_copied_weights_leave_no_file_behind_that_could_be_dropped(tmp_path: Path) -> None:
    facts = read_facts(write_model(tmp_path / "tiny.gguf", weights="q4_0"))
    mapped, copied = need_of(facts, EngineSettings()), need_of(facts, EngineSettings(load_mode="copy"))
    assert mapped.droppable_bytes > 0
    assert copied.droppable_bytes == 0
    assert copied.total_bytes < mapped.total_bytes
    assert copied.needed_bytes == pytest.approx(mapped.needed_bytes, rel=0.01)


def test_layers_that_go_to_a_gpu_are_counted_there(small_model: Path) -> None:
    facts = read_facts(small_model)
    assert need_of(facts, EngineSettings()).gpu_bytes == 0
    embedding = next(tensor.size_bytes for tensor in facts.tensors if tensor.name == "token_embd.weight")
    half = need_of(facts, EngineSettings(n_ctx=2048, n_gpu_layers=16))
    whole = need_of(facts, EngineSettings(n_ctx=2048, n_gpu_layers=99))
    # The tied embedding is the output matrix, of which the GPU has a copy; rows are looked up where they are.
    assert whole.gpu_bytes == facts.tensor_bytes + whole.kv_bytes + whole.compute_bytes
    assert whole.repack_bytes == 0
    assert half.gpu_block_bytes - embedding == pytest.approx((facts.tensor_bytes - embedding) / 2, rel=0.01)
    output = need_of(facts, EngineSettings(n_ctx=2048, n_gpu_layers=1))
    assert output.gpu_block_bytes == pytest.approx(embedding, rel=0.001)
    kept = need_of(facts, EngineSettings(n_ctx=2048, n_gpu_layers=99, offload_kqv=False))
    assert kept.gpu_bytes == kept.gpu_block_bytes + kept.compute_bytes


def test_experts_and_named_tensors_may_stay_on_the_cpu() -> None:
    facts = LISTED["Qwen3-30B-A3B"].facts("Q4_K_M")
    everything = EngineSettings(n_ctx=2048, n_gpu_layers=99)
    experts = sum(tensor.size_bytes for tensor in facts.tensors if "_exps" in tensor.name)
    whole = need_of(facts, everything).gpu_block_bytes
    assert whole - need_of(facts, replace(everything, n_cpu_moe=99)).gpu_block_bytes == experts
    assert whole - need_of(facts, replace(everything, n_cpu_moe=24)).gpu_block_bytes == pytest.approx(
        experts / 2, rel=0.1
    )
    named = replace(everything, override_tensor=("ffn_.*_exps=CPU",))
    assert whole - need_of(facts, named).gpu_block_bytes == experts
    back = replace(everything, n_gpu_layers=1, override_tensor=("_exps=CUDA0",))
    assert need_of(facts, back).gpu_block_bytes > experts


@pytest.mark.parametrize(
    ("name", "settings", "told"),
    [
        ("Phi-3.5-mini-instruct", EngineSettings(), None),
        ("Phi-3.5-mini-instruct", EngineSettings(type_k="q8_0"), None),  # heads of 96
        ("phi-2", EngineSettings(type_k="q8_0"), "q8_0 here: its blocks of 32 do not divide the 80 numbers of a key"),
        ("phi-2", EngineSettings(type_v="q4_0"), "q4_0 here: its blocks of 32 do not divide the 80 numbers of a value"),
        ("Llama-3.2-1B-Instruct", EngineSettings(type_v="q8_0", flash_attention="off"), "without flash attention"),
        ("Llama-3.2-1B-Instruct", EngineSettings(type_k="q8_0", flash_attention="off"), None),
    ],
)
def test_what_llama_cpp_refuses_is_told_and_not_judged(name: str, settings: EngineSettings, told: str | None) -> None:
    facts = LISTED["Phi-3.5-mini-instruct" if name == "phi-2" else name].facts("Q4_K_M")
    if name == "phi-2":
        lengths = {f"phi3.attention.{what}_length": 80 for what in ("key", "value")}
        facts = replace(facts, metadata={**facts.metadata, **lengths})
    need = memory_need(facts, settings)
    if told is None:
        assert isinstance(need, MemoryNeed)
    else:
        assert isinstance(need, Unavailable)
        assert need.reason.startswith("llama.cpp refuses")
        assert told in need.reason


def test_an_architecture_that_llama_cpp_aborts_on_is_its_own_fault() -> None:
    facts = replace(LISTED["Llama-3.2-1B-Instruct"].facts("Q4_K_M"), architecture="plm")
    need = memory_need(facts, EngineSettings())
    assert isinstance(need, Unavailable)
    assert "not of the file" in need.reason


@pytest.mark.parametrize(
    ("tokens", "merges", "kind", "measured"),
    [(32000, 0, "llama", 4_763_648), (151936, 151387, "gpt2", 53_039_104), (262144, 514906, "gemma4", 108_613_632),
     (49216, 48891, "gpt2", 18_477_056), (250048, 0, "t5", 131_796_992)],
)  # fmt: skip
def test_a_vocabulary_takes_what_was_measured(
    small_model: Path, tokens: int, merges: int, kind: str, measured: int
) -> None:
    """Measured are the vocabularies that llama.cpp brings, loaded alone: llama-spm, qwen2, gemma-4, refact, nomic."""
    facts = read_facts(small_model)
    metadata = {key: value for key, value in facts.metadata.items() if key != "tokenizer.ggml.merges"}
    metadata["tokenizer.ggml.model"] = kind
    if merges:
        metadata["tokenizer.ggml.merges"] = GgufArray(merges, None)
    assert vocabulary_bytes(replace(facts, n_vocab=tokens, metadata=metadata)) == pytest.approx(measured, rel=0.15)


@pytest.fixture(scope="module")
def smollm2(small_model: Path) -> ModelFacts:
    return read_facts(small_model)


def within(available_bytes: int) -> Callable[[MemoryNeed], bool]:
    return lambda need: need.needed_bytes <= available_bytes


@given(available=st.integers(0, 2**29))
def test_the_largest_context_fits_and_the_next_one_does_not(smollm2: ModelFacts, available: int) -> None:
    settings = EngineSettings(type_k="q8_0", type_v="q8_0")
    longest = largest_context(smollm2, settings, within(available))
    if longest is not None:
        assert longest % 256 == 0
        assert need_of(smollm2, replace(settings, n_ctx=longest)).needed_bytes <= available
    following = (longest or 0) + 256
    if following <= (smollm2.n_ctx_train or 0):
        assert need_of(smollm2, replace(settings, n_ctx=following)).needed_bytes > available


def test_the_context_is_not_longer_than_the_model_was_trained_for(smollm2: ModelFacts) -> None:
    assert largest_context(smollm2, EngineSettings(), within(2**40)) == smollm2.n_ctx_train == 8192


def test_a_smaller_kv_type_is_found_where_it_makes_the_context_fit(smollm2: ModelFacts, tmp_path: Path) -> None:
    settings = EngineSettings(n_ctx=8192)
    exact = need_of(smollm2, settings).needed_bytes
    assert fitting_kv_type(smollm2, settings, within(exact)) == "f16"
    assert fitting_kv_type(smollm2, settings, within(exact - 1)) == "q8_0"
    smallest = need_of(smollm2, replace(settings, type_k="q4_0", type_v="q4_0")).needed_bytes
    assert fitting_kv_type(smollm2, settings, within(smallest)) == "q4_0"
    assert fitting_kv_type(smollm2, settings, within(smallest - 1)) is None
    short_heads = read_facts(write_model(tmp_path / "tiny.gguf"))  # of 16 numbers: the library refuses blocks of 32
    assert fitting_kv_type(short_heads, settings, within(need_of(short_heads, settings).needed_bytes - 1)) is None


KEYS = (
    "attention.key_length", "attention.value_length", "attention.key_length_mla", "attention.value_length_mla",
    "attention.sliding_window", "attention.shared_kv_layers", "ssm.conv_kernel", "ssm.inner_size", "ssm.state_size",
    "ssm.time_step_rank", "ssm.group_count", "shortconv.l_cache", "wkv.head_size", "token_shift_count",
)  # fmt: skip


@given(
    kind=st.sampled_from(["llama", "gemma3", "deepseek2", "mamba", "jamba", "lfm2", "mixtral"]),
    values=st.dictionaries(st.sampled_from(KEYS), st.one_of(st.integers(-5, 300), st.integers(-(2**63), 2**64))),
    settings=st.builds(EngineSettings, n_ctx=st.integers(1, 2**31), n_ubatch=st.integers(1, 2**31)),
)
def test_numbers_that_mean_nothing_make_no_trouble(kind: str, values: dict[str, int], settings: EngineSettings) -> None:
    facts = tiny(kind)
    changed = facts.metadata | {f"{facts.architecture}.{key}": value for key, value in values.items()}
    need = memory_need(replace(facts, metadata=changed), settings, features=AVX2)
    if isinstance(need, MemoryNeed):
        parts = (need.weights_bytes, need.repack_bytes, need.kv_bytes, need.compute_bytes, need.process_bytes)
        assert min(parts) >= 0


@cache
def tiny(kind: str) -> ModelFacts:
    data = model_bytes(kind)
    return facts_of([read_header(data)], source=kind, sizes_bytes=[len(data)])

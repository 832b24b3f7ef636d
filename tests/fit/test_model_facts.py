from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgetop.core.errors import ModelError
from edgetop.core.gguf import GgufArray, GgufError, GgufHeader, Value, read_header
from edgetop.fit.model_facts import ARCHITECTURES as KNOWN
from edgetop.fit.model_facts import ModelFacts, facts_of, read_facts
from edgetop.inference.llama.library import engines
from edgetop.io.model_file import in_time
from tests.fit.llama_verdict import llama_verdicts
from tests.support.gguf_architectures import ARCHITECTURES, N_EMBD, N_VOCAB, Setting, deepseek2, llama
from tests.support.gguf_files import TEMPLATE, all_metadata, file_bytes, model_bytes, write_model

EMBEDDING = N_EMBD * N_VOCAB
F32_BYTES = 4


def facts(data: bytes) -> ModelFacts:
    return facts_of([read_header(data)], source="tiny.gguf", sizes_bytes=[len(data)])


def made(kind: str, weights: str = "f32", metadata: dict[str, Setting] | None = None) -> ModelFacts:
    return facts(model_bytes(kind, weights=weights, metadata=metadata))


def test_a_model_is_described_as_its_header_says() -> None:
    data = model_bytes("mixtral", weights="q8_0")
    told = facts(data)
    assert (told.name, told.architecture, told.license, told.file_type) == ("Tiny llama", "llama", "apache-2.0", "Q8_0")
    assert (told.n_layer, told.n_embd, told.n_vocab, told.n_ctx_train) == (2, 64, 261, 4096)
    assert (told.n_expert, told.n_expert_used, told.is_projector) == (8, 2, False)
    assert (told.has_template, told.template_bytes) == (True, len(TEMPLATE))
    assert (told.source, told.files, told.size_bytes) == ("tiny.gguf", ("tiny.gguf",), len(data))
    assert list(told.bytes_by_type) == ["q8_0", "f32"]
    assert told.bits_per_weight == pytest.approx(8 * told.tensor_bytes / told.parameters)


def test_what_a_file_does_not_say_stays_absent() -> None:
    lean = facts(model_bytes(without=("general.name", "general.license", "tokenizer.chat_template")))
    assert (lean.name, lean.license, lean.has_template, lean.template_bytes) == ("tiny", "", False, 0)
    assert made("llama", metadata={"llama.context_length": 0}).n_ctx_train is None
    unnamed = facts(model_bytes(without=("tokenizer.ggml.tokens",)))
    assert unnamed.n_vocab == N_VOCAB, "the embedding has a row for each token"


def test_a_hostile_name_is_made_harmless_and_short() -> None:
    told = made("llama", metadata={"general.name": "red \x1b[31m\n" * 999, "general.license": "x" * 10**6})
    assert told.name.startswith("red ␛[31m red")
    assert max(len(told.name), len(told.license)) < 300


def test_weights_of_a_dense_model_are_read_once_and_of_the_embedding_one_row() -> None:
    attention = N_EMBD + N_EMBD * 64 + 2 * N_EMBD * 32 + 64 * N_EMBD
    feed_forward = N_EMBD + 3 * N_EMBD * 128
    multiplied = 2 * (attention + feed_forward) + N_EMBD + 8 + EMBEDDING  # norm, rope_freqs, output
    told = made("llama")
    assert told.parameters == told.active_parameters == multiplied + EMBEDDING
    assert told.compute_parameters == multiplied
    assert told.weight_bytes_per_token == (multiplied + N_EMBD) * F32_BYTES


def test_a_tied_embedding_is_the_output_too_and_read_whole() -> None:
    tied, untied = made("llama-tied"), made("llama")
    assert tied.parameters == untied.parameters - EMBEDDING
    assert tied.compute_parameters == tied.parameters == untied.compute_parameters
    assert tied.weight_bytes_per_token == tied.tensor_bytes


def test_a_model_that_makes_embeddings_has_no_output_to_multiply_with() -> None:
    told = made("llama-tied", metadata={"llama.pooling_type": 1})
    assert told.compute_parameters == told.parameters - EMBEDDING


@pytest.mark.parametrize(("kind", "n_expert", "used", "expert"), [
    ("mixtral", 8, 2, 3 * N_EMBD * 128),
    ("olmoe", 8, 2, 3 * N_EMBD * 128),
    ("qwen2moe", 16, 4, 3 * N_EMBD * 32),
])  # fmt: skip
def test_only_the_experts_used_count(kind: str, n_expert: int, used: int, expert: int) -> None:
    told = made(kind)
    idle = 2 * (n_expert - used) * expert
    assert told.active_parameters == told.parameters - idle
    assert told.compute_parameters == told.parameters - idle - EMBEDDING
    assert told.weight_bytes_per_token == (told.parameters - idle - EMBEDDING + N_EMBD) * F32_BYTES


def test_experts_used_may_differ_by_layer() -> None:
    each = made("mixtral", metadata={"llama.expert_used_count": [1, 3]})
    assert each.compute_parameters == made("mixtral").compute_parameters
    assert each.n_expert_used == 3


def test_a_gate_of_experts_and_a_shared_expert_are_read_whole() -> None:
    with_shared = made("qwen2moe")
    names = {tensor.name: tensor.elements for tensor in with_shared.tensors}
    whole = sum(count for name, count in names.items() if "_exps" not in name and name != "token_embd.weight")
    used = sum(count for name, count in names.items() if "_exps" in name) * 4 // 16
    assert with_shared.compute_parameters == whole + used
    assert any("shexp" in name for name in names)


def test_positions_are_looked_up() -> None:
    told = made("gpt2")
    assert told.compute_parameters == told.parameters - N_EMBD * 4096
    assert told.weight_bytes_per_token == (told.compute_parameters + N_EMBD) * F32_BYTES


def test_embeddings_per_layer_are_looked_up_and_shared_keys_and_values_are_not_computed() -> None:
    told = made("gemma3n")
    per_layer_row = 256 * 22
    shared = 2 * (2 * N_EMBD * 32 + 16)  # two layers: keys, values, and the norm of keys
    assert told.compute_parameters == told.parameters - per_layer_row * N_VOCAB - shared
    assert told.weight_bytes_per_token == (told.compute_parameters + per_layer_row) * F32_BYTES
    assert told.active_parameters == told.compute_parameters


def test_layers_of_multi_token_prediction_are_neither_loaded_nor_used() -> None:
    plain, ahead = made("deepseek2"), made("deepseek2-ahead")
    extra = sum(tensor.size_bytes for tensor in ahead.tensors if tensor.name.startswith("blk.3."))
    assert (plain.not_loaded_bytes, ahead.not_loaded_bytes) == (0, extra)
    assert ahead.weight_bytes_per_token == plain.weight_bytes_per_token
    assert (ahead.compute_parameters, ahead.active_parameters) == (plain.compute_parameters, plain.active_parameters)
    assert ahead.parameters > plain.parameters


@pytest.mark.parametrize("kind", ["mamba", "jamba", "falcon-h1", "lfm2", "qwen3next", "gemma2", "gemma3", "deepseek2"])
def test_layers_of_any_kind_are_read_whole_but_for_experts(kind: str) -> None:
    told = made(kind)
    tied = not any(tensor.name == "output.weight" for tensor in told.tensors)
    expected = sum(
        tensor.elements * told.n_expert_used // told.n_expert if "_exps" in tensor.name else tensor.elements
        for tensor in told.tensors
        if tied or tensor.name != "token_embd.weight"
    )
    assert told.compute_parameters == expected
    assert told.weight_bytes_per_token == (expected + (0 if tied else N_EMBD)) * F32_BYTES


def test_bytes_follow_the_packing_of_each_tensor() -> None:
    packed, plain = made("llama", "q8_0"), made("llama")
    matrices = plain.compute_parameters - 5 * N_EMBD - 8
    assert packed.weight_bytes_per_token == (matrices + N_EMBD) * 34 // 32 + (5 * N_EMBD + 8) * F32_BYTES
    assert packed.compute_parameters == plain.compute_parameters


def test_llama_cpp_counts_the_same_weights_in_every_architecture(tmp_path: Path, small_model: Path) -> None:
    paths = [write_model(tmp_path / f"{kind}.gguf", kind, weights="q8_0") for kind in ARCHITECTURES] + [small_model]
    ours = [[told.parameters, told.tensor_bytes] for told in map(read_facts, paths)]
    assert ours == llama_verdicts(paths)


def test_the_real_model(small_model: Path) -> None:
    told = read_facts(small_model)
    assert (told.parameters, told.compute_parameters) == (134_515_008, 134_515_008)
    assert told.weight_bytes_per_token == told.tensor_bytes == 96_576_768
    assert (told.n_layer, told.n_embd, told.n_vocab, told.n_ctx_train) == (30, 576, 49152, 8192)
    assert told.bytes_by_type == {"q4_1": 66_355_200, "q8_0": 30_081_024, "f32": 140_544}
    assert told.has_template


def test_parts_are_put_together_and_may_not_overlap() -> None:
    whole = llama()
    names = list(whole.tensors)
    keys = all_metadata(whole)
    first = read_header(file_bytes(keys, {name: whole.tensors[name] for name in names[:5]}))
    second = read_header(file_bytes({"split.no": 1, "general.name": "Other"}, {n: whole.tensors[n] for n in names[5:]}))
    told = facts_of([first, second], source="a.gguf", sizes_bytes=[1, 2], files=["a.gguf", "b.gguf"])
    assert (told.name, told.size_bytes, told.files) == ("Tiny llama", 3, ("a.gguf", "b.gguf"))
    assert told.parameters == made("llama").parameters
    assert [tensor.name for tensor in told.tensors] == names
    with pytest.raises(ModelError, match="two files of the split model have the tensor"):
        facts_of([first, first], source="a.gguf", sizes_bytes=[1, 1])


def test_the_architectures_are_those_of_the_installed_library() -> None:
    held = engines()[0].library.read_bytes()
    assert [name for name in sorted(KNOWN) if name.encode() + b"\0" not in held] == []


@pytest.mark.parametrize(
    ("metadata", "without", "key", "reason"),
    [
        ({}, "general.architecture", "", "does not say its architecture"),
        ({"general.architecture": "nonesuch"}, "", "general.architecture", "does not know the architecture 'nonesuch'"),
        ({}, "llama.block_count", "", "block_count is not there"),
        ({"llama.block_count": 0}, "", "llama.block_count", "block_count is 0, and llama.cpp takes 1 to 512"),
        ({"llama.block_count": 513}, "", "llama.block_count", "block_count is 513"),
        ({"llama.block_count": -2}, "", "llama.block_count", "block_count is -2"),
        ({"llama.block_count": 2.0}, "", "llama.block_count", "not a whole number"),
        ({"llama.block_count": 3}, "", "llama.block_count", "no tensors of layer 2"),
        ({}, "llama.context_length", "", "context_length is not there"),
        ({}, "llama.embedding_length", "", "embedding_length is not there"),
        ({"llama.attention.head_count": 0}, "", "llama.attention.head_count", "is 0, but layer 0 attends"),
        ({"llama.attention.head_count": 2_000_000_000}, "", "llama.attention.head_count", "but an embedding has"),
        ({"llama.attention.key_length": 0}, "", "llama.attention.key_length", "is 0, but layer 0 attends"),
        ({"llama.attention.value_length": 0}, "", "llama.attention.value_length", "is 0, but layer 0 attends"),
        ({"llama.attention.head_count": 4.0}, "", "llama.attention.head_count", "is not a count"),
        ({"llama.attention.head_count_kv": [2]}, "", "llama.attention.head_count_kv", "1 values for 2 layers"),
        ({"llama.attention.head_count_kv": [2, -1]}, "", "llama.attention.head_count_kv", "not a count"),
        ({"llama.expert_count": 5000}, "", "llama.expert_count", "is 5000"),
        ({"llama.expert_used_count": 3}, "", "llama.expert_used_count", "3 of 0 experts"),
        ({"llama.nextn_predict_layers": 2}, "", "llama.nextn_predict_layers", "2 of 2 layers"),
    ],
)
def test_what_llama_cpp_cannot_load_is_refused_at_its_key(
    metadata: dict[str, Setting], without: str, key: str, reason: str
) -> None:
    data = model_bytes("llama", metadata=metadata, without=(without,))
    with pytest.raises(GgufError, match=reason) as refused:
        facts(data)
    place = data.index(struct.pack("<Q", len(key)) + key.encode()) if key else 24
    assert refused.value.offset == place


def test_a_projector_is_known_as_such() -> None:
    told = facts(file_bytes({"general.architecture": "clip"}, {"v.patch_embd.weight": (64, 64)}))
    assert told.is_projector


def test_a_file_of_a_vocabulary_alone_has_no_weights() -> None:
    told = facts(file_bytes(all_metadata(llama()), {}))
    assert (told.parameters, told.bits_per_weight, told.weight_bytes_per_token) == (0, None, 0)


KEYS = [
    "general.architecture", "general.type", "general.name", "tokenizer.ggml.tokens", "tokenizer.chat_template",
    "split.count", *(
        f"deepseek2.{key}" for key in (
            "block_count", "context_length", "embedding_length", "feed_forward_length", "attention.head_count",
            "attention.head_count_kv", "attention.shared_kv_layers", "expert_count", "expert_used_count",
            "nextn_predict_layers", "pooling_type", "vocab_size",
        )
    ),
]  # fmt: skip
NUMBERS = st.one_of(st.integers(-3, 600), st.integers(-(2**63), 2**64 - 1))
HOSTILE: st.SearchStrategy[Value] = st.one_of(
    NUMBERS,
    st.booleans(),
    st.floats(),
    st.text(max_size=5),
    st.builds(lambda numbers: GgufArray(len(numbers), tuple(numbers)), st.lists(NUMBERS, max_size=5)),
    st.builds(lambda length: GgufArray(length, None), st.integers(0, 2**64 - 1)),
)
GOOD = read_header(file_bytes(all_metadata(deepseek2(ahead=1)), deepseek2(ahead=1).tensors))


@settings(max_examples=600, deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), HOSTILE, max_size=4))
def test_hostile_metadata_are_refused_or_give_figures_within_bounds(metadata: dict[str, Value]) -> None:
    header = GgufHeader(3, GOOD.metadata | metadata, GOOD.tensors, GOOD.data_offset, GOOD.key_offsets)
    try:
        told = facts_of([header], source="x", sizes_bytes=[1])
    except (ModelError, GgufError):
        return
    assert 0 <= told.weight_bytes_per_token <= told.tensor_bytes
    assert 0 <= told.compute_parameters <= told.active_parameters <= told.parameters
    assert told.n_layer is None or told.n_layer <= 512
    assert "\n" not in told.name + told.license + told.architecture


def test_an_assessment_that_does_not_end_is_ended_with_the_reason() -> None:
    def for_ever() -> None:
        while True:
            with suppress(Exception):
                sum(range(100))

    with pytest.raises(ModelError, match="asks for more work"):
        in_time(for_ever, limit_s=0.05)
    assert in_time(lambda: 7) == 7

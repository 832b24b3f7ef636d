from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from edgetop.core.engine_settings import EngineSettings
from edgetop.core.quantity import banded
from edgetop.core.sources import Unavailable
from edgetop.fit.machine import (
    AVX2,
    Kernels,
    Machine,
    Processor,
    TokenTime,
    decode_time,
    gpu_kernels,
    offloaded_share,
    prefill_time,
    weights_by_type,
)
from tests.support.example_machine import llama_facts

KERNELS = Kernels(
    decode_s={"q8_0": 10e-12, "q4_0": 5e-12, "q4_1": 50e-12}, decode_other_s=100e-12,
    prefill_s={"q8_0": 20e-12}, prefill_other_s=80e-12,
    head_s=20e-9, row_s=30e-9, prefill_head_s=10e-9, layer_s=1e-3, layer_threaded_s=2e-3,
    overlap=1.0, sigma=0.1, prefill_sigma=0.3,
)  # fmt: skip
FACTS = llama_facts()
WEIGHTS = FACTS.compute_parameters
AUTO = EngineSettings()


def cpu(kernels: Kernels | None = KERNELS, gb_s: float = 10.0) -> Processor:
    return Processor(name="cpu", bandwidth_bytes_per_s={1: banded(gb_s * 1e9, 0.0)}, kernels=kernels)


def machine(cpu: Processor | None, gpu: Processor | None = None) -> Machine:
    return Machine(name="x", cpu=cpu, gpu=gpu, basis="formula", explanation="")


GPU = Processor(
    name="gpu", bandwidth_bytes_per_s={0: banded(100e9, 0.0)},
    kernels=gpu_kernels(weight_s=4e-12, layer_s=50e-6, sigma=0.2),
)  # fmt: skip


def decode(
    of: Machine, settings: EngineSettings = AUTO, *, threads: int = 1, depth: float = 0, facts: object = None
) -> TokenTime:
    time = decode_time(FACTS if facts is None else facts, of, settings, threads=threads, depth_tokens=depth)  # type: ignore[arg-type]
    assert isinstance(time, TokenTime)
    return time


def test_a_token_reads_all_weights_and_multiplies_with_them() -> None:
    expected = FACTS.weight_bytes_per_token / 10e9 + WEIGHTS * 10e-12 + 32 * 1e-3
    assert decode(machine(cpu())).total_s == pytest.approx(expected, rel=1e-3)


def test_several_threads_share_the_arithmetic_and_wait_for_each_other() -> None:
    expected = FACTS.weight_bytes_per_token / 10e9 + WEIGHTS * 10e-12 / (0.9 * 4) + 32 * 2e-3
    assert decode(machine(cpu()), threads=4).total_s == pytest.approx(expected, rel=1e-3)


def test_where_reading_and_computing_overlap_nearly_the_longer_one_counts() -> None:
    overlapping = replace(KERNELS, overlap=3.0, layer_s=0.0)
    read_s, compute_s = FACTS.weight_bytes_per_token / 10e9, WEIGHTS * 10e-12
    time = decode(machine(cpu(overlapping)))
    assert time.weights_s == pytest.approx((read_s**3 + compute_s**3) ** (1 / 3), rel=1e-3)
    assert time.limited_by == "memory-bandwidth"


def test_the_attention_grows_with_the_depth_by_heads_and_rows() -> None:
    shallow, deep = decode(machine(cpu(gb_s=20))), decode(machine(cpu(gb_s=20)), depth=1000)
    pairs = 32 * 32 * 1000  # layers, heads, positions; every head has keys of its own
    assert shallow.attention_s == 0
    assert deep.attention_s == pytest.approx(pairs * (20e-9 + 30e-9))
    assert deep.weights_s == shallow.weights_s


def test_the_attention_takes_at_least_the_time_to_read_the_keys() -> None:
    no_compute = replace(KERNELS, head_s=0.0, row_s=0.0)
    kv_bytes = 1000 * 32 * 2 * 4096 * 2
    assert decode(machine(cpu(no_compute)), depth=1000).attention_s == pytest.approx(kv_bytes / 10e9)


def test_quantized_keys_take_longer_to_attend_to() -> None:
    four_bits = EngineSettings(type_k="q4_0", type_v="q4_0")
    assert decode(machine(cpu()), four_bits, depth=1000).attention_s > decode(machine(cpu()), depth=1000).attention_s


def test_weights_that_are_not_repacked_take_longer() -> None:
    facts = llama_facts(kind="q4_0", label=2)
    plain = EngineSettings(use_extra_bufts=False)
    faster, slower = decode(machine(cpu()), facts=facts), decode(machine(cpu()), plain, facts=facts)
    assert slower.compute_s - faster.compute_s == pytest.approx(facts.compute_parameters * 45e-12, rel=1e-3)


def test_an_unmeasured_type_takes_the_time_of_others() -> None:
    facts = llama_facts(kind="iq3_s", label=26)
    expected = facts.compute_parameters * 100e-12 + 32 * 1e-3
    assert decode(machine(cpu()), facts=facts).compute_s == pytest.approx(expected, rel=1e-3)


def test_the_embedding_that_is_only_looked_up_is_not_multiplied_with() -> None:
    assert sum(weights_by_type(FACTS).values()) == pytest.approx(FACTS.compute_parameters)
    assert sum(weights_by_type(FACTS).values()) < FACTS.parameters - 100e6


def test_a_gpu_takes_all_layers_unless_told_otherwise() -> None:
    both = machine(cpu(), GPU)
    assert offloaded_share(FACTS, both, AUTO) == 1.0
    assert offloaded_share(FACTS, both, EngineSettings(n_gpu_layers=9)) == pytest.approx(0.25, abs=0.02)
    assert offloaded_share(FACTS, both, EngineSettings(n_gpu_layers=99)) == 1.0
    assert offloaded_share(FACTS, machine(cpu()), EngineSettings(n_gpu_layers=99)) == 0.0


def test_layers_are_shared_out_between_gpu_and_cpu() -> None:
    both = machine(cpu(), GPU)
    on_gpu, on_cpu = decode(both).total_s, decode(both, EngineSettings(n_gpu_layers=0)).total_s
    half = decode(both, EngineSettings(n_gpu_layers=17)).total_s
    assert on_gpu == pytest.approx(FACTS.weight_bytes_per_token / 100e9 + 32 * 50e-6)
    # Half of the layers and the output, which is a fiftieth of it.
    assert half == pytest.approx((on_gpu + on_cpu) / 2, rel=0.03)


def test_the_number_of_threads_does_not_change_a_gpu() -> None:
    assert decode(machine(None, GPU), threads=6).total_s == decode(machine(None, GPU), threads=1).total_s


def test_nothing_known_of_the_memory_is_missing() -> None:
    time = decode_time(FACTS, machine(None), AUTO, threads=1, depth_tokens=0)
    assert isinstance(time, Unavailable)
    assert "devices.toml" in time.hint


def test_a_prompt_is_multiplied_token_by_token_and_the_output_matrix_once() -> None:
    found = prefill_time(FACTS, machine(cpu()), AUTO, threads=1, prompt_tokens=1000)
    assert found is not None
    weights = WEIGHTS - 32_000 * 4096
    pairs = 32 * 32 * 500 * 1000
    assert found[0] == pytest.approx(1000 * weights * 20e-12 + pairs * 10e-9, rel=1e-3)


def test_a_short_prompt_still_reads_the_weights_once() -> None:
    found = prefill_time(FACTS, machine(cpu(gb_s=1.0)), AUTO, threads=1, prompt_tokens=1)
    assert found is not None
    assert found[0] == pytest.approx(FACTS.weight_bytes_per_token / 1e9)


def test_a_gpu_without_a_known_prefill_says_nothing_of_it() -> None:
    assert prefill_time(FACTS, machine(None, GPU), AUTO, threads=1, prompt_tokens=100) is None
    known = replace(GPU, prefill_flops=banded(1e12, 0.3))
    found = prefill_time(FACTS, machine(None, known), AUTO, threads=1, prompt_tokens=100)
    assert found is not None
    assert found[0] == pytest.approx(2 * (WEIGHTS - 32_000 * 4096) * 100 / 1e12)


@given(
    depth=st.integers(0, 100_000), more=st.integers(0, 100_000), threads=st.integers(1, 64),
    kv=st.sampled_from(["f16", "q8_0", "q4_0"]),
)  # fmt: skip
def test_a_deeper_cache_is_never_faster(depth: int, more: int, threads: int, kv: str) -> None:
    settings = EngineSettings(type_k=kv, type_v=kv)  # type: ignore[arg-type]
    own = machine(cpu(AVX2))
    shallow = decode(own, settings, threads=threads, depth=depth)
    assert decode(own, settings, threads=threads, depth=depth + more).total_s >= shallow.total_s > 0

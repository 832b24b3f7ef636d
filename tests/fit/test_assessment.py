from __future__ import annotations

import pytest
from msgspec.structs import replace

from edgetop.core.energy.duty import Price
from edgetop.core.engine_settings import EngineSettings, MemoryBreakdown
from edgetop.core.sources import Unavailable
from edgetop.fit.assessment import RunTarget, Workload, assess, predict, with_draft
from edgetop.fit.devices import load_devices, machine_of
from edgetop.fit.machine import Power, Processor, compute_time
from edgetop.fit.model_facts import published_models
from edgetop.fit.speed import SpeedPrediction, predict_speed, side_by_side
from edgetop.fit.wording import draft_lines
from tests.support.example_machine import (
    GIB,
    KV_ROW_BYTES,
    MACHINE,
    WATTS,
    by_hand,
    figure,
    llama_facts,
    place_of,
    without_speed,
)

__all__ = ["by_hand"]
pytestmark = pytest.mark.usefixtures("by_hand")
FACTS = llama_facts()
TALK = Workload(prompt_tokens=500, answer_tokens=201)
POWERED = replace(MACHINE, power=Power(scope="board_input", decode_w={4: figure(WATTS)}))


def powered() -> RunTarget:
    place = place_of(machine=POWERED)
    return replace(place, price=Price(per_kwh=0.36, currency="EUR"), battery_j=WATTS * 3600)


def test_an_answer_takes_its_prompt_and_then_a_gap_for_each_further_token() -> None:
    found = assess(FACTS, EngineSettings(), TALK, powered())
    assert found.decode is not None
    assert found.answer_s is not None
    assert found.answer_s.value == pytest.approx(500 / 50 + 200 / found.decode.value)
    assert found.answer_s.low == pytest.approx(500 / 60 + 200 / found.decode.high)
    assert found.answer_s.high == pytest.approx(500 * 1.2 / 50 + 200 / found.decode.low)


def rates(decode: float, prefill: float | None = 1000.0) -> SpeedPrediction:
    return SpeedPrediction(
        decode_tokens_per_s=figure(decode),
        prefill_tokens_per_s=None if prefill is None else figure(prefill),
        first_token_s=None,
        basis="formula",
        explanation="",
        limited_by="memory-bandwidth",
    )


@pytest.mark.parametrize(("conversations", "published"), [(2, 12.11), (3, 12.46), (4, 12.67)])
def test_each_further_conversation_adds_what_computing_its_token_takes(conversations: int, published: float) -> None:
    # Mistral 7B Q4_0 on eight cores, 10.61 tok/s alone and a prompt at 14.01: llama.cpp issue 3478
    found = side_by_side(rates(10.61, 14.01), 0.0, conversations)
    assert found is not None
    assert found.together_tokens_per_s.value == pytest.approx(published, rel=0.05)
    assert found.each_tokens_per_s.value == pytest.approx(found.together_tokens_per_s.value / conversations)
    slower = side_by_side(rates(10.61, 14.01), 0.1, conversations)
    assert slower is not None
    assert slower.together_tokens_per_s.value < found.together_tokens_per_s.value, "few tokens are computed as one is"


def test_one_conversation_has_nobody_beside_it() -> None:
    assert side_by_side(rates(10.0), 0.0, 1) is None
    assert side_by_side(rates(10.0, None), 0.0, 4) is None
    assert side_by_side(Unavailable("nothing is known"), 0.0, 4) is None


@pytest.mark.parametrize(
    ("device", "model", "quantization", "conversations", "published"),
    [
        ("rtx-4090", "Llama-3.1-8B-Instruct", "Q4_0", 10, 1217.0),
        ("rtx-4090", "Llama-3.1-8B-Instruct", "Q4_0", 16, 1931.0),
        ("orin-nano", "gemma-3-1b-it", "Q4_K_M", 16, 88.1),
    ],
)
def test_published_rates_of_several_conversations_lie_in_the_band(
    device: str, model: str, quantization: str, conversations: int, published: float
) -> None:
    machine = machine_of(load_devices()[device])
    facts = next(each for each in published_models() if each.name == model).facts(quantization)
    settings = EngineSettings(n_gpu_layers=(facts.n_layer or 0) + 1)
    speed = predict_speed(facts, machine, settings=settings, threads=1, depth_tokens=300, prompt_tokens=512)
    found = side_by_side(speed, compute_time(facts, machine, settings, threads=1), conversations)
    assert found is not None
    assert found.together_tokens_per_s.low <= published <= found.together_tokens_per_s.high


def test_a_draft_model_brings_what_its_accepted_tokens_save() -> None:
    found = with_draft(rates(10.0), rates(100.0), 0.0)
    assert found is not None
    # 3 proposals of 10 ms, one reading of 100 ms and 3 more tokens of 1 ms give 1 + 0.8 + 0.64 + 0.512 tokens.
    assert found.decode_tokens_per_s.value == pytest.approx(2.952 / 0.133)
    assert found.decode_tokens_per_s.low < 2.952 / 0.133 < found.decode_tokens_per_s.high
    share = found.break_even_share
    assert share is not None
    assert 1 + share + share**2 + share**3 == pytest.approx(1.33, abs=1e-3)
    (line,) = draft_lines(found)
    assert line.startswith("with the draft model 22.2 (17 to 30) tok/s where 80 % of 3 proposed tokens a step are")
    assert line.endswith("it pays off from 25 %")
    slower = with_draft(rates(10.0), rates(100.0), 0.03)
    assert slower is not None
    assert slower.decode_tokens_per_s.value == pytest.approx(2.952 / 0.22), "few tokens are computed as one is"


def test_a_draft_model_that_is_too_slow_or_a_processor_that_computes_slowly_brings_nothing() -> None:
    for found in (with_draft(rates(10.0), rates(9.0), 0.0), with_draft(rates(10.0, prefill=11.0), rates(30.0), 0.0)):
        assert found is not None
        assert found.break_even_share is None
        assert "slower" in draft_lines(found)[0]
    assert with_draft(rates(10.0, prefill=None), rates(100.0), 0.0) is None
    beside = replace(TALK, draft=FACTS)
    assert assess(FACTS, EngineSettings(), TALK, powered()).draft is None
    assert assess(FACTS, EngineSettings(), beside, powered()).draft is not None


def test_joules_price_and_battery_follow_from_one_another() -> None:
    found = assess(FACTS, EngineSettings(), TALK, powered())
    assert found.decode is not None
    assert found.answer_j is not None
    assert found.price_per_million is not None
    assert found.battery_hours is not None
    joules = 500 * WATTS / 50 + 200 * WATTS / found.decode.value  # the first token is the prefill's
    assert found.answer_j.value == pytest.approx(joules)
    assert found.price_per_million.value == pytest.approx(joules / 201 * 0.36 / 3.6)  # a million J are 0.2778 kWh
    assert found.battery_hours.value == pytest.approx(1.0)
    assert found.battery_hours.low < 1 < found.battery_hours.high


def test_what_cannot_be_had_is_missing_with_its_reason_and_the_rest_is_there() -> None:
    found = assess(FACTS, EngineSettings(), TALK, place_of(machine=without_speed()))
    assert isinstance(found.speed, Unavailable)
    assert found.energy == found.speed
    assert (found.decode, found.answer_s, found.answer_j, found.battery_hours) == (None, None, None, None)
    assert found.verdict.fit == "fits"
    unpowered = assess(FACTS, EngineSettings(), TALK, place_of())
    assert isinstance(unpowered.energy, Unavailable)
    assert unpowered.price_per_million is None
    homeless = assess(FACTS, EngineSettings(), TALK, replace(place_of(), room=None))
    assert (homeless.verdict.fit, homeless.largest_context) == (None, None)
    assert homeless.decode is not None


def test_the_speed_is_that_in_the_middle_of_the_answer_and_never_beyond_the_context() -> None:
    long, short = (assess(FACTS, EngineSettings(n_ctx=n_ctx), TALK, place_of()) for n_ctx in (4096, 512))
    kv_bytes = KV_ROW_BYTES["f16"] * (500 + 100)
    assert long.decode is not None
    assert short.decode is not None
    assert long.decode.value == pytest.approx(16e9 / (FACTS.weight_bytes_per_token + kv_bytes))
    assert short.decode.value == pytest.approx(16e9 / (FACTS.weight_bytes_per_token + KV_ROW_BYTES["f16"] * 511))


def test_settings_are_those_that_a_load_would_choose() -> None:
    found = assess(FACTS, EngineSettings(), TALK, place_of(threads=3)).settings
    assert (found.n_ctx, found.n_threads, found.n_threads_batch, found.n_gpu_layers) == (4096, 3, 3, 0)
    gpu = replace(MACHINE, gpu=Processor(name="GPU", bandwidth_bytes_per_s={0: figure(60e9)}))
    offloaded = assess(FACTS, EngineSettings(), TALK, place_of(machine=gpu)).settings
    assert offloaded.n_gpu_layers == 33
    assert assess(FACTS, EngineSettings(n_gpu_layers=4), TALK, place_of(machine=gpu)).settings.n_gpu_layers == 4
    assert assess(FACTS, EngineSettings(n_gpu_layers=4), TALK, place_of()).settings.n_gpu_layers == 0


def test_the_command_that_verifies_asks_for_what_was_predicted() -> None:
    found = assess(FACTS, EngineSettings(type_k="q8_0", type_v="q8_0", n_gpu_layers=4), TALK, place_of(threads=2))
    assert found.verify_command == (
        "edgetop", "bench", "-m", "/models/llama.gguf", "-p", "500", "-n", "201", "-d", "0,500", "-t", "2",
        "--kv-type", "q8_0", "--gpu-layers", "4",
    )  # fmt: skip


def test_what_llama_cpp_says_of_memory_goes_before_the_formulas() -> None:
    told = MemoryBreakdown(weights_bytes=20 * GIB, kv_bytes=1, compute_bytes=1)
    found = assess(FACTS, EngineSettings(), TALK, place_of(), allocated=told)
    assert not isinstance(found.need, Unavailable)
    assert found.need.basis == "llama.cpp"
    assert found.verdict.fit == "does not fit"


def test_a_prediction_carries_what_the_session_needs_to_judge_by() -> None:
    settings = EngineSettings(n_ctx=4096, n_threads=2)
    made = predict(FACTS, settings, TALK, replace(powered(), room=None))
    assert made.bytes_per_token == FACTS.weight_bytes_per_token
    assert made.bytes_per_position == KV_ROW_BYTES["f16"]
    assert made.bandwidth_bytes_per_s == 12e9
    assert made.decode_tokens_per_s is not None
    assert made.decode_s_per_position == pytest.approx(KV_ROW_BYTES["f16"] / 12e9)
    deep = made.decode_at(3000)
    assert deep is not None
    assert deep.value == pytest.approx(12e9 / (FACTS.weight_bytes_per_token + 3000 * KV_ROW_BYTES["f16"]))
    nothing = predict(FACTS, settings, TALK, place_of(machine=without_speed()))
    assert (nothing.decode_tokens_per_s, nothing.bandwidth_bytes_per_s, nothing.basis) == (None, None, "not predicted")

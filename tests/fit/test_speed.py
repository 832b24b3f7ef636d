from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from edgetop.core.engine_settings import EngineSettings
from edgetop.core.gguf import GgufArray, GgufHeader, Tensor, Value, read_header
from edgetop.core.quantity import banded
from edgetop.core.records import DeviceInfo, PastRun, machine_key
from edgetop.core.sources import Unavailable
from edgetop.fit.assessment import RunTarget, Workload, assess, mtp_bytes
from edgetop.fit.devices import load_devices, machine_of, this_machine
from edgetop.fit.machine import AVX2, CorrectionFactor, Machine, Processor
from edgetop.fit.model_facts import draft_within, facts_of, published_models
from edgetop.fit.speed import START_S, EnergyPrediction, SpeedPrediction, predict_speed
from edgetop.fit.wording import draft_lines
from tests.fit.runs import KEY, run_of_model
from tests.support.example_machine import llama_facts
from tests.support.gguf_files import model_bytes

FACTS = llama_facts()
MACHINE = Machine(
    name="PC",
    cpu=Processor(
        name="cpu",
        bandwidth_bytes_per_s={1: banded(10e9, 0.05), 2: banded(16e9, 0.05), 4: banded(20e9, 0.05)},
        kernels=AVX2,
    ),
    cores=4,
    key=KEY,
    basis="formula",
    explanation="memory read at 20 GB/s, measured 2026-05-01",
)
LEARNED = CorrectionFactor(part="weights", threads=4, factor=1.25, sigma=0.06, runs=6)


def predict(of: Machine = MACHINE, **changes: Any) -> SpeedPrediction:
    asked: dict[str, Any] = {
        "settings": EngineSettings(), "threads": 4, "depth_tokens": 100, "prompt_tokens": 100, "past_runs": (),
    }  # fmt: skip
    speed = predict_speed(FACTS, of, **{**asked, **changes})
    assert isinstance(speed, SpeedPrediction)
    return speed


def test_without_anything_better_the_formula_says_its_inputs() -> None:
    speed = predict()
    assert speed.basis == "formula"
    assert "20 GB/s and 4 threads" in speed.explanation
    assert "measured 2026-05-01" in speed.explanation
    figure = speed.decode_tokens_per_s
    assert figure.low < figure.value < figure.high
    assert figure.value == pytest.approx(20e9 / FACTS.weight_bytes_per_token, rel=0.3)


def test_a_machine_of_the_table_says_so() -> None:
    assert predict(replace(MACHINE, basis="device table")).basis == "device table"


def test_what_the_machine_has_taught_corrects_the_formula_and_narrows_the_band() -> None:
    plain, taught = predict(), predict(replace(MACHINE, learned=(LEARNED,)))
    assert taught.basis == "calibrated"
    assert taught.decode_tokens_per_s.value == pytest.approx(plain.decode_tokens_per_s.value / 1.25, rel=0.01)
    assert _width(taught) < _width(plain)
    assert "6 measured runs" in taught.explanation


def test_the_same_model_measured_here_comes_before_everything_else() -> None:
    run = run_of_model(FACTS)
    speed = predict(replace(MACHINE, learned=(LEARNED,)), past_runs=[run])
    assert speed.basis == "own sessions"
    assert speed.decode_tokens_per_s.value == pytest.approx(2.0)
    assert speed.prefill_tokens_per_s is not None
    assert speed.prefill_tokens_per_s.value == pytest.approx(20.0)
    assert "own run of this model" in speed.explanation
    assert "2026-05-01" in speed.explanation


def test_a_run_is_carried_to_another_depth_by_the_formula() -> None:
    run = run_of_model(FACTS)
    speed = predict(past_runs=[run], depth_tokens=4000)
    ratio = predict(depth_tokens=4000).decode_tokens_per_s.value / predict().decode_tokens_per_s.value
    assert ratio < 1
    assert speed.decode_tokens_per_s.value == pytest.approx(2.0 * ratio)
    assert _width(speed) > _width(predict(past_runs=[run]))


def test_a_run_with_other_threads_has_a_wider_band_than_one_with_the_same() -> None:
    other = predict(past_runs=[run_of_model(FACTS, threads=2)])
    same = predict(past_runs=[run_of_model(FACTS)])
    assert other.basis == "own sessions"
    assert "with 2 threads" in other.explanation
    assert _width(other) > _width(same)


def test_a_run_of_another_size_of_the_same_quantization_teaches_by_its_bytes() -> None:
    half = llama_facts("Llama half", n_layer=16)
    run = run_of_model(half, decode_tokens_per_s=4.0)
    speed = predict(past_runs=[run])
    ratio = half.weight_bytes_per_token / FACTS.weight_bytes_per_token
    assert speed.basis == "own sessions"
    assert speed.decode_tokens_per_s.value == pytest.approx(4.0 * ratio, rel=0.01)
    assert "Llama half" in speed.explanation


def test_calibration_comes_before_a_run_that_has_to_be_carried_far() -> None:
    narrow = replace(LEARNED, sigma=0.05)
    eighth = llama_facts("Llama eighth", n_layer=4)
    run = run_of_model(eighth, decode_tokens_per_s=16.0)
    assert predict(replace(MACHINE, learned=(narrow,)), past_runs=[run]).basis == "calibrated"


@pytest.mark.parametrize(
    "changes",
    [
        {"machine_key": "another machine"}, {"disturbed": True}, {"decode_tokens": 2}, {"type_k": "q8_0"},
        {"file_type": "Q4_K_M"}, {"gpu_layers": 32}, {"decode_tokens_per_s": 0.0},
    ],
)  # fmt: skip
def test_runs_that_are_not_comparable_teach_nothing(changes: dict[str, Any]) -> None:
    assert predict(past_runs=[run_of_model(FACTS, **changes)]).basis == "formula"


def test_a_machine_without_a_key_has_no_experience() -> None:
    run = run_of_model(FACTS, machine_key="")
    assert predict(replace(MACHINE, key=""), past_runs=[run]).basis == "formula"


def test_of_several_runs_the_newest_five_count_and_an_outlier_does_not() -> None:
    runs = [
        run_of_model(FACTS, measured_at=f"2026-05-{day:02}T08:00:00+00:00", decode_tokens_per_s=rate)
        for day, rate in enumerate([9.0, 9.0, 2.0, 2.1, 1.9, 2.0, 0.5], 1)
    ]
    assert predict(past_runs=runs).decode_tokens_per_s.value == pytest.approx(2.0)


def test_the_first_token_comes_after_the_prompt() -> None:
    speed = predict(prompt_tokens=500)
    assert speed.first_token_s is not None
    assert speed.prefill_tokens_per_s is not None
    assert speed.first_token_s.value == pytest.approx(500 / speed.prefill_tokens_per_s.value + START_S)


def test_without_a_prompt_there_is_no_prefill() -> None:
    speed = predict(prompt_tokens=0)
    assert speed.prefill_tokens_per_s is None
    assert speed.first_token_s is None


def test_a_gpu_whose_prefill_is_unknown_still_learns_it_from_runs_of_the_same_model() -> None:
    gpu = Processor(name="gpu", bandwidth_bytes_per_s={0: banded(100e9, 0.1)})
    machine = replace(MACHINE, gpu=gpu)
    assert predict(machine).prefill_tokens_per_s is None
    learned = predict(machine, past_runs=[run_of_model(FACTS, gpu_layers=33)]).prefill_tokens_per_s
    assert learned is not None
    assert learned.value == pytest.approx(20.0)


def test_nothing_known_of_a_machine_is_missing() -> None:
    nothing = replace(MACHINE, cpu=None)
    speed = predict_speed(FACTS, nothing, settings=EngineSettings(), threads=1, depth_tokens=0, prompt_tokens=0)
    assert isinstance(speed, Unavailable)


def _width(speed: SpeedPrediction) -> float:
    return speed.decode_tokens_per_s.high / speed.decode_tokens_per_s.low


def test_own_runs_on_a_gpu_that_no_table_knows_come_first() -> None:
    facts = llama_facts()
    device = DeviceInfo(hostname="rtx", cpu="i7", cores_physical=8, memory_bytes=32 * 2**30)
    machine = this_machine(device, None, {})
    runs = tuple(
        PastRun(
            session="a", measured_at=f"2026-11-2{day}", machine_key=machine_key(device), model_name=facts.name,
            architecture=facts.architecture, parameters=facts.parameters, size_bytes=facts.tensor_bytes,
            file_type=facts.file_type, weight_bytes_per_token=facts.weight_bytes_per_token, threads=8, gpu_layers=33,
            depth_tokens=600, decode_tokens=500, decode_tokens_per_s=48.0, prefill_tokens=512,
            prefill_tokens_per_s=2300.0, decode_j_per_token=1.9, energy_scope="component",
        )
        for day in range(3)
    )  # fmt: skip
    place = RunTarget(machine=machine, threads=8, room=None, past_runs=runs)
    found = assess(facts, EngineSettings(n_ctx=4096), Workload(), place)
    assert isinstance(found.speed, SpeedPrediction)
    assert isinstance(found.energy, EnergyPrediction)
    assert (found.speed.basis, found.energy.basis) == ("own sessions", "own sessions")
    assert found.speed.decode_tokens_per_s.value == pytest.approx(48.0)
    assert found.energy.decode_j_per_token.value == pytest.approx(1.9)
    on_cpu = assess(facts, EngineSettings(n_ctx=4096, n_gpu_layers=0), Workload(), place)
    assert isinstance(on_cpu.speed, SpeedPrediction)
    assert on_cpu.speed.basis != "own sessions"


@pytest.mark.parametrize(
    ("names", "rate_gb_s"),
    [(("NVIDIA GeForce RTX 4070 Laptop GPU",), 256), (("NVIDIA GeForce RTX 4090", "NVIDIA GeForce RTX 3060"), 360)],
)
def test_graphics_cards_that_nvml_names_are_known_by_the_table(names: tuple[str, ...], rate_gb_s: float) -> None:
    machine = this_machine(DeviceInfo(hostname="pc", cpu="i7"), None, load_devices(), gpu_names=names)
    assert machine.gpu is not None
    assert 0.7 * rate_gb_s < machine.gpu.bandwidth_bytes_per_s[0].value / 1e9 < rate_gb_s
    assert this_machine(DeviceInfo(hostname="pc"), None, load_devices(), gpu_names=("Some GPU",)).gpu is None


def test_a_model_s_own_layer_for_further_tokens_is_a_draft_model() -> None:
    """Published for Qwen3.6 27B: 1.7 to 2.5 times the rate with three proposals (llama.cpp pull request 22673)."""
    n_layer, embd, ff, n_vocab = 64, 5120, 17408, 248320
    q4, q6 = 144 / 256, 210 / 256

    def tensor(name: str, rows: int, columns: int, kind: str) -> Tensor:
        return Tensor(name, (rows, columns), kind, 0, round(rows * columns * (q6 if kind == "q6_K" else q4)))

    tensors = [tensor("token_embd.weight", embd, n_vocab, "q4_K"), tensor("output.weight", embd, n_vocab, "q6_K")]
    for layer in range(n_layer + 1):
        tensors += [
            tensor(f"blk.{layer}.{name}.weight", rows, columns, "q4_K")
            for name, rows, columns in (
                ("attn_q", embd, 6144), ("attn_k", embd, 1024), ("attn_v", embd, 1024), ("attn_output", 6144, embd),
                ("ffn_gate", embd, ff), ("ffn_up", embd, ff), ("ffn_down", ff, embd),
            )
        ]  # fmt: skip
    tensors.append(tensor(f"blk.{n_layer}.nextn.eh_proj.weight", 2 * embd, embd, "q4_K"))
    metadata: dict[str, Value] = {
        "general.architecture": "qwen35", "qwen35.block_count": n_layer + 1, "qwen35.nextn_predict_layers": 1,
        "qwen35.embedding_length": embd, "qwen35.context_length": 262144, "qwen35.attention.head_count": 24,
        "qwen35.attention.head_count_kv": GgufArray(n_layer + 1, (4,) * (n_layer + 1)),
    }  # fmt: skip
    facts = facts_of([GgufHeader(3, metadata, tuple(tensors), 0)], source="m.gguf", sizes_bytes=[17 * 10**9])
    own = draft_within(facts)
    assert own is not None
    assert (own.n_layer, own.not_loaded_bytes) == (1, 0)
    assert own.weight_bytes_per_token == pytest.approx(
        sum(each.size_bytes for each in tensors if f"blk.{n_layer}." in each.name or each.name == "output.weight"),
        rel=1e-3,
    )
    place = RunTarget(machine=machine_of(load_devices()["rtx-3090"]), threads=8, room=None)
    found = assess(facts, EngineSettings(), Workload(prompt_tokens=500, answer_tokens=201), place)
    assert found.draft is not None
    assert found.decode is not None
    assert 1.7 < found.draft.decode_tokens_per_s.value / found.decode.value < 2.5
    # +744 MiB and +810 MiB with 65,536 tokens of q4_0 were published for a 27B in IQ4_XS of this shape
    # (github.com/sudoingX/qwen38-mtp, pull requests 45 and 46).
    asked = EngineSettings(n_ctx=65_536, type_k="q4_0", type_v="q4_0")
    assert 744 * 0.9 < mtp_bytes(facts, asked) / 2**20 < 810 * 1.1
    assert found.draft.more_bytes > facts.not_loaded_bytes > 0
    assert draft_lines(found.draft)[0].startswith("with --spec-type draft-mtp of llama-server and ")
    assert draft_within(facts_of([read_header(model_bytes("llama"))], source="m", sizes_bytes=[10**6])) is None
    assert (
        draft_within(facts_of([read_header(model_bytes("deepseek2-ahead"))], source="m", sizes_bytes=[10**6]))
        is not None
    ), "latent attention, experts"


def test_a_draft_model_with_more_layers_than_the_model_lies_on_the_card_too() -> None:
    listed = {model.name: model for model in published_models()}
    large, small = (listed[name].facts("Q4_K_M") for name in ("Llama-3.2-1B-Instruct", "SmolLM2-135M-Instruct"))
    assert (large.n_layer, small.n_layer) == (16, 30)
    place = RunTarget(machine=machine_of(load_devices()["rtx-3090"]), threads=8, room=None)
    assert assess(large, EngineSettings(), Workload(draft=small), place).draft is not None

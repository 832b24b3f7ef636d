"""The real engine on the real small model, one worker for all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgetop.core.engine_settings import EngineSettings
from edgetop.core.records import ModelLoaded, Prefill, Tokens, TurnFinished
from edgetop.inference.protocol import ChatMessage, Hello, Load, LoadFailed, LoadProgress
from tests.inference.tiny_gguf import write_tiny_gguf
from tests.support.engine_worker import EngineWorker

STORY = "Tell a very long story about a lighthouse."
LONG_PROMPT = "The quick brown fox jumps over the lazy dog. " * 150


def test_a_loaded_model_says_what_it_is_and_what_was_chosen(real: EngineWorker) -> None:
    hello = next(report for report in real.reports if isinstance(report, Hello))
    loaded = next(report for report in real.reports if isinstance(report, ModelLoaded))
    assert hello.engine.name == "llama.cpp"
    assert hello.engine.version
    assert hello.engine.devices
    assert [report.fraction for report in real.reports if isinstance(report, LoadProgress)][-1] == 1.0
    model, settings, memory = loaded.model, loaded.settings, loaded.memory
    assert (model.architecture, model.quantization, model.n_layer, model.n_ctx_train) == ("llama", "Q4_1", 30, 8192)
    assert model.bits_per_weight == pytest.approx(5.74, abs=0.01)
    assert (model.chat_template, model.template_note) == ("model", "")
    assert settings.n_ctx == 2048
    assert settings.n_ubatch == 512
    assert settings.n_threads is not None
    assert settings.n_threads >= 1
    elsewhere = [device for device in hello.engine.devices if not device.startswith(("CPU", "BLAS"))]
    assert settings.n_gpu_layers is not None
    assert (settings.n_gpu_layers > 0) == bool(elsewhere)
    # 30 layers, 2048 cells, K and V of 192 half-precision numbers each.
    assert memory.kv_bytes == 30 * 2048 * 2 * 192 * 2
    assert memory.weights_bytes == pytest.approx(92.1 * 2**20, rel=0.7)
    assert memory.compute_bytes is not None
    assert memory.compute_bytes < 40 * 2**20, "one row of logits is enough for chat"


def test_the_second_turn_reuses_the_first_ones_tokens(real: EngineWorker) -> None:
    first = real.ask("Name three colours.", turn=1, max_tokens=12, temperature=0.0)
    assert (first.stop_reason, first.generated_tokens, len(real.stamps)) == ("max_tokens", 12, 12)
    assert first.seed is None
    reply = real.text
    said = ("Name three colours.", ChatMessage("assistant", reply), "Name another one.")
    second = real.ask(*said, turn=2, max_tokens=4)
    assert second.cached_tokens >= first.prompt_tokens  # type: ignore[operator]
    prefills = [report for report in real.reports if isinstance(report, Prefill)]
    assert prefills[0].done == 0
    assert prefills[0].cached == second.cached_tokens
    assert prefills[-1].done == prefills[-1].total == second.prompt_tokens - second.cached_tokens  # type: ignore[operator]


def test_stamps_lie_between_the_prefills_end_and_the_turns_end(real: EngineWorker) -> None:
    finished = real.ask("Count to ten.", max_tokens=8)
    end_of_prefill = [report for report in real.reports if isinstance(report, Prefill)][-1]
    assert real.stamps[0] == end_of_prefill.t_us
    assert real.stamps == sorted(set(real.stamps))
    assert real.stamps[-1] <= finished.t_us


def test_our_stamps_agree_with_the_librarys_counters(real: EngineWorker) -> None:
    finished = real.ask(STORY, max_tokens=120, seed=1)
    assert finished.perf is not None
    assert finished.generated_tokens == 120
    assert finished.perf.decode_tokens == 119
    span_ms = (real.stamps[-1] - real.stamps[0]) / 1000
    # Both time the same decodes of the same run; what lies between them grows with whatever else the machine does.
    assert finished.perf.decode_ms <= span_ms < 2 * finished.perf.decode_ms
    assert finished.perf.prefill_tokens == finished.prompt_tokens - finished.cached_tokens  # type: ignore[operator]


def test_a_seed_gives_the_same_reply_again_and_another_one_does_not(real: EngineWorker) -> None:
    texts = []
    for seed in (7, 7, 7, 8):
        # The first round fills the cache, so that the others begin alike to the last bit.
        finished = real.ask(STORY, max_tokens=24, seed=seed, temperature=1.0)
        assert finished.seed == seed
        texts.append(real.text)
    assert texts[1] == texts[2] != texts[3]


def test_a_drawn_seed_is_recorded_and_repeats_the_reply(real: EngineWorker) -> None:
    drawn = real.ask(STORY, max_tokens=16, temperature=1.0)
    drawn = real.ask(STORY, max_tokens=16, temperature=1.0)
    text = real.text
    assert drawn.seed is not None
    real.ask(STORY, max_tokens=16, temperature=1.0, seed=drawn.seed)
    assert real.text == text


def test_a_stop_string_ends_the_reply_before_it(real: EngineWorker) -> None:
    question = "Repeat exactly: one, two, three, four"
    real.ask(question, max_tokens=30, temperature=0.0)
    whole = real.text
    word = whole.split()[2]
    finished = real.ask(question, max_tokens=30, temperature=0.0, stop=[word])
    assert finished.stop_reason == "stop_string"
    assert real.text == whole[: whole.index(word)]
    assert finished.generated_tokens == len(real.stamps)


def test_a_reply_ends_at_the_models_end_of_generation(real: EngineWorker) -> None:
    finished = real.ask("Say hi.", max_tokens=400, temperature=0.0)
    assert finished.stop_reason == "end_of_generation"
    assert "<|" not in real.text


def test_characters_of_several_tokens_come_out_whole(real: EngineWorker) -> None:
    said = ("Write an emoji.", ChatMessage("assistant", "😀 and ü and 漢 and 😀 and ü and 漢 and 😀 and ü and"))
    real.ask(*said, continue_reply=True, max_tokens=20, temperature=0.0)
    assert "\ufffd" not in real.text
    assert "漢" in real.text
    assert any("" in tokens.pieces for tokens in real.tokens), "a piece is empty while its character is incomplete"


def test_a_continued_reply_begins_where_it_stopped(real: EngineWorker) -> None:
    begun = real.ask("Count from one to twenty in words.", max_tokens=10, temperature=0.0)
    text = real.text
    said = ("Count from one to twenty in words.", ChatMessage("assistant", text))
    finished = real.ask(*said, continue_reply=True, max_tokens=1, temperature=0.0)
    assert finished.prompt_tokens >= begun.prompt_tokens + 9  # type: ignore[operator]


def test_stopped_in_the_middle_of_decoding_it_goes_on_with_the_next_turn(real: EngineWorker) -> None:
    real.say(STORY, turn=1)
    real.until(Tokens)
    real.engine.stop()
    finished = real.until(TurnFinished)
    assert finished.stop_reason == "cancelled"
    assert finished.generated_tokens == len(real.stamps) > 0
    again = real.ask(STORY, turn=2, max_tokens=3)
    assert again.stop_reason == "max_tokens"
    assert again.cached_tokens == again.prompt_tokens - 1  # type: ignore[operator]


def test_stopped_in_the_middle_of_a_prefill_it_goes_on_with_the_next_turn(real: EngineWorker) -> None:
    real.say(LONG_PROMPT, turn=1)
    real.until(Prefill)
    real.engine.stop()
    finished = real.until(TurnFinished)
    assert finished.stop_reason == "cancelled"
    assert finished.generated_tokens == 0
    assert finished.context_used < finished.prompt_tokens
    assert real.ask("Say hi.", turn=2, max_tokens=3).stop_reason == "max_tokens"


def test_penalties_and_all_samplers_together_make_a_reply(real: EngineWorker) -> None:
    finished = real.ask(
        STORY, max_tokens=12, repeat_penalty=1.3, frequency_penalty=0.2, presence_penalty=0.1, repeat_last_n=-1
    )
    assert finished.stop_reason == "max_tokens"


def test_no_tokens_wanted_gives_none(real: EngineWorker) -> None:
    finished = real.ask("Hello", max_tokens=0)
    assert (finished.stop_reason, finished.generated_tokens, real.text) == ("max_tokens", 0, "")


def test_a_conversation_beyond_the_context_is_refused_with_both_numbers(real: EngineWorker) -> None:
    finished = real.ask(LONG_PROMPT * 2, max_tokens=4)
    assert finished.stop_reason == "context_full"
    assert f"{finished.prompt_tokens} tokens" in finished.error
    assert "2048" in finished.error
    assert real.ask("Say hi.", max_tokens=2).stop_reason == "max_tokens"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gguf(tmp_path_factory.mktemp("tiny") / "tiny.gguf")


def test_a_full_context_ends_the_reply_when_that_is_the_choice(start: Callable[..., EngineWorker], tiny: Path) -> None:
    talk = start()
    assert isinstance(talk.load(tiny, EngineSettings(n_ctx=256, n_threads=1, full_context="stop")), ModelLoaded)
    finished = talk.ask("Hello", temperature=0.0)
    assert finished.stop_reason == "context_full"
    assert finished.context_used == 256
    assert finished.error == ""


def test_a_full_context_is_shifted_when_that_is_the_choice(start: Callable[..., EngineWorker], tiny: Path) -> None:
    talk = start()
    assert isinstance(talk.load(tiny, EngineSettings(n_ctx=256, n_threads=1, full_context="shift")), ModelLoaded)
    finished = talk.ask(ChatMessage("system", "Be brief."), "Hello", max_tokens=700, temperature=0.0)
    assert (finished.stop_reason, finished.generated_tokens) == ("max_tokens", 700)
    assert finished.context_used <= 256  # type: ignore[operator]
    exchange = ("question " * 10, ChatMessage("assistant", "answer " * 10))
    crowded = talk.ask(ChatMessage("system", "Be brief."), *exchange, *exchange, "Last", max_tokens=5, temperature=0.0)
    assert crowded.stop_reason == "max_tokens"
    assert crowded.prompt_tokens <= 256 - 256 // 4  # type: ignore[operator]


@pytest.mark.parametrize("kv", [("q8_0", "q8_0"), ("q8_0", "q4_0"), ("f32", "bf16")])
def test_every_kind_of_cache_answers(
    start: Callable[..., EngineWorker], small_model: Path, kv: tuple[str, str]
) -> None:
    talk = start()
    key, value = kv
    settings = EngineSettings(n_ctx=256, type_k=key, type_v=value)  # type: ignore[arg-type]
    loaded = talk.load(small_model, settings)
    assert isinstance(loaded, ModelLoaded)
    assert (loaded.settings.type_k, loaded.settings.type_v) == kv
    assert talk.ask("Say hi.", max_tokens=4).error == ""


def test_a_load_is_cancelled_and_the_next_one_succeeds(start: Callable[..., EngineWorker], small_model: Path) -> None:
    talk = start()
    talk.until(Hello)
    talk.engine.send(Load(path=str(small_model), settings=EngineSettings(n_ctx=256)))
    talk.engine.stop()
    failed = talk.until(LoadFailed, ModelLoaded)
    assert isinstance(failed, LoadFailed)
    assert failed.reason == "cancelled"
    assert isinstance(talk.load(small_model, EngineSettings(n_ctx=256, use_extra_bufts=False)), ModelLoaded)
    assert talk.ask("Say hi.", max_tokens=2).error == ""


@pytest.mark.parametrize(
    ("template", "source", "note"),
    [
        (None, "none", "no chat template"),
        ("{% for %}", "fallback", "TemplateSyntaxError"),
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "fallback", "longer than"),
        ("{{ 'x' * 10000000000 }}", "fallback", "memory"),
    ],
)
def test_a_model_without_a_working_template_says_so_and_answers(
    start: Callable[..., EngineWorker], tmp_path: Path, template: str | None, source: str, note: str
) -> None:
    talk = start()
    loaded = talk.load(write_tiny_gguf(tmp_path / "m.gguf", template=template), EngineSettings(n_ctx=256, n_threads=1))
    assert isinstance(loaded, ModelLoaded)
    assert loaded.model.chat_template == source
    assert note in loaded.model.template_note
    assert talk.ask("Hello", max_tokens=3).error == ""


def test_named_templates_and_template_arguments_reach_the_prompt(
    start: Callable[..., EngineWorker], tmp_path: Path
) -> None:
    named = "{{ messages[0].content }}{% if enable_thinking %}" + "T" * 50 + "{% endif %}"
    path = write_tiny_gguf(tmp_path / "m.gguf", named={"brief": named})
    talk = start()
    settings = EngineSettings(n_ctx=256, n_threads=1, template_name="brief", template_args={"enable_thinking": True})
    loaded = talk.load(path, settings)
    assert isinstance(loaded, ModelLoaded)
    assert loaded.model.chat_template == "named"
    # A byte is a token in this vocabulary: the beginning token, `Hello` and the fifty.
    assert talk.ask("Hello", max_tokens=1).prompt_tokens == 1 + 5 + 50
    assert talk.ask("Hello", max_tokens=1, template_args={"enable_thinking": False}).prompt_tokens == 1 + 5


@pytest.mark.parametrize("written", ["", "{{ bos_token }}"])
def test_a_prompt_begins_with_one_beginning_token(
    start: Callable[..., EngineWorker], tmp_path: Path, written: str
) -> None:
    path = write_tiny_gguf(tmp_path / "m.gguf", template=written + "{{ messages[0].content }}")
    talk = start()
    talk.load(path, EngineSettings(n_ctx=256, n_threads=1))
    assert talk.ask("Hello", max_tokens=1).prompt_tokens == 1 + 5

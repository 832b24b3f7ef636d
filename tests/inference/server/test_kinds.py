from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from edgetop.core.records import ModelLoaded
from edgetop.inference.protocol import LoadFailed
from tests.inference.server.conftest import Asking
from tests.support import server_replies
from tests.support.loopback_server import LoopbackServer, document, stream
from tests.support.server_replies import CHAT, as_llama_server, as_lm_studio, as_ollama, as_vllm


def test_llama_server_counts_its_tokens_and_tells_of_the_prompt(
    wire: LoopbackServer, asking: Callable[..., Asking]
) -> None:
    as_llama_server(wire)
    asked = asking()
    loaded = asked.load()
    assert isinstance(loaded, ModelLoaded)
    assert (loaded.engine.name, loaded.engine.version, loaded.engine.server) == ("llama-server", "b0-unknown", wire.url)
    assert loaded.engine.stamps == "arrival"
    assert loaded.model.name == "SmolLM2-135M-Instruct.Q4_1"
    assert loaded.model.bits_per_weight == pytest.approx(5.74, abs=0.01)
    assert (loaded.settings.n_ctx, loaded.settings.n_threads) == (2048, None)

    finished = asked.ask(temperature=0, max_tokens=12)
    assert asked.text() == "Bonjour"
    assert [(prefill.done, prefill.total, prefill.cached) for prefill in asked.prefills] == [(0, 42, 0), (42, 42, 0)]
    assert (finished.generated_tokens, finished.counted, finished.stop_reason) == (2, True, "end_of_generation")
    assert (finished.prompt_tokens, finished.cached_tokens) == (42, 0)
    assert finished.perf is not None
    assert (finished.perf.decode_tokens, finished.perf.decode_ms) == (2, 745.812)  # its rate leaves out the first one

    sent = wire.last(CHAT).document
    assert (sent["timings_per_token"], sent["return_progress"], sent["temperature"]) == (True, True, 0)


def test_older_llama_servers_divide_by_all_tokens(wire: LoopbackServer, asking: Callable[..., Asking]) -> None:
    as_llama_server(wire)
    wire.answers[CHAT] = stream(server_replies.LLAMA_SPECULATIVE, b"data: [DONE]\n\n")
    asked = asking()
    asked.load()
    finished = asked.ask()
    assert finished.perf is not None
    assert finished.perf.decode_tokens == 9
    assert asked.text("reasoning") == ' word "'


def test_tokens_before_the_first_chunk_with_text_are_its_own(
    wire: LoopbackServer, asking: Callable[..., Asking]
) -> None:
    # The recorded stream begins at its eighth token: a chunk that holds eight, then one that holds one.
    as_llama_server(wire)
    wire.answers[CHAT] = stream(server_replies.LLAMA_SPECULATIVE, b"data: [DONE]\n\n")
    asked = asking()
    asked.load()
    finished = asked.ask()
    assert finished.generated_tokens == len(asked.stamps) == 9
    assert asked.pieces == [" word", *[""] * 7, ' "']
    assert len(set(asked.stamps[:8])) == 1


def test_template_arguments_go_with_the_request(wire: LoopbackServer, asking: Callable[..., Asking]) -> None:
    as_llama_server(wire)
    asked = asking()
    asked.load(template_args={"enable_thinking": False})
    asked.ask()
    assert wire.last(CHAT).document["chat_template_kwargs"] == {"enable_thinking": False}
    asked.ask(template_args={"enable_thinking": True, "reasoning_effort": "low"})
    assert wire.last(CHAT).document["chat_template_kwargs"] == {"enable_thinking": True, "reasoning_effort": "low"}


def test_a_conversation_that_is_too_long_says_by_how_much(wire: LoopbackServer, asking: Callable[..., Asking]) -> None:
    as_llama_server(wire)
    wire.answers[CHAT] = document(server_replies.LLAMA_TOO_LONG, "400 Bad Request")
    asked = asking()
    asked.load()
    finished = asked.ask()
    assert finished.stop_reason == "context_full"
    assert "3031 tokens" in finished.error
    assert "Clear it" in finished.error


def test_ollama_tells_its_counts_at_the_end(wire: LoopbackServer, asking: Callable[..., Asking]) -> None:
    as_ollama(wire)
    asked = asking()
    loaded = asked.load(n_ctx=4096)
    assert isinstance(loaded, ModelLoaded)
    assert (loaded.engine.name, loaded.engine.version) == ("Ollama", "0.12.6")
    assert (loaded.model.name, loaded.model.architecture, loaded.model.n_layer) == ("gemma2:2b", "llama", 32)
    assert (loaded.model.n_ctx_train, loaded.model.quantization) == (8192, "Q4_0")
    assert loaded.memory.by_buffer == {"Ollama, in all": 5137025024, "Ollama, on GPUs": 5137025024}
    assert loaded.memory.weights_bytes is None
    assert wire.last("POST /api/generate").document["options"] == {"num_ctx": 4096}

    # Of the seventeen tokens of this reply the source shows the chunks of two.
    finished = asked.ask(seed=7)
    assert asked.text() == "Hello!"
    assert all(not tokens.counted for tokens in asked.reports[:-1] if hasattr(tokens, "counted"))
    assert (finished.generated_tokens, finished.counted) == (17, True)
    assert (finished.prompt_tokens, finished.stop_reason, finished.seed) == (10, "end_of_generation", 7)
    assert finished.perf is not None
    assert (finished.perf.decode_tokens, finished.perf.decode_ms) == (17, 4032.296)
    assert asked.prefills == []


def test_ollama_has_a_field_of_its_own_for_thinking(wire: LoopbackServer, asking: Callable[..., Asking]) -> None:
    as_ollama(wire)
    thinking = b'{"message":{"role":"assistant","content":"","thinking":"Hm"},"done":false}\n'
    wire.answers["POST /api/chat"] = stream(thinking, server_replies.OLLAMA_CHAT, media="application/x-ndjson")
    asked = asking()
    asked.load(template_args={"enable_thinking": True})
    asked.ask()
    assert wire.last("POST /api/chat").document["think"] is True
    asked.ask(template_args={"enable_thinking": False})
    assert wire.last("POST /api/chat").document["think"] is False
    assert (asked.text("reasoning"), asked.text()) == ("Hm", "Hello!")


def test_the_model_that_ollama_has_loaded_is_taken(wire: LoopbackServer, asking: Callable[..., Asking]) -> None:
    as_ollama(wire)
    loaded = asking().load()
    assert isinstance(loaded, ModelLoaded)
    assert loaded.model.name == "gemma2:2b"


def test_vllm_counts_the_tokens_of_each_chunk(wire: LoopbackServer, asking: Callable[..., Asking]) -> None:
    as_vllm(wire)
    asked = asking()
    loaded = asked.load()
    assert isinstance(loaded, ModelLoaded)
    assert (loaded.engine.name, loaded.settings.n_ctx) == ("vLLM", 4096)
    finished = asked.ask()
    options = wire.last(CHAT).document["stream_options"]
    assert options == {"include_usage": True, "continuous_usage_stats": True}
    assert asked.text("reasoning") == "\nOkay"
    # The source leaves out the chunks between the third token and the last one with text, the ninety-third. The call
    # of a tool that follows is of tokens too; the one that ended the reply is none of it.
    assert finished.generated_tokens == len(asked.stamps) == 126
    assert [piece for piece in asked.pieces if piece] == ["\n", "Okay", "\n\n", "add_todo"]
    assert (finished.counted, finished.prompt_tokens, finished.perf) == (True, 192, None)


def test_vllm_that_leaves_out_the_reason_is_followed_to_its_end(
    wire: LoopbackServer, asking: Callable[..., Asking]
) -> None:
    as_vllm(wire)
    wire.answers[CHAT] = stream(server_replies.VLLM_WITHOUT_REASON, server_replies.USAGE_AT_END % 3)
    asked = asking()
    asked.load()
    finished = asked.ask()
    assert asked.text() == "안녕"
    assert finished.stop_reason == "end_of_generation"


def test_lm_studio_answers_200_to_everything_and_is_told_apart_all_the_same(
    wire: LoopbackServer, asking: Callable[..., Asking]
) -> None:
    as_lm_studio(wire)
    asked = asking()
    loaded = asked.load()
    assert isinstance(loaded, ModelLoaded)
    assert loaded.engine.name == "LM Studio"
    assert (loaded.model.name, loaded.model.architecture) == ("meta-llama-3.1-8b-instruct", "llama")
    assert loaded.model.quantization == "Q4_K_M"
    finished = asked.ask()
    assert asked.text("reasoning") == "le? An"
    # Three chunks and four tokens, of which one ended the reply: each chunk was a token.
    assert (finished.generated_tokens, finished.counted) == (3, True)


def test_chunks_that_hold_several_tokens_are_not_taken_for_tokens(
    wire: LoopbackServer, asking: Callable[..., Asking]
) -> None:
    as_lm_studio(wire)
    wire.answers[CHAT] = stream(server_replies.STUDIO_REASONING, server_replies.USAGE_AT_END % 31)
    asked = asking()
    asked.load()
    finished = asked.ask()
    assert (len(asked.stamps), finished.generated_tokens, finished.counted) == (3, 31, True)


def test_a_server_that_tells_no_counts_leaves_them_unknown(wire: LoopbackServer, asking: Callable[..., Asking]) -> None:
    as_lm_studio(wire)
    wire.answers[CHAT] = stream(server_replies.STUDIO_REASONING, b"data: [DONE]\n\n")
    asked = asking()
    asked.load()
    finished = asked.ask()
    assert (finished.generated_tokens, finished.counted) == (3, False)


def test_lm_studio_of_before_it_told_counts_ends_without_them(
    wire: LoopbackServer, asking: Callable[..., Asking]
) -> None:
    as_lm_studio(wire)
    wire.answers[CHAT] = stream(server_replies.STUDIO_WITHOUT_USAGE)
    asked = asking()
    asked.load()
    finished = asked.ask()
    assert (finished.stop_reason, finished.generated_tokens, finished.counted) == ("end_of_generation", 1, False)
    assert (finished.perf, finished.error) == (None, "")


def test_a_server_that_answers_at_once_is_read_all_the_same(
    wire: LoopbackServer, asking: Callable[..., Asking]
) -> None:
    as_lm_studio(wire)
    whole = {
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi there"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 3},
    }
    wire.answers[CHAT] = document(json.dumps(whole, indent=2).encode())
    asked = asking()
    asked.load()
    assert asked.ask().generated_tokens == 3
    assert asked.text() == "Hi there"


def test_marks_of_reasoning_in_the_answer_are_taken_out(wire: LoopbackServer, asking: Callable[..., Asking]) -> None:
    as_lm_studio(wire)
    pieces = ["<th", "ink>", "Let me", " see", "</think>", "\n", "Yes."]
    chunks = [
        b"data: " + json.dumps({"choices": [{"delta": {"content": piece}}]}).encode() + b"\n\n" for piece in pieces
    ]
    wire.answers[CHAT] = stream(*chunks, b"data: [DONE]\n\n")
    asked = asking()
    asked.load()
    asked.ask()
    assert (asked.text("reasoning"), asked.text()) == ("Let me see", "Yes.")
    assert asked.stamps == sorted(asked.stamps)


@pytest.mark.parametrize("play", [as_llama_server, as_ollama, as_vllm, as_lm_studio])
def test_a_model_that_is_not_there_is_named_with_those_that_are(
    play: Callable[[LoopbackServer], None], wire: LoopbackServer, asking: Callable[..., Asking]
) -> None:
    play(wire)
    failed = asking().load("no-such-model")
    assert isinstance(failed, LoadFailed)
    assert (failed.reason, "no-such-model" in failed.message) == ("missing", True)
    assert failed.hint.startswith("It offers ")


def test_several_models_of_which_none_is_loaded_are_a_choice(
    wire: LoopbackServer, asking: Callable[..., Asking]
) -> None:
    as_ollama(wire)
    wire.answers["GET /api/ps"] = document({"models": []})
    failed = asking().load()
    assert isinstance(failed, LoadFailed)
    assert "gemma2:2b, other" in failed.hint


def test_the_kind_can_be_named_and_then_nothing_else_is_tried(
    wire: LoopbackServer, asking: Callable[..., Asking]
) -> None:
    as_llama_server(wire)
    loaded = asking(kind="openai").load()
    assert isinstance(loaded, ModelLoaded)
    assert loaded.engine.name == "OpenAI API"
    assert "GET /props" not in wire.asked


def test_an_answer_is_gone_on_with_only_where_the_server_can(
    wire: LoopbackServer, asking: Callable[..., Asking]
) -> None:
    as_lm_studio(wire)
    asked = asking()
    asked.load()
    assert "cannot continue" in asked.ask(continue_reply=True).error
    as_vllm(wire)
    wire.answers |= {"GET /props": document({}, "404 Not Found"), "GET /api/version": document({}, "404 Not Found")}
    asked.load()
    asked.ask(continue_reply=True)
    assert wire.last(CHAT).document["continue_final_message"] is True

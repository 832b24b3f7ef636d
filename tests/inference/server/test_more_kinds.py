"""Kinds that nobody ran here: answers written after what is publicly known of them, none of them recorded."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from edgetop.core.records import REPLY_TOKENS_MAX
from edgetop.inference.protocol import Noted
from edgetop.inference.server.address import Address
from edgetop.inference.server.backend import detect
from edgetop.inference.server.usage import ServerPoller, Usage
from tests.inference.server.conftest import Asking
from tests.support.loopback_server import LoopbackServer, document, stream
from tests.support.odd_answers import event
from tests.support.server_replies import CHAT

TEXT = "text/plain"
DONE = b"data: [DONE]\n\n"

KOBOLD_PERF: dict[str, object] = {
    "last_process": 1.2, "last_eval": 4.5, "last_token_count": 80, "last_seed": 1, "total_gens": 3, "stop_reason": 1,
    "queue": 0, "idle": 1, "uptime": 120, "idletime": 12, "quiet": False,
}  # fmt: skip


def models(*names: str, **fields: object) -> dict[str, object]:
    return {"object": "list", "data": [{"id": name, "object": "model", **fields} for name in names]}


def as_koboldcpp(wire: LoopbackServer, perf: dict[str, object] = KOBOLD_PERF) -> None:
    wire.answers |= {
        "GET /api/extra/version": document({"result": "KoboldCpp", "version": "1.99"}),
        # It has these two for programs that know llama-server and Ollama alone.
        "GET /props": document({"total_slots": 1, "default_generation_settings": {"n_ctx": 8192}}),
        "GET /api/version": document({"version": "0.7.0"}),
        "GET /api/extra/perf": document(perf),
        "GET /v1/models": document(models("koboldcpp/tiny", owned_by="koboldcpp")),
    }


def as_tgi(wire: LoopbackServer) -> None:
    metrics = (
        "tgi_request_generated_tokens_sum 512\ntgi_request_generated_tokens_count 4\ntgi_request_input_length_sum 99\n"
        "tgi_batch_current_size 2\ntgi_queue_size 1\n"
    )
    wire.answers |= {
        "GET /info": document({"model_id": "HuggingFaceH4/zephyr", "version": "3.3.4"}),
        "GET /metrics": document(metrics.encode(), media=TEXT),
        "GET /v1/models": document(models("HuggingFaceH4/zephyr", owned_by="HuggingFaceH4/zephyr")),
    }  # fmt: skip


def as_litellm(wire: LoopbackServer) -> None:
    wire.answers |= {
        "GET /health/readiness": document({"status": "connected", "litellm_version": "1.80.0"}),
        "GET /v1/models": document(models("gpt-4o", "local", owned_by="openai")),
    }


def as_localai(wire: LoopbackServer) -> None:
    wire.answers |= {
        "GET /system": document({"backends": ["llama-cpp"], "loaded_models": [{"id": "phi-2"}]}),
        "GET /v1/models": document(models("phi-2", "bert")),
    }


def as_tabby_api(wire: LoopbackServer) -> None:
    wire.answers |= {
        "GET /v1/models": document(models("a-exl3", "b-exl3", owned_by="tabbyAPI")),
        "GET /v1/model": document({"id": "a-exl3", "parameters": {"max_seq_len": 16384, "cache_mode": "Q8"}}),
    }


def as_triton(wire: LoopbackServer) -> None:
    wire.answers |= {
        "GET /v2": document({"name": "triton", "version": "2.60.0", "extensions": ["model_repository"]}),
        "POST /v2/repository/index": document([{"name": "vllm_model", "version": "1", "state": "READY"}]),
    }


def as_sglang(wire: LoopbackServer) -> None:
    metrics = (
        'sglang:generation_tokens_total{model_name="x"} 7.557572e+06\nsglang:prompt_tokens_total{model_name="x"} 12\n'
        'sglang:cached_tokens_total{model_name="x",cache_source="device"} 5\n'
        "sglang:num_running_reqs 3\nsglang:num_queue_reqs 0\n"
        'sglang:token_usage{dp_rank="0"} 0.28\nsglang:token_usage{dp_rank="1"} 0.42\n'
    )
    wire.answers |= {
        "GET /v1/models": document(models("x", owned_by="sglang")),
        "GET /metrics": document(metrics.encode(), media=TEXT),
    }


def usage(wire: LoopbackServer) -> Usage:
    look = ServerPoller(Address.parse(wire.url), detect).poll()
    assert look.usage is not None, look.trouble
    return look.usage


@pytest.mark.parametrize(
    ("play", "kind", "names", "tokens", "counts"),
    [
        (as_koboldcpp, "koboldcpp", ("koboldcpp/tiny",), 0, "running"),
        (as_tgi, "tgi", ("HuggingFaceH4/zephyr",), 512, "ended"),
        (as_litellm, "litellm", ("gpt-4o", "local"), None, "nothing"),
        (as_localai, "localai", ("phi-2",), None, "nothing"),
        (as_tabby_api, "tabby-api", ("a-exl3",), None, "nothing"),
        (as_triton, "triton", ("vllm_model",), None, "nothing"),
        (as_sglang, "sglang", ("x",), 7_557_572, "ended"),
    ],
)
def test_a_kind_is_told_by_what_it_answers(
    play: object, kind: str, names: tuple[str, ...], tokens: int | None, counts: str, *, wire: LoopbackServer
) -> None:
    play(wire)  # type: ignore[operator]
    found = usage(wire)
    assert (found.kind, found.models, found.counts) == (kind, names, counts)
    if tokens is None:
        assert found.no_count is not None
        assert found.no_count.reason
    else:
        assert found.tokens == tokens
    assert "GET /health" not in wire.asked, "LiteLLM's costs a generation with each server behind it"


def test_sglang_counts_at_the_end_and_cached_prompts_among_the_others(wire: LoopbackServer) -> None:
    """As observe_one_finished_request of its collector has it: nothing is counted before a request ends."""
    as_sglang(wire)
    found = usage(wire)
    assert found.prompt_tokens == 12 - 5
    assert found.context_share == pytest.approx(0.35), "the mean of both engines, not their sum"
    assert found.uncertainty == 3, "each of three that run has at least a token"


def test_a_length_that_nobody_asked_for_is_no_full_context(wire: LoopbackServer, asking: Callable[..., Asking]) -> None:
    """MLX LM ends an answer after 512 tokens, TabbyAPI after 150, TGI after 100, where a request names no length."""
    choice = {"index": 0, "delta": {"content": "one two"}, "finish_reason": "length"}
    ended = {"choices": [choice], "usage": {"prompt_tokens": 10, "completion_tokens": 100}}
    for n_ctx, reason in ((None, "max_tokens"), (2048, "max_tokens"), (110, "context_full")):
        wire.answers["GET /v1/models"] = document({"data": [{"id": "tiny", "max_model_len": n_ctx}]})
        wire.answers[CHAT] = stream(event(ended), DONE)
        asked = asking()
        asked.load()
        assert asked.ask().stop_reason == reason
        notes = [noted.text for noted in asked.of(Noted) if "does not say which" in noted.text]
        assert len(notes) == (reason == "max_tokens")
    as_sglang(wire)
    asked = asking()
    asked.load()
    assert asked.ask().stop_reason == "context_full", "it has no length of its own"


def test_mlx_lm_is_asked_for_all_of_an_answer(wire: LoopbackServer, asking: Callable[..., Asking]) -> None:
    wire.answers["GET /v1/models"] = document(models("a"))
    wire.answers[CHAT] = stream(event({"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}]}), DONE)
    asked = asking(kind="mlx-lm")
    asked.load()
    asked.ask()
    assert wire.last(CHAT).document["max_tokens"] == REPLY_TOKENS_MAX
    asked.ask(max_tokens=7)
    assert wire.last(CHAT).document["max_tokens"] == 7


def test_koboldcpp_counts_at_least_what_was_seen(wire: LoopbackServer) -> None:
    as_koboldcpp(wire)
    watched = ServerPoller(Address.parse(wire.url), detect)
    watched.poll()
    as_koboldcpp(wire, {**KOBOLD_PERF, "total_gens": 6, "last_token_count": 40, "idle": 0, "queue": 2})
    found = watched.poll().usage
    assert found is not None
    assert (found.tokens, found.counts, found.running, found.waiting) == (40, "running", 1, 2)

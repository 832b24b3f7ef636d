"""Looks at servers in use by others: what is counted, what is not, and what is never read."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetop.core.sources import Unavailable
from edgetop.inference.server import usage as usage_module
from edgetop.inference.server.address import Address
from edgetop.inference.server.backend import detect
from edgetop.inference.server.usage import NOT_RUNNING, TOO_FAST, PollResult, ServerPoller, Usage, parse_metrics
from tests.support.loopback_server import LoopbackServer, document, loopback_server, reset
from tests.support.server_replies import OLLAMA_PS
from tests.support.server_usage import PROPS, VLLM_METRICS, llama_metrics, llama_slots, serve_usage


def observer(wire: LoopbackServer, key: str = "") -> ServerPoller:
    return ServerPoller(Address.parse(wire.url), detect, key=key)


def usage_of(look: PollResult) -> Usage:
    assert look.usage is not None, look.trouble
    return look.usage


def test_llama_server_counts_ended_and_running_requests(wire: LoopbackServer) -> None:
    watched = observer(wire)
    serve_usage(wire, metrics=llama_metrics(120, running=1), slots=llama_slots(42))
    usage = usage_of(watched.poll())
    assert (usage.kind, usage.version, usage.models) == (
        "llama-server", "b6123-deadbeef", ("SmolLM2-135M-Instruct.Q4_1.gguf",),
    )  # fmt: skip
    assert (usage.tokens, usage.prompt_tokens, usage.running, usage.waiting, usage.counts) == (162, 33, 1, 0, "all")
    assert [(slot.doing, slot.generated, slot.context_used) for slot in usage.slots] == [
        ("idle", None, None), ("decode", 42, 75),
    ]  # fmt: skip
    assert usage.context_share == pytest.approx(75 / 1024)
    serve_usage(wire, metrics=llama_metrics(240), slots=llama_slots(None))
    assert usage_of(watched.poll()).tokens == 240


def test_no_word_of_the_users_is_kept(wire: LoopbackServer) -> None:
    serve_usage(wire, metrics=llama_metrics(120, running=1), slots=llama_slots(42))
    assert "secret" not in repr(observer(wire).poll())


def test_nothing_but_figures_is_asked_for_and_a_key_only_where_it_belongs(wire: LoopbackServer) -> None:
    serve_usage(wire, metrics=llama_metrics(120, running=1), slots=llama_slots(42))
    observer(wire).poll()
    assert set(wire.asked) == {"GET /props", "GET /metrics", "GET /slots"}
    assert all("authorization" not in request.headers for request in wire.requests)
    observer(wire, key="k1").poll()
    assert wire.requests[-1].headers["authorization"] == "Bearer k1"


def test_a_request_that_ends_between_two_questions_is_not_counted_twice(wire: LoopbackServer) -> None:
    serve_usage(wire, metrics=llama_metrics(0), slots=llama_slots(50))
    answers = [document(llama_metrics(ended), media="text/plain") for ended in (0, 60, 60, 60, 60, 60)]

    def next_answer(connection: object) -> None:
        step = answers.pop(0)[0]
        assert isinstance(step, bytes)
        connection.sendall(step)  # type: ignore[attr-defined]
        # The request that had 50 tokens has ended with 60.
        wire.answers["GET /slots"] = document(llama_slots(None))

    wire.answers["GET /metrics"] = [next_answer]
    assert usage_of(observer(wire).poll()).tokens == 60


def test_a_server_that_is_never_still_is_told_so(wire: LoopbackServer) -> None:
    serve_usage(wire, metrics=llama_metrics(0), slots=llama_slots(50))
    ended = iter(range(100))

    def other_answer(connection: object) -> None:
        step = document(llama_metrics(next(ended)), media="text/plain")[0]
        assert isinstance(step, bytes)
        connection.sendall(step)  # type: ignore[attr-defined]

    wire.answers["GET /metrics"] = [other_answer]
    assert usage_of(observer(wire).poll()).tokens is TOO_FAST


def test_without_slots_a_request_counts_when_it_has_ended_and_that_is_uncertain(wire: LoopbackServer) -> None:
    watched = observer(wire)
    serve_usage(wire, metrics=llama_metrics(100, running=0), slots=None)
    usage = usage_of(watched.poll())
    assert (usage.tokens, usage.counts, usage.uncertainty) == (100, "ended", 0)
    assert usage.no_count is not None
    assert usage.no_count.hint == "start it with --slots"
    serve_usage(wire, metrics=llama_metrics(180, running=2), slots=None)
    assert usage_of(watched.poll()).uncertainty >= 2 * 80
    assert wire.asked.count("GET /slots") == 1, "it is not asked for again and again"


def test_without_metrics_running_requests_are_counted_as_far_as_they_are_seen(wire: LoopbackServer) -> None:
    watched = observer(wire)
    serve_usage(wire, metrics=None, slots=llama_slots(10))
    usage = usage_of(watched.poll())
    assert (usage.tokens, usage.counts) == (10, "running")
    assert usage.no_count is not None
    assert usage.no_count.hint == "start llama-server with --metrics"
    serve_usage(wire, metrics=None, slots=llama_slots(30))
    watched.poll()
    serve_usage(wire, metrics=None, slots=llama_slots(5, task=2))
    usage = usage_of(watched.poll())
    assert usage.tokens == 35
    assert usage.uncertainty >= 20


def test_without_both_the_reason_is_told(wire: LoopbackServer) -> None:
    serve_usage(wire, metrics=None, slots=None)
    usage = usage_of(observer(wire).poll())
    assert usage.counts == "nothing"
    assert usage.no_count == Unavailable("llama-server does not count its tokens", "start it with --metrics")


def test_vllm_is_counted_over_all_its_engines(wire: LoopbackServer) -> None:
    wire.answers["GET /metrics"] = document(VLLM_METRICS, media="text/plain; version=0.0.4")
    wire.answers["GET /v1/models"] = document({"data": [{"id": "unsloth/Llama-3.2-1B-Instruct"}]})
    wire.answers["GET /version"] = document({"version": "0.11.0"})
    usage = usage_of(observer(wire).poll())
    assert (usage.kind, usage.version, usage.models) == ("vllm", "0.11.0", ("unsloth/Llama-3.2-1B-Instruct",))
    assert (usage.tokens, usage.prompt_tokens, usage.running, usage.waiting) == (7_307_244, 12_345, 3, 2)
    assert usage.context_share == 0.25


def test_ollama_shows_what_is_loaded_and_says_that_it_counts_nothing(wire: LoopbackServer) -> None:
    wire.answers["GET /api/version"] = document({"version": "0.12.3"})
    wire.answers["GET /api/ps"] = document(OLLAMA_PS)
    usage = usage_of(observer(wire).poll())
    assert (usage.kind, usage.version, usage.models) == ("ollama", "0.12.3", ("mistral:latest",))
    assert isinstance(usage.tokens, Unavailable)
    assert "does not report" in usage.tokens.reason


def test_any_other_server_is_shown_without_a_count(wire: LoopbackServer) -> None:
    wire.answers["GET /v1/models"] = document({"data": [{"id": "a"}, {"id": "/m/b.gguf"}]})
    usage = usage_of(observer(wire).poll())
    assert (usage.kind, usage.models, usage.counts) == ("openai", ("a", "b.gguf"), "nothing")


def test_of_lm_studio_only_the_models_that_are_loaded_are_named(wire: LoopbackServer) -> None:
    models = [{"id": "qwen2-vl", "state": "loaded"}, {"id": "nomic", "state": "not-loaded"}]
    wire.answers["GET /v1/models"] = document({"data": models})
    wire.answers["GET /api/v0/models"] = document({"data": models})
    watched = observer(wire)
    usage = usage_of(watched.poll())
    assert (usage.kind, usage.models, usage.counts) == ("lm-studio", ("qwen2-vl",), "nothing")
    del wire.answers["GET /api/v0/models"]
    assert usage_of(watched.poll()).models == ("qwen2-vl", "nomic"), "an older one does not tell"


def test_a_server_that_ends_and_comes_back(wire: LoopbackServer) -> None:
    watched = observer(wire)
    serve_usage(wire, metrics=llama_metrics(100), slots=llama_slots(None))
    assert watched.poll().count == 100
    with loopback_server() as other:
        gone = ServerPoller(Address.parse(other.url), detect)
        serve_usage(other, metrics=llama_metrics(100), slots=llama_slots(None))
        assert gone.poll().count == 100
    look = gone.poll()
    assert (look.state, look.count) == ("down", NOT_RUNNING)
    serve_usage(wire, metrics=llama_metrics(3), slots=llama_slots(None))
    assert watched.poll().count == 3


def test_a_busy_server_is_told_from_a_hung_one(wire: LoopbackServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_module, "POLL_S", 60.0)
    monkeypatch.setattr(usage_module, "HEALTH_S", 60.0)
    watched = observer(wire)
    serve_usage(wire, metrics=llama_metrics(100), slots=llama_slots(None))
    assert watched.poll().count == 100
    monkeypatch.setattr(usage_module, "POLL_S", 0.2)
    wire.answers["GET /metrics"] = [wire.hang]
    look = watched.poll()
    assert look.state == "busy"
    assert isinstance(look.count, Unavailable)
    wire.answers["GET /health"] = [wire.hang]
    monkeypatch.setattr(usage_module, "HEALTH_S", 0.2)
    assert watched.poll().state == "silent"
    monkeypatch.setattr(usage_module, "POLL_S", 60.0)
    serve_usage(wire, metrics=llama_metrics(130), slots=llama_slots(None))
    assert watched.poll().count == 130


def test_only_who_has_answered_sooner_is_waited_for_less(wire: LoopbackServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_module, "POLL_S", 60.0)
    monkeypatch.setattr(usage_module, "IDLE_S", 1e-9)
    watched = observer(wire)
    serve_usage(wire, metrics=llama_metrics(100), slots=llama_slots(None))
    assert watched.poll().count == 100, "nobody is as quick as that"
    monkeypatch.setattr(usage_module, "IDLE_S", 60.0)
    assert watched.poll().count == 100
    monkeypatch.setattr(usage_module, "IDLE_S", 0.05)
    wire.answers["GET /metrics"] = [wire.hang]
    assert watched.poll().answer_s < 60


@pytest.mark.parametrize(
    ("status", "state"),
    [("503 Service Unavailable", "loading"), ("401 Unauthorized", "needs_key"), ("500 Oh", "refuses")],
)
def test_refusals_are_told(wire: LoopbackServer, status: str, state: str) -> None:
    watched = observer(wire)
    serve_usage(wire, metrics=llama_metrics(100), slots=llama_slots(None))
    watched.poll()
    wire.answers["GET /metrics"] = document({"error": {"message": "Loading model"}}, status)
    look = watched.poll()
    assert look.state == state
    assert look.trouble is not None


@pytest.mark.parametrize("slots", [b"[]]", b'[{"id": "x"}]', b"\xff\xfe", b'[{"id": -1}]', b'{"a": 1}'])
def test_garbage_ends_in_a_reason(wire: LoopbackServer, slots: bytes) -> None:
    serve_usage(wire, metrics=llama_metrics(100), slots=None)
    wire.answers["GET /slots"] = document(slots)
    look = observer(wire).poll()
    assert look.usage is None
    assert look.trouble is not None


def test_a_connection_that_breaks_is_told_and_tried_again(wire: LoopbackServer) -> None:
    watched = observer(wire)
    serve_usage(wire, metrics=llama_metrics(100), slots=llama_slots(None))
    wire.answers["GET /metrics"] = [reset]
    assert watched.poll().usage is None
    serve_usage(wire, metrics=llama_metrics(100), slots=llama_slots(None))
    assert watched.poll().count == 100


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=200))
def test_any_text_is_read_as_metrics_without_an_accident(text: str) -> None:
    parse_metrics(text)
    parse_metrics(f"a_total {text}\nb_total{{x={json.dumps(text)}}} 2")


def test_metrics_are_read_by_name() -> None:
    text = 'a 1\na{l="}"} 2 1395066363000\nb NaN\nc +Inf\nd  3e2 \n# a 9\ne{x="\\"y"} 4\n'
    assert parse_metrics(text) == {"a": 3.0, "d": 300.0, "e": 4.0}


def test_a_server_that_may_sleep_is_not_asked_for_its_slots_while_nothing_runs(wire: LoopbackServer) -> None:
    watched = observer(wire)
    serve_usage(wire, metrics=llama_metrics(100), slots=llama_slots(None))
    wire.answers["GET /props"] = document({**PROPS, "is_sleeping": True})
    look = watched.poll()
    assert (look.state, look.count) == ("asleep", 100)
    assert "GET /slots" not in wire.asked
    serve_usage(wire, metrics=llama_metrics(100, running=1), slots=llama_slots(42))
    wire.answers["GET /props"] = document({**PROPS, "is_sleeping": False})
    look = watched.poll()
    assert (look.state, look.count) == ("answers", 142)


def test_where_only_slots_would_tell_nothing_is_asked_unless_it_never_sleeps(wire: LoopbackServer) -> None:
    watched = observer(wire)
    serve_usage(wire, metrics=None, slots=llama_slots(10))
    wire.answers["GET /props"] = document({**PROPS, "is_sleeping": False})
    usage = usage_of(watched.poll())
    assert "GET /slots" not in wire.asked
    assert usage.no_count is not None
    assert "keep it from sleeping" in usage.no_count.reason
    watched.sleepless = True
    assert usage_of(watched.poll()).tokens == 10


def test_slots_that_served_nothing_yet_say_nothing_of_their_context(wire: LoopbackServer) -> None:
    slots = llama_slots(None)
    slots[0]["n_prompt_tokens"] = 0
    serve_usage(wire, metrics=llama_metrics(0), slots=slots)
    stub, served = usage_of(observer(wire).poll()).slots
    assert (stub.context_used, served.context_used) == (None, 33)


ROUTER_PROPS = {"role": "router", "build_info": "b11434-abc", "default_generation_settings": {"n_ctx": 0}}


def router(wire: LoopbackServer, *loaded: str) -> None:
    names = {"a/q:Q4": "loaded", "b/r:Q8": "unloaded"} | dict.fromkeys(loaded, "loaded")
    wire.answers["GET /props"] = document(ROUTER_PROPS)
    wire.answers["GET /v1/models"] = document(
        {"data": [{"id": name, "status": {"value": value}} for name, value in names.items()]}
    )
    missing = document({"error": {"code": 400, "message": "model name is missing"}}, "400 Bad Request")
    wire.answers |= {"GET /metrics": missing, "GET /slots": missing}


def model_of_router(wire: LoopbackServer, query: str, *, ended: int, generated: int | None) -> None:
    running = 0 if generated is None else 1
    wire.answers[f"GET /props?model={query}&autoload=false"] = document({**PROPS, "is_sleeping": False})
    metrics = llama_metrics(ended, running=running)
    wire.answers[f"GET /metrics?model={query}&autoload=false"] = document(metrics, media="text/plain")
    wire.answers[f"GET /slots?model={query}&autoload=false"] = document(llama_slots(generated))


def test_a_router_is_counted_over_its_loaded_models_and_loads_none(wire: LoopbackServer) -> None:
    router(wire)
    model_of_router(wire, "a%2Fq%3AQ4", ended=100, generated=None)
    watched = observer(wire)
    usage = usage_of(watched.poll())
    assert (usage.models, usage.tokens, usage.counts, usage.running) == (("a/q:Q4",), 0, "all", 0)
    model_of_router(wire, "a%2Fq%3AQ4", ended=100, generated=42)
    assert usage_of(watched.poll()).tokens == 42
    router(wire, "b/r:Q8")
    model_of_router(wire, "b%2Fr%3AQ8", ended=1000, generated=None)
    model_of_router(wire, "a%2Fq%3AQ4", ended=150, generated=None)
    usage = usage_of(watched.poll())
    assert (usage.models, usage.tokens) == (("a/q:Q4", "b/r:Q8"), 50)
    assert not any("b%2Fr" in line for line in wire.asked[:-4])


def test_a_model_that_a_router_unloads_between_two_questions_costs_the_others_nothing(wire: LoopbackServer) -> None:
    router(wire, "b/r:Q8")
    model_of_router(wire, "a%2Fq%3AQ4", ended=100, generated=None)
    unloaded = {"error": {"code": 400, "message": "model is not loaded", "type": "invalid_request_error"}}
    wire.answers["GET /props?model=b%2Fr%3AQ8&autoload=false"] = document(unloaded, "400 Bad Request")
    usage = usage_of(observer(wire).poll())
    assert (usage.models, usage.counts) == (("a/q:Q4",), "all")


def test_a_router_without_a_loaded_model_is_idle(wire: LoopbackServer) -> None:
    router(wire)
    wire.answers["GET /v1/models"] = document({"data": [{"id": "a", "status": {"value": "unloaded"}}]})
    usage = usage_of(observer(wire).poll())
    assert (usage.tokens, usage.running, usage.models) == (0, 0, ())

"""What servers say passes one gate: one odd field costs itself, never the answer."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from edgetop.core.records import REPLY_CHARACTERS_MAX, ModelLoaded, Tokens, number_problems
from edgetop.inference.protocol import LoadFailed, Noted
from edgetop.inference.server.connection import NAME_CHARACTERS, Count, Milliseconds, decode
from tests.inference.server.conftest import Asking
from tests.support.loopback_server import LoopbackServer, document, stream
from tests.support.odd_answers import MODELS, ODD, TEXT, event, odd_answer, said, usage, whole
from tests.support.server_replies import CHAT, LLAMA_PROPS, as_llama_server, as_ollama

CUT = "".join(f"w{number} " for number in range(8))

TOLD = {
    "badusage": (20, 10, ""),
    "negusage": (20, None, "prompt_tokens was left out: -1"),
    "nan usage": (20, None, "prompt_tokens was left out: nan"),
    "huge usage": (20, None, "completion_tokens was left out: 1099511627776"),
    "text usage": (20, None, "prompt_tokens was left out: '10'"),
    "zerousage": (20, None, "0 cannot be"),
    "timings": (20, 10, "timings.predicted_n was left out: nan"),
    "progress": (20, 10, "prompt_progress"),
    "progress goes back": (20, 10, "it goes back"),
    "number for content": (20, 10, "content that is no text: 7"),
    "badjson": (20, 10, "cannot be read: {broken"),
}
"""Tokens of reply and prompt, and what is noted, where it is not 20, 10 and nothing."""


@pytest.fixture
def asked(wire: LoopbackServer, asking: Callable[..., Asking]) -> Asking:
    wire.answers["GET /v1/models"] = document({"data": [{"id": "tiny"}]})
    asked = asking()
    assert isinstance(asked.load(), ModelLoaded)
    return asked


ENDS = ("err", "toolcalls", "reasontokens", "endless")


@pytest.mark.parametrize("name", [name for name in ODD if not name.startswith(ENDS)])
def test_an_odd_thing_costs_itself_and_is_noted(name: str, wire: LoopbackServer, asked: Asking) -> None:
    wire.answers[CHAT] = odd_answer(name)
    finished = asked.ask()
    generated, prompt, note = TOLD.get(name, (20, 10, ""))
    assert (asked.text(), finished.error, finished.stop_reason) == (TEXT, "", "end_of_generation")
    assert (finished.generated_tokens, finished.prompt_tokens) == (generated, prompt)
    notes = [noted.text for noted in asked.of(Noted) if "bursts" not in noted.text]
    assert note in " ".join(notes)
    assert bool(notes) == bool(note)
    assert all(text.isprintable() and len(text) < 400 for text in notes)
    assert list(number_problems(finished)) == []


@pytest.mark.parametrize("name", [name for name in ODD if name.startswith("err")])
def test_the_servers_own_error_is_told_and_what_was_said_kept(name: str, wire: LoopbackServer, asked: Asking) -> None:
    wire.answers[CHAT] = odd_answer(name)
    finished = asked.ask()
    assert (asked.text(), finished.stop_reason) == (CUT, "failed")
    assert "worker died" in finished.error


def test_a_call_of_a_tool_is_what_the_model_said(wire: LoopbackServer, asked: Asking) -> None:
    wire.answers[CHAT] = odd_answer("toolcalls")
    finished = asked.ask()
    assert asked.text() == 'get_weather{"city": "Rome"}'
    assert (finished.generated_tokens, finished.error) == (15, "")
    assert "called a tool, which edgetop does not run: get_weather" in asked.of(Noted)[0].text


def test_hidden_reasoning_is_counted_and_not_taken_for_shown(wire: LoopbackServer, asked: Asking) -> None:
    wire.answers[CHAT] = odd_answer("reasontokens")
    finished = asked.ask()
    assert (finished.generated_tokens, finished.hidden_tokens) == (121, 100)
    assert any("100 tokens of reasoning were not shown" in noted.text for noted in asked.of(Noted))


def test_a_reply_without_end_ends_where_its_reader_does(wire: LoopbackServer, asked: Asking) -> None:
    wire.answers[CHAT] = odd_answer("endless")
    finished = asked.ask()
    assert REPLY_CHARACTERS_MAX - 2**20 <= sum(len(piece) for piece in asked.pieces) <= REPLY_CHARACTERS_MAX
    assert "the most that a session holds" in finished.error
    assert asked.of(Tokens)


@pytest.mark.parametrize("name", MODELS)
def test_a_list_of_models_of_any_form_is_understood(
    name: str, wire: LoopbackServer, asking: Callable[..., Asking]
) -> None:
    wire.answers |= {"GET /v1/models": MODELS[name](), CHAT: odd_answer("badusage")}
    asked = asking()
    loaded = asked.load("tiny")
    assert isinstance(loaded, ModelLoaded)
    assert loaded.model.name == "tiny"
    assert asked.ask().generated_tokens == 20
    if name in {"null", "missing"}:
        failed = asked.load()
        assert isinstance(failed, LoadFailed)
        assert "name it with --model" in failed.hint


def test_names_are_cut_and_requests_hold_the_whole_one(wire: LoopbackServer, asking: Callable[..., Asking]) -> None:
    name = "m" * 100_000
    wire.answers |= {
        "GET /props": document(LLAMA_PROPS), "GET /v1/models": document({"data": [{"id": name}]}),
        CHAT: odd_answer("badusage"),
    }  # fmt: skip
    asked = asking()
    loaded = asked.load()
    assert isinstance(loaded, ModelLoaded)
    assert max(map(len, (loaded.model.name, loaded.model.path, loaded.engine.version))) <= NAME_CHARACTERS
    asked.ask()
    assert wire.last(CHAT).document["model"] == name


class _Inner(Struct):
    count: Count | None = None
    span_ms: Milliseconds | None = None


class _Outer(Struct):
    inner: _Inner | None = None
    several: list[_Inner] = []
    name: str | None = None


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["inner", "several", "name", "count", "span_ms"]), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(["inner", "several", "name"]), ANYTHING))
def test_what_passes_is_of_its_type_and_range_whatever_comes(value: dict[str, object]) -> None:
    notes: list[str] = []
    passed = decode(json.dumps(value).encode(), _Outer, notes.append)
    assert list(number_problems(passed)) == []
    for each in (passed.inner, *passed.several):
        if each is not None:
            assert each.count is None or 0 <= each.count <= 2**26
            assert each.span_ms is None or 0 <= each.span_ms <= 1e9
    assert all(note.isprintable() for note in notes)


def test_a_length_that_was_asked_for_is_no_full_context_though_the_last_tokens_brought_no_text(
    wire: LoopbackServer, asking: Callable[..., Asking]
) -> None:
    as_llama_server(wire)
    pieces = [said({"content": "w "}, timings={"predicted_n": number + 1}) for number in range(37)]
    pieces += [said({}, "length", timings={"predicted_n": 40}), usage(10, 40), b"data: [DONE]\n\n"]
    wire.answers[CHAT] = stream(*pieces)
    asked = asking()
    asked.load()
    finished = asked.ask(max_tokens=40)
    assert (finished.stop_reason, finished.generated_tokens, len(asked.stamps)) == ("max_tokens", 40, 40)


def test_a_stop_with_stop_strings_is_not_said_to_be_the_end(wire: LoopbackServer, asked: Asking) -> None:
    wire.answers[CHAT] = odd_answer("badusage")
    assert asked.ask(stop=["\n"]).stop_reason == "stop_string"
    wire.answers[CHAT] = stream(
        event({"choices": [{"delta": {"content": "w"}, "finish_reason": "stop", "stop_reason": None}]}),
        usage(10, 2), b"data: [DONE]\n\n",
    )  # fmt: skip
    assert asked.ask(stop=["\n"]).stop_reason == "end_of_generation", "vLLM says which"


def test_another_model_behind_the_same_address_is_noticed(wire: LoopbackServer, asked: Asking) -> None:
    wire.answers[CHAT] = stream(*(line.replace(b'"tiny"', b'"huge"') for line in whole(usage(10, 21))))
    asked.ask()
    assert any("Another model answers at this address: huge, not tiny" in each.text for each in asked.of(Noted))


def test_what_a_server_did_not_tell_of_its_settings_is_unknown(
    wire: LoopbackServer, asking: Callable[..., Asking]
) -> None:
    as_llama_server(wire)
    loaded = asking().load()
    assert isinstance(loaded, ModelLoaded)
    told = loaded.settings
    assert (told.type_k, told.type_v, told.flash_attention, told.load_mode, told.full_context) == (None,) * 5


@pytest.mark.parametrize(("play", "refused"), [(as_llama_server, True), (as_ollama, False)])
def test_a_flag_that_the_server_would_not_obey_is_refused(
    play: Callable[[LoopbackServer], None], refused: bool, wire: LoopbackServer, asking: Callable[..., Asking]
) -> None:
    play(wire)
    loaded = asking(chosen=("threads",)).load()
    assert isinstance(loaded, LoadFailed) == refused
    if isinstance(loaded, LoadFailed):
        assert "decides by itself what --threads would set" in loaded.message


def test_a_long_ollama_answer_is_kept_with_its_durations(wire: LoopbackServer, asking: Callable[..., Asking]) -> None:
    as_ollama(wire)
    minutes = 20 * 60 * 10**9
    lines = [json.dumps({"message": {"content": "w "}, "done": False}) + "\n" for _ in range(5)]
    lines.append(
        json.dumps(
            {
                "message": {"content": ""},
                "done": True,
                "done_reason": "stop",
                "eval_count": 4000,
                "eval_duration": minutes,
                "load_duration": 3 * 10**9,
                "prompt_eval_duration": 10**8,
            }
        )
    )
    wire.answers["POST /api/chat"] = stream(*(line.encode() for line in lines), media="application/x-ndjson")
    asked = asking()
    asked.load()
    finished = asked.ask()
    assert (finished.error, finished.generated_tokens) == ("", 4000)
    assert (finished.prompt_tokens, finished.cached_tokens, finished.context_used) == (None, None, None)
    assert finished.perf is not None
    assert (finished.perf.decode_ms, finished.perf.load_ms) == (1_200_000, 3000)
    sent = wire.last("POST /api/chat").document
    assert (sent["truncate"], sent["shift"]) == (False, False)


def test_ollama_offers_what_chats_here(wire: LoopbackServer, asking: Callable[..., Asking]) -> None:
    as_ollama(wire)
    models = [
        {"name": "smol", "capabilities": ["completion"]}, {"name": "embed", "capabilities": ["embedding"]},
        {"name": "old-embed", "details": {"family": "nomic-bert"}},
        {"name": "big-cloud", "capabilities": ["completion"], "remote_host": "https://ollama.com:443"},
    ]  # fmt: skip
    wire.answers["GET /api/tags"] = document({"models": models})
    wire.answers["GET /api/ps"] = document({"models": []})
    loaded = asking().load()
    assert isinstance(loaded, ModelLoaded)
    assert loaded.model.name == "smol"


def test_a_sign_in_address_is_told(wire: LoopbackServer, asking: Callable[..., Asking]) -> None:
    as_ollama(wire)
    told = {"error": "unauthorized", "signin_url": "https://ollama.com/connect?name=x"}
    wire.answers["POST /api/generate"] = document(told, "401 Unauthorized")
    failed = asking().load("gemma2:2b")
    assert isinstance(failed, LoadFailed)
    assert "sign in at https://ollama.com/connect" in failed.message

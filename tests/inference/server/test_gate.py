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
from edgetop.inference.server.gate import NAME_CHARACTERS, Count, Milliseconds, decode
from tests.inference.server.conftest import Asking
from tests.support.loopback_server import LoopbackServer, document
from tests.support.odd_answers import MODELS, ODD, TEXT, odd_answer
from tests.support.server_replies import CHAT, LLAMA_PROPS

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

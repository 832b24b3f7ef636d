"""Prompts and replies of a set length on servers that have such."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from edgetop.core.records import ModelLoaded
from tests.inference.server.conftest import Asking
from tests.support import server_replies
from tests.support.loopback_server import LoopbackServer, Step, stream
from tests.support.server_replies import as_llama_server, as_lm_studio, as_ollama

COMPLETION = "POST /completion"
GENERATE = "POST /api/generate"


class InTurn(list[Step]):
    """An answer that is the next one each time."""

    def __init__(self, *answers: list[Step]) -> None:
        super().__init__()
        self._answers = iter(answers)

    def __iter__(self) -> Iterator[Step]:
        return iter(next(self._answers))


def ollama_answer(*, prompt: int, replied: int, lines: int, cached: int | None = None, **more: object) -> list[Step]:
    """As many lines with text, and at the end the counts, as docs/api.md of Ollama has them."""
    said = [{"model": "gemma2:2b", "response": "x", "done": False}] * lines
    end = {
        "model": "gemma2:2b", "response": "", "done": True, "done_reason": "length", "prompt_eval_count": prompt,
        "prompt_eval_duration": 250_000_000, "eval_count": replied, "eval_duration": 400_000_000, **more,
    }  # fmt: skip
    if cached is not None:
        end["prompt_eval_cached_count"] = cached
    return stream(*(json.dumps(each).encode() + b"\n" for each in (*said, end)), media="application/x-ndjson")


@pytest.fixture
def llama_server(wire: LoopbackServer, asking: Callable[..., Asking]) -> Asking:
    as_llama_server(wire)
    wire.answers[COMPLETION] = stream(*server_replies.LLAMA_COMPLETION)
    asked = asking()
    assert isinstance(asked.load(), ModelLoaded)
    return asked


@pytest.fixture
def ollama(wire: LoopbackServer, asking: Callable[..., Asking]) -> Asking:
    as_ollama(wire)
    asked = asking()
    assert isinstance(asked.load(n_ctx=1024), ModelLoaded)
    return asked


def test_a_prompt_is_timed_by_the_server_and_a_reply_by_its_arrival(wire: LoopbackServer, llama_server: Asking) -> None:
    finished = llama_server.measure(n_prompt=3, n_gen=2)
    begin, end = llama_server.prefills
    assert (begin.done, begin.total, begin.cached, end.done) == (0, 3, 0, 3)
    assert end.t_us - begin.t_us <= 59_030
    assert len(llama_server.stamps) == finished.generated_tokens == 2, "the first of the three is the prompt's"
    assert (finished.stop_reason, finished.prompt_tokens, finished.error) == ("max_tokens", 3, "")
    assert finished.perf is not None
    assert (finished.perf.prefill_tokens, finished.perf.prefill_ms) == (3, 59.03)

    sent = wire.last(COMPLETION).document
    assert isinstance(sent["prompt"], list)
    assert len(sent["prompt"]) == 3
    assert all(0 <= token < 49152 for token in sent["prompt"])
    assert (sent["n_predict"], sent["cache_prompt"], sent["ignore_eos"]) == (3, False, True)
    assert "id_slot" not in sent


def test_a_reply_alone_begins_with_its_first_token(wire: LoopbackServer, llama_server: Asking) -> None:
    llama_server.measure(n_gen=2)
    (begin,) = llama_server.prefills
    assert (begin.total, begin.done) == (0, 0)
    assert begin.t_us <= llama_server.stamps[0]
    assert len(wire.last(COMPLETION).document["prompt"]) == 1  # type: ignore[arg-type]


def test_the_same_test_has_the_same_tokens_and_another_seed_has_others(
    wire: LoopbackServer, llama_server: Asking
) -> None:
    prompts = []
    for seed in (1, 1, 2):
        llama_server.measure(n_prompt=3, n_gen=2, seed=seed)
        prompts.append(wire.last(COMPLETION).document["prompt"])
    assert prompts[0] == prompts[1] != prompts[2]


def test_a_depth_has_to_be_in_the_servers_cache(wire: LoopbackServer, llama_server: Asking) -> None:
    first = llama_server.measure(depth=8)
    assert (first.stop_reason, first.cached_tokens) == ("failed", 0), "three tokens came where one was to come"
    finished = llama_server.measure(n_prompt=3, n_gen=2, depth=8)
    assert "cached 0 of the 8 tokens" in finished.error
    sent = wire.last(COMPLETION).document
    assert (sent["cache_prompt"], sent["id_slot"]) == (True, 0)
    kept = [event.replace(b'"cache_n":0', b'"cache_n":8') for event in server_replies.LLAMA_COMPLETION]
    wire.answers[COMPLETION] = stream(*kept)
    finished = llama_server.measure(n_prompt=3, n_gen=2, depth=8)
    assert (finished.error, finished.prompt_tokens, finished.cached_tokens) == ("", 11, 8)


def test_a_test_that_the_context_does_not_hold_is_not_asked_for(wire: LoopbackServer, llama_server: Asking) -> None:
    finished = llama_server.measure(n_prompt=2000, n_gen=49)
    assert finished.stop_reason == "context_full"
    assert "takes 2049 tokens and the server's context holds 2048" in finished.error
    assert COMPLETION not in wire.asked


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (stream(*server_replies.LLAMA_COMPLETION[:4]), "without its timings"),
        (stream(*server_replies.LLAMA_COMPLETION[:3], server_replies.LLAMA_COMPLETION[5]), ""),
        (stream(*server_replies.LLAMA_COMPLETION[:4], b'data: {"error":{"message":"boom"}}\n\n'), "boom"),
        (stream(b"data: []\n\n"), "without its timings"),
    ],
    ids=["ended early", "tokens without text", "error", "no object"],
)
def test_a_test_that_breaks_off_gives_no_figure(
    answer: list[Step], told: str, wire: LoopbackServer, llama_server: Asking
) -> None:
    wire.answers[COMPLETION] = answer
    finished = llama_server.measure(n_prompt=3, n_gen=2)
    assert told in finished.error
    assert (finished.stop_reason == "failed") == bool(told)
    assert len(llama_server.stamps) == (0 if told else 2)


def test_ollama_is_asked_again_with_fewer_words_until_the_prompt_has_its_length(
    wire: LoopbackServer, ollama: Asking
) -> None:
    wire.answers[GENERATE] = InTurn(
        ollama_answer(prompt=65, replied=1, lines=1), ollama_answer(prompt=64, replied=1, lines=1, cached=0)
    )
    finished = ollama.measure(n_prompt=64, seed=5)
    assert finished.error == ""
    first, second = (request.document for request in wire.requests if b'"raw"' in request.body)
    texts = [str(sent["prompt"]) for sent in (first, second)]
    assert [len(text.split()) for text in texts] == [64, 63]
    assert texts[0].split()[:8] != texts[1].split()[:8], "what begins alike would be taken from the cache"
    assert first["options"] == {"num_ctx": 1024, "temperature": 0, "seed": 5, "num_predict": 1}
    begin, end = ollama.prefills
    assert (begin.total, end.done) == (64, 64)
    assert end.t_us - begin.t_us <= 250_000


def test_ollama_lines_that_hold_several_tokens_end_with_the_last_of_them(wire: LoopbackServer, ollama: Asking) -> None:
    wire.answers[GENERATE] = ollama_answer(prompt=60, replied=5, lines=3)
    finished = ollama.measure(n_gen=4)
    assert finished.generated_tokens == len(ollama.stamps) == 4
    assert len(set(ollama.stamps[1:])) == 1


@pytest.mark.parametrize(
    ("answer", "test", "told"),
    [
        (ollama_answer(prompt=60, replied=3, lines=3), {"n_gen": 8}, "ended its reply after 3 of 9 tokens"),
        (ollama_answer(prompt=64, replied=1, lines=1, cached=12), {"n_prompt": 64}, "was cached by Ollama"),
        (
            ollama_answer(prompt=64, replied=1, lines=1, prompt_eval_duration=None),
            {"n_prompt": 64},
            "how long the prompt took",
        ),
        (ollama_answer(prompt=64, replied=1, lines=0), {"n_prompt": 64}, "without any text"),
        (ollama_answer(prompt=90, replied=1, lines=1), {"n_prompt": 64}, "No prompt of 64 tokens could be made"),
        (ollama_answer(prompt=64, replied=1, lines=1), {"n_prompt": 64, "depth": 8}, "without -d"),
        (stream(b'{"error":"out of memory"}\n', media="application/x-ndjson"), {"n_gen": 8}, "out of memory"),
    ],
)
def test_what_ollama_does_not_tell_is_no_figure(
    answer: list[Step], test: dict[str, int], told: str, wire: LoopbackServer, ollama: Asking
) -> None:
    wire.answers[GENERATE] = answer
    finished = ollama.measure(**test)
    assert (finished.stop_reason, ollama.stamps) == ("failed", [])
    assert told in finished.error


def test_a_server_of_conversations_says_so(wire: LoopbackServer, asking: Callable[..., Asking]) -> None:
    as_lm_studio(wire)
    asked = asking()
    asked.load()
    assert "conversations only" in asked.measure(n_gen=8).error


def test_a_stop_ends_a_test(wire: LoopbackServer, llama_server: Asking) -> None:
    llama_server.request_stop()
    assert llama_server.measure(n_gen=8).stop_reason == "cancelled"

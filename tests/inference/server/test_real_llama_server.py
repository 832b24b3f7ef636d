"""Against llama.cpp's own server, with a real model."""

from __future__ import annotations

import json
import re
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import pytest
from msgspec.structs import replace

from edgetop.core.engine_settings import EngineSettings, SamplingSettings
from edgetop.core.records import ModelLoaded, Tokens, TurnFinished
from edgetop.inference.protocol import ChatMessage, Generate
from edgetop.inference.server.address import Address, ServerChoice
from edgetop.inference.server.backend import detect
from edgetop.inference.server.connection import ServerClient
from edgetop.inference.server.llama_server import LlamaServerBackend
from edgetop.inference.server.usage import ServerPoller
from tests.support.engine_worker import EngineWorker
from tests.support.eventually import eventually
from tests.support.llama_cpp_servers import llama_server

TOKENS = 48
TOLERANCE = 0.02
PROMPTS = ("Count from one to ten.", "What is the capital of Italy?", "What is a river?", "Name three colours.")


@pytest.fixture(scope="module")
def server(small_model: Path) -> Iterator[str]:
    with llama_server(small_model) as (url, _):
        yield url


@pytest.fixture
def talk(start: Callable[..., EngineWorker], server: str) -> EngineWorker:
    talk = start(ServerChoice(url=server).engine_name)
    assert isinstance(talk.load("."), ModelLoaded)
    return talk


def told(url: str) -> str:
    with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 - the test's own server
        return str(answer.read().decode())


def test_the_rate_is_that_of_the_server(server: str) -> None:
    """Each chunk tells how long the server has decoded. Our stamps run as that clock does: what delays a chunk on a
    busy machine moves its stamp, and hardly the median over all pairs of chunks that lie far from each other (Theil
    and Sen)."""
    client = ServerClient(Address.parse(server), idle_s=60, stopped=lambda: False)
    backend = LlamaServerBackend()
    (offer,) = backend.offers(client)
    model = backend.load(client, offer, EngineSettings(), 60)
    asked = Generate(
        turn=1,
        messages=(ChatMessage("user", "Write a long story about the sea and all who live in it."),),
        sampling=SamplingSettings(temperature=0, max_tokens=TOKENS),
    )
    request = backend.chat_request(asked, model, EngineSettings())
    arrived = []
    with client.request("POST", request.path, request.body) as answer:
        for t_us, delta in backend.chat_stream().deltas(answer):
            if delta.perf is not None and delta.text:
                arrived.append((t_us, delta.perf.decode_ms))
    assert len(arrived) > TOKENS - 4
    slopes = [
        (late_us - early_us) / 1000 / (late_ms - early_ms)
        for number, (early_us, early_ms) in enumerate(arrived)
        for late_us, late_ms in arrived[number + TOKENS // 3 :]
    ]
    assert median(slopes) == pytest.approx(1, rel=TOLERANCE)


def test_the_tokens_of_a_rate_are_counted_as_the_server_counts_them(talk: EngineWorker) -> None:
    finished = talk.ask("Write a long story about the sea.", temperature=0, max_tokens=24)
    assert finished.perf is not None
    assert finished.generated_tokens == len(talk.stamps) == 24
    assert finished.perf.decode_tokens == 23, "the first one is the prompt's, for the server and for us"


def test_the_prompt_is_followed_and_its_cached_part_known(talk: EngineWorker) -> None:
    first = talk.ask("What is a river? Answer in a word.", max_tokens=2, temperature=0)
    second = talk.ask("What is a river? Answer in a sentence.", max_tokens=2, temperature=0)
    assert second.cached_tokens > 0  # type: ignore[operator]
    assert second.prompt_tokens >= first.prompt_tokens  # type: ignore[operator]
    assert second.perf is not None
    assert second.perf.prefill_tokens == second.prompt_tokens - second.cached_tokens  # type: ignore[operator]


def test_the_same_prompts_give_the_same_text_as_our_own_engine(
    talk: EngineWorker, start: Callable[..., EngineWorker], small_model: Path
) -> None:
    """The two llama.cpp are of different builds, whose sums are rounded differently: a choice between tokens that are
    all but equally likely may fall otherwise, as it does in our own engine without flash attention. Such prompts tell
    nothing, and are left out; of the prompts' tokens nothing is."""
    own, rounded = start(), start()
    settings = EngineSettings(n_ctx=1024, n_threads=2)
    assert isinstance(own.load(small_model, settings), ModelLoaded)
    assert isinstance(rounded.load(small_model, replace(settings, flash_attention="off")), ModelLoaded)
    firm = 0
    for prompt in PROMPTS:
        ours, other, theirs = (each.ask(prompt, temperature=0, max_tokens=16) for each in (own, rounded, talk))
        assert theirs.prompt_tokens == ours.prompt_tokens
        if own.text != rounded.text:
            continue
        firm += 1
        assert talk.text == own.text
        assert (theirs.generated_tokens, theirs.stop_reason) == (ours.generated_tokens, ours.stop_reason)
        assert other.prompt_tokens == ours.prompt_tokens
    assert firm >= 2


def test_a_stop_frees_the_server(talk: EngineWorker, server: str) -> None:
    talk.say("Write a long story about the sea and all who live in it.", temperature=0, max_tokens=900)
    talk.until(Tokens)
    talk.engine.stop()
    finished = talk.until(TurnFinished)
    assert finished.stop_reason == "cancelled"
    assert finished.generated_tokens == len(talk.stamps) < 900
    assert finished.prompt_tokens > 0
    eventually(lambda: not json.loads(told(f"{server}/slots"))[0]["is_processing"], "the server has stopped too")


def test_the_server_counts_what_we_count(talk: EngineWorker, server: str) -> None:
    def generated() -> int:
        (count,) = re.findall(r"^llamacpp:tokens_predicted_total (\d+)", told(f"{server}/metrics"), re.MULTILINE)
        return int(count)

    before = generated()
    finished = talk.ask("Say hi.", temperature=0, max_tokens=5)
    assert generated() - before == finished.generated_tokens == 5


def test_template_arguments_reach_the_template(start: Callable[..., EngineWorker], small_model: Path) -> None:
    template = (
        "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\\n' }}{% endfor %}"
        "{% if shout %}{{ 'Answer in capitals, loud and clear, as if nobody could hear you.\\n' }}{% endif %}"
    )
    lengths = []
    with llama_server(small_model, chat_template=template) as (url, _):
        choices: tuple[dict[str, bool | int | float | str], ...] = ({}, {"shout": True})
        for args in choices:
            talk = start(ServerChoice(url=url).engine_name)
            assert isinstance(talk.load(".", EngineSettings(template_args=args)), ModelLoaded)
            lengths.append(talk.ask("Hello", max_tokens=1, temperature=0).prompt_tokens)
    assert lengths[1] > lengths[0] + 8  # type: ignore[operator]


def test_an_overlong_conversation_is_told(talk: EngineWorker) -> None:
    finished = talk.ask("word " * 2000, max_tokens=4)
    assert finished.stop_reason == "context_full"
    assert "1024 tokens" in finished.error


POLLS = 3600
"""An hour of them, sooner one after the other."""


def test_a_server_that_sleeps_stays_asleep_however_often_it_is_polled(small_model: Path) -> None:
    with llama_server(small_model, sleep_idle_seconds=1) as (url, _):
        watched = ServerPoller(Address.parse(url), detect)
        eventually(lambda: watched.poll().state == "asleep", "it fell asleep while it was polled")
        seen = Counter(watched.poll().state for _ in range(POLLS))
        assert seen == {"asleep": POLLS}
        assert json.loads(told(f"{url}/props"))["is_sleeping"]

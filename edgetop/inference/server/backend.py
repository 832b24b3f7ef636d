"""Base of a kind: option value, programs, detection, chat, tests, usage.

A server draws the first token from the prompt itself, so that a reply of `n` decode calls has `n + 1` tokens, of which
the first is no part of the test.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Annotated, Protocol

from msgspec import Meta, Struct

from edgetop.core.clock import monotonic_us
from edgetop.core.engine_settings import EnginePerf, EngineSettings, MemoryBreakdown, ModelInfo
from edgetop.core.records import Prefill, StopReason, Tokens, TurnFinished
from edgetop.inference.engine import Reporter
from edgetop.inference.protocol import Generate, Measure
from edgetop.inference.server.connection import HttpClient, HttpResponse
from edgetop.io.http import RequestError, quoted


class TestTimings(Struct, frozen=True, kw_only=True):
    """How a test went."""

    prefill_us: int
    """When the prompt was begun."""
    prefilled_us: int
    """When all of it had been evaluated."""
    stamps: tuple[int, ...]
    """When each token arrived, the first one among them."""
    perf: EnginePerf | None = None


def random_tokens(command: Measure, n_vocab: int) -> tuple[list[int], list[int]]:
    """The tokens of the depth, which are the same for all tests of it, and those of the prompt, at least one."""
    same, other = random.Random(command.depth), random.Random(command.seed)  # noqa: S311 - not for secrets
    depth = [same.randrange(n_vocab) for _ in range(command.depth)]
    return depth, [other.randrange(n_vocab) for _ in range(command.n_prompt or (1 if command.n_gen else 0))]


def require_tokens(told: int, wanted: int) -> None:
    """Raise ServerFailure where a test has not as many tokens as it is to have."""
    if told != wanted:
        raise RequestError(f"The server generated {told} tokens of the {wanted} that the test has.")


def report_test(command: Measure, tested: TestTimings, report: Reporter) -> None:
    """Report a test as our own engine does; the last report is TurnFinished."""
    turn, total, depth = command.turn, command.n_prompt, command.depth
    begin_us = tested.prefill_us if total else tested.prefilled_us
    report(Prefill(turn=turn, t_us=begin_us, done=0, total=total, cached=depth))
    if total:
        report(Prefill(turn=turn, t_us=tested.prefilled_us, done=total, total=total, cached=depth))
    stamps = tested.stamps[1 : command.n_gen + 1]
    if stamps:
        report(Tokens(turn=turn, t_us=stamps, pieces=("",) * len(stamps)))
    report(
        TurnFinished(
            turn=turn,
            t_us=monotonic_us(),
            stop_reason="max_tokens",
            prompt_tokens=depth + total,
            cached_tokens=depth,
            generated_tokens=len(stamps),
            context_used=depth + total + len(stamps),
            seed=command.seed,
            perf=tested.perf,
        )
    )


Count = Annotated[int, Meta(ge=0, le=2**40)]
"""A number of tokens or bytes that may be believed."""

NAMES_SHOWN = 5


class Offer(Struct, frozen=True, kw_only=True):
    """A model that a server offers."""

    name: str
    """As the server wants to be asked for it."""
    aliases: tuple[str, ...] = ()
    size_bytes: int | None = None
    quantization: str = ""
    parameters: int | None = None
    n_ctx_train: int | None = None
    loaded: bool | None = None
    """`None` where the server does not say."""


class Found(Struct, frozen=True, kw_only=True):
    """A model that is ready to be asked."""

    name: str
    """As requests name it."""
    model: ModelInfo
    settings: EngineSettings
    """What was asked for and what the server tells of it."""
    memory: MemoryBreakdown = MemoryBreakdown()
    version: str = ""
    """Of the server."""


class PromptProgress(Struct, frozen=True):
    """How far the prompt has been read, in tokens."""

    total: int
    cached: int
    processed: int
    """The cached ones among them."""
    time_ms: float | None = None
    """Since the server began with it."""


class Delta(Struct, frozen=True, kw_only=True):
    """What one chunk of an answer says."""

    text: str = ""
    reasoning: str = ""
    generated: int | None = None
    """Tokens generated so far, up to the end of this chunk, where the server says so with each."""
    progress: PromptProgress | None = None
    stop_reason: StopReason | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    total_tokens: int | None = None
    """All tokens of the reply, as the server counts: with the one that ended it."""
    perf: EnginePerf | None = None
    done: bool = False
    """Nothing follows."""


class ChatRequest(Struct, frozen=True, kw_only=True):
    """A request that is answered by a stream."""

    path: str
    body: dict[str, object]


class AnswerStream(Protocol):
    """Turns the bytes of an answer into what they say."""

    def feed(self, data: bytes) -> list[Delta]:
        """What `data` completes. Raises ServerFailure for an error that the server tells, and for what is no answer."""

    def finish(self) -> list[Delta]:
        """What the end of the stream completes."""

    def as_document(self) -> None:
        """The whole answer comes as one document, although a stream was asked for."""


class ServerBackend(Protocol):
    """A kind of server."""

    name: str
    """For a person."""

    def version(self, exchange: HttpClient) -> str:
        """Of the server; empty where it does not say. Raises ServerFailure."""

    def wait(self, exchange: HttpClient, loading_s: float) -> None:
        """Wait until the server has begun to answer, at most `loading_s` seconds. Raises ServerFailure."""

    def offers(self, exchange: HttpClient) -> list[Offer]:
        """The models it has. Raises ServerFailure."""

    def load(self, exchange: HttpClient, offer: Offer, settings: EngineSettings, loading_s: float) -> Found:
        """Make a model ready and tell of it; it may take `loading_s` seconds. Raises ServerFailure."""

    def question(self, command: Generate, found: Found, settings: EngineSettings) -> ChatRequest:
        """The request for an answer. Raises ServerFailure for what this kind of server cannot do."""

    def stream(self) -> AnswerStream:
        """For one answer."""

    def test(self, exchange: HttpClient, command: Measure, found: Found) -> TestTimings:
        """A prompt and a reply of set lengths. Raises ServerFailure, also where this kind of server has no such."""


MakeDialect = Callable[[], ServerBackend]


def choose(offers: list[Offer], wanted: str | None) -> Offer:
    """The model that is meant: that of a name, else the only one, else the only one that is loaded.

    Raises ServerFailure, which names the others.
    """
    names = [offer.name for offer in offers]
    shown = ", ".join(quoted(name) for name in names[:NAMES_SHOWN]) + (" and more" if len(names) > NAMES_SHOWN else "")
    if not offers:
        raise RequestError("The server offers no model.", "Give it one first.", cause="missing")
    if wanted is None:
        loaded = [offer for offer in offers if offer.loaded]
        if len(offers) == 1 or len(loaded) == 1:
            return (loaded or offers)[0]
        raise RequestError("The server offers several models.", f"Choose one with --model: {shown}.", cause="missing")
    for likeness in (lambda name: name, _short_name):
        for offer in offers:
            if likeness(wanted) in {likeness(name) for name in (offer.name, *offer.aliases)}:
                return offer
    raise RequestError(f"The server has no model {quoted(wanted)}.", f"It offers {shown}.", cause="missing")


def _short_name(name: str) -> str:
    """A name as people write it: without folders, ending and Ollama's usual tag."""
    return name.rpartition("/")[2].lower().removesuffix(".gguf").removesuffix(":latest")


ANSWER_BYTES_MAX = 2**30
"""A chunk says some hundred bytes for each token; more than this is no answer any more."""

_STREAMS = frozenset({"text/event-stream", "application/x-ndjson", "application/stream+json", ""})

_DOCUMENT = "application/json"


def deltas_of(answer: HttpResponse, stream: AnswerStream) -> Iterator[tuple[int, Delta]]:
    """What an answer says, each with the stamp of its arrival in microseconds. Raises ServerFailure."""
    coding = answer.header("Content-Encoding").strip().lower()
    if coding not in {"", "identity"}:
        raise RequestError(
            f"The server packed its answer ({quoted(coding)}), which nobody asked for.",
            "Look what stands between it and edgetop.",
        )
    media = answer.header("Content-Type").partition(";")[0].strip().lower()
    if media == _DOCUMENT:
        stream.as_document()
    elif media not in _STREAMS:
        raise RequestError(
            f"The server answered with {quoted(media)}, not with a stream of text.", "Check the address after --server."
        )
    size = 0
    for piece in answer.stream():
        size += len(piece)
        if size > ANSWER_BYTES_MAX:
            raise RequestError("The server's answer does not end.")
        for delta in stream.feed(piece):
            yield answer.received_us, delta
    for delta in stream.finish():
        yield answer.received_us, delta

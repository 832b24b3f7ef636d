"""What the engine asks of a kind of server, and what a kind of server tells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Protocol

from msgspec import Meta, Struct

from edgetop.core.engine import EnginePerf, EngineSettings, MemoryBreakdown, ModelInfo
from edgetop.core.records import StopReason
from edgetop.inference.protocol import Generate, Measure
from edgetop.inference.server.exchange import Exchange
from edgetop.inference.server.failure import ServerFailure, quoted
from edgetop.inference.server.token_measurement import Tested

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


class Progress(Struct, frozen=True):
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
    progress: Progress | None = None
    stop_reason: StopReason | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    total_tokens: int | None = None
    """All tokens of the reply, as the server counts: with the one that ended it."""
    perf: EnginePerf | None = None
    done: bool = False
    """Nothing follows."""


class Question(Struct, frozen=True, kw_only=True):
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


class Dialect(Protocol):
    """A kind of server."""

    name: str
    """For a person."""

    def version(self, exchange: Exchange) -> str:
        """Of the server; empty where it does not say. Raises ServerFailure."""

    def wait(self, exchange: Exchange, loading_s: float) -> None:
        """Wait until the server has begun to answer, at most `loading_s` seconds. Raises ServerFailure."""

    def offers(self, exchange: Exchange) -> list[Offer]:
        """The models it has. Raises ServerFailure."""

    def load(self, exchange: Exchange, offer: Offer, settings: EngineSettings, loading_s: float) -> Found:
        """Make a model ready and tell of it; it may take `loading_s` seconds. Raises ServerFailure."""

    def question(self, command: Generate, found: Found, settings: EngineSettings) -> Question:
        """The request for an answer. Raises ServerFailure for what this kind of server cannot do."""

    def stream(self) -> AnswerStream:
        """For one answer."""

    def test(self, exchange: Exchange, command: Measure, found: Found) -> Tested:
        """A prompt and a reply of set lengths. Raises ServerFailure, also where this kind of server has no such."""


MakeDialect = Callable[[], Dialect]


def choose(offers: list[Offer], wanted: str | None) -> Offer:
    """The model that is meant: that of a name, else the only one, else the only one that is loaded.

    Raises ServerFailure, which names the others.
    """
    names = [offer.name for offer in offers]
    shown = ", ".join(quoted(name) for name in names[:NAMES_SHOWN]) + (" and more" if len(names) > NAMES_SHOWN else "")
    if not offers:
        raise ServerFailure("The server offers no model.", "Give it one first.", cause="missing")
    if wanted is None:
        loaded = [offer for offer in offers if offer.loaded]
        if len(offers) == 1 or len(loaded) == 1:
            return (loaded or offers)[0]
        raise ServerFailure("The server offers several models.", f"Choose one with --model: {shown}.", cause="missing")
    for likeness in (lambda name: name, _short_name):
        for offer in offers:
            if likeness(wanted) in {likeness(name) for name in (offer.name, *offer.aliases)}:
                return offer
    raise ServerFailure(f"The server has no model {quoted(wanted)}.", f"It offers {shown}.", cause="missing")


def _short_name(name: str) -> str:
    """A name as people write it: without folders, ending and Ollama's usual tag."""
    return name.rpartition("/")[2].lower().removesuffix(".gguf").removesuffix(":latest")

"""Loads the kinds; which one listens, and what it offers."""

from __future__ import annotations

import os
import time

from msgspec import Struct

from edgetop.inference.server.address import KEY_VARIABLE, Kind, ServerChoice, key_of
from edgetop.inference.server.backend import MakeDialect, Offer, ServerBackend
from edgetop.inference.server.connection import HttpClient
from edgetop.inference.server.llama_server import LlamaServerDialect, LlamaServerReader, Props
from edgetop.inference.server.ollama import OllamaDialect, OllamaReader
from edgetop.inference.server.openai import OpenAiBackend, OtherReader
from edgetop.inference.server.usage import UsageReader, text_at
from edgetop.inference.server.vllm import VllmReader
from edgetop.io.http import Cause, RequestError

_DIALECTS: dict[Kind, MakeDialect] = {
    "llama-server": LlamaServerDialect,
    "ollama": OllamaDialect,
    "openai": OpenAiBackend,
}

_SPEAKS_HTTP: frozenset[Cause] = frozenset({"missing", "broken", "refused"})
"""Ends of a question after which another one may be asked."""


class _Version(Struct):
    version: str


def detect(exchange: HttpClient, kind: Kind = "auto") -> ServerBackend:
    """The dialect to speak with a server: of the kind that was named, else of the one it shows to be.

    Servers are told apart by `/props`, which only llama-server has, and `/api/version`, which only Ollama has; all
    others are taken for servers of the OpenAI API. Raises ServerFailure where none answers.
    """
    if kind != "auto":
        return _DIALECTS[kind]()
    if _is_llama_server(exchange):
        return LlamaServerDialect()
    if _is_ollama(exchange):
        return OllamaDialect()
    return OpenAiBackend()


def _is_llama_server(exchange: HttpClient) -> bool:
    try:
        props = exchange.get("/props", Props)
    except RequestError as failure:
        if failure.cause == "loading":
            return True
        _go_on_after(failure)
        return False
    # LM Studio answers every path with 200 and an error.
    return props.build_info is not None or props.default_generation_settings is not None or props.role is not None


def _is_ollama(exchange: HttpClient) -> bool:
    try:
        exchange.get("/api/version", _Version)
    except RequestError as failure:
        _go_on_after(failure)
        return False
    return True


def _go_on_after(failure: RequestError) -> None:
    """Raise what no other question would change."""
    if failure.cause not in _SPEAKS_HTTP:
        raise failure


PATIENCE_S = 10.0
"""A person waits for the answer."""


class ServerProbe(Struct, frozen=True, kw_only=True):
    """What was found."""

    server: str
    """Its address."""
    kind: str = ""
    version: str = ""
    offers: tuple[Offer, ...] = ()
    problem: str = ""
    """Why nothing or not all was found, in one line; empty where all was."""
    hint: str = ""


def survey(choice: ServerChoice, patience_s: float = PATIENCE_S) -> ServerProbe:
    """Ask a server for its kind, version and models; nothing is loaded. Never raises."""
    server = choice.url
    kind = version = ""
    deadline_s = time.monotonic() + patience_s
    try:
        server = str(choice.address)
        exchange = HttpClient(
            choice.address,
            key=key_of(choice, os.environ.get(KEY_VARIABLE)),
            silence_s=patience_s,
            stopped=lambda: time.monotonic() > deadline_s,
        )
        dialect = detect(exchange, choice.kind)
        kind = dialect.name
        version = dialect.version(exchange)
        offers = dialect.offers(exchange)
    except RequestError as failure:
        late = failure.cause == "stopped"
        problem = f"The server does not answer within {patience_s:g} s." if late else failure.what
        return ServerProbe(server=server, kind=kind, version=version, problem=problem, hint=failure.hint)
    except ValueError as error:
        return ServerProbe(server=server, problem=f"{error}.")
    return ServerProbe(server=server, kind=dialect.name, version=version, offers=tuple(offers))


def recognise(exchange: HttpClient) -> UsageReader:
    """Ask a server of which kind it is. Raises ServerFailure."""
    dialect = detect(exchange)
    if isinstance(dialect, LlamaServerDialect):
        return LlamaServerReader()
    if isinstance(dialect, OllamaDialect):
        return OllamaReader()
    text = text_at(exchange, "/metrics")
    if text is not None and "vllm:" in text:
        return VllmReader()
    return OtherReader()

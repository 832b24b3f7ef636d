"""Which kind of server listens at an address: it is asked what only that kind answers."""

from __future__ import annotations

from msgspec import Struct

from edgetop.inference.server.address import Kind
from edgetop.inference.server.dialect import Dialect, MakeDialect
from edgetop.inference.server.exchange import Exchange
from edgetop.inference.server.failure import Cause, ServerFailure
from edgetop.inference.server.llama_server import LlamaServerDialect, Props
from edgetop.inference.server.ollama import OllamaDialect
from edgetop.inference.server.openai_api import OpenAiDialect

_DIALECTS: dict[Kind, MakeDialect] = {
    "llama-server": LlamaServerDialect,
    "ollama": OllamaDialect,
    "openai": OpenAiDialect,
}
_SPEAKS_HTTP: frozenset[Cause] = frozenset({"missing", "broken", "refused"})
"""Ends of a question after which another one may be asked."""


class _Version(Struct):
    version: str


def detect(exchange: Exchange, kind: Kind = "auto") -> Dialect:
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
    return OpenAiDialect()


def _is_llama_server(exchange: Exchange) -> bool:
    try:
        props = exchange.get("/props", Props)
    except ServerFailure as failure:
        if failure.cause == "loading":
            return True
        _go_on_after(failure)
        return False
    # LM Studio answers every path with 200 and an error.
    return props.build_info is not None or props.default_generation_settings is not None or props.role is not None


def _is_ollama(exchange: Exchange) -> bool:
    try:
        exchange.get("/api/version", _Version)
    except ServerFailure as failure:
        _go_on_after(failure)
        return False
    return True


def _go_on_after(failure: ServerFailure) -> None:
    """Raise what no other question would change."""
    if failure.cause not in _SPEAKS_HTTP:
        raise failure

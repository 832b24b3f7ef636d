"""What each kind of server tells of its use: vLLM, Ollama, those that tell nothing, and which kind one is."""

from __future__ import annotations

from msgspec import Struct

from edgetop.core.records import Missing
from edgetop.inference.server.detection import detect
from edgetop.inference.server.exchange import Exchange
from edgetop.inference.server.failure import ServerFailure
from edgetop.inference.server.llama_server import LlamaServerDialect
from edgetop.inference.server.llama_usage import LlamaServerReader
from edgetop.inference.server.ollama import OllamaDialect
from edgetop.inference.server.prometheus import count_in, parse_metrics
from edgetop.inference.server.usage import Usage, UsageReader, shown_names, text_at

OLLAMA_TELLS_NONE = Missing(
    "Ollama does not tell how many tokens it generates for others", "llama-server with --metrics and vLLM do"
)
OTHER_TELLS_NONE = Missing(
    "this kind of server does not tell how many tokens it generates", "llama-server with --metrics and vLLM do"
)


def recognise(exchange: Exchange) -> UsageReader:
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


class VllmReader:
    """vLLM: counters and gauges with the prefix `vllm:`, over all engines and models of the server."""

    health = "/health"

    def __init__(self) -> None:
        self._models: tuple[str, ...] | None = None
        self._version = ""

    def read(self, exchange: Exchange) -> Usage:
        """See UsageReader."""
        if self._models is None:
            self._version = _version(exchange)
            self._models = _model_names(exchange)
        metrics = parse_metrics(text_at(exchange, "/metrics") or "")
        tokens = count_in(metrics, "vllm:generation_tokens_total")
        missing = Missing("vLLM does not count its tokens", "start it without --disable-log-stats")
        share = metrics.get("vllm:kv_cache_usage_perc", metrics.get("vllm:gpu_cache_usage_perc"))
        return Usage(
            kind="vllm",
            version=self._version,
            models=self._models,
            tokens=missing if tokens is None else tokens,
            counts="nothing" if tokens is None else "all",
            no_count=missing if tokens is None else None,
            prompt_tokens=count_in(metrics, "vllm:prompt_tokens_total"),
            running=count_in(metrics, "vllm:num_requests_running"),
            waiting=count_in(metrics, "vllm:num_requests_waiting"),
            context_share=share,
        )


class _Loaded(Struct):
    name: str = ""


class _Ps(Struct):
    models: list[_Loaded] | None = None


class OllamaReader:
    """Ollama: which models are loaded; it tells nothing of what it does for others."""

    health = "/api/version"

    def __init__(self) -> None:
        self._version: str | None = None

    def read(self, exchange: Exchange) -> Usage:
        """See UsageReader."""
        if self._version is None:
            self._version = OllamaDialect().version(exchange)
        loaded = exchange.get("/api/ps", _Ps).models or []
        return Usage(
            kind="ollama",
            version=self._version,
            models=tuple(model.name for model in loaded),
            tokens=OLLAMA_TELLS_NONE,
            counts="nothing",
            no_count=OLLAMA_TELLS_NONE,
        )


class OtherReader:
    """Any other server with the OpenAI API: which models it has."""

    health = ""

    def read(self, exchange: Exchange) -> Usage:
        """See UsageReader."""
        return Usage(
            kind="openai",
            models=_model_names(exchange),
            tokens=OTHER_TELLS_NONE,
            counts="nothing",
            no_count=OTHER_TELLS_NONE,
        )


class _Version(Struct):
    version: str = ""


def _version(exchange: Exchange) -> str:
    try:
        return exchange.get("/version", _Version).version
    except ServerFailure:
        return ""


class _Model(Struct):
    id: str = ""


class _Models(Struct):
    data: list[_Model] = []


def _model_names(exchange: Exchange) -> tuple[str, ...]:
    """Names of the models it offers. Raises ServerFailure."""
    return tuple(name for model in exchange.get("/v1/models", _Models).data for name in shown_names(model.id))

"""vLLM and SGLang, which count the tokens of each chunk when they are asked to."""

from __future__ import annotations

from typing import ClassVar

from msgspec import Struct

from edgetop.core.engine_settings import EngineSettings
from edgetop.core.sources import Unavailable
from edgetop.inference.protocol import Generate
from edgetop.inference.server.backend import ChatRequest, LoadedModel, Program
from edgetop.inference.server.connection import ServerClient
from edgetop.inference.server.openai import (
    CHAT_PATH,
    LlamaCppPythonBackend,
    OpenAiBackend,
    chat_body,
    listed_models,
    model_names,
    owners,
)
from edgetop.inference.server.usage import (
    EndedCount,
    Usage,
    count_in,
    evaluated_in,
    parse_metrics,
    share_in,
    text_at,
)
from edgetop.io.http import RequestError

NO_SGLANG = Unavailable("SGLang does not count its tokens", "start it with --enable-metrics")
WHEN_ENDED = Unavailable("SGLang counts the tokens of a request when it has ended")

NOT_COUNTED = Unavailable("vLLM does not count its tokens", "start it without --disable-log-stats")


class _Version(Struct):
    version: str = ""


class SglangBackend(OpenAiBackend):
    """SGLang."""

    kind = "sglang"
    name = "SGLang"
    programs: ClassVar[tuple[Program, ...]] = (
        Program(r"python\S* -m sglang\.launch_server\b|(python\S* \S*/)?sglang serve\b", "sglang", 30000),
    )
    load_request: ClassVar[dict[str, object]] = {"ignore_eos": True}
    process_names: ClassVar[tuple[str, ...]] = ()
    counted_by = "usage"
    cuts = False

    def __init__(self) -> None:
        super().__init__()
        self._ended = EndedCount()

    @classmethod
    def matches(cls, client: ServerClient) -> bool:
        """It names itself as the owner of its models."""
        return "sglang" in owners(listed_models(client))

    def chat_request(self, command: Generate, model: LoadedModel, settings: EngineSettings) -> ChatRequest:
        """The request for an answer."""
        sampling = command.sampling
        body = {
            **chat_body(command, model, settings),
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
            "top_k": sampling.top_k,
            "min_p": sampling.min_p,
            "repetition_penalty": sampling.repeat_penalty,
        }
        if command.continue_reply:
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        return ChatRequest(path=CHAT_PATH, body=body)

    def read_usage(self, client: ServerClient) -> Usage:
        """Its Prometheus metrics, where they are switched on. Raises RequestError."""
        metrics = parse_metrics(text_at(client, "/metrics") or "")
        tokens = count_in(metrics, "sglang:generation_tokens_total")
        running = count_in(metrics, "sglang:num_running_reqs")
        return Usage(
            kind=self.kind,
            models=model_names(client),
            tokens=NO_SGLANG if tokens is None else tokens,
            counts="nothing" if tokens is None else "ended",
            no_count=NO_SGLANG if tokens is None else WHEN_ENDED,
            uncertainty=0.0 if tokens is None else self._ended.uncertainty(tokens, running or 0),
            prompt_tokens=evaluated_in(metrics, "sglang:prompt_tokens_total", "sglang:cached_tokens_total"),
            running=running,
            waiting=count_in(metrics, "sglang:num_queue_reqs"),
            context_share=share_in(metrics, "sglang:token_usage"),
        )


class VllmBackend(SglangBackend):
    """vLLM: counters and gauges with the prefix `vllm:`, over all engines and models of the server."""

    kind = "vllm"
    name = "vLLM"
    programs = (
        Program(
            r"vllm serve\b|python\S* \S*/vllm serve\b|python\S* -m vllm\.entrypoints",
            "vllm",
            8000,
        ),
        Program(r"VLLM::", "vllm worker"),
    )
    process_names = ("vllm",)
    health_path = "/health"

    def __init__(self) -> None:
        super().__init__()
        self._names: tuple[str, ...] | None = None
        self._version = ""

    @classmethod
    def matches(cls, client: ServerClient) -> bool:
        """It names itself as the owner of its models, and in its metrics."""
        return "vllm" in owners(listed_models(client)) or "vllm:" in (text_at(client, "/metrics") or "")

    def read_usage(self, client: ServerClient) -> Usage:
        """Its Prometheus metrics. Raises RequestError."""
        if self._names is None:
            self._version = _version(client)
            self._names = model_names(client)
        metrics = parse_metrics(text_at(client, "/metrics") or "")
        tokens = count_in(metrics, "vllm:generation_tokens_total")
        return Usage(
            kind=self.kind,
            version=self._version,
            models=self._names,
            tokens=NOT_COUNTED if tokens is None else tokens,
            counts="nothing" if tokens is None else "all",
            no_count=NOT_COUNTED if tokens is None else None,
            prompt_tokens=evaluated_in(metrics, "vllm:prompt_tokens_total", "vllm:prompt_tokens_cached_total"),
            running=count_in(metrics, "vllm:num_requests_running"),
            waiting=count_in(metrics, "vllm:num_requests_waiting"),
            context_share=share_in(metrics, "vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
        )


BACKENDS = (LlamaCppPythonBackend, SglangBackend, VllmBackend)
"""The first one does not bear to be asked for its models, as those behind it are."""


def _version(client: ServerClient) -> str:
    try:
        return client.get("/version", _Version).version
    except RequestError:
        return ""

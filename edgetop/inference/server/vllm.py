"""VLLM and SGLang, which count each chunk."""

from __future__ import annotations

from edgetop.core.sources import Unavailable
from edgetop.inference.server.connection import HttpClient
from edgetop.inference.server.openai import _model_names, _version
from edgetop.inference.server.usage import Usage, count_in, parse_metrics, text_at


class VllmReader:
    """vLLM: counters and gauges with the prefix `vllm:`, over all engines and models of the server."""

    health = "/health"

    def __init__(self) -> None:
        self._models: tuple[str, ...] | None = None
        self._version = ""

    def read(self, exchange: HttpClient) -> Usage:
        """See UsageReader."""
        if self._models is None:
            self._version = _version(exchange)
            self._models = _model_names(exchange)
        metrics = parse_metrics(text_at(exchange, "/metrics") or "")
        tokens = count_in(metrics, "vllm:generation_tokens_total")
        missing = Unavailable("vLLM does not count its tokens", "start it without --disable-log-stats")
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

"""Hugging Face's Text Generation Inference."""

from __future__ import annotations

from typing import ClassVar

from msgspec import Struct

from edgetop.core.sources import Unavailable
from edgetop.inference.server.backend import Program
from edgetop.inference.server.connection import ServerClient
from edgetop.inference.server.openai import OpenAiBackend
from edgetop.inference.server.usage import (
    EndedCount,
    Usage,
    count_in,
    names_without_folders,
    parse_metrics,
    text_at,
)

NO_METRICS = Unavailable("Text Generation Inference shows no metrics here", "see its --prometheus-port")
WHEN_ENDED = Unavailable("Text Generation Inference counts the tokens of a request when it has ended")


class _Info(Struct):
    model_id: str = ""
    version: str = ""
    router: str = ""


class TgiBackend(OpenAiBackend):
    """Text Generation Inference: metrics with the prefix `tgi_`."""

    kind = "tgi"
    name = "Text Generation Inference"
    programs: ClassVar[tuple[Program, ...]] = (
        Program(r"text-generation-router\b", "tgi", 3000),
        Program(r"text-generation-(launcher|server)\b", "tgi launcher"),
    )
    process_names: ClassVar[tuple[str, ...]] = ("text-generation",)
    health_path = "/health"

    def __init__(self) -> None:
        super().__init__()
        self._info: _Info | None = None
        self._ended = EndedCount()

    @classmethod
    def matches(cls, client: ServerClient) -> bool:
        """It describes its model and itself at `/info`."""
        info = client.get("/info", _Info)
        return bool(info.model_id) and (info.router.startswith("text-generation") or bool(info.version))

    def version(self, client: ServerClient) -> str:
        """Its version. Raises RequestError."""
        return client.get("/info", _Info).version

    def read_usage(self, client: ServerClient) -> Usage:
        """Its Prometheus metrics. Raises RequestError."""
        if self._info is None:
            self._info = client.get("/info", _Info)
        metrics = parse_metrics(text_at(client, "/metrics") or "")
        # A sum of a histogram to which each request adds its tokens when it ends.
        tokens = count_in(metrics, "tgi_request_generated_tokens_sum")
        running = count_in(metrics, "tgi_batch_current_size")
        return Usage(
            kind=self.kind,
            version=self._info.version,
            models=names_without_folders(self._info.model_id),
            tokens=NO_METRICS if tokens is None else tokens,
            counts="nothing" if tokens is None else "ended",
            no_count=NO_METRICS if tokens is None else WHEN_ENDED,
            prompt_tokens=count_in(metrics, "tgi_request_input_length_sum"),
            uncertainty=0.0 if tokens is None else self._ended.uncertainty(tokens, running or 0),
            running=running,
            waiting=count_in(metrics, "tgi_queue_size"),
        )


BACKENDS = (TgiBackend,)

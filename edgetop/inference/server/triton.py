"""NVIDIA's Triton Inference Server, whose metrics are at a port of their own."""

from __future__ import annotations

from typing import ClassVar

from msgspec import Struct

from edgetop.core.sources import Unavailable
from edgetop.inference.server.backend import Offer, Program
from edgetop.inference.server.connection import ServerClient
from edgetop.inference.server.openai import OpenAiBackend
from edgetop.inference.server.usage import Usage
from edgetop.io.http import RequestError

OTHER_PORT = Unavailable(
    "Triton counts no tokens at this port", "with its vLLM backend, watch its metrics port: --server HOST:8002"
)


class _Server(Struct):
    name: str = ""
    version: str = ""


class _Model(Struct):
    name: str
    state: str = ""


class TritonBackend(OpenAiBackend):
    """Triton Inference Server."""

    kind = "triton"
    name = "Triton"
    programs: ClassVar[tuple[Program, ...]] = (Program(r"tritonserver\b", "triton", 8000),)
    process_names: ClassVar[tuple[str, ...]] = ("tritonserver",)
    health_path = "/v2/health/ready"

    @classmethod
    def matches(cls, client: ServerClient) -> bool:
        """It names itself at `/v2`."""
        return client.get("/v2", _Server).name == "triton"

    def version(self, client: ServerClient) -> str:
        """Its version. Raises RequestError."""
        return client.get("/v2", _Server).version

    def offers(self, client: ServerClient) -> list[Offer]:  # noqa: ARG002 - without a request
        """None: its own API has no conversations. Raises RequestError."""
        raise RequestError(
            "Triton's own API has no conversations.", "Give the address of its OpenAI frontend.", cause="missing"
        )

    def read_usage(self, client: ServerClient) -> Usage:
        """The models that are ready. Raises RequestError."""
        models = client.post("/v2/repository/index", {"ready": True}, list[_Model])
        names = tuple(model.name for model in models if model.state in {"", "READY"})
        return Usage(kind=self.kind, models=names, tokens=OTHER_PORT, counts="nothing", no_count=OTHER_PORT)


BACKENDS = (TritonBackend,)

"""LiteLLM, which passes requests on to other servers.

Its `/health` asks each of them for a reply, which costs energy or money: it is never asked for.
"""

from __future__ import annotations

from typing import ClassVar

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.sources import Unavailable
from edgetop.inference.server.backend import Program
from edgetop.inference.server.connection import ServerClient
from edgetop.inference.server.openai import OpenAiBackend
from edgetop.inference.server.usage import Usage

READY_PATH = "/health/readiness"

PASSES_ON = Unavailable("LiteLLM passes requests on, and generates nothing itself", "watch the servers behind it")


class _Ready(Struct):
    litellm_version: str = ""


class LiteLlmBackend(OpenAiBackend):
    """LiteLLM."""

    kind = "litellm"
    name = "LiteLLM"
    programs: ClassVar[tuple[Program, ...]] = (Program(r"(python\S* \S*/)?litellm\b", "litellm", 4000),)
    process_names: ClassVar[tuple[str, ...]] = ("litellm",)
    health_path = "/health/liveliness"

    @classmethod
    def matches(cls, client: ServerClient) -> bool:
        """It tells its version where it says that it is ready."""
        return bool(client.get(READY_PATH, _Ready).litellm_version)

    def version(self, client: ServerClient) -> str:
        """Its version. Raises RequestError."""
        return client.get(READY_PATH, _Ready).litellm_version

    def read_usage(self, client: ServerClient) -> Usage:
        """The models it knows. Its tokens are those of other servers. Raises RequestError."""
        return replace(super().read_usage(client), tokens=PASSES_ON, no_count=PASSES_ON)


BACKENDS = (LiteLlmBackend,)

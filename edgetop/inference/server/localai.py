"""LocalAI, which starts a backend for each model."""

from __future__ import annotations

from typing import ClassVar

from msgspec import Struct

from edgetop.core.sources import Unavailable
from edgetop.inference.server.backend import Program
from edgetop.inference.server.connection import ServerClient, decode
from edgetop.inference.server.openai import OpenAiBackend
from edgetop.inference.server.usage import Usage, text_at

NO_COUNTERS = Unavailable("LocalAI does not report how many tokens it generates")


class _Loaded(Struct):
    id: str


class _System(Struct):
    backends: list[str] | None = None
    loaded_models: list[_Loaded] | None = None


class _Version(Struct):
    version: str = ""


class LocalAiBackend(OpenAiBackend):
    """LocalAI."""

    kind = "localai"
    name = "LocalAI"
    programs: ClassVar[tuple[Program, ...]] = (Program(r"(local-ai|localai)\b", "localai", 8080),)
    process_names: ClassVar[tuple[str, ...]] = ("local-ai",)
    health_path = "/readyz"

    @classmethod
    def matches(cls, client: ServerClient) -> bool:
        """It tells at `/system` which backends it has."""
        text = text_at(client, "/system")
        return text is not None and decode(text.encode(), _System).backends is not None

    def version(self, client: ServerClient) -> str:
        """Its version. Raises RequestError."""
        return client.get("/version", _Version).version

    def read_usage(self, client: ServerClient) -> Usage:
        """The models that are loaded. Raises RequestError."""
        loaded = client.get("/system", _System).loaded_models or []
        return Usage(
            kind=self.kind,
            models=tuple(model.id for model in loaded),
            tokens=NO_COUNTERS,
            counts="nothing",
            no_count=NO_COUNTERS,
        )


BACKENDS = (LocalAiBackend,)

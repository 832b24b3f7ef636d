"""MLX LM's server, on Apple's processors."""

from __future__ import annotations

from typing import ClassVar

from msgspec.structs import replace

from edgetop.core.engine_settings import EngineSettings
from edgetop.core.records import REPLY_TOKENS_MAX
from edgetop.core.sources import Unavailable
from edgetop.inference.protocol import Generate
from edgetop.inference.server.backend import ChatRequest, LoadedModel, Program
from edgetop.inference.server.connection import ServerClient
from edgetop.inference.server.openai import OpenAiBackend
from edgetop.inference.server.usage import Usage

NO_COUNTERS = Unavailable("MLX LM does not report how many tokens it generates")


class MlxLmBackend(OpenAiBackend):
    """MLX LM. It says nowhere what it is, and is known by its command line, or by `--server-kind mlx-lm`."""

    kind = "mlx-lm"
    name = "MLX LM"
    programs: ClassVar[tuple[Program, ...]] = (Program(r"(python\S* (-m |\S*/))?mlx_lm([. ])server\b", "mlx-lm", 8080),)
    process_names: ClassVar[tuple[str, ...]] = ("mlx_lm.server",)
    health_path = "/health"

    def chat_request(self, command: Generate, model: LoadedModel, settings: EngineSettings) -> ChatRequest:
        """The request for an answer, which would end after 512 tokens if it named no length."""
        request = super().chat_request(command, model, settings)
        return replace(request, body={"max_tokens": REPLY_TOKENS_MAX, **request.body})

    @classmethod
    def matches(cls, client: ServerClient) -> bool:  # noqa: ARG003 - nothing that it says tells it from others
        """Never."""
        return False

    def read_usage(self, client: ServerClient) -> Usage:
        """The models that it could load, of which it has one at a time. Raises RequestError."""
        return replace(super().read_usage(client), tokens=NO_COUNTERS, no_count=NO_COUNTERS)


BACKENDS = (MlxLmBackend,)

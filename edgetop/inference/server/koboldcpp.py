"""KoboldCpp, which tells of its last answer (`/api/extra/perf`)."""

from __future__ import annotations

from typing import ClassVar

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.sources import Unavailable
from edgetop.inference.server.backend import Program
from edgetop.inference.server.connection import Count, ServerClient, Total
from edgetop.inference.server.openai import OpenAiBackend
from edgetop.inference.server.usage import Usage

VERSION_PATH = "/api/extra/version"

LAST_ONLY = Unavailable(
    "KoboldCpp tells the tokens of its last answer alone, so that those between two looks are missed"
)


class _Version(Struct):
    result: str = ""
    version: str = ""


class _Perf(Struct):
    last_token_count: Count | None = None
    total_gens: Total | None = None
    queue: Count | None = None
    idle: int | None = None


class KoboldCppBackend(OpenAiBackend):
    """KoboldCpp."""

    kind = "koboldcpp"
    name = "KoboldCpp"
    programs: ClassVar[tuple[Program, ...]] = (
        Program(r"koboldcpp\S*|python\S* \S*koboldcpp\.py\b", "koboldcpp", 5001),
    )
    process_names: ClassVar[tuple[str, ...]] = ("koboldcpp",)
    health_path = VERSION_PATH

    def __init__(self) -> None:
        super().__init__()
        self._answers: int | None = None
        self._seen = 0
        self._version: str | None = None

    @classmethod
    def matches(cls, client: ServerClient) -> bool:
        """It names itself at a path of its own."""
        return client.get(VERSION_PATH, _Version).result == "KoboldCpp"

    def version(self, client: ServerClient) -> str:
        """Its version. Raises RequestError."""
        return client.get(VERSION_PATH, _Version).version

    def read_usage(self, client: ServerClient) -> Usage:
        """Its models, the requests it has, and at least how many tokens it has generated. Raises RequestError."""
        if self._version is None:
            self._version = self.version(client)
        perf = client.get("/api/extra/perf", _Perf)
        usage = replace(super().read_usage(client), version=self._version, waiting=perf.queue)
        if perf.total_gens is None or perf.last_token_count is None:
            return replace(usage, no_count=LAST_ONLY, tokens=LAST_ONLY)
        if self._answers is not None and perf.total_gens > self._answers:
            self._seen += perf.last_token_count
        self._answers = perf.total_gens
        running = None if perf.idle is None else int(not perf.idle)
        return replace(usage, tokens=self._seen, counts="running", no_count=LAST_ONLY, running=running)


BACKENDS = (KoboldCppBackend,)

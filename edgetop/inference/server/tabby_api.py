"""TabbyAPI, the server of ExLlama."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.engine_settings import EngineSettings
from edgetop.core.sources import Unavailable
from edgetop.inference.server.backend import LoadedModel, Offer, reported_settings
from edgetop.inference.server.connection import Count, ServerClient
from edgetop.inference.server.openai import OpenAiBackend, listed_models, owners
from edgetop.inference.server.usage import Usage
from edgetop.io.http import RequestError

NO_COUNTERS = Unavailable("TabbyAPI does not report how many tokens it generates")


class _Parameters(Struct):
    max_seq_len: Count | None = None


class _Model(Struct):
    id: str = ""
    parameters: _Parameters | None = None


class TabbyApiBackend(OpenAiBackend):
    """TabbyAPI."""

    kind = "tabby-api"
    name = "TabbyAPI"
    health_path = "/health"

    @classmethod
    def matches(cls, client: ServerClient) -> bool:
        """It names itself as the owner of its models."""
        return "tabbyapi" in owners(listed_models(client))

    def load(self, client: ServerClient, offer: Offer, settings: EngineSettings, loading_s: float) -> LoadedModel:
        """Describe a model."""
        model = super().load(client, offer, settings, loading_s)
        parameters = client.get("/v1/model", _Model).parameters
        if parameters is None:
            return model
        return replace(model, settings=reported_settings(settings, n_ctx=parameters.max_seq_len))

    def read_usage(self, client: ServerClient) -> Usage:
        """The model that is loaded; there are no counters. Raises RequestError."""
        usage = replace(super().read_usage(client), tokens=NO_COUNTERS, no_count=NO_COUNTERS)
        try:
            name = client.get("/v1/model", _Model).id
        except RequestError as error:
            if error.cause not in {"missing", "broken", "refused"}:
                raise
            name = ""
        return replace(usage, models=(name,) if name else ())


BACKENDS = (TabbyApiBackend,)

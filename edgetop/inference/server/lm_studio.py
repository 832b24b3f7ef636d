"""LM Studio."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.engine_settings import EngineSettings
from edgetop.inference.server.backend import LoadedModel, Offer, Program, reported_settings
from edgetop.inference.server.connection import Count, ServerClient
from edgetop.inference.server.openai import OpenAiBackend, listed_models, owners
from edgetop.inference.server.usage import Usage
from edgetop.io.http import RequestCancelledError, RequestError

STUDIO_MODELS_PATH = "/api/v0/models"

_NOT_FOR_CHAT = frozenset({"embeddings", "embedding"})


class _StudioModel(Struct):
    id: str
    type: str = ""
    arch: str = ""
    quantization: str | None = None
    state: str = ""
    max_context_length: Count | None = None
    loaded_context_length: Count | None = None


class _StudioModels(Struct):
    data: list[_StudioModel]


class LmStudioBackend(OpenAiBackend):
    """LM Studio, which describes its models at a path of its own."""

    kind = "lm-studio"
    name = "LM Studio"
    programs = (Program(r"(LM Studio|lm-studio|LM-Studio|llmster)\b", "lm-studio", 1234),)
    process_names = ("lms",)
    cuts = False

    def __init__(self) -> None:
        super().__init__()
        self._studio: dict[str, _StudioModel] = {}

    @classmethod
    def matches(cls, client: ServerClient) -> bool:
        """Only LM Studio has `/api/v0/models`; older ones name an owner that no other server names."""
        return "organization_owner" in owners(listed_models(client)) or bool(_studio_models(client))

    def offers(self, client: ServerClient) -> list[Offer]:
        """The models it has, but for those that only embed. Raises RequestError."""
        offers = super().offers(client)
        self._studio = _studio_models(client)
        return [
            offer
            if studio is None
            else replace(
                offer,
                quantization=studio.quantization or "",
                n_ctx_train=studio.max_context_length,
                loaded=studio.state == "loaded",
            )
            for offer in offers
            if (studio := self._studio.get(offer.name)) is None or studio.type not in _NOT_FOR_CHAT
        ]

    def load(self, client: ServerClient, offer: Offer, settings: EngineSettings, loading_s: float) -> LoadedModel:
        """Describe a model."""
        model = super().load(client, offer, settings, loading_s)
        studio = self._studio.get(offer.name)
        if studio is None:
            return model
        return replace(
            model,
            info=replace(model.info, architecture=studio.arch),
            settings=reported_settings(settings, n_ctx=studio.loaded_context_length),
        )

    def read_usage(self, client: ServerClient) -> Usage:
        """As of any server, but only the models that are loaded. Raises RequestError."""
        usage, studio = super().read_usage(client), _studio_models(client)
        loaded = tuple(name for name, model in studio.items() if model.state == "loaded")
        return replace(usage, models=loaded) if studio else usage


BACKENDS = (LmStudioBackend,)


def _studio_models(client: ServerClient) -> dict[str, _StudioModel]:
    try:
        return {model.id: model for model in client.get(STUDIO_MODELS_PATH, _StudioModels).data}
    except RequestCancelledError:
        raise
    except RequestError:
        return {}

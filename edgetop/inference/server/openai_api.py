"""Any server with the chat API that OpenAI defined: vLLM, LM Studio, SGLang and others.

It says which models it has and streams text. Where tokens are not counted with each chunk, their number comes at the
end; how the prompt was read, how much memory it takes and how fast it decodes, it does not say.
"""

from __future__ import annotations

from msgspec import Struct

from edgetop.core.engine import EngineSettings, ModelInfo
from edgetop.inference.protocol import Generate, Measure
from edgetop.inference.server.dialect import Count, Found, Offer, Question
from edgetop.inference.server.exchange import Exchange
from edgetop.inference.server.failure import ServerFailure, Stopped
from edgetop.inference.server.openai_chat import PATH, ChatStream, messages_of, sampling_of
from edgetop.inference.server.token_measurement import Tested

CONVERSATIONS_ONLY = "This server takes conversations only, not a set number of tokens."
_COUNTING = frozenset({"vllm", "sglang"})
"""Owners of models, as they name themselves, that count the tokens of each chunk when they are asked to."""
_NOT_FOR_CHAT = frozenset({"embeddings", "embedding"})


class _Model(Struct):
    id: str
    owned_by: object = None
    max_model_len: Count | None = None
    """vLLM, SGLang: the context of the running server."""


class _Models(Struct):
    data: list[_Model]


class _StudioModel(Struct):
    """LM Studio, `/api/v0/models`."""

    id: str
    type: str = ""
    arch: str = ""
    quantization: str | None = None
    state: str = ""
    max_context_length: Count | None = None
    loaded_context_length: Count | None = None


class _StudioModels(Struct):
    data: list[_StudioModel]


class OpenAiDialect:
    """A server of which nothing more is known than its chat API."""

    name = "OpenAI API"

    def __init__(self) -> None:
        self._counts = False
        self._models: dict[str, _Model] = {}
        self._studio: dict[str, _StudioModel] = {}

    def version(self, exchange: Exchange) -> str:  # noqa: ARG002 - the API has none
        """The API tells none."""
        return ""

    def wait(self, exchange: Exchange, loading_s: float) -> None:
        """It answers once it is ready."""

    def offers(self, exchange: Exchange) -> list[Offer]:
        """The models it has. Raises ServerFailure."""
        models = exchange.get("/v1/models", _Models).data
        owners = {str(model.owned_by).lower() for model in models}
        self._counts = bool(owners & _COUNTING)
        self._models = {model.id: model for model in models}
        self._studio = {} if self._counts else self._studio_models(exchange)
        if "organization_owner" in owners or self._studio:
            self.name = "LM Studio"
        elif "vllm" in owners:
            self.name = "vLLM"
        elif "sglang" in owners:
            self.name = "SGLang"
        studio = self._studio
        return [
            Offer(
                name=model.id,
                quantization=(studio[model.id].quantization or "") if model.id in studio else "",
                n_ctx_train=studio[model.id].max_context_length if model.id in studio else None,
                loaded=studio[model.id].state == "loaded" if model.id in studio else None,
            )
            for model in models
            if model.id not in studio or studio[model.id].type not in _NOT_FOR_CHAT
        ]

    def load(
        self,
        exchange: Exchange,  # noqa: ARG002 - nothing more is asked
        offer: Offer,
        settings: EngineSettings,
        loading_s: float,  # noqa: ARG002 - it loads when it is asked
    ) -> Found:
        """Tell of a model; the API has no way to load one."""
        known, studio = self._models.get(offer.name), self._studio.get(offer.name)
        n_ctx = known.max_model_len if known is not None else None
        if studio is not None:
            n_ctx = studio.loaded_context_length
        return Found(
            name=offer.name,
            model=ModelInfo(
                path=offer.name,
                name=offer.name,
                architecture=studio.arch if studio is not None else "",
                quantization=offer.quantization,
                n_ctx_train=offer.n_ctx_train,
                chat_template="model",
            ),
            settings=told(settings, n_ctx=n_ctx),
        )

    def question(self, command: Generate, found: Found, settings: EngineSettings) -> Question:
        """The request for an answer. Raises ServerFailure where a stopped answer is to go on and cannot."""
        sampling = command.sampling
        body: dict[str, object] = {
            "model": found.name,
            "messages": messages_of(command.messages),
            "stream": True,
            "stream_options": {"include_usage": True},
            **sampling_of(sampling),
        }
        if self._counts:
            body["stream_options"] = {"include_usage": True, "continuous_usage_stats": True}
            body |= {"top_k": sampling.top_k, "min_p": sampling.min_p, "repetition_penalty": sampling.repeat_penalty}
        if settings.template_args:
            body["chat_template_kwargs"] = dict(settings.template_args)
        if command.continue_reply:
            if not self._counts:
                raise ServerFailure("This server cannot go on with an answer.", "Ask it to in a message of your own.")
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        return Question(path=PATH, body=body)

    def stream(self) -> ChatStream:
        """For one answer."""
        return ChatStream("usage" if self._counts else "nothing")

    def test(
        self,
        exchange: Exchange,  # noqa: ARG002 - nothing is asked
        command: Measure,  # noqa: ARG002 - whatever it is
        found: Found,  # noqa: ARG002 - the same
    ) -> Tested:
        """The API has no prompts of a set number of tokens and no replies of a set length."""
        raise ServerFailure(CONVERSATIONS_ONLY, "Measure it with --prompts.", cause="missing")

    def _studio_models(self, exchange: Exchange) -> dict[str, _StudioModel]:
        try:
            return {model.id: model for model in exchange.get("/api/v0/models", _StudioModels).data}
        except Stopped:
            raise
        except ServerFailure:
            return {}


def told(settings: EngineSettings, *, n_ctx: int | None, n_threads: int | None = None) -> EngineSettings:
    """The settings of a server's model: of what a server decides by itself only what it tells."""
    return EngineSettings(n_ctx=n_ctx, n_threads=n_threads, template_args=settings.template_args)

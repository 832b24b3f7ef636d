"""llama.cpp's server: it tells how far the prompt has been read and how many tokens each chunk brings."""

from __future__ import annotations

import time
from urllib.parse import quote

from msgspec import Struct

from edgetop.core.engine import EngineSettings, MemoryBreakdown, ModelInfo
from edgetop.inference.protocol import Generate, Measure
from edgetop.inference.server.dialect import Count, Found, Offer, Question
from edgetop.inference.server.exchange import Exchange
from edgetop.inference.server.failure import ServerFailure
from edgetop.inference.server.llama_server_measurement import run_test
from edgetop.inference.server.openai_api import told
from edgetop.inference.server.openai_chat import PATH, ChatStream, messages_of, sampling_of
from edgetop.inference.server.token_measurement import Tested


class _Meta(Struct):
    n_vocab: Count | None = None
    n_ctx_train: Count | None = None
    n_params: Count | None = None
    size: Count | None = None
    ftype: str | None = None


class _Status(Struct):
    value: str = ""


class _Model(Struct):
    id: str
    aliases: list[str] = []
    meta: _Meta | None = None
    status: _Status | None = None
    """Of a server that has several models and loads them when they are asked for."""


class _Models(Struct):
    data: list[_Model]


class _Defaults(Struct):
    n_ctx: Count | None = None


class Props(Struct):
    """What `/props` tells, as far as it is wanted."""

    default_generation_settings: _Defaults | None = None
    model_path: str | None = None
    model_alias: str | None = None
    model_ftype: str | None = None
    build_info: str | None = None
    total_slots: Count | None = None
    role: str | None = None
    """`router` for a server that has several models."""


class LlamaServerDialect:
    """llama-server."""

    name = "llama-server"

    def __init__(self) -> None:
        self._models: dict[str, _Model] = {}

    def version(self, exchange: Exchange) -> str:
        """Its build. Raises ServerFailure."""
        return exchange.get("/props", Props).build_info or ""

    def wait(self, exchange: Exchange, loading_s: float) -> None:
        """Wait until its model is loaded. Raises ServerFailure."""
        _once_loaded(exchange, "/props", loading_s)

    def offers(self, exchange: Exchange) -> list[Offer]:
        """The models it has, most often one. Raises ServerFailure."""
        models = exchange.get("/v1/models", _Models).data
        self._models = {model.id: model for model in models}
        return [_offer(model) for model in models]

    def load(self, exchange: Exchange, offer: Offer, settings: EngineSettings, loading_s: float) -> Found:
        """Wait until the model is loaded, and tell of it. Raises ServerFailure."""
        query = f"?model={quote(offer.name, safe='')}" if len(self._models) > 1 else ""
        props = _once_loaded(exchange, f"/props{query}", loading_s)
        model = self._models.get(offer.name)
        meta = (model.meta if model is not None else None) or _Meta()
        size, parameters = meta.size, meta.n_params
        defaults = props.default_generation_settings
        return Found(
            name=offer.name,
            model=ModelInfo(
                path=props.model_path or offer.name,
                name=_file_name(props.model_alias or offer.name),
                quantization=meta.ftype or props.model_ftype or "",
                bits_per_weight=8 * size / parameters if size and parameters else None,
                size_bytes=size,
                parameters=parameters,
                n_ctx_train=meta.n_ctx_train,
                n_vocab=meta.n_vocab,
                chat_template="model",
            ),
            settings=told(settings, n_ctx=None if defaults is None else defaults.n_ctx),
            memory=MemoryBreakdown(weights_bytes=size),
            version=props.build_info or "",
        )

    def question(self, command: Generate, found: Found, settings: EngineSettings) -> Question:
        """The request for an answer; a conversation that ends with the assistant's words is gone on with."""
        sampling = command.sampling
        body: dict[str, object] = {
            "model": found.name,
            "messages": messages_of(command.messages),
            "stream": True,
            "stream_options": {"include_usage": True},
            "timings_per_token": True,
            "return_progress": True,
            "cache_prompt": True,
            **sampling_of(sampling),
            "top_k": sampling.top_k,
            "min_p": sampling.min_p,
            "repeat_penalty": sampling.repeat_penalty,
            "repeat_last_n": sampling.repeat_last_n,
        }
        if settings.template_args:
            body["chat_template_kwargs"] = dict(settings.template_args)
        return Question(path=PATH, body=body)

    def stream(self) -> ChatStream:
        """For one answer."""
        return ChatStream("timings")

    def test(self, exchange: Exchange, command: Measure, found: Found) -> Tested:
        """Random tokens for a prompt, and the tokens that it answers with. Raises ServerFailure."""
        return run_test(exchange, command, found)


def _offer(model: _Model) -> Offer:
    meta = model.meta or _Meta()
    return Offer(
        name=model.id,
        aliases=tuple(model.aliases),
        size_bytes=meta.size,
        quantization=meta.ftype or "",
        parameters=meta.n_params,
        n_ctx_train=meta.n_ctx_train,
        loaded=None if model.status is None else model.status.value == "loaded",
    )


def _once_loaded(exchange: Exchange, path: str, loading_s: float) -> Props:
    """What `/props` says once the model is loaded, which it says instead until then (503)."""
    deadline_s = time.monotonic() + loading_s
    while True:
        try:
            return exchange.get(path, Props)
        except ServerFailure as failure:
            if failure.cause != "loading":
                raise
            if time.monotonic() >= deadline_s:
                raise ServerFailure(
                    f"The server still loads its model after {loading_s:g} s.", "Ask again when it is done."
                ) from failure
        exchange.wait_for_model()


def _file_name(name: str) -> str:
    """A name without the folders and the ending of a file."""
    return name.rpartition("/")[2].removesuffix(".gguf")

"""Settings as the engine wants them."""

from __future__ import annotations

import msgspec

from edgetop.core.engine import EngineSettings, SamplingSettings
from edgetop.settings import options
from edgetop.settings.option import Option
from edgetop.settings.resolve import DEFAULT, Settings


def engine_settings(settings: Settings) -> EngineSettings:
    """How the model is to be run."""
    template_args = settings[options.TEMPLATE_ARG]
    return msgspec.convert(
        {
            "n_ctx": settings[options.CTX],
            "n_threads": settings[options.THREADS],
            "n_threads_batch": settings[options.THREADS_BATCH],
            "n_batch": settings[options.BATCH],
            "n_ubatch": settings[options.UBATCH],
            "n_gpu_layers": settings[options.GPU_LAYERS],
            "type_k": settings[options.KV_TYPE],
            "type_v": settings[options.KV_TYPE],
            "load_mode": settings[options.LOAD_MODE],
            "full_context": settings[options.FULL_CONTEXT],
            "template_name": settings[options.TEMPLATE],
            "template_args": dict(template_args),
            "rpc_servers": settings[options.RPC],
        },
        EngineSettings,
    )


_BY_OPTION: tuple[tuple[Option[object], tuple[str, ...]], ...] = (
    (options.THREADS, ("n_threads",)),
    (options.THREADS_BATCH, ("n_threads_batch",)),
    (options.BATCH, ("n_batch",)),
    (options.UBATCH, ("n_ubatch",)),
    (options.KV_TYPE, ("type_k", "type_v")),
)


def left_open(settings: Settings) -> frozenset[str]:
    """Fields of EngineSettings that neither a flag, nor the environment, nor the configuration file chose a value for.

    Those that `edgetop tune` can find a better default for.
    """
    return frozenset(field for option, fields in _BY_OPTION if settings.origin(option) == DEFAULT for field in fields)


def sampling_settings(settings: Settings) -> SamplingSettings:
    """How tokens are drawn."""
    return SamplingSettings(
        temperature=settings[options.TEMP],
        top_k=settings[options.TOP_K],
        top_p=settings[options.TOP_P],
        min_p=settings[options.MIN_P],
        repeat_penalty=settings[options.REPEAT_PENALTY],
        seed=settings[options.SEED],
        max_tokens=settings[options.MAX_TOKENS],
        stop=settings[options.STOP],
    )

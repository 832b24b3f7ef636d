"""The settings of a load in the library's own structures: the same ones for a real load and a dry one."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from edgetop.core.engine import EngineSettings, default_n_ctx
from edgetop.inference.llama.library import FLASH_ATTENTION, LOAD_MODES, Handle, Library, kv_type
from edgetop.inference.threads import decode_threads

THREADS_MAX = 512
"""GGML_MAX_N_THREADS of ggml.h; more abort."""


def model_parameters(library: Library, wish: EngineSettings) -> Any:  # noqa: ANN401 - a ctypes structure
    """A `llama_model_params`."""
    params = library.llama_model_default_params()
    params.n_gpu_layers = -1 if wish.n_gpu_layers is None else wish.n_gpu_layers
    params.load_mode = getattr(library, LOAD_MODES[wish.load_mode])
    params.use_extra_bufts = wish.use_extra_bufts
    return params


def context_parameters(library: Library, model: Handle, wish: EngineSettings) -> tuple[Any, EngineSettings]:
    """A `llama_context_params`, and the settings with what was chosen where the wish leaves it open."""
    n_ctx = wish.n_ctx or default_n_ctx(library.llama_model_n_ctx_train(model))
    n_threads = min(max(1, wish.n_threads or decode_threads()), THREADS_MAX)
    params = library.llama_context_default_params()
    n_batch = max(1, wish.n_batch or params.n_batch)
    chosen = replace(
        wish,
        n_ctx=n_ctx,
        n_threads=n_threads,
        n_threads_batch=min(max(1, wish.n_threads_batch or n_threads), THREADS_MAX),
        n_batch=n_batch,
        n_ubatch=min(max(1, wish.n_ubatch or params.n_ubatch), n_batch),
    )
    params.n_ctx = n_ctx
    params.n_threads = chosen.n_threads
    params.n_threads_batch = chosen.n_threads_batch
    params.n_batch = chosen.n_batch
    params.n_ubatch = chosen.n_ubatch
    params.n_outputs_max = max(1, wish.n_outputs_max)
    params.flash_attn_type = getattr(library, FLASH_ATTENTION[wish.flash_attention])
    params.type_k = kv_type(library, wish.type_k)
    params.type_v = kv_type(library, wish.type_v)
    params.offload_kqv = wish.offload_kqv
    params.swa_full = wish.swa_full
    params.no_perf = False
    return params, chosen

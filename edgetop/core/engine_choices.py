"""What llama.cpp lets its user choose from. `--help` names these, so nothing is imported here."""

from __future__ import annotations

from typing import Final, Literal, get_args

KvType = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"]
FlashAttention = Literal["auto", "on", "off"]
LoadMode = Literal["auto", "mmap", "mlock", "copy"]
FullContext = Literal["stop", "shift"]

KV_TYPES: Final[tuple[KvType, ...]] = get_args(KvType)

LOAD_MODES: Final[tuple[LoadMode, ...]] = get_args(LoadMode)

WHEN_FULL: Final[tuple[FullContext, ...]] = get_args(FullContext)

LAYERS_MAX: Final = 512
"""LLAMA_MAX_LAYERS of llama-hparams.h."""

THREADS_MAX: Final = 512
"""GGML_MAX_N_THREADS of ggml.h; llama.cpp aborts with more."""

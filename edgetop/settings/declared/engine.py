"""How the model is run."""

from __future__ import annotations

from typing import Final

from edgetop.settings.option import KEY_VALUE, OneOf, Option, Scalar, integer, joined, key_value, text, token_count
from edgetop.settings.rpc_servers import rpc_servers

THREADS_MAX = 512
"""GGML_MAX_N_THREADS of llama.cpp."""
KV_TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")

CTX: Final = Option[int | None](
    "ctx",
    "engine",
    "--ctx",
    default=None,
    metavar="TOKENS",
    parse=token_count,
    help="context length, such as 4096 or 4k; chosen from model and memory by default",
    about="Tokens of prompt and answers together that the model can hold. The KV cache grows with it: `edgetop "
    "check MODEL --ctx 2k,8k,32k` tells what each would take.",
    example="4k",
)

THREADS: Final = Option[int | None](
    "threads",
    "engine",
    "--threads",
    default=None,
    metavar="N",
    parse=integer(1, THREADS_MAX),
    help="threads for decoding; the physical cores that are ours by default",
    about="Decoding is bound by memory bandwidth, so more threads than physical cores make it slower. `edgetop "
    "tune` finds the best number.",
    example="4",
)

THREADS_BATCH: Final = Option[int | None](
    "threads_batch",
    "engine",
    "--threads-batch",
    default=None,
    metavar="N",
    parse=integer(1, THREADS_MAX),
    help="threads for prefill; as many as for decoding by default",
    about="Prefill is bound by computing, so it may gain from more threads than decoding does.",
    example="4",
)

GPU_LAYERS: Final = Option[int | None](
    "gpu_layers",
    "engine",
    "--gpu-layers",
    default=None,
    metavar="N",
    parse=integer(0, 10_000),
    help="layers to offload to an accelerator, 0 for none; all of them by default",
    about="Needs a llama.cpp that was built for the accelerator; `edgetop doctor` says whether it was.",
    example="0",
)

RPC: Final = Option[tuple[str, ...]](
    "rpc",
    "engine",
    "--rpc",
    default=(),
    metavar="HOST:PORT,...",
    parse=rpc_servers,
    join=joined,
    help="llama.cpp's RPC servers, which take layers of the model as GPUs do; may be given several times",
    about="For a model that one machine does not hold: start `ggml-rpc-server`, of the same llama.cpp, on each of the "
    "others. RPC is neither encrypted nor guarded, so use it through SSH or on a network that you trust. Needs a "
    "llama.cpp that was built with it; `edgetop doctor` says whether it was, and how to.",
    example="192.168.1.5:50052",
)

KV_TYPE: Final = Option[str](
    "kv_type",
    "engine",
    "--kv-type",
    default="f16",
    metavar="TYPE",
    parse=OneOf(*KV_TYPES),
    help=f"type of the KV cache: {', '.join(KV_TYPES)}",
    about="q8_0 halves the memory of the conversation at nearly no loss; types below it cost quality.",
)

BATCH: Final = Option[int | None](
    "batch",
    "engine",
    "--batch",
    default=None,
    metavar="TOKENS",
    parse=token_count,
    help="largest number of tokens in one decode call",
    about="llama.cpp's n_batch. More is of use for long prompts only.",
    example="2048",
)

UBATCH: Final = Option[int | None](
    "ubatch",
    "engine",
    "--ubatch",
    default=None,
    metavar="TOKENS",
    parse=token_count,
    help="tokens computed together in prefill",
    about="llama.cpp's n_ubatch. The compute buffer grows with it.",
    example="512",
)

LOAD_MODE: Final = Option[str](
    "load_mode",
    "engine",
    "--load-mode",
    default="auto",
    metavar="MODE",
    parse=OneOf("auto", "mmap", "mlock", "copy"),
    help="how the weights come into memory: auto, mmap, mlock or copy",
    about="mmap maps the file, so that the kernel may drop and read again parts of it; mlock keeps them in "
    "memory; copy reads the file into memory of its own. auto leaves the choice to llama.cpp.",
)

FULL_CONTEXT: Final = Option[str](
    "full_context",
    "engine",
    "--full-context",
    default="stop",
    metavar="WHAT",
    parse=OneOf("stop", "shift"),
    help="when the context is full: stop and say so, or shift (drop the oldest half)",
    about="After a shift the model has forgotten the oldest half of the conversation, but for the system prompt.",
)

TEMPLATE: Final = Option[str | None](
    "template",
    "engine",
    "--template",
    default=None,
    metavar="NAME",
    parse=text,
    help="a chat template of the model other than its default one",
    about="For models whose file holds several, such as tool_use.",
    example="tool_use",
)

TEMPLATE_ARG: Final = Option[tuple[tuple[str, Scalar], ...]](
    "template_arg",
    "engine",
    "--template-arg",
    default=(),
    metavar=KEY_VALUE,
    parse=key_value,
    join=joined,
    help="argument for the chat template, such as enable_thinking=false; may be given several times",
    about="In the configuration file they are a table: template_arg = { enable_thinking = false }.",
    example="enable_thinking=false",
)

ENGINE: Final = Option[str](
    "engine",
    "engine",
    default="llama",
    parse=text,
    metavar="NAME",
    help="what computes: llama, or scripted:FILE, which answers from a file and needs no model",
    about="Not a flag: it is meant for tests of edgetop and of scripts around it.",
)

"""Every setting there is."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from edgetop.settings.option import (
    KEY_VALUE,
    Option,
    Scalar,
    currency,
    integer,
    joined,
    key_value,
    one_of,
    one_path,
    one_text,
    path,
    real,
    switch,
    text,
    token_count,
)

THREADS_MAX = 512
"""GGML_MAX_N_THREADS of llama.cpp."""
DELAY_MIN_S = 0.25
"""More frames than this cost the model tokens, and no one reads them."""
KV_TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")

MODEL: Final = Option[str | None](
    "model",
    "model",
    "-m",
    "--model",
    default=None,
    metavar="MODEL",
    parse=text,
    help="a GGUF file, a name from `edgetop models`, or hf:owner/repo[:quant]; the last one used by default",
)
MODEL_DIR: Final = Option[tuple[Path, ...]](
    "model_dir",
    "search",
    "--model-dir",
    default=(),
    metavar="DIR",
    parse=one_path,
    join=joined,
    help="look for models in this folder too; may be given several times",
)

SERVER: Final = Option[str | None](
    "server",
    "server",
    "--server",
    default=None,
    metavar="URL",
    parse=text,
    help="let a server answer: llama-server, Ollama or any with the OpenAI chat API, such as http://127.0.0.1:8080; "
    "--model then is one of its models, and a key is taken from EDGETOP_SERVER_KEY",
)
SERVER_KIND: Final = Option[str](
    "server_kind",
    "server",
    "--server-kind",
    default="auto",
    metavar="KIND",
    parse=one_of("auto", "llama-server", "ollama", "openai"),
    help="what the server is: auto asks it; else llama-server, ollama or openai",
)
SERVER_KEY_FILE: Final = Option[Path | None](
    "server_key_file",
    "server",
    "--server-key-file",
    default=None,
    metavar="FILE",
    parse=path,
    help="file that holds the server's API key; neither recorded nor shown",
)
SERVER_TIMEOUT: Final = Option[float](
    "server_timeout",
    "server",
    "--server-timeout",
    default=300.0,
    metavar="SECONDS",
    parse=real(1, 86_400),
    help="how long the server may say nothing before it is given up",
)

CTX: Final = Option[int | None](
    "ctx",
    "engine",
    "--ctx",
    default=None,
    metavar="TOKENS",
    parse=token_count,
    help="context length, such as 4096 or 4k; chosen from model and memory by default",
)
THREADS: Final = Option[int | None](
    "threads",
    "engine",
    "--threads",
    default=None,
    metavar="N",
    parse=integer(1, THREADS_MAX),
    help="threads for decoding; the physical cores that are ours by default",
)
THREADS_BATCH: Final = Option[int | None](
    "threads_batch",
    "engine",
    "--threads-batch",
    default=None,
    metavar="N",
    parse=integer(1, THREADS_MAX),
    help="threads for prefill; as many as for decoding by default",
)
GPU_LAYERS: Final = Option[int | None](
    "gpu_layers",
    "engine",
    "--gpu-layers",
    default=None,
    metavar="N",
    parse=integer(0, 10_000),
    help="layers to offload to an accelerator, 0 for none; all of them by default",
)
KV_TYPE: Final = Option[str](
    "kv_type",
    "engine",
    "--kv-type",
    default="f16",
    metavar="TYPE",
    parse=one_of(*KV_TYPES),
    help=f"type of the KV cache: {', '.join(KV_TYPES)}",
)
BATCH: Final = Option[int | None](
    "batch",
    "engine",
    "--batch",
    default=None,
    metavar="TOKENS",
    parse=token_count,
    help="largest number of tokens in one decode call",
)
UBATCH: Final = Option[int | None](
    "ubatch",
    "engine",
    "--ubatch",
    default=None,
    metavar="TOKENS",
    parse=token_count,
    help="tokens computed together in prefill",
)
LOAD_MODE: Final = Option[str](
    "load_mode",
    "engine",
    "--load-mode",
    default="auto",
    metavar="MODE",
    parse=one_of("auto", "mmap", "mlock", "copy"),
    help="how the weights come into memory: auto, mmap, mlock or copy",
)
FULL_CONTEXT: Final = Option[str](
    "full_context",
    "engine",
    "--full-context",
    default="stop",
    metavar="WHAT",
    parse=one_of("stop", "shift"),
    help="when the context is full: stop and say so, or shift (drop the oldest half)",
)
TEMPLATE: Final = Option[str | None](
    "template",
    "engine",
    "--template",
    default=None,
    metavar="NAME",
    parse=text,
    help="a chat template of the model other than its default one",
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
)

ENGINE: Final = Option[str](
    "engine",
    "engine",
    default="llama",
    parse=text,
    metavar="NAME",
    help="what computes: llama, or scripted:FILE, which answers from a file and needs no model",
)

SYSTEM: Final = Option[str | None](
    "system",
    "sampling",
    "--system",
    default=None,
    metavar="TEXT",
    parse=text,
    help="system prompt",
)
MAX_TOKENS: Final = Option[int | None](
    "max_tokens",
    "sampling",
    "-n",
    "--max-tokens",
    default=None,
    metavar="N",
    parse=token_count,
    help="stop a reply after this many tokens",
)
SEED: Final = Option[int | None](
    "seed",
    "sampling",
    "--seed",
    default=None,
    metavar="N",
    parse=integer(0, 2**32 - 1),
    help="seed for drawing tokens; drawn anew for each turn by default, and recorded",
)
TEMP: Final = Option[float](
    "temp",
    "sampling",
    "--temp",
    default=0.8,
    metavar="T",
    parse=real(0, 100),
    help="temperature, 0 for greedy",
)
TOP_P: Final = Option[float](
    "top_p",
    "sampling",
    "--top-p",
    default=0.95,
    metavar="P",
    parse=real(0, 1),
    help="nucleus sampling, 1 for off",
)
TOP_K: Final = Option[int](
    "top_k",
    "sampling",
    "--top-k",
    default=40,
    metavar="K",
    parse=integer(0),
    help="draw from the K likeliest tokens, 0 for all",
)
MIN_P: Final = Option[float](
    "min_p",
    "sampling",
    "--min-p",
    default=0.05,
    metavar="P",
    parse=real(0, 1),
    help="leave out tokens less likely than P times the likeliest, 0 for off",
)
REPEAT_PENALTY: Final = Option[float](
    "repeat_penalty",
    "sampling",
    "--repeat-penalty",
    default=1.0,
    metavar="X",
    parse=real(0.01, 100),
    help="make tokens that were said lately less likely, 1 for off",
)
STOP: Final = Option[tuple[str, ...]](
    "stop",
    "sampling",
    "--stop",
    default=(),
    metavar="TEXT",
    parse=one_text,
    join=joined,
    help="end a reply before this text; may be given several times",
)

RECORD: Final = Option[bool](
    "record",
    "recording",
    "--no-record",
    default=True,
    parse=switch,
    help="do not record this session",
)
TEXT: Final = Option[bool](
    "text",
    "recording",
    "--no-text",
    default=True,
    parse=switch,
    help="record the figures without prompts and replies",
)
OUTPUT: Final = Option[Path | None](
    "output",
    "recording",
    "-o",
    "--output",
    default=None,
    metavar="FILE",
    parse=path,
    flag_only=True,
    help="write the session to this file instead of the sessions folder",
)

DATA_DIR: Final = Option[Path | None](
    "data_dir",
    "storage",
    "--data-dir",
    default=None,
    metavar="DIR",
    parse=path,
    help="keep recorded sessions below this folder instead of your data folder",
)

DELAY: Final = Option[float](
    "delay",
    "screen",
    "-d",
    "--delay",
    default=1.0,
    metavar="SECONDS",
    parse=real(DELAY_MIN_S, 60),
    help="time between two updates of the panes (seconds, not tenths)",
)
THEME: Final = Option[str | None](
    "theme",
    "screen",
    "--theme",
    default=None,
    metavar="NAME",
    parse=text,
    help="colour theme",
)
ASCII: Final = Option[bool](
    "ascii",
    "screen",
    "-U",
    "--ascii",
    default=False,
    parse=switch,
    help="draw with ASCII characters only",
)
NO_COLOR: Final = Option[bool](
    "no_color",
    "screen",
    "-C",
    "--no-color",
    default=False,
    parse=switch,
    also_env="NO_COLOR",
    help="no colours",
)

SYSROOT: Final = Option[Path](
    "sysroot",
    "device",
    "--sysroot",
    default=Path("/"),
    metavar="DIR",
    parse=path,
    help="read /sys and /proc below this folder",
)

POWER: Final = Option[str | None](
    "power",
    "device",
    "--power",
    default=None,
    metavar="NAME",
    parse=text,
    help="the power source to go by: a name from `edgetop doctor`, a plug such as shelly:HOST, or none",
)
POWER_EXEC: Final = Option[str | None](
    "power_exec",
    "device",
    "--power-exec",
    default=None,
    metavar="CMD",
    parse=text,
    help="a program that prints a header and one power reading each time it is run; no shell",
)
POWER_STREAM: Final = Option[str | None](
    "power_stream",
    "device",
    "--power-stream",
    default=None,
    metavar="CMD",
    parse=text,
    help="a program that goes on printing power readings, or tcp:HOST:PORT, or unix:PATH",
)

PRICE_PER_KWH: Final = Option[float | None](
    "price_per_kwh",
    "price",
    "--price",
    default=None,
    metavar="AMOUNT",
    parse=real(0, 1e9),
    help="what a kilowatt-hour costs; then energy is told as money, too",
)
CURRENCY: Final = Option[str](
    "currency",
    "price",
    "--currency",
    default="EUR",
    metavar="NAME",
    parse=currency,
    help="what the price is in",
)

WORDS_PER_MINUTE: Final = Option[float](
    "words_per_minute",
    "fit",
    default=238.0,
    metavar="N",
    parse=real(10, 10_000),
    help="how fast you read; 238 is the mean of adults who read English (Brysbaert 2019)",
)
TOKENS_PER_WORD: Final = Option[float](
    "tokens_per_word",
    "fit",
    default=1.3,
    metavar="N",
    parse=real(0.1, 100),
    help="tokens that a word takes; 1.3 is for English",
)
MEMORY_MARGIN: Final = Option[float](
    "memory_margin",
    "fit",
    default=10.0,
    metavar="PERCENT",
    parse=real(0, 90),
    help="share of the memory, at most 1 GiB of it, that should stay free; with less a model is said to fit tightly",
)

CONFIG: Final = Option[Path | None](
    "config",
    "general",
    "--config",
    default=None,
    metavar="FILE",
    parse=path,
    help="configuration file to read instead of the one in your configuration folder",
)
QUIET: Final = Option[bool](
    "quiet",
    "progress",
    "-q",
    "--quiet",
    default=False,
    parse=switch,
    help="say only what went wrong",
)
VERBOSE: Final = Option[bool](
    "verbose",
    "general",
    "-v",
    "--verbose",
    default=False,
    parse=switch,
    help="say more: what the engine logs, and where an error comes from",
)

OPTIONS: Final[tuple[Option[object], ...]] = tuple(
    value for value in list(globals().values()) if isinstance(value, Option)
)
"""All of them, in the order `--help` shows them."""

"""The table of options, with the engine or sampling field each one sets."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from edgetop.core.engine_choices import KV_TYPES, LOAD_MODES, THREADS_MAX, WHEN_FULL
from edgetop.inference.server import KIND_VALUES
from edgetop.io.extensions import SERVERS, installed
from edgetop.settings.option import (
    KEY_VALUE,
    SECTIONS,
    OneOf,
    Option,
    Scalar,
    alert,
    cpu_mask,
    currency,
    engine_choice,
    export_address,
    integer,
    key_of_origin,
    key_value,
    one_path,
    one_text,
    path,
    real,
    rpc_servers,
    switch,
    tensor_override,
    text,
    token_count,
)

SYSROOT: Final = Option[Path](
    "device",
    path,
    "DIR",
    default=Path("/"),
    help="read /sys and /proc below this folder",
    about="For a container that has the host's folders mounted elsewhere, and for tests.",
)

POWER: Final = Option[str | None](
    "device",
    text,
    "NAME",
    help="power source to use: a name from `edgetop doctor`, a plug such as shelly:HOST, hosts such as "
    "local+pi2, or none",
    about="Without it the source with the widest scope that can be read is used: wall before board before "
    "module before processor package. none switches power and energy off.",
    example="none",
)

POWER_EXEC: Final = Option[str | None](
    "device",
    text,
    "CMD",
    help="a program that prints one power reading in watts each time it is run; no shell",
    about="A plain number is taken as watts at the board's input. A header before it says what is measured, and how "
    "well: `# edgetop-power/1 kind=power unit=W scope=wall update=1.0`, and then `12.34` (docs/power.md). "
    "`edgetop power` says what is wrong with a program that cannot be read.",
    example="read-my-meter",
)

POWER_STREAM: Final = Option[tuple[str, ...]](
    "device",
    one_text,
    "CMD",
    default=(),
    help="a program that goes on printing power readings, or tcp:HOST:PORT, or unix:PATH; may be given several times, "
    "once for each host: [NAME=]CMD",
    about="The same text as of --power-exec, as long as edgetop runs. `edgetop power --stream` prints it for the "
    'machine it runs on, so that `--power-stream "ssh pi2 edgetop power --stream"` brings the power of that one. '
    "The hosts of all streams, and this machine where it has power, are added up if all are measured alike; "
    "--power local+pi2 names those that are to be.",
    example="pi2=ssh pi2 edgetop power --stream",
)

GPU_SENSORS: Final = Option[bool](
    "device",
    switch,
    default=True,
    help="do not read the sensors of graphics cards",
    about="A card that sleeps is never woken, and one that may sleep is left alone while no model runs on it; this "
    "leaves all of them alone. Their power is then not part of any figure.",
)

PRICE_PER_KWH: Final = Option[float | None](
    "price",
    real(0, 1e9),
    "AMOUNT",
    flag="--price",
    help="price of a kilowatt-hour; energy cost is shown as well",
    about="The cost of the session and of a million tokens is shown, gross.",
    example="0.3",
)

CURRENCY: Final = Option[str](
    "price",
    currency,
    "NAME",
    default="EUR",
    help="currency of the price",
    about="Three letters such as EUR, or a sign.",
)

REQUESTS_PER_HOUR: Final = Option[float | None](
    "use",
    real(0, 1e6),
    "N",
    help="how often the model is asked; energy per day and battery life are shown as well",
    about="With the model kept loaded, and loaded for each request; docs/duty.md has the formulas.",
    example="20",
)

ANSWER_TOKENS: Final = Option[int](
    "use",
    integer(1, 10_000_000),
    "N",
    default=256,
    help="length of an answer in tokens",
    about="Of the answers whose energy is shown.",
)

BATTERY_WH: Final = Option[float | None](
    "use",
    real(0.001, 1e9),
    "X",
    help="what the battery holds in Wh; with --requests-per-hour, how long it lasts is shown",
    about="The usable part of it.",
    example="50",
)

CTX: Final = Option[int | None](
    "engine",
    token_count,
    "TOKENS",
    also=("-c", "--ctx-size"),
    sets=("n_ctx",),
    help="context length, such as 4096 or 4k (default: chosen from model and memory)",
    about="Tokens of prompt and answers together that the model can hold. The KV cache grows with it: `edgetop "
    "check MODEL --ctx 2k,8k,32k` shows what each would need.",
    example="4k",
)

THREADS: Final = Option[int | None](
    "engine",
    integer(1, THREADS_MAX),
    "N",
    also=("-t",),
    sets=("n_threads",),
    help="threads for decoding (default: available physical cores)",
    about="Decoding is bound by memory bandwidth, so more threads than physical cores make it slower. `edgetop "
    "tune` finds the best number.",
    example="4",
)

THREADS_BATCH: Final = Option[int | None](
    "engine",
    integer(1, THREADS_MAX),
    "N",
    also=("-tb",),
    sets=("n_threads_batch",),
    help="threads for prefill (default: as for decoding)",
    about="Prefill is bound by computing, so it may gain from more threads than decoding does.",
    example="4",
)

GPU_LAYERS: Final = Option[int | None](
    "engine",
    integer(0, 10_000),
    "N",
    also=("-ngl", "--n-gpu-layers"),
    sets=("n_gpu_layers",),
    help="layers to offload to an accelerator, 0 for none (default: all)",
    about="Needs a llama.cpp that was built for the accelerator; `edgetop doctor` says whether it was.",
    example="0",
)

RPC: Final = Option[tuple[str, ...]](
    "engine",
    rpc_servers,
    "HOST:PORT,...",
    default=(),
    sets=("rpc_servers",),
    help="llama.cpp RPC servers that hold layers of the model as GPUs do; may be given several times",
    about="For a model that one machine does not hold: start `ggml-rpc-server`, of the same llama.cpp, on each of the "
    "others. RPC is neither encrypted nor authenticated, so use it through SSH or on a network that you trust. Needs a "
    "llama.cpp that was built with it; `edgetop doctor` says whether it was, and how to.",
    example="192.168.1.5:50052",
)

KV_TYPE: Final = Option[str](
    "engine",
    OneOf(*KV_TYPES),
    "TYPE",
    default="f16",
    sets=("type_k", "type_v"),
    help=f"type of the KV cache: {', '.join(KV_TYPES)}",
    about="q8_0 halves the memory of the conversation at nearly no loss; types below it cost quality.",
)

CACHE_TYPE_K: Final = Option[str | None](
    "engine",
    OneOf(*KV_TYPES),
    "TYPE",
    short="-ctk",
    sets=("type_k",),
    help="type of the keys of the KV cache (default: that of --kv-type)",
    about="Keys bear fewer bits worse than values do.",
    example="q8_0",
)

CACHE_TYPE_V: Final = Option[str | None](
    "engine",
    OneOf(*KV_TYPES),
    "TYPE",
    short="-ctv",
    sets=("type_v",),
    help="type of the values of the KV cache (default: that of --kv-type)",
    about="Types below f16 need flash attention.",
    example="q8_0",
)

FLASH_ATTN: Final = Option[str](
    "engine",
    OneOf("auto", "on", "off"),
    "WHEN",
    short="-fa",
    default="auto",
    sets=("flash_attention",),
    help="flash attention: auto, on or off",
    about="It takes less memory for long contexts. auto leaves it to llama.cpp.",
)

CPU_MASK: Final = Option[str | None](
    "engine",
    cpu_mask,
    "MASK",
    help="the logical processors that may compute, as a hexadecimal mask; f0 means 4 to 7",
    about="For processors with fast and slow cores: decoding waits for the slowest of its threads.",
    example="f0",
)

PRIO: Final = Option[int | None](
    "engine",
    integer(-1, 3),
    "N",
    help="priority of the threads: -1 low, 0 normal, 1 medium, 2 high, 3 realtime",
    about="More than normal needs the right to it.",
    example="1",
)

N_CPU_MOE: Final = Option[int | None](
    "engine",
    integer(0, 10_000),
    "N",
    help="keep the experts of the first N layers in the CPU's memory",
    about="For a mixture of experts that a GPU does not hold.",
    example="8",
    also=("-ncmoe",),
)

CPU_MOE: Final = Option[bool](
    "engine",
    switch,
    short="-cmoe",
    default=False,
    sets=(),
    help="keep all experts in the CPU's memory",
    about="As --n-cpu-moe with every layer.",
)

OVERRIDE_TENSOR: Final = Option[tuple[str, ...]](
    "engine",
    tensor_override,
    "PATTERN=BUFFER",
    short="-ot",
    default=(),
    help="where tensors go whose names match; may be given several times",
    about="As llama.cpp takes it: a regular expression and a type of buffer, such as CPU.",
    example="ffn_.*_exps=CPU",
)

LORA: Final = Option[tuple[Path, ...]](
    "engine",
    one_path,
    "FILE",
    default=(),
    help="an adapter to apply to the model; may be given several times",
    about="A GGUF file made by llama.cpp's convert_lora_to_gguf.py.",
    example="adapter.gguf",
)

MODEL_DRAFT: Final = Option[Path | None](
    "engine",
    path,
    "FILE",
    short="-md",
    sets=("draft_model",),
    help="a smaller model of the same family that proposes tokens; with --engine llama-server",
    about="Faster where the large model agrees often enough.",
    example="draft.gguf",
)

BATCH: Final = Option[int | None](
    "engine",
    token_count,
    "TOKENS",
    also=("-b", "--batch-size"),
    sets=("n_batch",),
    help="largest number of tokens in one decode call",
    about="llama.cpp's n_batch. More is of use for long prompts only.",
    example="2048",
)

UBATCH: Final = Option[int | None](
    "engine",
    token_count,
    "TOKENS",
    also=("-ub", "--ubatch-size"),
    sets=("n_ubatch",),
    help="tokens computed together in prefill",
    about="llama.cpp's n_ubatch. The compute buffer grows with it.",
    example="512",
)

LOAD_MODE: Final = Option[str](
    "engine",
    OneOf(*LOAD_MODES),
    "MODE",
    default="auto",
    help="how the weights are loaded: auto, mmap, mlock or copy",
    about="mmap maps the file, so that the kernel may drop and read again parts of it; mlock keeps them in "
    "memory; copy reads the file into memory of its own. auto leaves the choice to llama.cpp.",
)

FULL_CONTEXT: Final = Option[str](
    "engine",
    OneOf(*WHEN_FULL),
    "WHAT",
    default="stop",
    help="when the context is full: stop, or shift (drop the oldest half)",
    about="After a shift the model has forgotten the oldest half of the conversation, but for the system prompt.",
)

TEMPLATE: Final = Option[str | None](
    "engine",
    text,
    "NAME",
    sets=("template_name",),
    help="a chat template of the model other than its default one",
    about="For models whose file holds several, such as tool_use.",
    example="tool_use",
)

TEMPLATE_ARG: Final = Option[tuple[tuple[str, Scalar], ...]](
    "engine",
    key_value,
    KEY_VALUE,
    default=(),
    sets=(),
    help="argument for the chat template, such as enable_thinking=false; may be given several times",
    about="In the configuration file they are a table: template_arg = { enable_thinking = false }.",
    example="enable_thinking=false",
)

ENGINE: Final = Option[str](
    "engine",
    engine_choice,
    "ENGINE",
    default="auto",
    sets=(),
    help="which llama.cpp: auto, installed (llama-cpp-python), portable, or llama-server[=PATH], which edgetop starts",
    about="auto tries the libraries of LLAMA_CPP_LIB_PATH, an installed llama-cpp-python and the portable engine, and "
    "takes the first whose structs edgetop knows; `edgetop engine` shows them. scripted:FILE answers from a file, "
    "for tests of edgetop and of scripts around it.",
    example="portable",
)

WORDS_PER_MINUTE: Final = Option[float](
    "fit",
    real(10, 10_000),
    "N",
    flag="",
    default=238.0,
    help="how fast you read; 238 is the mean of adults who read English (Brysbaert 2019)",
    about="`edgetop check` says whether a model writes faster than you read.",
)

TOKENS_PER_WORD: Final = Option[float](
    "fit",
    real(0.1, 100),
    "N",
    flag="",
    default=1.3,
    help="tokens that a word takes; 1.3 is for English",
    about="More for other languages and for small vocabularies.",
)

MEMORY_MARGIN: Final = Option[float](
    "fit",
    real(0, 90),
    "PERCENT",
    flag="",
    default=10.0,
    help="share of the memory, at most 1 GiB of it, that should stay free; with less a model is said to fit tightly",
    about="What the system and other programs may need while a model is loaded.",
)

ALERT: Final = Option[tuple[str, ...]](
    "alerts",
    alert,
    "LIMIT",
    default=(),
    help="say so, with a bell, when a limit is crossed, such as 'temperature_cpu_c > 80' or "
    "'energy.j_per_token > 1.5 for 60s'; may be given several times",
    about="A limit is on a figure of `edgetop compare --fail-if` (docs/figures.md), or of a watch, or on what a sensor "
    "reads: temperature.cpu, or temperature_cpu_c with its unit. With `for` it is to be crossed all that time. A "
    "figure with an interval crosses a limit with all of it, and what cannot be read crosses nothing. An alert is over "
    "once the value has been back for as long, and for 10 s at least. In a watch of several hosts a limit is that of "
    "each of them, unless its name begins with host.NAME. Alerts are recorded.",
    example="temperature_cpu_c > 80",
)

ALERT_RUN: Final = Option[str | None](
    "alerts",
    text,
    "CMD",
    help="run this command of the shell when an alert is raised and when it is over",
    about="EDGETOP_ALERT_LIMIT, EDGETOP_ALERT_STATE (raised or over), EDGETOP_ALERT_VALUE, EDGETOP_ALERT_TEXT and, of "
    "several hosts, EDGETOP_ALERT_HOST tell it of which. Nothing waits for it; for one alert it runs once at a time.",
    example='notify-send edgetop "$EDGETOP_ALERT_TEXT"',
)

ALERT_EXIT: Final = Option[bool](
    "alerts",
    switch,
    default=False,
    help="end with exit code 6 when an alert is raised",
    about="What was recorded until then is saved.",
)

CONFIG: Final = Option[Path | None](
    "general",
    path,
    "FILE",
    help="configuration file to read instead of the one in your configuration folder",
    about="EDGETOP_CONFIG does the same. The usual one is config.toml in your configuration folder, on Linux "
    "~/.config/edgetop.",
)

QUIET: Final = Option[bool](
    "progress",
    switch,
    short="-q",
    default=False,
    help="print errors only",
    about="Figures and progress are left out; replies and data are still printed.",
)

VERBOSE: Final = Option[bool](
    "general",
    switch,
    short="-v",
    default=False,
    help="print more: the engine's log",
    about="Prints llama.cpp's log. Where an error comes from is written by --log.",
)

LOG: Final = Option[Path | None](
    "general",
    path,
    "FILE",
    help="append to this file what engine, sensors and servers do and what is decided, with times; no prompts, no keys",
    about="For a report of something that goes wrong: also the trace of an internal error, which is printed nowhere. "
    "Neither prompts nor replies nor keys are written, and only its owner can read the file.",
    example="edgetop.log",
)

MODEL: Final = Option[str | None](
    "model",
    text,
    "MODEL",
    short="-m",
    also=("-hf", "--hf-repo"),
    help="a GGUF file, a name from `edgetop models`, or hf:owner/repo[:quant] (default: the last one used)",
    about="A name alone is looked for in the working folder, the folders of --model-dir, the Hugging Face "
    "cache, the stores of llama.cpp, LM Studio, Ollama, Docker, Jan, GPT4All and ramalama, and ~/models. "
    "hf:owner/repo[:quant] is downloaded into the Hugging Face cache and verified. With --server it is the name "
    "of one of the server's models.",
    example="phi3-q4.gguf",
)

MODEL_DIR: Final = Option[tuple[Path, ...]](
    "search",
    one_path,
    "DIR",
    default=(),
    help="look for models in this folder too; may be given several times",
    about="In the environment several folders are separated by colons, in the configuration file they are a list.",
    example="~/models",
)

RECORD: Final = Option[bool](
    "recording",
    switch,
    default=True,
    help="do not record this session",
    about="The session is then nowhere on disk, not even while it runs.",
)

EXPORT: Final = Option[tuple[str, ...]](
    "recording",
    export_address,
    "ADDRESS",
    default=(),
    help="serve metrics for Prometheus at this port of 127.0.0.1, or at HOST:PORT; may be given several times",
    about="They are at /metrics (docs/metrics.md); it takes pip install 'edgetop[prometheus]'. Whoever reaches the "
    "address reads them.",
    example="9091",
)

EXPORT_FILE: Final = Option[Path | None](
    "recording",
    path,
    "FILE",
    help="write metrics for Prometheus into this file every 15 s, for the textfile collector of node_exporter",
    about="Each time the whole file is replaced at once. It is removed at the end. Put it on a tmpfs: it is for now.",
    example="/run/edgetop/edgetop.prom",
)

SYNC_PULSE: Final = Option[bool](
    "recording",
    switch,
    default=False,
    help="load all cores by a known pattern for 8 s, so that a meter's log can be aligned with the session",
    about="For `edgetop sessions attach-power`, where the load itself repeats. It begins with the session; run and "
    "bench load the model after it.",
)

TEXT: Final = Option[bool](
    "recording",
    switch,
    default=True,
    help="record the figures without prompts and replies",
    about="Figures, stamps and settings are kept, the text is not.",
)

OUTPUT: Final = Option[Path | None](
    "recording",
    path,
    "FILE",
    short="-o",
    flag_only=True,
    help="write the session to this file instead of the sessions folder",
    about="The sessions folder does not list it; it can be named wherever a session is asked for.",
)

DATA_DIR: Final = Option[Path | None](
    "storage",
    path,
    "DIR",
    help="keep recorded sessions below this folder instead of your data folder",
    about="Sessions lie in its folder `sessions`, and what `edgetop tune` has found beside it.",
    example="~/edgetop",
)

SYSTEM: Final = Option[str | None](
    "sampling",
    text,
    "TEXT",
    sets=(),
    help="system prompt",
    about="Stands before the conversation and takes part of the context. /system changes it in the chat.",
    example="Answer briefly.",
)

MAX_TOKENS: Final = Option[int | None](
    "sampling",
    token_count,
    "N",
    short="-n",
    help="stop a reply after this many tokens",
    about="Without it a reply ends where the model ends it, or where the context is full.",
    example="500",
)

SEED_MAX = 2**32 - 2
"""llama.cpp draws a seed for 2**32 - 1 (LLAMA_DEFAULT_SEED)."""

SEED: Final = Option[int | None](
    "sampling",
    integer(0, SEED_MAX),
    "N",
    also=("-s",),
    help="seed for sampling (default: a new one for each turn, which is recorded)",
    about="With the same seed, settings and build of the engine the same prompt gets the same reply.",
    example="1",
)

TEMP: Final = Option[float](
    "sampling",
    real(0, 100),
    "T",
    default=0.8,
    sets=("temperature",),
    help="temperature, 0 for greedy",
    about="How freely tokens are drawn: at 0 always the likeliest one, above 1 more and more unlikely ones.",
)

TOP_P: Final = Option[float](
    "sampling",
    real(0, 1),
    "P",
    default=0.95,
    help="nucleus sampling, 1 for off",
    about="Only the likeliest tokens are drawn from that together have this probability.",
)

TOP_K: Final = Option[int](
    "sampling",
    integer(0),
    "K",
    default=40,
    help="draw from the K likeliest tokens, 0 for all",
    about="Comes before the other filters.",
)

MIN_P: Final = Option[float](
    "sampling",
    real(0, 1),
    "P",
    default=0.05,
    help="leave out tokens less likely than P times the likeliest, 0 for off",
    about="Unlike top_p it keeps more tokens where the model is unsure.",
)

REPEAT_PENALTY: Final = Option[float](
    "sampling",
    real(0.01, 100),
    "X",
    default=1.0,
    help="make recently generated tokens less likely, 1 for off",
    about="Values above 1.2 tend to damage the text.",
)

STOP: Final = Option[tuple[str, ...]](
    "sampling",
    one_text,
    "TEXT",
    default=(),
    help="end a reply before this text; may be given several times",
    about="The text itself is not part of the reply.",
    example="END",
)

DELAY_MIN_S = 0.25
"""More frames than this cost the model tokens, and no one reads them."""

DELAY: Final = Option[float](
    "screen",
    real(DELAY_MIN_S, 60),
    "SECONDS",
    short="-d",
    default=1.0,
    help="time between two updates of the panes (seconds, not tenths)",
    about="The chat is drawn a few times a second whatever this is. Where a draw takes long, the panes are drawn more "
    "rarely while a model decodes, unless this is below a second. Keys: + and -.",
)

THEME: Final = Option[str | None](
    "screen",
    text,
    "NAME",
    help="colour theme",
    about="Shipped are dark, light, high-contrast, colour-blind, mono and ansi (the terminal's own colours). "
    "Your own are files NAME.toml in the folder `themes` of the configuration folder; copy one of those "
    "that are shipped. Key: t.",
    example="light",
)

ASCII: Final = Option[bool](
    "screen",
    switch,
    short="-U",
    default=False,
    help="draw with ASCII characters only",
    about="Automatic where the locale or the terminal cannot show more. Key: g.",
)

MOUSE: Final = Option[bool](
    "screen",
    switch,
    default=True,
    help="leave the mouse to the terminal, which then selects text with it",
    about="With the mouse, a click on a key, a pane or a row does what the key for it does, and the wheel scrolls; "
    "every action has a key, too. Where the screen has the mouse, most terminals select text while Shift is held.",
)

NO_COLOR: Final = Option[bool](
    "screen",
    switch,
    short="-C",
    default=False,
    also_env="NO_COLOR",
    help="no colours",
    about="Nothing on the screen relies on colour alone. NO_COLOR of the environment, if it is set and not "
    "empty, means the same.",
)

PLAIN: Final = Option[bool](
    "screen",
    switch,
    default=False,
    help="lines instead of a screen, for screen readers and logs",
    about="Nothing is drawn twice, nothing is coloured and no cursor moves: the chat reads a prompt and writes the "
    "answer and a line of figures, other commands print what they would have shown. Chosen by itself "
    "where TERM is dumb.",
)

SERVER: Final = Option[str | None](
    "server",
    text,
    "URL",
    help="remote server: llama-server, Ollama or any with the OpenAI chat API, such as http://127.0.0.1:8080; "
    "--model then is one of its models, and a key is taken from EDGETOP_SERVER_KEY",
    about="Only this address is ever contacted, and a server on this machine never through a proxy. Its process"
    " is found by the socket it listens on, so that memory, processor time and power are measured as for "
    "a model of our own; for a server elsewhere the panes say that they cannot be.",
    example="http://127.0.0.1:8080",
)

SERVER_KIND: Final = Option[str](
    "server",
    OneOf(*KIND_VALUES, brought=lambda: installed(SERVERS)),
    "KIND",
    default="auto",
    help=f"what the server is: auto asks it; else {', '.join(KIND_VALUES[1:-1])} or {KIND_VALUES[-1]}, or one that an "
    "extension brings",
    about="auto asks for addresses that only one kind of server has. Name the kind where a proxy in front of "
    "the server answers for it.",
)

SERVER_KEY_FILE: Final = Option[Path | None](
    "server",
    path,
    "FILE",
    help="file that holds the server's API key; neither recorded nor shown",
    about="The file holds nothing but the key. EDGETOP_SERVER_KEY holds a key without a file; it is no setting, "
    "so that it cannot come into a configuration file that is shown around.",
    example="~/.config/edgetop/server.key",
)

SERVER_KEYS: Final = Option[tuple[tuple[str, Path], ...]](
    "server",
    key_of_origin,
    "URL=FILE",
    default=(),
    flag="",
    help="for each of several servers the file that holds its API key",
    about="In the configuration file it is a table of its own, [server.keys], with lines such as "
    '"http://10.0.0.2:8080" = "~/.config/edgetop/pi.key". A key is sent to the scheme, host and port that it stands '
    "behind, and to no other.",
    example="http://10.0.0.2:8080=~/.config/edgetop/pi.key",
)

SERVER_TIMEOUT: Final = Option[float](
    "server",
    real(1, 86_400),
    "SECONDS",
    default=300.0,
    help="how long to wait for a server that sends nothing",
    about="A server on a small device may read a long prompt for minutes before its first word.",
)

_BY_NAME = {name.lower(): value for name, value in globals().items() if isinstance(value, Option)}

for _name, _option in _BY_NAME.items():
    _option.name = _name

OPTIONS: Final[tuple[Option[object], ...]] = tuple(
    sorted(_BY_NAME.values(), key=lambda option: SECTIONS.index(option.section))
)
"""All of them, in the order `--help` shows them."""

BENCH_AXES: Final[tuple[Option[object], ...]] = (
    THREADS, THREADS_BATCH, KV_TYPE, GPU_LAYERS, BATCH, UBATCH, CACHE_TYPE_K, CACHE_TYPE_V, FLASH_ATTN, CPU_MASK, PRIO,
    N_CPU_MOE, OVERRIDE_TENSOR, LORA, MODEL_DRAFT, RPC,
)  # fmt: skip
"""What `edgetop bench` varies. Where two set the same, the later one does."""

FILE_AXES: Final[tuple[Option[object], ...]] = (LORA, MODEL_DRAFT, RPC)
"""Those whose values may have commas, as names of files and lists of hosts: the flag is given several times."""

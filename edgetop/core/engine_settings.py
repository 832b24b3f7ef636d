"""Model, engine, its settings and sampling, as recorded."""

from __future__ import annotations

from itertools import islice
from pathlib import PurePath
from typing import Final, Literal

from msgspec import Struct

from edgetop.core.engine_choices import LAYERS_MAX, FlashAttention, FullContext, KvType, LoadMode

N_CTX_DEFAULT = 4096
"""Enough for a chat; the memory for the whole context is taken when the model is loaded."""

N_CTX_WITHOUT_TRAINING = 2048
"""For a file that does not say what its model was trained with."""


def default_n_ctx(n_ctx_train: int | None) -> int:
    """Context length in tokens where nobody has chosen one."""
    known = n_ctx_train is not None and 0 < n_ctx_train < 2**31
    return min(n_ctx_train, N_CTX_DEFAULT) if known and n_ctx_train else N_CTX_WITHOUT_TRAINING


KV_TYPE: Final = "f16"
"""Of keys and values where nobody has chosen."""


class EngineSettings(Struct, frozen=True, kw_only=True):
    """How the model is to be run. `None` lets the engine choose; a loaded model reports what was chosen.

    Of a server's model, `None` is what the server does not report.
    """

    n_ctx: int | None = None
    """Context length in tokens, prompt and reply together."""
    n_threads: int | None = None
    """Threads for decoding; the physical cores that affinity and cgroup leave us by default."""
    n_threads_batch: int | None = None
    """Threads for prefill."""
    n_batch: int | None = None
    """Largest number of tokens in one decode call."""
    n_ubatch: int | None = None
    """Tokens computed together; a prefill is submitted in pieces of this size."""
    n_gpu_layers: int | None = None
    """Layers offloaded to an accelerator; all of them by default where there is one."""
    type_k: KvType | None = "f16"
    type_v: KvType | None = "f16"
    flash_attention: FlashAttention | None = "auto"
    load_mode: LoadMode | None = "auto"
    swa_full: bool | None = False
    """Keep the whole context for layers with a sliding window; costs memory, allows longer prefix reuse."""
    n_outputs_max: int = 1
    """Logit rows per decode call. Chat reads one, and the compute buffer grows with it."""
    use_extra_bufts: bool | None = True
    """Repacked weights and AMX. Off after a crash in the first decode."""
    offload_kqv: bool | None = True
    full_context: FullContext | None = "stop"
    """What happens when the context is full: stop and say so, or drop the oldest half and go on."""
    template_name: str | None = None
    """A named template of the model other than its default one."""
    template_args: dict[str, bool | int | float | str] = {}
    """Arguments for the chat template, such as enable_thinking."""
    rpc_servers: tuple[str, ...] = ()
    """Addresses `host:port` of llama.cpp's RPC servers, whose devices take layers as GPUs do."""
    cpu_mask: str | None = None
    """Hexadecimal mask of the logical processors that threads may run on."""
    prio: int | None = None
    """Priority of threads, from -1 (low) to 3 (realtime), as llama.cpp counts."""
    n_cpu_moe: int | None = None
    """Layers, from the first, whose experts stay in the memory of the CPU."""
    override_tensor: tuple[str, ...] = ()
    """`PATTERN=BUFFER`: where tensors go whose names a regular expression finds."""
    lora: tuple[str, ...] = ()
    """Files of adapters, each applied with a scale of 1."""
    draft_model: str | None = None
    """File of a smaller model that proposes tokens."""

    @property
    def flags(self) -> dict[str, str]:
        """What was chosen of EXTRA_FLAGS, in words; of files their names."""
        chosen = {flag: getattr(self, name) for name, flag in EXTRA_FLAGS.items()}
        return {
            flag: ",".join(
                PurePath(each).name if flag in {"--lora", "--model-draft"} else str(each)
                for each in (value if isinstance(value, tuple) else (value,))
            )
            for flag, value in chosen.items()
            if value not in {None, (), "auto"}
        }

    @property
    def expert_flags(self) -> tuple[str, ...]:
        """llama.cpp's flags for the experts that stay on the CPU; it makes a pattern of each layer that is counted."""
        if self.n_cpu_moe is None:
            return ()
        return ("--cpu-moe",) if self.n_cpu_moe >= LAYERS_MAX else ("--n-cpu-moe", str(self.n_cpu_moe))

    @property
    def of_server_only(self) -> tuple[str, ...]:
        """The flags that were chosen and that only llama-server carries out."""
        return tuple(flag for flag in self.flags if flag == "--model-draft")


EXTRA_FLAGS: Final = {
    "flash_attention": "--flash-attn",
    "cpu_mask": "--cpu-mask",
    "prio": "--prio",
    "n_cpu_moe": "--n-cpu-moe",
    "override_tensor": "--override-tensor",
    "lora": "--lora",
    "draft_model": "--model-draft",
}
"""Fields that have no place of their own in tables and comparisons, by flag."""


class SamplingSettings(Struct, frozen=True, kw_only=True):
    """How the next token is drawn, and the arguments of the chat template. A temperature of 0 is greedy."""

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    repeat_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    repeat_last_n: int = 64
    seed: int | None = None
    """`None` draws a seed; the turn records the one used."""
    max_tokens: int | None = None
    """`None` generates until the model ends its turn or the context is full."""
    stop: tuple[str, ...] = ()
    template_args: dict[str, bool | int | float | str] = {}
    """Arguments for the chat template that go before those of the engine's settings."""


class LayerShare(Struct, frozen=True, kw_only=True):
    """The layers of a model that lie on one device, where there are several."""

    device: str
    """As llama.cpp names it, such as `CPU`, `CUDA0` or `RPC0`."""
    server: str = ""
    """Address of the RPC server that the device is on, `host:port`; empty for a device of this machine."""
    first: int
    last: int
    """Counted from 0. What is as large as the model's number of layers is the output behind the last of them."""

    def words(self, n_layer: int | None) -> str:
        """Such as `layers 0 to 14 on 10.0.0.2:50052` or `layers 15 to 29 and output on CPU`."""
        last, output = self.last, False
        if n_layer is not None and last >= n_layer:
            last, output = n_layer - 1, True
        where = f" on {self.server or self.device}"
        if last < self.first:
            return f"output{where}"
        layers = f"layer {last}" if last == self.first else f"layers {self.first} to {last}"
        return layers + (" and output" if output else "") + where


class MemoryBreakdown(Struct, frozen=True, kw_only=True):
    """What the engine says it allocated, in bytes; `None` where it does not say."""

    weights_bytes: int | None = None
    kv_bytes: int | None = None
    compute_bytes: int | None = None
    output_bytes: int | None = None
    by_buffer: dict[str, int] = {}
    """The same, by llama.cpp's own buffer names, such as `CPU_Mapped model`."""
    layers: tuple[LayerShare, ...] = ()
    """Which layers lie on which device; empty where all are on one. Those of RPC servers take none of this machine's
    memory."""


class ModelInfo(Struct, frozen=True, kw_only=True):
    """What the model file and the engine say of the model."""

    path: str
    name: str
    architecture: str = ""
    quantization: str = ""
    """llama.cpp's file type label. Mixes hide behind it: `bits_per_weight` says what is really used."""
    bits_per_weight: float | None = None
    size_bytes: int | None = None
    parameters: int | None = None
    n_ctx_train: int | None = None
    n_layer: int | None = None
    n_vocab: int | None = None
    chat_template: Literal["model", "named", "fallback", "none"] = "none"
    """Where the chat template comes from; `none` means plain completion."""
    template_note: str = ""
    """Why a fallback or plain completion is used, in one line."""
    sha256: str = ""
    """Of the file, of a split model of its first one; empty while it is not yet computed."""
    repo: str = ""
    """`owner/repo` on the Hugging Face hub, where that is known."""
    revision: str = ""
    """The commit of the repository."""


INSTRUCTION_SETS = (
    *("AMX_INT8", "AVX512", "AVX2", "AVX", "SSSE3"),
    *("SME", "SVE", "MATMUL_INT8", "DOTPROD", "NEON"),
    *("RISCV_V", "VSX", "WASM_SIMD"),
)
"""As `llama_print_system_info` names them, the fastest first."""


class EngineInfo(Struct, frozen=True, kw_only=True):
    """What computes: library, version and the instruction sets and devices it was built for."""

    name: str
    version: str = ""
    system_info: str = ""
    devices: tuple[str, ...] = ()
    rpc: bool = False
    """Layers can be given to llama.cpp's RPC servers on other machines."""
    server: str = ""
    """Address of the server that computes; empty for an engine in a process of our own."""
    kind: str = ""
    """How it came here: `LLAMA_CPP_LIB_PATH`, `installed` or `portable`; empty where that is not known."""
    build: str = ""
    """Who built it, such as `llama-cpp-python 0.3.36`."""
    commit: str = ""
    """Of llama.cpp's sources, as the library says it; empty where it does not."""
    missing: str = ""
    """Why there is no engine; empty where there is one."""
    refused: tuple[str, ...] = ()
    """Engines that would have gone before it and cannot be used, each with its reason."""
    stamps: Literal["decode", "arrival"] = "decode"
    """What a token's stamp is: the end of its decode call, or when the text that holds it arrived from a server. Such a
    text may hold several tokens, which then have the same stamp."""

    @property
    def label(self) -> str:
        """Name, version, build and commit in one line."""
        return self._with(self.kind, self.build if self.build != self.kind else "", self.commit)

    @property
    def full(self) -> str:
        """The same with what it computes with, without the path of a program; `short` where nothing of it is known."""
        build = self.build if self.kind != self.name else ""
        parts = (self._kind, build, self.commit, *self._computes_with)
        return self._with(*parts) if build or self.commit else self.short

    @property
    def short(self) -> str:
        """Name, version, how it came here and what it computes with, such as `llama.cpp b9554 portable AVX2`."""
        return " ".join(part for part in (self.name, self.version, self._kind, *self._computes_with) if part)

    def _with(self, *parts: str) -> str:
        made = ", ".join(part for part in parts if part)
        return f"{self.name} {self.version}".strip() + (f" ({made})" if made else "")

    @property
    def _kind(self) -> str:
        return self.kind if self.kind != self.name else ""

    @property
    def _computes_with(self) -> tuple[str, ...]:
        """The best instruction set, and the backends of devices that are no processor, such as `CUDA`."""
        flags = self.system_info.replace(" ", "").split("|")
        best = (name for name in INSTRUCTION_SETS if any(flag.endswith(f"{name}=1") for flag in flags))
        backends = (device.partition(":")[0].rstrip("0123456789") for device in self.devices)
        others = (name for name in backends if name not in {"CPU", "BLAS", "RPC"})
        return (*islice(best, 1), *dict.fromkeys(others))


class EnginePerf(Struct, frozen=True, kw_only=True):
    """The engine's own counters for one turn, kept to check ours against."""

    prefill_ms: float
    prefill_tokens: int
    decode_ms: float
    decode_tokens: int
    draft_tokens: int | None = None
    """Tokens that a draft model proposed, and how many of them were accepted."""
    draft_accepted: int | None = None
    load_ms: float | None = None
    """How long the server loaded the model for this turn."""

    @property
    def decode_tokens_per_s(self) -> float | None:
        """As the engine counts and times; `None` without tokens or time."""
        return 1000 * self.decode_tokens / self.decode_ms if self.decode_tokens and self.decode_ms > 0 else None

    @property
    def prefill_tokens_per_s(self) -> float | None:
        """As the engine counts and times; `None` without tokens or time."""
        return 1000 * self.prefill_tokens / self.prefill_ms if self.prefill_tokens and self.prefill_ms > 0 else None

    @property
    def tokens_per_step(self) -> float | None:
        """Tokens that one pass of the model gave, with a draft model; `None` without."""
        if not self.draft_tokens or self.draft_accepted is None or self.decode_tokens <= self.draft_accepted:
            return None
        return self.decode_tokens / (self.decode_tokens - self.draft_accepted)

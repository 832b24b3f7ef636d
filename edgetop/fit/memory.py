"""Memory needed and available; longest context.

The library decides it by the type of a tensor and the instructions of the processor it was built for
(ggml_repack_get_optimal_repack_type in ggml-cpu/repack.cpp of llama.cpp 0c1e57098). The copy lies in ordinary memory
beside the mapped file, whose pages then are not read again.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Callable
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.engine_choices import KvType
from edgetop.core.engine_settings import KV_TYPE, EngineSettings, MemoryBreakdown, default_n_ctx
from edgetop.core.gguf import GgufArray, Tensor, layer_of
from edgetop.core.sources import Unavailable
from edgetop.fit.compute_buffer import compute_buffer, micro_batch, scores_copy_bytes
from edgetop.fit.kv_cache import CELLS_STEP, block_elements, is_quantized, kv_bytes, layers_of
from edgetop.fit.model_facts import ModelFacts, tensor_uses

RoomLimit = Literal["MemAvailable", "cgroup", "gpu", "shared with the GPU", "assumed of the device"]

CONTIGUOUS_MAX_BYTES = 1_100_000_000
"""About the largest block that CUDA could allocate on L4T R36.4.7, whatever was free
(https://www.smolhub.com/posts/jetson-nano-super-benchmark-non-reasoning/)."""

_TRAPPED = "36.4.7"

TRAP_NOTE = (
    "Jetson Linux R36.4.7 fails to give the GPU more than about 1.1 GB in one piece (NvMapMemAllocInternalTagged: "
    "error 12), whatever is free: update to R36.5 (JetPack 6.2.2), or use --gpu-layers 0."
)

SWAP_NOTE = "Swap is not counted: a model that is paged in and out decodes a hundred times slower."
ZRAM_NOTE = "The swap here is zram: it lies in this memory itself, and quantized weights hardly compress."
SHARED_NOTE = "The GPU has no memory of its own: what it takes is missing for everything else."


class MemoryRoom(Struct, frozen=True, kw_only=True):
    """What is free for a model now. Swap is not room."""

    available_bytes: int
    limit: RoomLimit
    """What sets `available_bytes`."""
    total_bytes: int
    """All there is, free or not."""
    swap_bytes: int | None = None
    """Where what is not mapped from a file can be moved to; `None` where that is not known."""
    name: str = ""
    """Which GPU it is; empty for main memory."""
    largest_block_bytes: int | None = None
    """The largest single allocation on the GPU that works, whatever is free; `None` if nothing is known to limit it."""
    notes: tuple[str, ...] = ()
    """What a person should know beside the number, one sentence each."""


def main_memory(
    *,
    available_bytes: int,
    total_bytes: int,
    limited_by_group: bool = False,
    shared_with_gpu: bool = False,
    l4t_version: str = "",
    swap_bytes: int = 0,
    swap_is_zram: bool = False,
) -> MemoryRoom:
    """The room in main memory. `l4t_version` is a Jetson's, such as `36.4.7`."""
    notes = []
    trapped = shared_with_gpu and f"{l4t_version}.".startswith(f"{_TRAPPED}.")
    if shared_with_gpu:
        notes.append(SHARED_NOTE)
    if trapped:
        notes.append(TRAP_NOTE)
    if swap_bytes > 0:
        notes.append(ZRAM_NOTE if swap_is_zram else SWAP_NOTE)
    limit: RoomLimit = "cgroup" if limited_by_group else "shared with the GPU" if shared_with_gpu else "MemAvailable"
    return MemoryRoom(
        available_bytes=available_bytes,
        limit=limit,
        total_bytes=total_bytes,
        swap_bytes=swap_bytes,
        largest_block_bytes=CONTIGUOUS_MAX_BYTES if trapped else None,
        notes=tuple(notes),
    )


def gpu_memory(*, name: str, free_bytes: int, total_bytes: int) -> MemoryRoom:
    """The room in a GPU's own memory."""
    return MemoryRoom(available_bytes=free_bytes, limit="gpu", total_bytes=total_bytes, name=name)


Features = frozenset[str]
"""Instructions that the library was built for and the processor has, by ggml's names: AVX2, AVX512, NEON, DOTPROD,
MATMUL_INT8."""

_ALIGNMENT_BYTES = 32
_X86_64 = frozenset({"AVX2"})
_AARCH64 = frozenset({"NEON", "DOTPROD"})
_NOT_MULTIPLIED = ("conv1d", "shortconv.conv", "_norm", "rope", "altup", "ssm_a", "ssm_d")
_ROWS_X86 = {"q4_0": 8, "q4_K": 8, "iq4_nl": 8, "mxfp4": 8}
_ROWS_AVX512 = {"q2_K": 8}

_ROWS_ARM = {
    "q4_0": 4,
    "q4_K": 8,
    "q5_K": 8,
    "q6_K": 8,
    "iq4_nl": 4,
    "mxfp4": 4,
    "q8_0": 4,
    "q1_0": 4,
}
"""By type: the number of rows of a matrix has to be a multiple of this one."""


class Repacking(Struct, frozen=True):
    """What is kept twice, in bytes."""

    size_bytes: int
    """Size of all copies."""
    copied: frozenset[str]
    """Names of the tensors of which only the copy is read."""
    in_place: frozenset[str]
    """Names of the tensors that are used as they lie in the file."""


def usual_features(machine: str = "") -> Features:
    """What the published builds use on such a machine (`x86_64`, `aarch64`; this one's by default).

    They are built for any processor of the last ten years: AVX2 and no AVX-512 on a PC; on Arm since the Cortex-A76,
    that is, a Raspberry Pi 5 and any Jetson Orin, but not a Raspberry Pi 4.
    """
    machine = (machine or platform.machine()).lower()
    if machine in {"x86_64", "amd64"}:
        return _X86_64
    return _AARCH64 if machine in {"aarch64", "arm64"} else frozenset()


def repacking(
    facts: ModelFacts, features: Features, *, wanted: bool = True, on_gpu: frozenset[str] = frozenset()
) -> Repacking:
    """What is repacked on a processor with these instructions; nothing unless `wanted` (`use_extra_bufts`).

    Tensors that lie on a GPU are in neither set.
    """
    rows = _rows_by_type(features) if wanted else {}
    tied = not any(tensor.name == "output.weight" for tensor in facts.tensors)
    copies_bytes = 0
    copied, in_place = set(), set()
    ahead = max(0, facts.header.whole(f"{facts.architecture}.nextn_predict_layers") or 0)
    n_layer = (facts.n_layer or 0) - ahead
    for tensor in facts.tensors:
        layer, _ = layer_of(tensor.name)
        if ahead and layer is not None and layer >= n_layer:
            continue  # predicts further tokens; the library leaves it alone
        if tensor.name in on_gpu:
            continue
        size_bytes = -(-tensor.size_bytes // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
        if tensor.name == "token_embd.weight":
            in_place.add(tensor.name)  # rows are looked up in it
            copies_bytes += size_bytes if tied and _fits(tensor, rows) and OUTPUT not in on_gpu else 0
        elif _is_multiplied(tensor) and _fits(tensor, rows):
            copies_bytes += size_bytes
            copied.add(tensor.name)
        else:
            in_place.add(tensor.name)
    return Repacking(copies_bytes, frozenset(copied), frozenset(in_place))


def in_place_bytes(facts: ModelFacts, repacked: Repacking) -> int:
    """Bytes of the weights that are used as they lie in the file, each aligned as in memory."""
    used = (tensor.size_bytes for tensor in facts.tensors if tensor.name in repacked.in_place)
    return sum(-(-size // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES for size in used)


def _rows_by_type(features: Features) -> dict[str, int]:
    rows: dict[str, int] = {}
    if "AVX2" in features:
        rows |= _ROWS_X86
    if "AVX512" in features:
        rows |= _ROWS_AVX512
    if "NEON" in features and features & {"DOTPROD", "MATMUL_INT8"}:
        rows |= _ROWS_ARM
    return rows


def _fits(tensor: Tensor, rows: dict[str, int]) -> bool:
    multiple = rows.get(tensor.type_name)
    return multiple is not None and len(tensor.shape) > 1 and tensor.shape[1] % multiple == 0


def _is_multiplied(tensor: Tensor) -> bool:
    """Whether the tensor is a matrix, or a stack of experts, that activations are multiplied with."""
    if tensor.name == "output.weight":
        return True
    layer, name = layer_of(tensor.name)
    if layer is None or not name.endswith(".weight") or any(word in name for word in _NOT_MULTIPLIED):
        return False
    return len(tensor.shape) == 2 or (len(tensor.shape) == 3 and "_exps" in name)


MemoryBasis = Literal["llama.cpp", "formula"]

WORKER_BYTES = 31 * 2**20
"""Interpreter and library, measured by benchmarks/memory_prediction.py: CPU build of llama-cpp-python 0.3.36, Python
3.11, x86-64."""

_NODE_BYTES = 2 * 410
"""Two descriptions of the graph are kept, each with room for all nodes: a ggml_object, a ggml_tensor, two pointers and
the share of a hash table (ggml_tensor_overhead and ggml_graph_overhead_custom)."""

_NODES_PER_TOKEN = {
    **dict.fromkeys(("qwen3next", "qwen35", "qwen35moe", "kimi-linear", "bailingmoe3", "nanbeige"), 40),
    **dict.fromkeys(("kimi-k3", "glm5-next"), 160),
}
"""Architectures whose graphs grow with the micro-batch (llama_context::graph_max_nodes)."""

_TOKEN_BYTES, _TOKEN_BYTES_BPE, _MERGE_BYTES, _TOKEN_BYTES_UNIGRAM = 150, 290, 65, 530
"""What a vocabulary takes per token and per merge; fitted to the 19 vocabularies in llama.cpp's models folder, of which
each is met within 15 %."""

LOGIT_BYTES = 4
_N_CTX_MAX = 2**24
_KV_TYPES: tuple[KvType, ...] = ("f16", "q8_0", "q4_0")


class MemoryNeed(Struct, frozen=True, kw_only=True):
    """Bytes, each part of them once."""

    weights_bytes: int
    """As in the file. Mapped weights are page cache, and still they have to stay in memory for decoding to be fast."""
    repack_bytes: int
    """Copies of weights in the order in which this processor multiplies them."""
    kv_bytes: int
    """Keys and values of the whole context, and the state of recurrent layers."""
    compute_bytes: int
    """Intermediate results."""
    output_bytes: int
    """Logits."""
    process_bytes: int
    """Interpreter, libraries, vocabulary, the header of the file, and ggml's copy of scores without flash attention."""
    beside_bytes: int = 0
    """What is loaded beside the model: a projector, a draft model with its cache."""
    droppable_bytes: int = 0
    """Of the weights: pages of the file that the kernel may drop after loading, since their repacked copies serve."""
    gpu_bytes: int = 0
    """Of all this: what lies in GPUs."""
    gpu_block_bytes: int = 0
    """The largest part of `gpu_bytes` that is allocated in one piece."""
    basis: MemoryBasis
    note: str = ""
    """What makes this less certain than usual; empty if nothing does."""

    @property
    def total_bytes(self) -> int:
        """Everything that is resident where there is room for it: the peak of the worker's resident set."""
        return self.allocated_bytes + self.process_bytes + self.beside_bytes

    @property
    def allocated_bytes(self) -> int:
        """What the library reports to have allocated."""
        parts = (self.weights_bytes, self.repack_bytes, self.kv_bytes, self.compute_bytes, self.output_bytes)
        return sum(parts)

    @property
    def mapped_bytes(self) -> int:
        """Of the weights: what can be read again from the file when it is needed, unless they are copied."""
        return self.weights_bytes - self.gpu_block_bytes

    @property
    def needed_bytes(self) -> int:
        """What has to stay resident for decoding at full speed."""
        return self.total_bytes - self.droppable_bytes


def memory_need(
    facts: ModelFacts,
    settings: EngineSettings,
    *,
    allocated: MemoryBreakdown | None = None,
    features: Features | None = None,
) -> MemoryNeed | Unavailable:
    """The memory that a model takes with these settings, or why it is not known.

    `allocated` is what the library said it would allocate; without it formulas answer. `features` are the processor's
    instructions, those of the usual builds for this machine by default.
    """
    features = usual_features() if features is None else features
    n_ctx = settings.n_ctx or default_n_ctx(facts.n_ctx_train)
    refused = refusal(facts, settings)
    if refused is not None:
        return refused
    copies, file, on_gpu = _weights(facts, settings, features)
    header_bytes = max(0, facts.size_bytes - facts.tensor_bytes) * (settings.load_mode != "copy")
    graph_bytes = _NODE_BYTES * _graph_nodes(facts, micro_batch(settings, n_ctx))
    process_bytes = WORKER_BYTES + graph_bytes + facts.derived(vocabulary_bytes) + header_bytes
    process_bytes += scores_copy_bytes(facts, settings, n_ctx=n_ctx)
    if allocated is not None:
        return _as_allocated(facts, settings, allocated, process_bytes, droppable=file.droppable_bytes)
    cache = kv_bytes(
        facts,
        n_ctx=n_ctx,
        type_k=settings.type_k or KV_TYPE,
        type_v=settings.type_v or KV_TYPE,
        swa_full=bool(settings.swa_full),
        n_ubatch=micro_batch(settings, n_ctx),
    )
    buffer = compute_buffer(facts, settings, n_ctx=n_ctx)
    if isinstance(cache, Unavailable):
        return cache
    if isinstance(buffer, Unavailable):
        return buffer
    gpu_share = layers_on_gpu(facts, settings) / max(1, facts.n_layer or 1)
    return MemoryNeed(
        weights_bytes=file.size_bytes + on_gpu.size_bytes,
        repack_bytes=copies.size_bytes,
        kv_bytes=cache,
        compute_bytes=buffer.size_bytes,
        output_bytes=LOGIT_BYTES * (facts.n_vocab or 0) * max(1, settings.n_outputs_max),
        process_bytes=process_bytes,
        droppable_bytes=file.droppable_bytes,
        gpu_bytes=on_gpu.size_bytes
        + round(cache * gpu_share) * (settings.offload_kqv is not False)
        + (buffer.size_bytes if on_gpu.names else 0),
        gpu_block_bytes=on_gpu.size_bytes,
        basis="formula",
        note=buffer.note,
    )


def refusal(facts: ModelFacts, settings: EngineSettings) -> Unavailable | None:
    """Why llama.cpp does not load this model, or not with these settings; `None` where it is not known to refuse."""
    if facts.architecture in _ABORTS:
        return Unavailable(
            f"{REFUSES} {facts.architecture} models: it aborts while it sets up their attention, a fault of its own, "
            "not of the file",
            "choose another model, or wait for a llama.cpp that runs it",
        )
    layers = layers_of(facts)
    if isinstance(layers, Unavailable):
        return None
    keeping = [layer for layer in layers if layer.keeps_kv]
    for what, kind in (("key", settings.type_k or KV_TYPE), ("value", settings.type_v or KV_TYPE)):
        block = block_elements(kind)
        length = next((n for layer in keeping if (n := getattr(layer, f"{what}_length")) % block), 0)
        if length:
            hint = f"--kv-type {next(t for t in ('f16', 'q8_0') if not length % block_elements(t))}"
            return Unavailable(
                f"{REFUSES} a KV cache in {kind} here: its blocks of {block} do not divide the {length} numbers of a "
                f"{what}",
                hint,
            )
    if keeping and settings.flash_attention == "off" and is_quantized(settings.type_v or KV_TYPE):
        return Unavailable(f"{REFUSES} values in {settings.type_v} without flash attention", "--flash-attn on")
    return None


REFUSES = "llama.cpp refuses"
"""How reasons begin that are a refusal, not a lack of knowledge."""

_ABORTS = frozenset({"plm"})
"""Architectures that it knows, and aborts on (GGML_ASSERT in the graph, llama.cpp 0c1e57098)."""

OUTPUT = "output.weight"


class OnGpu(Struct, frozen=True):
    """What lies on GPUs."""

    names: frozenset[str]
    """Of tensors; the copy of a tied token embedding that is the output matrix is `output.weight`."""
    size_bytes: int
    share: float
    """Of the bytes that a token reads."""
    compute_share: float
    """Of the weights that a token is multiplied with."""


_NOWHERE = OnGpu(frozenset(), 0, 0.0, 0.0)


def layers_on_gpu(facts: ModelFacts, settings: EngineSettings) -> int:
    """Of so many layers, the last ones, a GPU computes the attention; the output counts as one behind them."""
    return min(facts.n_layer or 0, max(0, (settings.n_gpu_layers or 0) - 1))


def on_gpu_of(facts: ModelFacts, settings: EngineSettings) -> OnGpu:
    """What goes to GPUs, layer by layer: experts of the first `n_cpu_moe` layers and what `-ot` names may not.

    Where nobody says how many layers, none (llama_model::load_tensors of llama.cpp 0c1e57098).
    """
    if (settings.n_gpu_layers or 0) <= 0:
        return _NOWHERE
    known = facts.derived(_placements)
    key = (settings.n_gpu_layers, settings.n_cpu_moe, settings.override_tensor)
    if key not in known:
        known[key] = _place(facts, settings)
    return known[key]


def _placements(_: ModelFacts) -> dict[object, OnGpu]:
    return {}


def _place(facts: ModelFacts, settings: EngineSettings) -> OnGpu:
    first = (facts.n_layer or 0) + 1 - (settings.n_gpu_layers or 0)
    rules = [
        (re.compile(pattern), place)
        for pattern, _, place in (each.rpartition("=") for each in settings.override_tensor)
    ]
    names: set[str] = set()
    size_bytes, read, read_there, work, work_there = 0, 0.0, 0.0, 0.0, 0.0
    tied = all(tensor.name != OUTPUT for tensor in facts.tensors)
    for tensor, use in zip(facts.tensors, tensor_uses(facts), strict=True):
        layer, _ = layer_of(tensor.name)
        there = layer >= first if layer is not None else not tensor.name.endswith("token_embd.weight")
        if layer is not None and layer < (settings.n_cpu_moe or 0) and "_exps" in tensor.name:
            there = False
        rule = next((place for pattern, place in rules if pattern.search(tensor.name)), "")
        if rule:
            there = not rule.upper().startswith("CPU")
        multiplied = tensor.elements * use.share * (use.use == "multiplied")
        read += tensor.size_bytes * use.share * (use.use == "multiplied")
        work += multiplied
        if tied and tensor.name == "token_embd.weight" and not rule:
            # Rows are looked up on the CPU; a copy on the GPU is the output matrix.
            names.add(OUTPUT)
            size_bytes += tensor.size_bytes
            there = True
        elif there:
            names.add(tensor.name)
            size_bytes += tensor.size_bytes * (use.use != "not loaded")
        read_there += tensor.size_bytes * use.share * (use.use == "multiplied") * there
        work_there += multiplied * there
    return OnGpu(frozenset(names), size_bytes, read_there / read if read else 0.0, work_there / work if work else 0.0)


def _weights(facts: ModelFacts, settings: EngineSettings, features: Features) -> tuple[Repacking, _Mapped, OnGpu]:
    """What is copied, what stays mapped and what lies on GPUs, which does not depend on the context."""
    known = facts.derived(_weight_layouts)
    key = (settings.n_gpu_layers, settings.n_cpu_moe, settings.override_tensor, settings.use_extra_bufts,
           settings.load_mode == "copy", features)  # fmt: skip
    if key not in known:
        on_gpu = on_gpu_of(facts, settings)
        copies = repacking(facts, features, wanted=settings.use_extra_bufts is not False, on_gpu=on_gpu.names)
        copied = settings.load_mode == "copy"
        known[key] = copies, _Mapped(in_place_bytes(facts, copies), 0) if copied else _mapped(facts, copies), on_gpu
    return known[key]


def _weight_layouts(_: ModelFacts) -> dict[object, tuple[Repacking, _Mapped, OnGpu]]:
    return {}


def largest_context(
    facts: ModelFacts, settings: EngineSettings, fits: Callable[[MemoryNeed], bool], *, features: Features | None = None
) -> int | None:
    """The longest context in tokens whose need `fits`, at most what the model was trained for.

    `None` if not even the shortest one does, or no formula is known.
    """
    trained = facts.n_ctx_train
    most = trained if trained is not None and 0 < trained <= _N_CTX_MAX else _N_CTX_MAX

    def need(steps: int) -> MemoryNeed | Unavailable:
        return memory_need(facts, replace(settings, n_ctx=steps * CELLS_STEP), features=features)

    def holds(steps: int) -> bool:
        found = need(steps)
        return not isinstance(found, Unavailable) and fits(found)

    high = max(1, most // CELLS_STEP)  # in steps
    longest = need(high)
    if isinstance(longest, Unavailable):
        return None
    if fits(longest):
        return high * CELLS_STEP
    shortest = need(1)
    if isinstance(shortest, Unavailable) or not fits(shortest):
        return None
    # Needs grow nearly in proportion, so that the end is looked for between the two, and tried where it should be.
    near, width = _last(1, high, lambda steps: fits(_between(shortest, longest, (steps - 1) / (high - 1)))), 1
    step = 1 if holds(near) else -1
    while 1 < near + step * width < high and holds(near + step * width) == (step > 0):
        near += step * width
        width *= 2
    bounds = (near, min(high, near + width)) if step > 0 else (max(1, near - width), near)
    return _last(*bounds, holds) * CELLS_STEP


def _last(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """The last number that holds, where `low` does and `high` does not, by halving."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _between(shortest: MemoryNeed, longest: MemoryNeed, share: float) -> MemoryNeed:
    """The need of a context between two."""

    def part(first: int, last: int) -> int:
        return first + round(share * (last - first))

    return replace(
        longest,
        kv_bytes=part(shortest.kv_bytes, longest.kv_bytes),
        compute_bytes=part(shortest.compute_bytes, longest.compute_bytes),
        process_bytes=part(shortest.process_bytes, longest.process_bytes),
        gpu_bytes=part(shortest.gpu_bytes, longest.gpu_bytes),
    )


def fitting_kv_type(
    facts: ModelFacts, settings: EngineSettings, fits: Callable[[MemoryNeed], bool], *, features: Features | None = None
) -> KvType | None:
    """The most exact type for keys and values with which the need of this context `fits`; `None` if none does."""
    for kv_type in _KV_TYPES:
        need = memory_need(facts, replace(settings, type_k=kv_type, type_v=kv_type), features=features)
        if not isinstance(need, Unavailable) and fits(need):
            return kv_type
    return None


def vocabulary_bytes(facts: ModelFacts) -> int:
    """What the worker keeps of the vocabulary: texts, and tables from text to token."""
    n_vocab = facts.n_vocab or 0
    merges = facts.metadata.get("tokenizer.ggml.merges")
    if isinstance(merges, GgufArray):
        return _TOKEN_BYTES_BPE * n_vocab + _MERGE_BYTES * merges.length
    unigram = facts.metadata.get("tokenizer.ggml.model") == "t5"
    return (_TOKEN_BYTES_UNIGRAM if unigram else _TOKEN_BYTES) * n_vocab


def _graph_nodes(facts: ModelFacts, n_tokens: int) -> int:
    """For how many nodes the library makes room."""
    per_token = _NODES_PER_TOKEN.get(facts.architecture, 0)
    return max(1024, n_tokens * per_token, (32 if per_token else 8) * len(facts.tensors))


def _as_allocated(
    facts: ModelFacts, settings: EngineSettings, breakdown: MemoryBreakdown, process_bytes: int, *, droppable: int
) -> MemoryNeed:
    copied = sum(size for label, size in breakdown.by_buffer.items() if _is_copy(label))
    on_gpu = {label: size for label, size in breakdown.by_buffer.items() if not _is_in_main_memory(label)}
    return MemoryNeed(
        weights_bytes=(breakdown.weights_bytes or 0) - copied,
        repack_bytes=copied,
        kv_bytes=breakdown.kv_bytes or 0,
        compute_bytes=breakdown.compute_bytes or 0,
        output_bytes=breakdown.output_bytes or LOGIT_BYTES * (facts.n_vocab or 0) * max(1, settings.n_outputs_max),
        process_bytes=process_bytes,
        droppable_bytes=min(copied, droppable),
        gpu_bytes=sum(on_gpu.values()),
        gpu_block_bytes=max(on_gpu.values(), default=0),
        basis="llama.cpp",
    )


def _is_copy(label: str) -> bool:
    return label.endswith(" model") and label.removesuffix(" model") in {"CPU_REPACK", "AMX", "CPU_KLEIDIAI"}


def _is_in_main_memory(label: str) -> bool:
    buffer = label.rpartition(" ")[0]
    return buffer.startswith("CPU") or buffer in {"AMX", "BLAS"} or buffer.endswith("_Host")


class _Mapped(Struct, frozen=True):
    """The part of a model's file that stays mapped."""

    size_bytes: int
    droppable_bytes: int


def _mapped(facts: ModelFacts, copies: Repacking) -> _Mapped:
    """From the first tensor used in place to the last; with several files nobody knows which part of each."""
    used = [tensor for tensor in facts.tensors if tensor.name in copies.in_place]
    if len(facts.files) > 1 or not used:
        return _Mapped(in_place_bytes(facts, copies), 0)
    begin = min(tensor.offset for tensor in used)
    end = max(tensor.offset + tensor.size_bytes for tensor in used)
    between = [tensor for tensor in facts.tensors if tensor.name in copies.copied and begin <= tensor.offset < end]
    return _Mapped(end - begin, sum(tensor.size_bytes for tensor in between))

"""Llama.cpp's graph laid out as ggml does: compute bytes.

ggml plans one buffer for a whole graph: it walks the nodes in order, puts each result into the smallest hole that holds
it, and frees a result once its last reader is done; some operations write over their own input. The holes that stay are
part of the size, so the plan is made here in the same way (ggml-alloc.c of llama.cpp 0c1e57098: ggml_dyn_tallocr_alloc,
ggml_dyn_tallocr_free_bytes, ggml_gallocr_allocate_node).

After build_ffn and build_moe_ffn of llama-graph.cpp (llama.cpp 0c1e57098).

After src/models/mamba-base.cpp and lfm2.cpp of llama.cpp 0c1e57098.

The graph of the model is laid out from the shapes of its weights and the allocator of ggml is run over it. The terms
that count are, per token of the micro-batch: a few times the width of the residual stream, two or three times the
width of the feed-forward part (times the experts used), the mask (two bytes for each token of the context) and, without
flash attention, four bytes for each head and token of the context.
"""

from __future__ import annotations

from msgspec import Struct

from edgetop.core.engine_settings import KV_TYPE, EngineSettings
from edgetop.core.gguf import layer_of
from edgetop.core.sources import Unavailable
from edgetop.fit.kv_cache import N_BATCH_DEFAULT, N_UBATCH_DEFAULT, Layer, cells_of, is_quantized, layers_of, padded
from edgetop.fit.model_facts import ModelFacts

ALIGNMENT_BYTES = 32
"""TENSOR_ALIGNMENT of ggml-cpu."""


class GraphTensor:
    """What an operation of the graph writes."""

    def __init__(self, size_bytes: int, *, in_place: bool = False, view_of: GraphTensor | None = None) -> None:
        self.size_bytes = -(-max(0, size_bytes) // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
        self.in_place = in_place
        self.view_of = view_of
        self.readers = 0
        """Operations that still have to read it."""
        self.views = 0
        self.offset: int | None = None
        """Where it lies; `None` while it has no memory."""


class Graph:
    """Operations in the order in which they run. The planned size is read with `buffer_bytes`, once."""

    def __init__(self) -> None:
        self._inputs: list[GraphTensor] = []
        self._operations: list[tuple[GraphTensor, tuple[GraphTensor, ...]]] = []

    def input(self, size_bytes: int) -> GraphTensor:
        """Something that is filled in before the graph runs."""
        self._inputs.append(GraphTensor(size_bytes))
        return self._inputs[-1]

    def operation(self, size_bytes: int, *sources: GraphTensor, in_place: bool = False) -> GraphTensor:
        """Compute something of `size_bytes` from `sources`, over one of them of the same size if `in_place`."""
        return self._add(GraphTensor(size_bytes, in_place=in_place), sources)

    def view(self, source: GraphTensor) -> GraphTensor:
        """The same bytes in another shape."""
        whole = source.view_of or source
        return self._add(GraphTensor(source.size_bytes, view_of=whole), (source,))

    def store(self, *sources: GraphTensor) -> None:
        """Write into memory outside of the graph, such as the KV cache."""
        self._add(GraphTensor(0), sources)

    def buffer_bytes(self) -> int:
        """Size of the buffer that holds all results."""
        plan = _Plan()
        for given in self._inputs:
            plan.allocate(given)
        for result, sources in self._operations:
            for source in sources:
                source.readers += 1
            if result.view_of is not None:
                result.view_of.views += 1
        for result, sources in self._operations:
            _place(plan, result, sources)
            for source in sources:
                _release(plan, source)
        return plan.size_bytes

    def _add(self, result: GraphTensor, sources: tuple[GraphTensor, ...]) -> GraphTensor:
        self._operations.append((result, sources))
        return result


def _place(plan: _Plan, result: GraphTensor, sources: tuple[GraphTensor, ...]) -> None:
    if result.view_of is not None or not result.size_bytes:
        return
    for source in sources if result.in_place else ():
        # A view is not written over: rope, which works on one, takes new memory.
        last_read = source.readers == 1 and not source.views
        if last_read and source.offset is not None and source.size_bytes == result.size_bytes:
            result.offset, source.offset = source.offset, None
            return
    plan.allocate(result)


def _release(plan: _Plan, source: GraphTensor) -> None:
    source.readers -= 1
    if source.readers or source.views:
        return
    whole = source
    if source.view_of is not None:
        whole = source.view_of
        whole.views -= 1
    if not whole.readers and not whole.views and whole.offset is not None:
        plan.free(whole.offset, whole.size_bytes)
        whole.offset = None


class _Plan:
    """The buffer while it is planned: holes as (offset, size), ascending, the last one without an end."""

    def __init__(self) -> None:
        self.size_bytes = 0
        self._holes: list[tuple[int, int]] = [(0, 2**62)]

    def allocate(self, result: GraphTensor) -> None:
        fitting = [(size, -index) for index, (_, size) in enumerate(self._holes[:-1]) if size >= result.size_bytes]
        # Of several holes of the same size the last one is taken.
        index = -min(fitting)[1] if fitting else len(self._holes) - 1
        offset, size = self._holes[index]
        if size == result.size_bytes:
            del self._holes[index]
        else:
            self._holes[index] = (offset + result.size_bytes, size - result.size_bytes)
        result.offset = offset
        self.size_bytes = max(self.size_bytes, offset + result.size_bytes)

    def free(self, offset: int, size_bytes: int) -> None:
        self._holes.append((offset, size_bytes))
        self._holes.sort()
        merged = [self._holes[0]]
        for begin, size in self._holes[1:]:
            last_begin, last_size = merged[-1]
            if last_begin + last_size == begin:
                merged[-1] = (last_begin, last_size + size)
            else:
                merged.append((begin, size))
        self._holes = merged


F16_BYTES, F32_BYTES, I32_BYTES, I64_BYTES = 2, 4, 4, 8


class GraphParts:
    """A graph that grows layer by layer, for `n_tokens` computed together."""

    def __init__(self, facts: ModelFacts, layers: tuple[Layer, ...], n_tokens: int) -> None:
        self.graph = Graph()
        self.facts = facts
        self.layers = layers
        self.n_tokens = n_tokens
        self.n_embd = facts.n_embd or 0
        self._shapes = facts.derived(_shapes)
        self._positions: GraphTensor | None = None
        self._state_rows: GraphTensor | None = None

    def has(self, layer: int, *names: str) -> bool:
        """Whether the layer has weights of one of these names."""
        return any(f"blk.{layer}.{name}.weight" in self._shapes for name in names)

    def width(self, layer: int, name: str) -> int:
        """How many numbers per token come out of a matrix: the rows of all its slices; 0 without it."""
        shape = self._shapes.get(f"blk.{layer}.{name}.weight", (0, 0))
        return shape[1] if len(shape) > 1 else 0

    def length(self, layer: int, name: str) -> int:
        """Length of a row of a weight tensor; 0 without it."""
        return self._shapes.get(f"blk.{layer}.{name}.weight", (0,))[0]

    def has_global(self, name: str) -> bool:
        """Whether the model has a tensor of this name outside of its layers."""
        return f"{name}.weight" in self._shapes

    def count(self, key: str) -> int:
        """A whole number of the metadata, 0 if it is absent."""
        return max(0, self.facts.header.whole(f"{self.facts.architecture}.{key}") or 0)

    def compute(
        self, width: int, *sources: GraphTensor, n_tokens: int | None = None, in_place: bool = False
    ) -> GraphTensor:
        """A result of `width` f32 numbers per token."""
        tokens = self.n_tokens if n_tokens is None else n_tokens
        return self.graph.operation(F32_BYTES * width * tokens, *sources, in_place=in_place)

    def normalise(self, source: GraphTensor, width: int, *, n_tokens: int | None = None) -> GraphTensor:
        """RMS norm, which may overwrite its source, or layer norm. The weights are then multiplied in place."""
        rms = f"{self.facts.architecture}.attention.layer_norm_rms_epsilon" in self.facts.metadata
        return self.compute(width, source, n_tokens=n_tokens, in_place=rms)

    def state_rows(self) -> None:
        """Which state belongs to which sequence, an input."""
        if self._state_rows is None:
            self._state_rows = self.graph.input(I32_BYTES)

    def place(self) -> GraphTensor:
        """The positions of the tokens, an input."""
        if self._positions is None:
            self._positions = self.graph.input(I32_BYTES * self.n_tokens)
        return self._positions


def _shapes(facts: ModelFacts) -> dict[str, tuple[int, ...]]:
    return {tensor.name: tensor.shape for tensor in facts.tensors}


_ROTATION_MIN = 64
"""Keys and values of quantized caches are rotated by Hadamard matrices of at least this size."""

_NO_ROPE = frozenset({"bloom", "gpt2", "mpt", "refact", "starcoder", "jais", "jamba", "granitehybrid", "nemotron_h"})


class Attention(Struct):
    """What all attention layers share: how they are computed, and the inputs that are made when first used."""

    flash: bool
    settings: EngineSettings
    n_ctx: int
    rotation_k: int = 0
    """Size of the Hadamard matrix for keys; 0 without one."""
    rotation_v: int = 0
    inputs: dict[tuple[str, int], GraphTensor] = {}


def attention_of(parts: GraphParts, settings: EngineSettings, *, n_ctx: int, flash: bool) -> Attention:
    """The attention of a model with these settings."""
    keeping = [layer for layer in parts.layers if layer.keeps_kv]
    keys, values = {layer.key_length for layer in keeping}, {layer.value_length for layer in keeping}
    rotation_k = rotation_v = 0
    if is_quantized(settings.type_k or KV_TYPE) and len(keys) == 1:
        rotation_k = _largest_rotation(keys.pop())
    if is_quantized(settings.type_v or KV_TYPE) and len(values) == 1 and values.pop() % _ROTATION_MIN == 0:
        rotation_v = _ROTATION_MIN
    return Attention(
        flash=flash, settings=settings, n_ctx=n_ctx, rotation_k=rotation_k, rotation_v=rotation_v, inputs={}
    )


def attend(parts: GraphParts, attention: Attention, index: int, normed: GraphTensor) -> GraphTensor:
    """What the attention of layer `index` adds to the residual stream."""
    if parts.has(index, "attn_kv_a_mqa") and not parts.layers[index].value_length:
        return _attend_latent(parts, attention, index, normed)
    layer = parts.layers[index]
    if parts.has(index, "attn_qkv"):
        qkv = parts.compute(parts.width(index, "attn_qkv"), normed)
        query, key, value = (parts.graph.view(qkv) for _ in range(3))
        query = _turned(parts, index, "attn_q_norm", query, layer.n_head * layer.key_length)
        query = _rotated(parts, attention, layer, query, what="k", width=layer.n_head * layer.key_length)
        key = _turned(parts, index, "attn_k_norm", key, layer.key_width)
        key = _rotated(parts, attention, layer, key, what="k", width=layer.key_width)
        value = _rotated(parts, attention, layer, value, what="v", width=layer.value_width)
    else:
        width = parts.width(index, "attn_q")
        query = _turned(parts, index, "attn_q_norm", parts.compute(width, normed), width)
        query = _rotated(parts, attention, layer, query, what="k", width=width)
        if not layer.keeps_kv:  # it reads what an earlier layer has kept
            return _mixed(parts, attention, query, layer)
        value = parts.graph.view(parts.compute(layer.value_width, normed))
        value = _rotated(parts, attention, layer, value, what="v", width=layer.value_width)
        key = _turned(parts, index, "attn_k_norm", parts.compute(layer.key_width, normed), layer.key_width)
        key = _rotated(parts, attention, layer, key, what="k", width=layer.key_width)
    _keep(parts, attention, layer, key, value)
    return _mixed(parts, attention, query, layer)


def _attend_latent(parts: GraphParts, attention: Attention, index: int, normed: GraphTensor) -> GraphTensor:
    """MLA with the matrices for keys absorbed into the queries (src/models/deepseek2.cpp)."""
    graph, layer = parts.graph, parts.layers[index]
    rank = parts.length(index, "attn_kv_a_norm")
    rope = layer.key_length - rank
    if parts.has(index, "attn_q_a"):
        narrow = parts.width(index, "attn_q_a")
        compressed = parts.normalise(parts.compute(narrow, normed), narrow)
        query = parts.compute(parts.width(index, "attn_q_b"), compressed)
    else:
        query = parts.compute(parts.width(index, "attn_q"), normed)
    query = graph.view(query)
    absorbed = parts.compute(rank * layer.n_head, graph.view(graph.view(query)))
    turned = parts.compute(rope * layer.n_head, graph.view(query), parts.place())
    query = parts.compute(layer.key_length * layer.n_head, graph.view(absorbed), turned)
    latent = parts.compute(layer.key_length, normed)
    value = graph.view(parts.normalise(graph.view(latent), rank))
    place = parts.compute(rope, graph.view(latent), parts.place())
    key = parts.compute(layer.key_length, value, place)
    key = _rotated(parts, attention, layer, key, what="k", width=layer.key_length)
    graph.store(graph.view(key), _indexes(parts, attention, "k", layer))
    mask = _mask(parts, attention, layer)
    if attention.flash:
        mixed = parts.compute(rank * layer.n_head, graph.view(query), mask)
    else:
        mixed = parts.compute(rank * layer.n_head, _scores(parts, attention, layer, graph.view(query), mask))
    heads = parts.length(index, "attn_output")
    mixed = parts.compute(heads, graph.view(mixed) if attention.flash else mixed)
    mixed = parts.compute(heads, graph.view(mixed))
    return parts.compute(parts.n_embd, graph.view(mixed) if attention.flash else mixed)


def _turned(parts: GraphParts, index: int, norm: str, source: GraphTensor, width: int) -> GraphTensor:
    """Normalise per head where the model does, then turn by position. Both take a view, so each needs new memory."""
    if parts.length(index, norm):
        if parts.length(index, norm) == width:  # all heads as one
            source = parts.graph.view(parts.normalise(source, width))
        else:
            source = parts.compute(width, parts.graph.view(source))
            return parts.compute(width, source, parts.place(), in_place=True)
    elif source.view_of is None:
        source = parts.graph.view(source)
    if parts.facts.architecture in _NO_ROPE or parts.has_global("position_embd"):
        return source
    return parts.compute(width, source, parts.place())


def _rotated(
    parts: GraphParts, attention: Attention, layer: Layer, source: GraphTensor, *, what: str, width: int
) -> GraphTensor:
    size = attention.rotation_k if what == "k" else attention.rotation_v
    if not size:
        return source
    matrix = _input(parts, attention, f"rotation {what}", layer, F32_BYTES * size * size)
    return parts.graph.view(parts.compute(width, matrix, parts.graph.view(source)))


def _keep(parts: GraphParts, attention: Attention, layer: Layer, key: GraphTensor, value: GraphTensor) -> None:
    parts.graph.store(parts.graph.view(key), _indexes(parts, attention, "k", layer))
    parts.graph.store(parts.graph.view(value), _indexes(parts, attention, "v", layer))


def _mixed(parts: GraphParts, attention: Attention, query: GraphTensor, layer: Layer) -> GraphTensor:
    graph = parts.graph
    width = layer.n_head * layer.value_length
    query = graph.view(graph.view(query))
    mask = _mask(parts, attention, layer)
    if attention.flash:
        mixed = graph.view(parts.compute(width, query, mask))
    else:
        weighted = parts.compute(width, _scores(parts, attention, layer, query, mask))
        mixed = parts.compute(width, graph.view(weighted))
    mixed = _rotated(parts, attention, layer, mixed, what="v", width=width)
    return parts.compute(parts.n_embd, mixed)


def _scores(
    parts: GraphParts, attention: Attention, layer: Layer, query: GraphTensor, mask: GraphTensor
) -> GraphTensor:
    width = layer.n_head * _cells(parts, attention, layer)
    return parts.compute(width, parts.compute(width, query), mask, in_place=True)


def _cells(parts: GraphParts, attention: Attention, layer: Layer) -> int:
    full = attention.settings.swa_full
    return cells_of(layer, n_ctx=attention.n_ctx, n_ubatch=parts.n_tokens, swa_full=bool(full))


def _mask(parts: GraphParts, attention: Attention, layer: Layer) -> GraphTensor:
    """Which tokens each token sees: f16 for flash attention, else f32."""
    number_bytes = F16_BYTES if attention.flash else F32_BYTES
    size_bytes = number_bytes * _cells(parts, attention, layer) * parts.n_tokens
    return _input(parts, attention, "mask", layer, size_bytes)


def _indexes(parts: GraphParts, attention: Attention, what: str, layer: Layer) -> GraphTensor:
    """Where in the cache to write; without flash attention values lie transposed, so that each number has its own."""
    widest = max(each.value_width for each in parts.layers) if what == "v" and not attention.flash else 1
    return _input(parts, attention, what, layer, I64_BYTES * parts.n_tokens * widest)


def _input(parts: GraphParts, attention: Attention, what: str, layer: Layer, size_bytes: int) -> GraphTensor:
    key = (what, 1 if layer.window else 0)
    if key not in attention.inputs:
        attention.inputs[key] = parts.graph.input(size_bytes)
    return attention.inputs[key]


def _largest_rotation(key_length: int) -> int:
    if key_length == 0 or key_length % _ROTATION_MIN:
        return 0
    size = _ROTATION_MIN
    while key_length % (2 * size) == 0:
        size *= 2
    return size


_WEIGHTS_AS_THEY_ARE = frozenset({"qwen2moe", "olmoe"})
"""The weights of the chosen experts are not made to sum to one."""


def feed_forward(parts: GraphParts, index: int, normed: GraphTensor, n_tokens: int) -> GraphTensor:
    """What the feed-forward part of layer `index` adds to the residual stream, for `n_tokens` of the tokens."""
    if not parts.has(index, "ffn_gate_inp"):
        return _dense(parts, index, normed, n_tokens, "")
    mixed = _experts(parts, index, normed, n_tokens)
    if not parts.has(index, "ffn_up_shexp"):
        return mixed
    shared = _dense(parts, index, normed, n_tokens, "_shexp")
    if parts.length(index, "ffn_gate_inp_shexp"):
        gate = parts.compute(1, normed, n_tokens=n_tokens)
        shared = parts.compute(parts.n_embd, shared, gate, n_tokens=n_tokens, in_place=True)
    return parts.compute(parts.n_embd, mixed, shared, n_tokens=n_tokens, in_place=True)


def _dense(parts: GraphParts, index: int, normed: GraphTensor, n_tokens: int, suffix: str) -> GraphTensor:
    down = parts.length(index, f"ffn_down{suffix}")
    wide = parts.width(index, f"ffn_up{suffix}")
    if parts.has(index, f"ffn_gate{suffix}"):
        gate = parts.compute(parts.width(index, f"ffn_gate{suffix}"), normed, n_tokens=n_tokens)
        up = parts.compute(wide, normed, n_tokens=n_tokens)
        hidden = parts.compute(down, gate, up, n_tokens=n_tokens)
    else:
        hidden = parts.compute(wide, normed, n_tokens=n_tokens)
        if wide != down:  # gate and up in one matrix
            hidden = parts.compute(down, hidden, n_tokens=n_tokens)
    return parts.compute(parts.n_embd, hidden, n_tokens=n_tokens)


def _experts(parts: GraphParts, index: int, normed: GraphTensor, n_tokens: int) -> GraphTensor:
    graph = parts.graph
    used = max(1, parts.facts.n_expert_used)
    scores = parts.compute(parts.width(index, "ffn_gate_inp"), normed, n_tokens=n_tokens)
    selecting = scores
    if parts.length(index, "exp_probs_b"):
        selecting = parts.compute(parts.width(index, "ffn_gate_inp"), scores, n_tokens=n_tokens)
    chosen = graph.view(parts.compute(parts.width(index, "ffn_gate_inp"), selecting, n_tokens=n_tokens))
    weights = parts.compute(used, graph.view(scores), chosen, n_tokens=n_tokens)
    if parts.facts.architecture not in _WEIGHTS_AS_THEY_ARE:
        weights = graph.view(weights)
        total = parts.compute(1, weights, n_tokens=n_tokens)
        weights = graph.view(parts.compute(used, weights, total, n_tokens=n_tokens, in_place=True))
    source = graph.view(normed)
    hidden = parts.length(index, "ffn_down_exps") * used
    if parts.has(index, "ffn_gate_up_exps"):
        both = parts.compute(2 * hidden, source, chosen, n_tokens=n_tokens)
        hidden_result = parts.compute(hidden, graph.view(both), graph.view(both), n_tokens=n_tokens)
    elif parts.has(index, "ffn_gate_exps"):
        gate = parts.compute(hidden, source, chosen, n_tokens=n_tokens)
        up = parts.compute(hidden, source, chosen, n_tokens=n_tokens)
        hidden_result = parts.compute(hidden, gate, up, n_tokens=n_tokens)
    else:
        hidden_result = parts.compute(hidden, source, chosen, n_tokens=n_tokens)
    answers = parts.compute(parts.n_embd * used, hidden_result, chosen, n_tokens=n_tokens)
    answers = parts.compute(parts.n_embd * used, answers, weights, n_tokens=n_tokens, in_place=True)
    each = [graph.view(answers) for _ in range(used)]
    if used == 1:
        return parts.compute(parts.n_embd, each[0], n_tokens=n_tokens)
    mixed = each[0]
    for answer in each[1:]:
        mixed = parts.compute(parts.n_embd, mixed, answer, n_tokens=n_tokens, in_place=True)
    return mixed


def is_known(parts: GraphParts, index: int) -> bool:
    """Whether a graph is known for the recurrent part of a layer."""
    return parts.has(index, "ssm_x", "shortconv.in_proj") or _is_mamba_2(parts, index)


def recurrent_part(parts: GraphParts, index: int, normed: GraphTensor) -> GraphTensor:
    """What the recurrent part of layer `index` adds to the residual stream."""
    parts.state_rows()
    if parts.has(index, "shortconv.in_proj"):
        return _short_convolution(parts, normed)
    return _mamba_2(parts, index, normed) if _is_mamba_2(parts, index) else _mamba(parts, index, normed)


def _is_mamba_2(parts: GraphParts, index: int) -> bool:
    # Delta nets have an ssm_norm and no ssm_in.
    return parts.has(index, "ssm_in") and not parts.has(index, "ssm_x")


def _convolved(parts: GraphParts, source: GraphTensor, width: int) -> GraphTensor:
    """The tokens before, of which the state keeps some, and these: `width` numbers each, convolved."""
    graph, kept = parts.graph, max(0, parts.count("ssm.conv_kernel") - 1)
    before = graph.operation(F32_BYTES * kept * width)
    together = graph.operation(F32_BYTES * (kept + parts.n_tokens) * width, graph.view(before), graph.view(source))
    graph.store(graph.view(together))
    return parts.compute(width, together)


def _mamba(parts: GraphParts, index: int, normed: GraphTensor) -> GraphTensor:
    graph = parts.graph
    inner, state, rank = parts.count("ssm.inner_size"), parts.count("ssm.state_size"), parts.count("ssm.time_step_rank")
    both = parts.compute(2 * inner, graph.view(normed))
    convolved = _convolved(parts, graph.view(both), inner)
    split = parts.compute(rank + 2 * state, convolved)
    steps = parts.compute(inner, parts.compute(rank, graph.view(split)))
    inputs, outputs = graph.view(split), graph.view(split)
    if parts.length(index, "ssm_b_norm"):
        inputs, outputs = parts.compute(state, inputs), parts.compute(state, outputs)
    scan_bytes = F32_BYTES * inner * (parts.n_tokens + state)
    scanned = graph.operation(scan_bytes, graph.view(convolved), steps, inputs, outputs)
    graph.store(graph.view(scanned))
    gate = parts.compute(inner, graph.view(both))
    skipped = parts.compute(inner, convolved, in_place=True)
    summed = parts.compute(inner, graph.view(scanned), skipped, in_place=True)
    return graph.view(parts.compute(parts.n_embd, parts.compute(inner, gate, summed)))


def _mamba_2(parts: GraphParts, index: int, normed: GraphTensor) -> GraphTensor:
    graph = parts.graph
    inner, state = parts.count("ssm.inner_size"), parts.count("ssm.state_size")
    wide = inner + 2 * max(1, parts.count("ssm.group_count")) * state
    projected = graph.view(parts.compute(parts.width(index, "ssm_in"), normed))
    convolved = _convolved(parts, graph.view(projected), wide)
    steps = parts.compute(parts.count("ssm.time_step_rank"), graph.view(projected))
    scan_bytes = F32_BYTES * inner * (parts.n_tokens + state)
    values = graph.view(convolved)
    scanned = graph.operation(scan_bytes, values, steps, graph.view(convolved), graph.view(convolved))
    graph.store(graph.view(scanned))
    gate = parts.compute(inner, graph.view(projected))
    skipped = parts.compute(inner, values)
    summed = parts.compute(inner, graph.view(scanned), skipped, in_place=True)
    mixed = parts.compute(inner, gate, summed)
    if parts.length(index, "ssm_norm"):
        mixed = parts.compute(inner, graph.view(mixed))
    return parts.compute(parts.n_embd, graph.view(mixed))


def _short_convolution(parts: GraphParts, normed: GraphTensor) -> GraphTensor:
    graph, width = parts.graph, parts.n_embd
    kept = max(0, parts.count("shortconv.l_cache") - 1)
    three = parts.compute(3 * width, normed)
    product = parts.compute(width, graph.view(three), graph.view(three))
    before = graph.operation(F32_BYTES * kept * width)
    together = graph.operation(F32_BYTES * (kept + parts.n_tokens) * width, graph.view(before), graph.view(product))
    graph.store(graph.view(together))
    convolved = parts.compute(width, together)
    mixed = parts.compute(width, graph.view(three), convolved, in_place=True)
    return parts.compute(width, mixed)


CHECKED = frozenset(
    {"llama", "qwen2", "qwen3", "qwen2moe", "qwen3moe", "olmoe", "gemma2", "gemma3", "gpt2", "phi3", "deepseek2",
     "mamba", "jamba", "lfm2"}
)  # fmt: skip
"""Architectures whose buffers are compared with the library's in the tests."""

_OWN_GRAPHS = frozenset({"gemma3n"})
"""Several residual streams side by side."""

_ALIKE_MAX = 3
"""From the third layer of a kind on the plan repeats itself."""


class ComputeBuffer(Struct, frozen=True):
    """What is planned for intermediate results."""

    size_bytes: int
    note: str = ""
    """What is not known of this architecture; empty where all is."""


def compute_buffer(facts: ModelFacts, settings: EngineSettings, *, n_ctx: int) -> ComputeBuffer | Unavailable:
    """The buffer for a context of `n_ctx` tokens, or why no formula is known."""
    layers = layers_of(facts)
    if isinstance(layers, Unavailable):
        return layers
    n_tokens = micro_batch(settings, n_ctx)
    n_ctx = padded(n_ctx)
    parts = GraphParts(facts, layers, n_tokens)
    attention = attention_of(parts, settings, n_ctx=n_ctx, flash=uses_flash_attention(facts, settings))
    unknown = [index for index, layer in enumerate(layers) if layer.recurrent and not is_known(parts, index)]
    if unknown or facts.architecture in _OWN_GRAPHS:
        return Unavailable(f"no formula is known for the intermediate results of {facts.architecture} models")
    n_outputs = min(n_tokens, max(1, settings.n_outputs_max))
    stream = _embedded(parts)
    for index in facts.derived(_deciding_layers):
        last = index == len(layers) - 1
        stream = _layer(parts, attention, index, stream, n_outputs if last else n_tokens)
    normed = parts.normalise(stream, parts.n_embd, n_tokens=n_outputs)
    parts.compute(facts.n_vocab or 0, normed, n_tokens=n_outputs)
    checked = facts.architecture in CHECKED
    note = "" if checked else f"intermediate results of {facts.architecture} taken as a plain decoder's"
    return ComputeBuffer(parts.graph.buffer_bytes(), note)


def scores_copy_bytes(facts: ModelFacts, settings: EngineSettings, *, n_ctx: int) -> int:
    """Without flash attention the processor multiplies values with scores in two bytes each, which it first copies.

    The copy lies beside the buffer, in memory of ggml's own (ggml_graph_plan), and the library reports none of it.
    """
    layers = layers_of(facts)
    if isinstance(layers, Unavailable) or uses_flash_attention(facts, settings) or settings.type_v == "f32":
        return 0
    n_tokens = micro_batch(settings, n_ctx)
    on_gpu = max(0, (settings.n_gpu_layers or 0) - 1) * (settings.offload_kqv is not False)
    cells = (
        layer.n_head * cells_of(layer, n_ctx=padded(n_ctx), n_ubatch=n_tokens, swa_full=bool(settings.swa_full))
        for layer in layers[: max(0, len(layers) - on_gpu)]
        if layer.keeps_kv
    )
    return F16_BYTES * n_tokens * max(cells, default=0)


def micro_batch(settings: EngineSettings, n_ctx: int) -> int:
    """Tokens computed together: what is asked for, as far as batch and context allow."""
    n_batch = min(n_ctx, max(1, settings.n_batch or N_BATCH_DEFAULT))
    return min(n_batch, max(1, settings.n_ubatch or N_UBATCH_DEFAULT))


def uses_flash_attention(facts: ModelFacts, settings: EngineSettings) -> bool:
    """Whether the processor computes attention in one go; it can for every model but Grok's."""
    if facts.architecture == "grok":
        return False
    return settings.flash_attention != "off" or is_quantized(settings.type_v or KV_TYPE)


def _deciding_layers(facts: ModelFacts) -> list[int]:
    """The layers that decide the size: of those that are alike the first few, and the last one."""
    layers = layers_of(facts)
    if isinstance(layers, Unavailable):
        return []
    by_layer: dict[int | None, list[tuple[str, tuple[int, ...]]]] = {}
    for tensor in facts.tensors:
        of_layer, name = layer_of(tensor.name)
        by_layer.setdefault(of_layer, []).append((name, tensor.shape))
    seen: dict[object, int] = {}
    deciding = []
    for index, layer in enumerate(layers):
        kind = (layer, tuple(by_layer.get(index, ())))
        seen[kind] = seen.get(kind, 0) + 1
        if seen[kind] <= _ALIKE_MAX or index == len(layers) - 1:
            deciding.append(index)
    return deciding


def _embedded(parts: GraphParts) -> GraphTensor:
    tokens = parts.graph.input(I32_BYTES * parts.n_tokens)
    # Room for embeddings in place of tokens, which is there whether it is used or not.
    parts.graph.input(F32_BYTES * parts.n_embd * parts.n_tokens)
    stream = parts.compute(parts.n_embd, tokens)
    if parts.has_global("position_embd"):
        looked_up = parts.compute(parts.n_embd, parts.place())
        stream = parts.compute(parts.n_embd, stream, looked_up, in_place=True)
    return stream


def _layer(parts: GraphParts, attention: Attention, index: int, stream: GraphTensor, n_out: int) -> GraphTensor:
    """One layer; of the last one only the rows of `n_out` tokens go on to the feed-forward part."""
    width = parts.n_embd
    normed = parts.normalise(stream, width) if parts.length(index, "attn_norm") else stream
    mixed = _layer_mixing(parts, attention, index, stream, normed)
    if n_out != parts.n_tokens:
        rows = parts.graph.input(I32_BYTES * n_out)
        mixed = parts.compute(width, mixed, rows, n_tokens=n_out)
        stream = parts.compute(width, stream, rows, n_tokens=n_out)
    after_attention = bool(parts.length(index, "post_attention_norm"))
    before_ffn = bool(parts.length(index, "ffn_norm"))
    if after_attention and (before_ffn or not parts.length(index, "attn_norm")):
        mixed = parts.normalise(mixed, width, n_tokens=n_out)
    if not parts.has(index, "ffn_down", "ffn_down_exps"):
        return parts.compute(width, mixed, stream, n_tokens=n_out, in_place=True)
    if not before_ffn and not after_attention and normed is not stream and n_out == parts.n_tokens:
        # Attention and feed-forward part side by side, of the same normalised stream.
        hidden = feed_forward(parts, index, normed, n_out)
        mixed = parts.compute(width, hidden, mixed, n_tokens=n_out, in_place=True)
        return parts.compute(width, mixed, stream, n_tokens=n_out, in_place=True)
    stream = parts.compute(width, mixed, stream, n_tokens=n_out, in_place=True)
    has_norm = before_ffn or after_attention
    hidden = feed_forward(parts, index, parts.normalise(stream, width, n_tokens=n_out) if has_norm else stream, n_out)
    if parts.length(index, "post_ffw_norm"):
        hidden = parts.normalise(hidden, width, n_tokens=n_out)
    return parts.compute(width, hidden, stream, n_tokens=n_out, in_place=True)


def _layer_mixing(
    parts: GraphParts, attention: Attention, index: int, stream: GraphTensor, normed: GraphTensor
) -> GraphTensor:
    layer = parts.layers[index]
    if layer.recurrent and layer.keeps_kv:
        attended = attend(parts, attention, index, normed)
        recalled = recurrent_part(parts, index, parts.normalise(stream, parts.n_embd))
        return parts.compute(parts.n_embd, attended, recalled, in_place=True)
    if layer.recurrent:
        return recurrent_part(parts, index, normed)
    if layer.keeps_kv or parts.has(index, "attn_q"):
        return attend(parts, attention, index, normed)
    return normed

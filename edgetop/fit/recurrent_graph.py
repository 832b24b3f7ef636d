"""The recurrent part of one layer as a compute graph: Mamba, Mamba 2 and short convolutions.

After src/models/mamba-base.cpp and lfm2.cpp of llama.cpp 0c1e57098.
"""

from __future__ import annotations

from edgetop.fit.graph_allocator import Result
from edgetop.fit.graph_parts import F32_BYTES, GraphParts


def is_known(parts: GraphParts, index: int) -> bool:
    """Whether a graph is known for the recurrent part of a layer."""
    return parts.has(index, "ssm_x", "shortconv.in_proj") or _is_mamba_2(parts, index)


def remember(parts: GraphParts, index: int, normed: Result) -> Result:
    """What the recurrent part of layer `index` adds to the residual stream."""
    parts.state_rows()
    if parts.has(index, "shortconv.in_proj"):
        return _short_convolution(parts, normed)
    return _mamba_2(parts, index, normed) if _is_mamba_2(parts, index) else _mamba(parts, index, normed)


def _is_mamba_2(parts: GraphParts, index: int) -> bool:
    # Delta nets have an ssm_norm and no ssm_in.
    return parts.has(index, "ssm_in") and not parts.has(index, "ssm_x")


def _convolved(parts: GraphParts, source: Result, width: int) -> Result:
    """The tokens before, of which the state keeps some, and these: `width` numbers each, convolved."""
    graph, kept = parts.graph, max(0, parts.count("ssm.conv_kernel") - 1)
    before = graph.operation(F32_BYTES * kept * width)
    together = graph.operation(F32_BYTES * (kept + parts.n_tokens) * width, graph.view(before), graph.view(source))
    graph.store(graph.view(together))
    return parts.compute(width, together)


def _mamba(parts: GraphParts, index: int, normed: Result) -> Result:
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


def _mamba_2(parts: GraphParts, index: int, normed: Result) -> Result:
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


def _short_convolution(parts: GraphParts, normed: Result) -> Result:
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

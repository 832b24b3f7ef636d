"""The feed-forward part of one layer as a compute graph.

After build_ffn and build_moe_ffn of llama-graph.cpp (llama.cpp 0c1e57098).
"""

from __future__ import annotations

from edgetop.fit.graph_allocator import Result
from edgetop.fit.graph_parts import GraphParts

_WEIGHTS_AS_THEY_ARE = frozenset({"qwen2moe", "olmoe"})
"""The weights of the chosen experts are not made to sum to one."""


def feed_forward(parts: GraphParts, index: int, normed: Result, n_tokens: int) -> Result:
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


def _dense(parts: GraphParts, index: int, normed: Result, n_tokens: int, suffix: str) -> Result:
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


def _experts(parts: GraphParts, index: int, normed: Result, n_tokens: int) -> Result:
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

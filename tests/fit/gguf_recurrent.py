"""Tiny models that are recurrent, wholly or in some of their layers."""

from __future__ import annotations

from tests.fit.gguf_blocks import (
    HEAD,
    N_EMBD,
    N_FF,
    Architecture,
    attention,
    begin,
    experts,
    feed_forward,
    norms,
    shared_expert,
)

D_CONV, D_STATE, DT_RANK = 4, 16, 8


def _ssm_keys(made: Architecture, *, inner: int = 2 * N_EMBD, state: int = D_STATE, rank: int = DT_RANK) -> None:
    made.key("ssm.conv_kernel", D_CONV)
    made.key("ssm.inner_size", inner)
    made.key("ssm.state_size", state)
    made.key("ssm.time_step_rank", rank)


def _mamba_mixer(made: Architecture, layer: int) -> None:
    inner, block = 2 * N_EMBD, f"blk.{layer}."
    made.tensors |= {
        block + "attn_norm.weight": (N_EMBD,),
        block + "ssm_in.weight": (N_EMBD, 2 * inner),
        block + "ssm_conv1d.weight": (D_CONV, inner),
        block + "ssm_conv1d.bias": (inner,),
        block + "ssm_x.weight": (inner, DT_RANK + 2 * D_STATE),
        block + "ssm_dt.weight": (DT_RANK, inner),
        block + "ssm_dt.bias": (inner,),
        block + "ssm_a": (D_STATE, inner),
        block + "ssm_d": (inner,),
        block + "ssm_out.weight": (inner, N_EMBD),
    }


def mamba() -> Architecture:
    made = begin("mamba", 2, heads=0, kv=0, tied=True)
    made.key("feed_forward_length", 0)
    _ssm_keys(made)
    for layer in range(2):
        _mamba_mixer(made, layer)
    return made


def jamba() -> Architecture:
    """One layer of four attends, the others are recurrent."""
    made = begin("jamba", 4, kv=[0, 0, 2, 0])
    _ssm_keys(made)
    made.key("expert_count", 4)
    made.key("expert_used_count", 2)
    for layer in range(4):
        if layer == 2:
            attention(made, layer)
        else:
            _mamba_mixer(made, layer)
            norms(made, layer, "ssm_dt_norm", DT_RANK)
            norms(made, layer, "ssm_b_norm ssm_c_norm", D_STATE)
        if layer % 2:
            experts(made, layer, 4, N_FF)
        else:
            feed_forward(made, layer)
    return made


def falcon_h1() -> Architecture:
    """Every layer attends and is recurrent, side by side."""
    inner, heads, groups, state = 2 * N_EMBD, 8, 1, 16
    made = begin("falcon-h1", 2)
    _ssm_keys(made, inner=inner, state=state, rank=heads)
    made.key("ssm.group_count", groups)
    conv = inner + 2 * groups * state
    for layer in range(2):
        attention(made, layer)
        feed_forward(made, layer, norm="ffn_norm")
        made.tensors |= {
            f"blk.{layer}.ssm_in.weight": (N_EMBD, inner + conv + heads),
            f"blk.{layer}.ssm_conv1d.weight": (D_CONV, conv),
            f"blk.{layer}.ssm_conv1d.bias": (conv,),
            f"blk.{layer}.ssm_dt.bias": (heads,),
            f"blk.{layer}.ssm_a": (1, heads),
            f"blk.{layer}.ssm_d": (1, heads),
            f"blk.{layer}.ssm_norm.weight": (inner // groups, groups),
            f"blk.{layer}.ssm_out.weight": (inner, N_EMBD),
        }
    return made


def lfm2() -> Architecture:
    """Short convolutions, and attention in one layer of four."""
    made = begin("lfm2", 4, kv=[0, 0, 2, 0], tied=True)
    made.key("shortconv.l_cache", 3)
    made.tensors["token_embd_norm.weight"] = made.tensors.pop("output_norm.weight")
    for layer in range(4):
        if layer == 2:
            attention(made, layer)
            norms(made, layer, "attn_q_norm attn_k_norm", HEAD)
        else:
            norms(made, layer, "attn_norm")
            made.tensors |= {
                f"blk.{layer}.shortconv.conv.weight": (3, N_EMBD),
                f"blk.{layer}.shortconv.in_proj.weight": (N_EMBD, 3 * N_EMBD),
                f"blk.{layer}.shortconv.out_proj.weight": (N_EMBD, N_EMBD),
            }
        feed_forward(made, layer)
    return made


def qwen3next() -> Architecture:
    """Gated delta nets, full attention in one layer of four, experts and a shared one."""
    state, groups, heads = 16, 2, 4
    keys, values = state * groups, state * heads
    made = begin("qwen3next", 4)
    _ssm_keys(made, inner=values, state=state, rank=heads)
    made.key("ssm.group_count", groups)
    made.key("expert_count", 8)
    made.key("expert_used_count", 2)
    made.key("expert_feed_forward_length", 32)
    made.key("expert_shared_feed_forward_length", 32)
    for layer in range(4):
        if layer == 3:
            attention(made, layer)
            made.tensors[f"blk.{layer}.attn_q.weight"] = (N_EMBD, 4 * HEAD * 2)
            norms(made, layer, "attn_q_norm attn_k_norm", HEAD)
        else:
            norms(made, layer, "attn_norm")
            made.tensors |= {
                f"blk.{layer}.attn_qkv.weight": (N_EMBD, 2 * keys + values),
                f"blk.{layer}.attn_gate.weight": (N_EMBD, values),
                f"blk.{layer}.ssm_conv1d.weight": (D_CONV, 2 * keys + values),
                f"blk.{layer}.ssm_dt.bias": (heads,),
                f"blk.{layer}.ssm_a": (heads,),
                f"blk.{layer}.ssm_ba.weight": (N_EMBD, 2 * heads),
                f"blk.{layer}.ssm_norm.weight": (state,),
                f"blk.{layer}.ssm_out.weight": (values, N_EMBD),
            }
        experts(made, layer, 8, 32, norm="post_attention_norm.weight")
        shared_expert(made, layer, 32, gated=True)
    return made

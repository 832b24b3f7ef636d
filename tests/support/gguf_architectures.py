"""What tiny models of many architectures consist of: metadata and tensor shapes, as llama.cpp's loader wants them.

Shapes have the row first, as GGUF files do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

N_EMBD, N_FF, HEAD, N_VOCAB, N_CTX = 64, 128, 16, 261, 4096
Shape = tuple[int, ...]
Setting = bool | int | float | str | list[int] | list[float] | list[str] | list[bool]


@dataclass
class Architecture:
    """A model without weights."""

    name: str
    metadata: dict[str, Setting] = field(default_factory=dict)
    tensors: dict[str, Shape] = field(default_factory=dict)

    def key(self, name: str, value: Setting) -> None:
        """Set a key that has the architecture's name in front."""
        self.metadata[f"{self.name}.{name}"] = value


def begin(
    name: str, n_layer: int, *, heads: int = 4, kv: int | list[int] = 2, n_vocab: int = N_VOCAB, tied: bool = False
) -> Architecture:
    made = Architecture(name)
    made.key("context_length", N_CTX)
    made.key("block_count", n_layer)
    made.key("embedding_length", N_EMBD)
    made.key("feed_forward_length", N_FF)
    made.key("attention.head_count", heads)
    made.key("attention.head_count_kv", kv)
    made.key("attention.layer_norm_rms_epsilon", 1e-5)
    if heads:
        made.key("rope.dimension_count", HEAD)
    made.tensors["token_embd.weight"] = (N_EMBD, n_vocab)
    made.tensors["output_norm.weight"] = (N_EMBD,)
    if not tied:
        made.tensors["output.weight"] = (N_EMBD, n_vocab)
    return made


def attention(made: Architecture, layer: int, *, heads: int = 4, kv: int = 2, head: int = HEAD) -> None:
    made.tensors |= {
        f"blk.{layer}.attn_norm.weight": (N_EMBD,),
        f"blk.{layer}.attn_q.weight": (N_EMBD, heads * head),
        f"blk.{layer}.attn_k.weight": (N_EMBD, kv * head),
        f"blk.{layer}.attn_v.weight": (N_EMBD, kv * head),
        f"blk.{layer}.attn_output.weight": (heads * head, N_EMBD),
    }


def feed_forward(made: Architecture, layer: int, *, norm: str = "ffn_norm.weight") -> None:
    made.tensors |= {
        f"blk.{layer}.{norm}": (N_EMBD,),
        f"blk.{layer}.ffn_gate.weight": (N_EMBD, N_FF),
        f"blk.{layer}.ffn_up.weight": (N_EMBD, N_FF),
        f"blk.{layer}.ffn_down.weight": (N_FF, N_EMBD),
    }


def experts(made: Architecture, layer: int, count: int, n_ff: int, *, norm: str = "ffn_norm.weight") -> None:
    made.tensors |= {
        f"blk.{layer}.{norm}": (N_EMBD,),
        f"blk.{layer}.ffn_gate_inp.weight": (N_EMBD, count),
        f"blk.{layer}.ffn_gate_exps.weight": (N_EMBD, n_ff, count),
        f"blk.{layer}.ffn_up_exps.weight": (N_EMBD, n_ff, count),
        f"blk.{layer}.ffn_down_exps.weight": (n_ff, N_EMBD, count),
    }


def shared_expert(made: Architecture, layer: int, n_ff: int, *, gated: bool) -> None:
    made.tensors |= {
        f"blk.{layer}.ffn_gate_shexp.weight": (N_EMBD, n_ff),
        f"blk.{layer}.ffn_up_shexp.weight": (N_EMBD, n_ff),
        f"blk.{layer}.ffn_down_shexp.weight": (n_ff, N_EMBD),
    }
    if gated:
        made.tensors[f"blk.{layer}.ffn_gate_inp_shexp.weight"] = (N_EMBD,)


def norms(made: Architecture, layer: int, names: str, length: int = N_EMBD) -> None:
    made.tensors |= {f"blk.{layer}.{name}.weight": (length,) for name in names.split()}


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


def llama(*, n_layer: int = 2, kv: int = 2, tied: bool = False, n_vocab: int = N_VOCAB) -> Architecture:
    made = begin("llama", n_layer, kv=kv, tied=tied, n_vocab=n_vocab)
    made.tensors["rope_freqs.weight"] = (HEAD // 2,)
    for layer in range(n_layer):
        attention(made, layer, kv=kv)
        feed_forward(made, layer)
    return made


def llama_tied() -> Architecture:
    return llama(tied=True)


def mixtral() -> Architecture:
    """The llama architecture with experts, 2 of 8."""
    made = begin("llama", 2)
    made.key("expert_count", 8)
    made.key("expert_used_count", 2)
    for layer in range(2):
        attention(made, layer)
        experts(made, layer, 8, N_FF)
    return made


def qwen2moe() -> Architecture:
    """Experts, 4 of 16, and a shared one that every token uses."""
    made = begin("qwen2moe", 2, kv=4)
    made.key("expert_count", 16)
    made.key("expert_used_count", 4)
    made.key("expert_feed_forward_length", 32)
    made.key("expert_shared_feed_forward_length", 64)
    for layer in range(2):
        attention(made, layer, kv=4)
        experts(made, layer, 16, 32)
        shared_expert(made, layer, 64, gated=True)
    return made


def olmoe() -> Architecture:
    made = begin("olmoe", 2, kv=4)
    made.key("expert_count", 8)
    made.key("expert_used_count", 2)
    for layer in range(2):
        attention(made, layer, kv=4)
        norms(made, layer, "attn_q_norm attn_k_norm")
        experts(made, layer, 8, N_FF)
    return made


def gemma2() -> Architecture:
    """Every other layer sees a window of 512 tokens; the embedding is the output too."""
    made = begin("gemma2", 4, tied=True)
    made.key("attention.key_length", 32)
    made.key("attention.value_length", 32)
    made.key("rope.dimension_count", 32)
    made.key("attention.sliding_window", 512)
    for layer in range(4):
        attention(made, layer, head=32)
        norms(made, layer, "post_attention_norm post_ffw_norm")
        feed_forward(made, layer)
    return made


def gemma3() -> Architecture:
    """Five layers of six see a window of 512 tokens."""
    made = begin("gemma3", 6, kv=1, tied=True)
    made.key("attention.key_length", 32)
    made.key("attention.value_length", 32)
    made.key("rope.dimension_count", 32)
    made.key("attention.sliding_window", 512)
    for layer in range(6):
        attention(made, layer, kv=1, head=32)
        norms(made, layer, "post_attention_norm post_ffw_norm")
        norms(made, layer, "attn_q_norm attn_k_norm", 32)
        feed_forward(made, layer)
    return made


def gemma3n() -> Architecture:
    """Embeddings per layer, looked up by the token; the layers from the 21st on share keys and values."""
    n_layer, per_layer, rank = 22, 256, 64  # llama.cpp has these widths, and 4 altup inputs, built in
    made = begin("gemma3n", n_layer, tied=True)
    made.key("attention.sliding_window", 512)
    made.key("attention.sliding_window_pattern", [layer % 5 != 4 for layer in range(n_layer)])
    made.key("attention.shared_kv_layers", n_layer - 20)
    made.key("embedding_length_per_layer_input", per_layer)
    made.tensors |= {
        "altup_proj.weight": (N_EMBD, N_EMBD, 3),
        "altup_unembd_proj.weight": (N_EMBD, N_EMBD, 3),
        "per_layer_token_embd.weight": (per_layer * n_layer, N_VOCAB),
        "per_layer_model_proj.weight": (N_EMBD, per_layer * n_layer),
        "per_layer_proj_norm.weight": (per_layer,),
    }
    for layer in range(n_layer):
        attention(made, layer)
        norms(made, layer, "post_attention_norm post_ffw_norm post_norm altup_correct_scale altup_router_norm")
        norms(made, layer, "laurel_post_norm")
        norms(made, layer, "attn_q_norm attn_k_norm", HEAD)
        feed_forward(made, layer)
        made.tensors |= {
            f"blk.{layer}.inp_gate.weight": (N_EMBD, per_layer),
            f"blk.{layer}.proj.weight": (per_layer, N_EMBD),
            f"blk.{layer}.altup_correct_coef.weight": (4, 4),
            f"blk.{layer}.altup_predict_coef.weight": (4, 16),
            f"blk.{layer}.altup_router.weight": (N_EMBD, 4),
            f"blk.{layer}.laurel_l.weight": (N_EMBD, rank),
            f"blk.{layer}.laurel_r.weight": (rank, N_EMBD),
        }
    return made


def deepseek2(*, n_layer: int = 3, ahead: int = 0) -> Architecture:
    """Latent attention (MLA): one compressed key of 32 + 16 per token; the first layer is dense."""
    rank_q, rank_kv, rope, nope = 32, 32, 16, 16
    made = begin("deepseek2", n_layer + ahead, kv=1)
    made.key("attention.q_lora_rank", rank_q)
    made.key("attention.kv_lora_rank", rank_kv)
    made.key("attention.key_length", rank_kv + rope)
    made.key("attention.value_length", rank_kv)
    made.key("attention.key_length_mla", nope + rope)
    made.key("attention.value_length_mla", 16)
    made.key("rope.dimension_count", rope)
    made.key("leading_dense_block_count", 1)
    made.key("expert_count", 8)
    made.key("expert_used_count", 2)
    made.key("expert_shared_count", 1)
    made.key("expert_feed_forward_length", 32)
    if ahead:
        made.key("nextn_predict_layers", ahead)
    for layer in range(n_layer + ahead):
        norms(made, layer, "attn_norm")
        norms(made, layer, "attn_q_a_norm", rank_q)
        norms(made, layer, "attn_kv_a_norm", rank_kv)
        made.tensors |= {
            f"blk.{layer}.attn_q_a.weight": (N_EMBD, rank_q),
            f"blk.{layer}.attn_q_b.weight": (rank_q, 4 * (nope + rope)),
            f"blk.{layer}.attn_kv_a_mqa.weight": (N_EMBD, rank_kv + rope),
            f"blk.{layer}.attn_k_b.weight": (nope, rank_kv, 4),
            f"blk.{layer}.attn_v_b.weight": (rank_kv, 16, 4),
            f"blk.{layer}.attn_output.weight": (4 * 16, N_EMBD),
        }
        if layer == 0:
            feed_forward(made, layer)
        else:
            experts(made, layer, 8, 32)
            shared_expert(made, layer, 32, gated=False)
        if layer >= n_layer:
            norms(made, layer, "nextn.enorm nextn.hnorm nextn.shared_head_norm")
            made.tensors[f"blk.{layer}.nextn.eh_proj.weight"] = (2 * N_EMBD, N_EMBD)
    return made


def deepseek2_ahead() -> Architecture:
    """With a layer for multi-token prediction, which plain decoding does not use."""
    return deepseek2(ahead=1)


def gpt2() -> Architecture:
    """Positions are looked up in a table."""
    made = begin("gpt2", 2, kv=4, tied=True)
    made.key("attention.layer_norm_epsilon", 1e-5)
    made.tensors["position_embd.weight"] = (N_EMBD, N_CTX)
    made.tensors["output_norm.bias"] = (N_EMBD,)
    for layer in range(2):
        block = f"blk.{layer}."
        matrices = {
            "attn_qkv": (N_EMBD, 3 * N_EMBD),
            "attn_output": (N_EMBD, N_EMBD),
            "ffn_up": (N_EMBD, N_FF),
            "ffn_down": (N_FF, N_EMBD),
        }
        for name, shape in matrices.items():
            made.tensors[f"{block}{name}.weight"] = shape
            made.tensors[f"{block}{name}.bias"] = shape[1:]
        for name in ("attn_norm", "ffn_norm"):
            made.tensors |= {f"{block}{name}.weight": (N_EMBD,), f"{block}{name}.bias": (N_EMBD,)}
    return made


ARCHITECTURES: dict[str, Callable[[], Architecture]] = {
    "llama": llama,
    "llama-tied": llama_tied,
    "mixtral": mixtral,
    "qwen2moe": qwen2moe,
    "olmoe": olmoe,
    "gemma2": gemma2,
    "gemma3": gemma3,
    "gemma3n": gemma3n,
    "deepseek2": deepseek2,
    "deepseek2-ahead": deepseek2_ahead,
    "mamba": mamba,
    "jamba": jamba,
    "falcon-h1": falcon_h1,
    "lfm2": lfm2,
    "qwen3next": qwen3next,
    "gpt2": gpt2,
}
"""Every one of them loads and decodes in llama.cpp."""

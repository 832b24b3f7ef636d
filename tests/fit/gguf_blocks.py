"""What the tiny models of gguf_architectures.py are built from.

Shapes have the row first, as GGUF files do.
"""

from __future__ import annotations

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

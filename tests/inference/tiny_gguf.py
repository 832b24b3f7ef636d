"""A complete llama model of a few hundred kilobytes with a byte vocabulary and random weights, for tests of the loader.

It loads in milliseconds and says nothing sensible. Metadata can be replaced or left out, to make the bad files that a
loader meets.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np

N_EMBD, N_FF, N_HEAD, N_LAYER = 64, 128, 4, 2
SPECIAL = ("<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>")
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_tiny_gguf(
    path: Path,
    *,
    architecture: str = "llama",
    template: str | None = CHATML,
    named: dict[str, str] | None = None,
    chatml: bool = True,
    context_length: int | None = 512,
    block_count: int | None = N_LAYER,
    head_count: int = N_HEAD,
    bos: bool = True,
    without_tensor: str = "",
    weight_scale: float = 0.1,
) -> Path:
    """Write the model and return its path. A `weight_scale` of 0 makes every next token equally likely."""
    tokens = [*(SPECIAL if chatml else SPECIAL[:3]), *(f"<0x{byte:02X}>" for byte in range(256))]
    special = len(SPECIAL) if chatml else 3
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name("Tiny")
    if context_length is not None:
        writer.add_context_length(context_length)
    if block_count is not None:
        writer.add_block_count(block_count)
    writer.add_embedding_length(N_EMBD)
    writer.add_feed_forward_length(N_FF)
    writer.add_head_count(head_count)
    writer.add_head_count_kv(head_count)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(N_EMBD // N_HEAD)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    kinds = [gguf.TokenType.UNKNOWN, *[gguf.TokenType.CONTROL] * (special - 1), *[gguf.TokenType.BYTE] * 256]
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(bos)
    writer.add_add_space_prefix(False)
    if template is not None:
        writer.add_chat_template(
            [{"name": "default", "template": template}, *({"name": n, "template": t} for n, t in (named or {}).items())]
            if named
            else template
        )
    _add_tensors(writer, len(tokens), without_tensor, weight_scale)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tensors(writer: Any, n_vocab: int, without_tensor: str, weight_scale: float) -> None:
    random = np.random.default_rng(1)
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (n_vocab, N_EMBD),
        "output_norm.weight": (N_EMBD,),
        "output.weight": (n_vocab, N_EMBD),
    }
    for layer in range(N_LAYER):
        block = f"blk.{layer}."
        shapes |= {block + f"{name}.weight": (N_EMBD,) for name in ("attn_norm", "ffn_norm")}
        shapes |= {block + f"attn_{name}.weight": (N_EMBD, N_EMBD) for name in ("q", "k", "v", "output")}
        shapes |= {block + f"ffn_{name}.weight": (N_FF, N_EMBD) for name in ("gate", "up")}
        shapes[block + "ffn_down.weight"] = (N_EMBD, N_FF)
    for name, shape in shapes.items():
        if name != without_tensor:
            writer.add_tensor(name, random.normal(0, weight_scale, shape).astype(np.float32))

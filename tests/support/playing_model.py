"""A GGUF model that answers the prompt `Hi` with chosen tokens, whatever is drawn: its output depends on the position.

The token embedding is zero and the position embedding is the unit matrix, so that behind a block of zeros the state is
one number per position, which the output matrix turns into the token for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import gguf
import numpy as np

N_CTX = 256
PROMPT = "Hi"
_CENTRE = (N_CTX - 1) ** -0.5
"""What the norm takes from every element of a unit vector, beside its own element; its bias gives it back."""

GO, END = "<|go|>", "<|end-of-reply|>"
TEMPLATE = "{% for m in messages[-1:] %}{{ m.content }}{% endfor %}" + GO


class Control(NamedTuple):
    """A control token, such as `<think>`, of the vocabulary."""

    name: str


def write_playing_model(path: Path, reply: Sequence[str | bytes | Control], *, template: str = TEMPLATE) -> Path:
    """Write a model whose reply to `Hi` is these tokens, and give its path."""
    tokens, kinds = list(_byte_names()), [gguf.TokenType.NORMAL] * 256
    numbers = {name: number for number, name in enumerate(tokens)}

    def number_of(name: str, kind: gguf.TokenType) -> int:
        if name not in numbers:
            numbers[name] = len(tokens)
            tokens.append(name)
            kinds.append(kind)
        return numbers[name]

    for name in (GO, END):
        number_of(name, gguf.TokenType.CONTROL)
    played = [
        number_of(part.name, gguf.TokenType.CONTROL)
        if isinstance(part, Control)
        else number_of(_named(part if isinstance(part, bytes) else part.encode()), gguf.TokenType.NORMAL)
        for part in reply
    ]
    first = len(PROMPT.encode())  # the position of the last token of the prompt, which is GO
    output = np.zeros((len(tokens), N_CTX), np.float32)
    for position in range(first, N_CTX):
        token = played[position - first] if position - first < len(played) else numbers[END]
        output[token, position] = 8.0
    writer = gguf.GGUFWriter(path, "gpt2")
    writer.add_name("Player")
    writer.add_context_length(N_CTX)
    writer.add_embedding_length(N_CTX)
    writer.add_block_count(1)
    writer.add_feed_forward_length(32)
    writer.add_head_count(4)
    writer.add_layer_norm_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(numbers[END])
    writer.add_eos_token_id(numbers[END])
    writer.add_add_bos_token(False)
    writer.add_chat_template(template)
    writer.add_tensor("token_embd.weight", np.zeros((len(tokens), N_CTX), np.float32))
    writer.add_tensor("position_embd.weight", np.eye(N_CTX, dtype=np.float32))
    writer.add_tensor("output.weight", output)
    for name, shape, value in (
        ("output_norm.weight", (N_CTX,), 1), ("output_norm.bias", (N_CTX,), _CENTRE),
        ("blk.0.attn_norm.weight", (N_CTX,), 1),
        ("blk.0.attn_norm.bias", (N_CTX,), 0), ("blk.0.ffn_norm.weight", (N_CTX,), 1),
        ("blk.0.ffn_norm.bias", (N_CTX,), 0), ("blk.0.attn_qkv.weight", (3 * N_CTX, N_CTX), 0),
        ("blk.0.attn_qkv.bias", (3 * N_CTX,), 0), ("blk.0.attn_output.weight", (N_CTX, N_CTX), 0),
        ("blk.0.attn_output.bias", (N_CTX,), 0), ("blk.0.ffn_up.weight", (32, N_CTX), 0),
        ("blk.0.ffn_up.bias", (32,), 0), ("blk.0.ffn_down.weight", (N_CTX, 32), 0),
        ("blk.0.ffn_down.bias", (N_CTX,), 0),
    ):  # fmt: skip
        writer.add_tensor(name, np.full(shape, value, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _byte_names() -> list[str]:
    """GPT-2's name of each byte: itself where it can be seen, else a character above 255."""
    seen = {*range(33, 127), *range(161, 173), *range(174, 256)}
    hidden = [byte for byte in range(256) if byte not in seen]
    return [chr(byte) if byte in seen else chr(256 + hidden.index(byte)) for byte in range(256)]


def _named(data: bytes) -> str:
    names = _byte_names()
    return "".join(names[byte] for byte in data)

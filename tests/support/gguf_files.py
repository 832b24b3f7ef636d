"""Small GGUF files, written byte by byte: to be broken anywhere, or with random weights that llama.cpp loads.

    path = write_model(tmp_path / "tiny.gguf", "gemma2", weights="q8_0")

The names are the keys of gguf_architectures.ARCHITECTURES; such a model loads in milliseconds.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgetop.core.gguf import SCALARS, TENSOR_TYPES
from tests.support.gguf_architectures import ARCHITECTURES, N_VOCAB, Architecture, Setting, Shape

U32, F32, STRING, ARRAY, U64 = 4, 6, 8, 9, 10


def text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def pair(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


def array(kind: int, values: Sequence[bytes]) -> bytes:
    return struct.pack("<IQ", kind, len(values)) + b"".join(values)


def tensor(name: str, shape: Sequence[int], kind: int, offset: int) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def gguf(pairs: Sequence[bytes], tensors: Sequence[bytes] = (), data_bytes: int = 0, *, version: int = 3) -> bytes:
    """A file whose data are `data_bytes` zeros after padding to 32."""
    header = struct.pack("<4sIQQ", b"GGUF", version, len(tensors), len(pairs)) + b"".join(pairs) + b"".join(tensors)
    return header + bytes(-len(header) % 32) + bytes(data_bytes)


def small_gguf() -> bytes:
    """A llama with two tensors, 32 x 4 in q4_1 and 8 in f32."""
    return gguf(
        [
            pair("general.architecture", STRING, text("llama")),
            pair("general.name", STRING, text("Tiny")),
            pair("general.file_type", U32, u32(3)),
            pair("general.license", STRING, text("apache-2.0")),
            pair("llama.context_length", U32, u32(2048)),
            pair("llama.block_count", U32, u32(2)),
            pair("llama.attention.head_count", U32, u32(4)),
            pair("llama.attention.head_count_kv", ARRAY, array(U32, [u32(2), u32(1)])),
            pair("tokenizer.ggml.tokens", ARRAY, array(STRING, [text(f"t{n}") for n in range(2000)])),
            pair("tokenizer.chat_template", STRING, text("{{ messages }}")),
        ],
        [tensor("blk.0.weight", [32, 4], 3, 0), tensor("norm.weight", [8], 0, 96)],
        data_bytes=128,
    )


BOOL, I32 = 7, 5
TYPE_NUMBERS = {kind.name: number for number, kind in TENSOR_TYPES.items()}
TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}"


def write_model(
    path: Path,
    kind: str | Architecture = "llama",
    *,
    weights: str = "f32",
    metadata: dict[str, Setting] | None = None,
    without: tuple[str, ...] = (),
) -> Path:
    """Write a model and give its path.

    `weights` is the type of the large matrices: f32, f16, q8_0, q4_0 or q4_K. `metadata` replaces or adds whole keys,
    `without` names keys to leave out.
    """
    path.write_bytes(model_bytes(kind, weights=weights, metadata=metadata, without=without))
    return path


def model_bytes(
    kind: str | Architecture = "llama",
    *,
    weights: str = "f32",
    metadata: dict[str, Setting] | None = None,
    without: tuple[str, ...] = (),
) -> bytes:
    """The bytes of a model as `write_model` writes it."""
    made = ARCHITECTURES[kind]() if isinstance(kind, str) else kind
    keys = all_metadata(made) | (metadata or {})
    return file_bytes({key: value for key, value in keys.items() if key not in without}, made.tensors, weights=weights)


def write_split(folder: Path, kind: str, parts: int, *, stem: str = "tiny") -> list[Path]:
    """Write a split model as llama-gguf-split does: all metadata in the first part, tensors shared out."""
    made = ARCHITECTURES[kind]()
    names = list(made.tensors)
    paths = []
    for number in range(parts):
        keys: dict[str, Setting] = all_metadata(made) if number == 0 else {}
        keys |= {"split.no": number, "split.count": parts, "split.tensors.count": len(names)}
        share = names[number * len(names) // parts : (number + 1) * len(names) // parts]
        path = folder / f"{stem}-{number + 1:05}-of-{parts:05}.gguf"
        path.write_bytes(file_bytes(keys, {name: made.tensors[name] for name in share}))
        paths.append(path)
    return paths


def all_metadata(made: Architecture) -> dict[str, Setting]:
    """The metadata of a file: the architecture's, and a vocabulary of bytes."""
    tokens = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", *(f"<0x{byte:02X}>" for byte in range(256))]
    n_vocab = made.tensors["token_embd.weight"][1]
    tokens += [f"w{number}" for number in range(n_vocab - N_VOCAB)]
    return {
        "general.architecture": made.name,
        "general.name": f"Tiny {made.name}",
        "general.license": "apache-2.0",
        **made.metadata,
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [0.0] * len(tokens),
        "tokenizer.ggml.token_type": [2, 3, 3, 3, 3, *[6] * 256, *[1] * (n_vocab - N_VOCAB)],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.chat_template": TEMPLATE,
    }


def file_bytes(metadata: dict[str, Setting], tensors: dict[str, Shape], *, weights: str = "f32") -> bytes:
    """A file of these keys and tensors, with random weights."""
    random = np.random.default_rng(1)
    described, data = [], bytearray()
    for name, shape in tensors.items():
        kind = weights if _is_large(name, shape, weights) else "f32"
        described.append(tensor(name, shape, TYPE_NUMBERS[kind], len(data)))
        data += _weights(name, shape, kind, random)
        data += bytes(-len(data) % 32)
    header = struct.pack("<4sIQQ", b"GGUF", 3, len(described), len(metadata))
    header += b"".join(_pair(key, value) for key, value in metadata.items()) + b"".join(described)
    return header + bytes(-len(header) % 32) + data


def write_sparse_model(path: Path, *, n_layer: int, n_embd: int, n_ff: int, weights: str = "f16") -> Path:
    """Write the header of a llama of any size; its weights are a hole in the file that takes no room on the disk."""
    made = Architecture("llama")
    heads = n_embd // 128
    for key, value in (
        ("context_length", 4096), ("block_count", n_layer), ("embedding_length", n_embd), ("feed_forward_length", n_ff),
        ("attention.head_count", heads), ("attention.head_count_kv", 8), ("rope.dimension_count", 128),
        ("attention.layer_norm_rms_epsilon", 1e-5),
    ):  # fmt: skip
        made.key(key, value)
    made.tensors |= {"token_embd.weight": (n_embd, N_VOCAB), "output.weight": (n_embd, N_VOCAB)}
    made.tensors["output_norm.weight"] = (n_embd,)
    for layer in range(n_layer):
        made.tensors |= {f"blk.{layer}.attn_{each}.weight": (n_embd, n_embd) for each in ("q", "output")}
        made.tensors |= {f"blk.{layer}.attn_{each}.weight": (n_embd, 8 * 128) for each in ("k", "v")}
        made.tensors |= {f"blk.{layer}.ffn_{each}.weight": (n_embd, n_ff) for each in ("gate", "up")}
        made.tensors |= {f"blk.{layer}.{each}_norm.weight": (n_embd,) for each in ("attn", "ffn")}
        made.tensors[f"blk.{layer}.ffn_down.weight"] = (n_ff, n_embd)
    described, size_bytes = [], 0
    for name, shape in made.tensors.items():
        packing = TENSOR_TYPES[TYPE_NUMBERS[weights if _is_large(name, shape, weights) else "f32"]]
        described.append(tensor(name, shape, TYPE_NUMBERS[packing.name], size_bytes))
        size_bytes += -(-math.prod(shape) // packing.block_elements * packing.block_bytes // 32) * 32
    pairs = [_pair(key, value) for key, value in all_metadata(made).items()]
    data = gguf(pairs, described)
    path.write_bytes(data)
    os.truncate(path, len(data) + size_bytes)
    return path


def _is_large(name: str, shape: Shape, kind: str) -> bool:
    """Whether quantizing leaves this tensor f32: norms, biases, convolutions, states and small ones."""
    block = TENSOR_TYPES[TYPE_NUMBERS[kind]].block_elements
    kept = ("conv1d", "shortconv.conv", "ssm_a", "ssm_d", "gate_inp", "altup", "norm", "rope", "position")
    return len(shape) > 1 and shape[0] % block == 0 and not any(word in name for word in kept)


def _weights(name: str, shape: Shape, kind: str, random: np.random.Generator) -> bytes:
    count = int(np.prod(shape))
    if kind in {"f32", "f16"}:
        values = random.normal(1.0 if "norm" in name else 0.0, 0.1, count)
        if "ssm_a" in name:
            values = -np.abs(values) - 0.1  # a state must decay
        return values.astype(np.float32 if kind == "f32" else np.float16).tobytes()
    packing = TENSOR_TYPES[TYPE_NUMBERS[kind]]
    blocks = random.integers(0, 256, (count // packing.block_elements, packing.block_bytes), dtype=np.uint8)
    scale = np.frombuffer(np.float16(0.001).tobytes(), np.uint8)
    blocks[:, : 4 if kind == "q4_K" else 2] = np.tile(scale, 2 if kind == "q4_K" else 1)
    return blocks.tobytes()


def _pair(key: str, value: Setting) -> bytes:
    if isinstance(value, list):
        kind = _type_of(value[0])
        kind = I32 if kind == U32 else kind  # as converters write arrays of whole numbers
        return pair(key, ARRAY, array(kind, [_value(kind, item) for item in value]))
    return pair(key, _type_of(value), _value(_type_of(value), value))


def _type_of(value: bool | int | float | str) -> int:
    if isinstance(value, bool):
        return BOOL
    if isinstance(value, int):
        return I32 if value < 0 else U32 if value < 2**32 else U64
    return F32 if isinstance(value, float) else STRING


def _value(kind: int, value: bool | int | float | str) -> bytes:
    return text(value) if isinstance(value, str) else SCALARS[kind].pack(value)

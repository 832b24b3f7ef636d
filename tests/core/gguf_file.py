"""Small GGUF files, written byte by byte, so that tests can break them anywhere."""

from __future__ import annotations

import struct
from collections.abc import Sequence

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

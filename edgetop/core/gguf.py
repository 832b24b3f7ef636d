"""What the header of a GGUF file says, read without touching a weight.

Layout after the GGUF specification, versions 2 and 3: magic, version, number of tensors, number of metadata pairs, the
pairs, one description per tensor, padding, the data. All little endian.
"""

from __future__ import annotations

import struct

from msgspec import Struct

from edgetop.core.gguf_buffer import Buffer, GgufError, GgufIncompleteError
from edgetop.core.gguf_bytes import ByteReader, GgufArray, Value
from edgetop.core.gguf_types import FILE_TYPES, TENSOR_TYPES

__all__ = ["GgufArray", "GgufError", "GgufHeader", "GgufIncompleteError", "Tensor", "Value", "read_header"]

METADATA_MAX = 65_536
KEY_BYTES_MAX = 65_535
"""The specification's limit."""
TENSORS_MAX = 65_536
"""Some of the largest mixture-of-experts models have several thousand."""
TENSOR_NAME_BYTES_MAX = 63
"""ggml's GGML_MAX_NAME less its closing zero."""
ELEMENTS_MAX = 2**63
ALIGNMENT_MAX = 2**20
_PAIR_BYTES_MIN = 8 + 4 + 1
_TENSOR_BYTES_MIN = 8 + 4 + 4 + 8
_FILE_TYPE_GUESSED = 1024
_DESCRIPTIONS = tuple(struct.Struct(f"<{n_dims}QIQ") for n_dims in range(5))
"""A tensor's shape, type and offset, by its number of dimensions."""


class Tensor(Struct, frozen=True):
    """One tensor's description."""

    name: str
    shape: tuple[int, ...]
    """Elements along each axis, the row first."""
    type_name: str
    """As llama.cpp names it, such as `q4_1`."""
    offset: int
    """From the beginning of the data."""
    size_bytes: int

    @property
    def elements(self) -> int:
        """Number of weights."""
        count = 1
        for length in self.shape:
            count *= length
        return count


class GgufHeader(Struct, frozen=True):
    """The header of one file. Of a split model each file has its own, and only its own tensors."""

    version: int
    metadata: dict[str, Value]
    tensors: tuple[Tensor, ...]
    data_offset: int
    """Where the weights begin, in bytes from the beginning of the file."""
    key_offsets: dict[str, int] = {}
    """Where each metadata key stands, in bytes from the beginning of the file."""

    @property
    def architecture(self) -> str:
        """Such as `llama`; empty if the file does not say."""
        return self.text("general.architecture")

    @property
    def name(self) -> str:
        """The model's own name; empty if the file does not say."""
        return self.text("general.name")

    @property
    def file_type(self) -> str:
        """llama.cpp's label of the quantization, such as `Q4_K_M`, else the type of most bytes. It hides mixes."""
        number = self.whole("general.file_type")
        label = None if number is None else FILE_TYPES.get(number & ~_FILE_TYPE_GUESSED)
        if label is not None or not self.tensors:
            return label or ""
        size_bytes = self.bytes_by_type
        return max(size_bytes, key=lambda type_name: size_bytes[type_name]).upper()

    @property
    def bytes_by_type(self) -> dict[str, int]:
        """Bytes of weights by tensor type: the mix behind the label."""
        by_type: dict[str, int] = {}
        for tensor in self.tensors:
            by_type[tensor.type_name] = by_type.get(tensor.type_name, 0) + tensor.size_bytes
        return by_type

    @property
    def parameters(self) -> int:
        """Number of weights in this file."""
        return sum(tensor.elements for tensor in self.tensors)

    @property
    def tensor_bytes(self) -> int:
        """Bytes of weights in this file, padding not among them."""
        return sum(tensor.size_bytes for tensor in self.tensors)

    @property
    def bits_per_weight(self) -> float | None:
        """Bits really used per weight; `None` without weights."""
        return self.tensor_bytes * 8 / self.parameters if self.parameters else None

    @property
    def n_ctx_train(self) -> int | None:
        """Context length the model was trained for, in tokens."""
        return self.whole(f"{self.architecture}.context_length")

    @property
    def n_layer(self) -> int | None:
        """Number of blocks."""
        return self.whole(f"{self.architecture}.block_count")

    @property
    def n_embd(self) -> int | None:
        """Width of the residual stream."""
        return self.whole(f"{self.architecture}.embedding_length")

    @property
    def n_head(self) -> tuple[int, ...] | None:
        """Attention heads: one number for all layers, or one per layer."""
        return self.whole_numbers(f"{self.architecture}.attention.head_count")

    @property
    def n_head_kv(self) -> tuple[int, ...] | None:
        """Key and value heads, as `n_head`, and the same as `n_head` where the file says nothing."""
        return self.whole_numbers(f"{self.architecture}.attention.head_count_kv") or self.n_head

    @property
    def n_vocab(self) -> int | None:
        """Tokens in the vocabulary."""
        tokens = self.metadata.get("tokenizer.ggml.tokens")
        return tokens.length if isinstance(tokens, GgufArray) else self.whole(f"{self.architecture}.vocab_size")

    @property
    def chat_template(self) -> str:
        """The default chat template; empty if there is none."""
        return self.text("tokenizer.chat_template")

    @property
    def license(self) -> str:
        """As the file states it; empty if it does not."""
        return self.text("general.license")

    @property
    def is_projector(self) -> bool:
        """Whether this is the vision or audio part of another model, of no use by itself."""
        return self.architecture == "clip" or self.text("general.type") == "mmproj"

    @property
    def split_count(self) -> int:
        """Number of files the model is split into."""
        return self.whole("split.count") or 1

    def text(self, key: str) -> str:
        """A text of the metadata; empty if it is absent or not a text."""
        value = self.metadata.get(key)
        return value if isinstance(value, str) else ""

    def whole(self, key: str) -> int | None:
        """A whole number of the metadata; `None` if it is absent or something else."""
        value = self.metadata.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def whole_numbers(self, key: str) -> tuple[int, ...] | None:
        """A whole number or an array of them; `None` if it is absent or something else."""
        value = self.metadata.get(key)
        values = value.values if isinstance(value, GgufArray) else (value,)
        if values and all(isinstance(number, int) and not isinstance(number, bool) for number in values):
            return tuple(number for number in values if isinstance(number, int))
        return None


def read_header(buffer: Buffer, *, size_bytes: int | None = None) -> GgufHeader:
    """Read the header at the beginning of `buffer`.

    `size_bytes` is the size of the whole file where `buffer` is only its beginning. Raises GgufError, and of its kinds
    GgufIncompleteError where the header is longer than `buffer`.
    """
    size_bytes = len(buffer) if size_bytes is None else size_bytes
    reader = ByteReader(buffer, size_bytes)
    version, n_tensors, n_pairs = _read_counts(reader)
    metadata, key_offsets = _read_metadata(reader, n_pairs)
    alignment = metadata.get("general.alignment", 32)
    if type(alignment) is not int or not 0 < alignment <= ALIGNMENT_MAX or alignment & (alignment - 1):
        raise GgufError(reader.offset, f"general.alignment is {alignment!r}, not a power of two")
    described = [(reader.offset, _read_tensor(reader)) for _ in range(n_tensors)]
    data_offset = -(-reader.offset // alignment) * alignment
    data_bytes = size_bytes - data_offset
    names: set[str] = set()
    end = 0
    for start, tensor in described:
        if tensor.name in names:
            raise GgufError(start, f"tensor {tensor.name!r} comes twice")
        names.add(tensor.name)
        if tensor.offset % alignment:
            raise GgufError(start, f"tensor {tensor.name!r} does not begin at a multiple of {alignment}")
        if tensor.offset != end:
            raise GgufError(
                start, f"tensor {tensor.name!r} begins at {tensor.offset}, not at {end} behind the last one"
            )
        end = -(-(tensor.offset + tensor.size_bytes) // alignment) * alignment
        lacking = tensor.offset + tensor.size_bytes - data_bytes
        if lacking > 0:
            raise GgufError(start, f"truncated: tensor {tensor.name!r} ends {lacking} bytes after the file")
    return GgufHeader(version, metadata, tuple(tensor for _, tensor in described), data_offset, key_offsets)


def _read_counts(reader: ByteReader) -> tuple[int, int, int]:
    magic = reader.peek(4)
    if magic != b"GGUF" and not len(magic) < 4 <= reader.remaining:
        raise GgufError(0, _what_else(magic, reader.peek(64)))
    reader.take(4, "the magic")
    version = reader.u32("the version")
    if version and not version & 0xFFFF:
        raise GgufError(4, "the file is big endian; edgetop reads little-endian ones")
    if version not in {2, 3}:
        raise GgufError(4, f"GGUF version {version} is not supported (2 and 3 are)")
    n_tensors = reader.u64("the number of tensors")
    n_pairs = reader.u64("the number of metadata pairs")
    if n_pairs > min(METADATA_MAX, reader.remaining // _PAIR_BYTES_MIN):
        raise GgufError(16, f"{n_pairs} metadata pairs cannot be in the {reader.remaining} bytes that follow")
    if n_tensors > min(TENSORS_MAX, reader.remaining // _TENSOR_BYTES_MIN):
        raise GgufError(8, f"{n_tensors} tensors cannot be described in the {reader.remaining} bytes that follow")
    return version, n_tensors, n_pairs


def _read_metadata(reader: ByteReader, n_pairs: int) -> tuple[dict[str, Value], dict[str, int]]:
    metadata: dict[str, Value] = {}
    offsets: dict[str, int] = {}
    for _ in range(n_pairs):
        start = reader.offset
        key = reader.name("a metadata key", KEY_BYTES_MAX)
        if key in metadata:
            raise GgufError(start, f"metadata key {key!r} comes twice")
        offsets[key] = start
        metadata[key] = reader.value(reader.u32("the type of a metadata value"))
    return metadata, offsets


def _what_else(magic: bytes, beginning: bytes) -> str:
    if not beginning:
        return "the file is empty"
    if b"git-lfs" in beginning:
        return "the file is a Git LFS pointer, not the model; fetch it with `git lfs pull`"
    if magic in {b"lmgg", b"fmgg", b"tjgg"}:
        return "the file is in a format before GGUF; convert it or download a GGUF of the model"
    if beginning.lstrip()[:1] == b"<":
        return "the file is a web page, not a model; the download went wrong"
    return f"not a GGUF file: it begins with {magic!r}"


def _read_tensor(reader: ByteReader) -> Tensor:
    name = reader.name("a tensor's name", TENSOR_NAME_BYTES_MAX)
    start = reader.offset
    n_dims = reader.u32("a tensor's number of dimensions")
    if n_dims > 4:
        raise GgufError(start, f"tensor {name!r} has {n_dims} dimensions; there are at most 4")
    described = reader.unpack(_DESCRIPTIONS[n_dims], "a tensor's shape, type and offset")
    shape, type_number, offset = described[:n_dims], described[-2], described[-1]
    elements = 1
    for length in shape:
        elements *= length
    if not 0 < elements < ELEMENTS_MAX:
        raise GgufError(start, f"tensor {name!r} has the shape {shape}")
    start += 4 + 8 * n_dims
    if type_number not in TENSOR_TYPES:
        raise GgufError(start, f"tensor {name!r} has the unknown type {type_number}")
    tensor_type = TENSOR_TYPES[type_number]
    row = shape[0] if shape else 1
    if row % tensor_type.block_elements:
        raise GgufError(
            start, f"tensor {name!r}: rows of {row} do not divide into blocks of {tensor_type.block_elements}"
        )
    size_bytes = elements // tensor_type.block_elements * tensor_type.block_bytes
    return Tensor(name, shape, tensor_type.name, offset, size_bytes)

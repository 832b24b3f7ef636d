"""Reads a GGUF header; llama.cpp's type tables.

The reader trusts nothing: every count is bounded by the bytes that remain, and what is kept in memory by fixed limits,
so that a broken or hostile file yields a `GgufError` in bounded time and memory.

Layout after the GGUF specification, versions 2 and 3: magic, version, number of tensors, number of metadata pairs, the
pairs, one description per tensor, padding, the data. All little endian.
"""

from __future__ import annotations

import functools
import mmap
import re
import struct
from typing import NamedTuple

from msgspec import Struct

Buffer = bytes | memoryview | mmap.mmap


class GgufError(ValueError):
    """The file is not a GGUF model that can be read. `offset` is the byte where that shows."""

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(f"{reason} (at byte {offset})")
        self.offset = offset
        self.reason = reason


class GgufIncompleteError(GgufError):
    """The header goes on beyond the beginning of the file that was given; `needed_bytes` of it or more are needed."""

    def __init__(self, offset: int, needed_bytes: int) -> None:
        super().__init__(offset, "the header goes on beyond the bytes at hand")
        self.needed_bytes = needed_bytes


_TYPICAL_BYTES = 7
_SHORT_BYTES = 64
"""Nearly all texts of a vocabulary are shorter."""

_AT_ONCE = 64


def skip_texts(buffer: Buffer, offset: int, count: int, size_bytes: int) -> int:
    """Give the offset behind `count` texts, each a 64-bit length and its bytes, in a file of `size_bytes`.

    Raises GgufError, and GgufIncompleteError where `buffer` ends before the texts do.
    """
    match = _short_texts().match if count >= 4 * _AT_ONCE else None
    while count:
        if match is not None and count >= _AT_ONCE and (short := match(buffer, offset)):
            offset = short.end()
            count -= _AT_ONCE
        else:
            offset = _skip_few(buffer, offset, min(count, _AT_ONCE), size_bytes)
            count -= min(count, _AT_ONCE)
    return offset


def _skip_few(buffer: Buffer, offset: int, count: int, size_bytes: int) -> int:
    length_at = struct.Struct("<Q").unpack_from
    held_bytes = len(buffer)
    for _ in range(count):
        start = offset
        if start + 8 > size_bytes:
            raise GgufError(start, "truncated: a text of an array ends after the file")
        if start + 8 > held_bytes:
            raise GgufIncompleteError(start, start + 8)
        offset = start + 8 + length_at(buffer, start)[0]
        if offset > size_bytes:
            raise GgufError(start, "truncated: a text of an array ends after the file")
    return offset


@functools.cache
def _short_texts() -> re.Pattern[bytes]:
    """A pattern for _AT_ONCE short texts in a row; twice as quick as a loop over them.

    A text's first byte, the low byte of its length, decides which alternative can match, so there is nothing to
    backtrack into.
    """
    lengths = sorted(range(_SHORT_BYTES), key=lambda length: abs(length - _TYPICAL_BYTES))
    texts = b"|".join(re.escape(bytes([length])) + rb"\x00{7}.{%d}" % length for length in lengths)
    return re.compile(rb"(?s:%b){%d}" % (texts, _AT_ONCE))


class TensorType(NamedTuple):
    """How weights of one type are packed."""

    name: str
    block_elements: int
    block_bytes: int


SCALARS: dict[int, struct.Struct] = {
    0: struct.Struct("<B"),
    1: struct.Struct("<b"),
    2: struct.Struct("<H"),
    3: struct.Struct("<h"),
    4: struct.Struct("<I"),
    5: struct.Struct("<i"),
    6: struct.Struct("<f"),
    7: struct.Struct("<?"),
    10: struct.Struct("<Q"),
    11: struct.Struct("<q"),
    12: struct.Struct("<d"),
}
"""Layout of metadata values by their type (gguf_type)."""

STRING = 8
ARRAY = 9

TENSOR_TYPES: dict[int, TensorType] = {
    0: TensorType("f32", 1, 4),
    1: TensorType("f16", 1, 2),
    2: TensorType("q4_0", 32, 18),
    3: TensorType("q4_1", 32, 20),
    6: TensorType("q5_0", 32, 22),
    7: TensorType("q5_1", 32, 24),
    8: TensorType("q8_0", 32, 34),
    9: TensorType("q8_1", 32, 36),
    10: TensorType("q2_K", 256, 84),
    11: TensorType("q3_K", 256, 110),
    12: TensorType("q4_K", 256, 144),
    13: TensorType("q5_K", 256, 176),
    14: TensorType("q6_K", 256, 210),
    15: TensorType("q8_K", 256, 292),
    16: TensorType("iq2_xxs", 256, 66),
    17: TensorType("iq2_xs", 256, 74),
    18: TensorType("iq3_xxs", 256, 98),
    19: TensorType("iq1_s", 256, 50),
    20: TensorType("iq4_nl", 32, 18),
    21: TensorType("iq3_s", 256, 110),
    22: TensorType("iq2_s", 256, 82),
    23: TensorType("iq4_xs", 256, 136),
    24: TensorType("i8", 1, 1),
    25: TensorType("i16", 1, 2),
    26: TensorType("i32", 1, 4),
    27: TensorType("i64", 1, 8),
    28: TensorType("f64", 1, 8),
    29: TensorType("iq1_m", 256, 56),
    30: TensorType("bf16", 1, 2),
    34: TensorType("tq1_0", 256, 54),
    35: TensorType("tq2_0", 256, 66),
    39: TensorType("mxfp4", 32, 17),
    40: TensorType("nvfp4", 64, 36),
    41: TensorType("q1_0", 128, 18),
    42: TensorType("q2_0", 64, 18),
}
"""Packing by tensor type (ggml_type)."""

FILE_TYPES: dict[int, str] = {
    0: "F32",
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    7: "Q8_0",
    8: "Q5_0",
    9: "Q5_1",
    10: "Q2_K",
    11: "Q3_K_S",
    12: "Q3_K_M",
    13: "Q3_K_L",
    14: "Q4_K_S",
    15: "Q4_K_M",
    16: "Q5_K_S",
    17: "Q5_K_M",
    18: "Q6_K",
    19: "IQ2_XXS",
    20: "IQ2_XS",
    21: "Q2_K_S",
    22: "IQ3_XS",
    23: "IQ3_XXS",
    24: "IQ1_S",
    25: "IQ4_NL",
    26: "IQ3_S",
    27: "IQ3_M",
    28: "IQ2_S",
    29: "IQ2_M",
    30: "IQ4_XS",
    31: "IQ1_M",
    32: "BF16",
    36: "TQ1_0",
    37: "TQ2_0",
    38: "MXFP4_MOE",
    39: "NVFP4",
    40: "Q1_0",
    41: "Q2_0",
}
"""Label by general.file_type (llama_ftype). Bit 1024 on top of a number says that it was guessed."""

ARRAY_KEPT = 1024
"""Longer arrays, the vocabulary's, are counted and skipped; per-layer values are at most 512 long."""

VALUES_KEPT = 2**20
"""Values of all kept arrays together."""

STRINGS_WALKED = 4 * 2**20
"""Texts in arrays must be walked one by one; vocabularies have up to 0.3 million entries and 0.5 million merges."""

TEXT_KEPT_BYTES = 16 * 2**20
"""All kept text together; a chat template is some kilobytes."""


class GgufArray(Struct, frozen=True):
    """An array in the metadata."""

    length: int
    values: tuple[bool | int | float | str, ...] | None
    """`None` for an array longer than ARRAY_KEPT; it was skipped."""


Value = bool | int | float | str | GgufArray


class ByteReader:
    """Takes values from the front of a buffer and never reads beyond its end.

    `size_bytes` is the size of the whole file where `buffer` is only its beginning; what lies between the two raises
    GgufIncompleteError.
    """

    def __init__(self, buffer: Buffer, size_bytes: int | None = None) -> None:
        self.offset = 0
        self._buffer = buffer
        self._held_bytes = len(buffer)
        self._size_bytes = self._held_bytes if size_bytes is None else size_bytes
        self._text_left = TEXT_KEPT_BYTES
        self._strings_left = STRINGS_WALKED
        self._values_left = VALUES_KEPT

    @property
    def remaining(self) -> int:
        """Bytes of the file not read yet."""
        return self._size_bytes - self.offset

    def peek(self, count: int) -> bytes:
        """Look at the next bytes, as many of them as there are."""
        return bytes(self._buffer[self.offset : self.offset + count])

    def take(self, count: int, what: str) -> bytes:
        """Take exactly `count` bytes; `what` says for the error what they were to be."""
        self._require(count, what)
        taken = bytes(self._buffer[self.offset : self.offset + count])
        self.offset += count
        return taken

    def unpack(self, layout: struct.Struct, what: str) -> tuple[int, ...]:
        """Take the numbers of a layout."""
        self._require(layout.size, what)
        numbers = layout.unpack_from(self._buffer, self.offset)
        self.offset += layout.size
        return numbers

    def u32(self, what: str) -> int:
        """Take a 32-bit number."""
        return int.from_bytes(self.take(4, what), "little")

    def u64(self, what: str) -> int:
        """Take a 64-bit number."""
        return int.from_bytes(self.take(8, what), "little")

    def name(self, what: str, bytes_max: int) -> str:
        """Take a key or a tensor's name."""
        start = self.offset
        length = self.u64(what)
        if not 0 < length <= bytes_max:
            raise GgufError(start, f"{what} has {length} bytes; there are 1 to {bytes_max}")
        return self._text(length, what)

    def value(self, type_number: int) -> Value:
        """Take the value of a metadata pair whose type was just read."""
        if type_number == STRING:
            return self._text(self.u64("a text"), "a text")
        if type_number == ARRAY:
            return self._array()
        return self._scalar(type_number)

    def _require(self, count: int, what: str) -> None:
        if count > self._size_bytes - self.offset:
            raise GgufError(self.offset, f"truncated: {what} needs {count} bytes, {self.remaining} remain")
        if self.offset + count > self._held_bytes:
            raise GgufIncompleteError(self.offset, self.offset + count)

    def _scalar(self, type_number: int) -> bool | int | float:
        if type_number not in SCALARS:
            raise GgufError(self.offset - 4, f"metadata value of the unknown type {type_number}")
        layout = SCALARS[type_number]
        (value,) = layout.unpack(self.take(layout.size, "a metadata value"))
        return value  # type: ignore[no-any-return]

    def _text(self, length: int, what: str) -> str:
        if length > self._text_left:
            raise GgufError(self.offset - 8, f"{what} of {length} bytes is too long")
        self._text_left -= length
        return self.take(length, what).decode("utf-8", "replace")

    def _array(self) -> GgufArray:
        element_type = self.u32("the type of an array")
        start = self.offset
        length = self.u64("the length of an array")
        if element_type == ARRAY:
            raise GgufError(start - 4, "an array of arrays, which llama.cpp does not read either")
        if element_type == STRING:
            if length > min(self._strings_left, self.remaining // 8):
                raise GgufError(
                    start, f"an array of {length} texts cannot be in the {self.remaining} bytes that follow"
                )
            self._strings_left -= length
            if not self._is_kept(length):
                self.offset = skip_texts(self._buffer, self.offset, length, self._size_bytes)
                return GgufArray(length, None)
            values = tuple(self._text(self.u64("a text"), "a text") for _ in range(length))
            return GgufArray(length, values)
        if element_type not in SCALARS:
            raise GgufError(start - 4, f"an array of the unknown type {element_type}")
        layout = SCALARS[element_type]
        if length * layout.size > self.remaining:
            raise GgufError(
                start,
                f"truncated: an array of {length} values needs {length * layout.size} bytes, {self.remaining} remain",
            )
        if not self._is_kept(length):
            self.offset += length * layout.size
            return GgufArray(length, None)
        numbers = struct.unpack(f"<{length}{layout.format[-1]}", self.take(length * layout.size, "an array"))
        return GgufArray(length, numbers)

    def _is_kept(self, length: int) -> bool:
        if length > min(ARRAY_KEPT, self._values_left):
            return False
        self._values_left -= length
        return True


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


@functools.lru_cache(4096)
def layer_of(name: str) -> tuple[int | None, str]:
    """Layer of a tensor such as `blk.12.attn_q.weight`, and what follows; `None` and the whole name without a layer."""
    prefix, _, rest = name.partition(".")
    number, dot, short = rest.partition(".")
    if prefix != "blk" or not dot or not (number.isascii() and number.isdecimal()) or len(number) > _LAYER_DIGITS_MAX:
        return None, name
    return int(number), short


_LAYER_DIGITS_MAX = 6


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
        raise GgufError(0, _other_format(magic, reader.peek(64)))
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


def _other_format(magic: bytes, beginning: bytes) -> str:
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
    # ggml takes a tensor without dimensions for a single number.
    shape, type_number, offset = described[:n_dims] or (1,), described[-2], described[-1]
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


_TYPE_NUMBERS = {packing.name: number for number, packing in TENSOR_TYPES.items()}
_DATA_ALIGNMENT = 32
_UINT32, _INT32, _FLOAT32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9


def header_without_vocabulary(header: GgufHeader, n_vocab: int) -> tuple[bytes, int]:
    """The beginning of a file with the same tensors and no vocabulary, and the size that the whole file would have.

    llama.cpp takes the length of the vocabulary from `vocab_size` then. What a header skips, long arrays, is left out.
    """
    metadata = {
        key: value
        for key, value in header.metadata.items()
        if not key.startswith(("tokenizer.", "split.")) and not (isinstance(value, GgufArray) and value.values is None)
    }
    metadata |= {"tokenizer.ggml.model": "no_vocab", f"{header.architecture}.vocab_size": n_vocab}
    parts = [b"GGUF", struct.pack("<IQQ", 3, len(header.tensors), len(metadata))]
    for key, value in metadata.items():
        kind, packed = _packed(value)
        parts += [_packed_text(key), struct.pack("<I", kind), packed]
    offset = 0
    for tensor in header.tensors:
        parts += [
            _packed_text(tensor.name),
            struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape),
            struct.pack("<IQ", _TYPE_NUMBERS[tensor.type_name], offset),
        ]
        offset += -(-tensor.size_bytes // _DATA_ALIGNMENT) * _DATA_ALIGNMENT
    beginning = b"".join(parts)
    beginning += bytes(-len(beginning) % _DATA_ALIGNMENT)
    return beginning, len(beginning) + offset


def _packed_text(text: str) -> bytes:
    encoded = text.encode("utf-8", "surrogateescape")
    return struct.pack("<Q", len(encoded)) + encoded


def _packed(value: Value) -> tuple[int, bytes]:
    match value:
        case bool():
            return _BOOL, struct.pack("<?", value)
        case int():
            return (_INT32, struct.pack("<i", value)) if value < 0 else (_UINT32, struct.pack("<I", value & 0xFFFFFFFF))
        case float():
            return _FLOAT32, struct.pack("<f", value)
        case str():
            return _STRING, _packed_text(value)
        case GgufArray():
            packed = [_packed(each) for each in value.values or ()]
            kind = _INT32 if any(each == _INT32 for each, _ in packed) else packed[0][0] if packed else _UINT32
            return _ARRAY, struct.pack("<IQ", kind, len(packed)) + b"".join(each for _, each in packed)

"""Values taken from the front of a GGUF file.

The reader trusts nothing: every count is bounded by the bytes that remain, and what is kept in memory by fixed limits,
so that a broken or hostile file yields a `GgufError` in bounded time and memory.
"""

from __future__ import annotations

import struct

from msgspec import Struct

from edgetop.core.gguf_buffer import Buffer, GgufError, GgufIncompleteError
from edgetop.core.gguf_texts import skip_texts
from edgetop.core.gguf_types import ARRAY, SCALARS, STRING

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

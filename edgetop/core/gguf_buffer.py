"""The bytes that a GGUF header is read from, and what can be wrong with them."""

from __future__ import annotations

import mmap

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

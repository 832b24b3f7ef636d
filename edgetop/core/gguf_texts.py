"""Walks quickly over the texts of a vocabulary, which a header holds by the hundred thousand."""

from __future__ import annotations

import functools
import re
import struct

from edgetop.core.gguf_buffer import Buffer, GgufError, GgufIncompleteError

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

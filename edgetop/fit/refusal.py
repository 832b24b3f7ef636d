"""What is wrong with a model that cannot be read, and how to mend it."""

from __future__ import annotations

from edgetop.core.errors import ModelError
from edgetop.core.gguf import GgufError, GgufHeader
from edgetop.core.text import one_line

_MENDS = (
    ("Git LFS", "run `git lfs pull` in its folder"),
    ("web page", "check the address, and download it again"),
    ("truncated", "the file is cut off; download it again"),
    ("empty", "download it again"),
    ("does not know the architecture", "look for a newer edgetop, or choose another model"),
    ("is not supported", "look for a newer edgetop, or download the model again"),
    ("big endian", "convert it with llama.cpp's gguf_convert_endian.py"),
    ("before GGUF", "download a GGUF of the model"),
    ("not a GGUF file", "name a file in GGUF format"),
)
_WHAT_MAX = 200
"""A key of the file may be in it, and as long as 65,535 bytes."""
_MEND = "download it again, or choose another model"


def refused(shown: str, error: GgufError) -> ModelError:
    """The error for a person, of a file that is `shown` as they named it."""
    mend = next((mend for word, mend in _MENDS if word in error.reason), _MEND)
    what = one_line(error.reason.partition("; ")[0][:_WHAT_MAX])
    return ModelError(f"{one_line(shown)} cannot be read: {what} (at byte {error.offset})", mend)


def check_part(shown: str, header: GgufHeader, part: int, count: int) -> None:
    """Raise ModelError unless a header says that its file is the wanted part, from 1, of a split model."""
    number = (header.whole("split.no") or 0) + 1
    if (number, header.split_count) != (part, count):
        raise ModelError(
            f"{one_line(shown)} says that it is part {number} of {header.split_count}, not {part} of {count}",
            "the parts have been mixed up; download the model again",
        )

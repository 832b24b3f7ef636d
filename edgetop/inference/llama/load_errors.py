"""What llama.cpp's log says of a failed load, in words for a person."""

from __future__ import annotations

import re
from typing import Literal

from msgspec import Struct

from edgetop.inference.protocol import LoadFailed

LoadFailure = Literal["missing", "not_a_model", "unsupported", "no_memory", "cancelled", "failed"]
_CHARACTERS = 240
_AGAIN = "Download the model again, or choose another one."


class _Case(Struct, frozen=True):
    pattern: str
    reason: LoadFailure
    what: str
    mend: str


_CASES = (
    _Case(
        r"GGUF file is version|GGUFv\d|byte.?order|endian",
        "unsupported",
        "llama.cpp does not read this version of GGUF",
        "Install a newer llama-cpp-python, or download the model again.",
    ),
    _Case(
        r"unknown model architecture",
        "unsupported",
        "llama.cpp does not know this model's architecture",
        "Install a newer llama-cpp-python, or choose another model.",
    ),
    _Case(
        r"failed to allocate|unable to allocate|out of memory|bad_alloc|alloc_buffer.*failed|cannot allocate",
        "no_memory",
        "There is not enough memory",
        "Use a shorter context (--ctx), a smaller KV type (--kv-type q8_0) or a smaller model.",
    ),
    _Case(
        r"V cache quantization|quantized V cache",
        "unsupported",
        "This KV type needs flash attention",
        "Use --kv-type f16, or leave flash attention on.",
    ),
    _Case(
        r"not within the file bounds|corrupted or incomplete|failed to read|unexpectedly reached end",
        "not_a_model",
        "The file is cut off or damaged",
        _AGAIN,
    ),
)
_REFUSED = re.compile(r"gguf|llama_model_load|missing tensor|key not found|hyperparameters|vocab", re.IGNORECASE)


def explain(errors: list[str], shown: str) -> LoadFailed:
    """The failure that the library's error lines tell; they go from the cause to its consequences."""
    for case in _CASES:
        if any(re.search(case.pattern, line, re.IGNORECASE) for line in errors):
            return LoadFailed(reason=case.reason, message=f"{case.what} ({shown}): {_told(errors[0])}.", mend=case.mend)
    if any(_REFUSED.search(line) for line in errors):
        return LoadFailed(reason="not_a_model", message=f"{shown} is no usable model: {_told(errors[0])}.", mend=_AGAIN)
    told = f": {_told(errors[0])}" if errors else ""
    return LoadFailed(reason="failed", message=f"llama.cpp could not load {shown}{told}.", mend=_AGAIN)


def _told(line: str) -> str:
    """A log line without the names of the functions that wrote it."""
    return re.sub(r"^(?:\w+: (?:error loading model: )?)+", "", line).rstrip(". ?")[:_CHARACTERS]

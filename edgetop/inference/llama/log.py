"""Llama.cpp's log: memory by buffer, layers, load errors."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec import Struct

from edgetop.core.engine_settings import MemoryBreakdown
from edgetop.inference.llama.library import Library
from edgetop.inference.protocol import LoadFailed, Log

_INFO, _WARNING, _ERROR = 2, 3, 4
"""ggml_log_level, from ggml.h; 1 is debug."""

_LEVELS: dict[int, Literal["warning", "error"]] = {_WARNING: "warning", _ERROR: "error"}
_KEPT_LINES = 5000
_LINE_CHARACTERS = 400

_BUFFER = re.compile(
    r":\s+(?P<name>\S+(?: \S+)*?)\s+(?P<kind>model|KV|RS|compute|output)\s+buffer size\s+=\s+(?P<mib>[\d.]+) MiB"
)

_OFFLOADED = re.compile(r"offloaded (\d+)/\d+ layers to GPU")
_LAYER = re.compile(r"layer\s+(\d+) assigned to device (\S+),")
_ASSIGNED = b" assigned to device "
"""In the one kind of line that is wanted although it is there for debugging."""

_MIB = 2**20


class Line(msgspec.Struct, frozen=True):
    """One line of the log."""

    level: int
    text: str


class LibraryLog:
    """Takes the library's log in from the moment it is made. Keep it as long as the library is used."""

    def __init__(self, library: Library) -> None:
        self._lines: deque[Line] = deque(maxlen=_KEPT_LINES)
        self._callback = library.llama_log_callback(self._on_message)
        library.llama_log_set(self._callback, None)

    def _on_message(self, level: int, text: bytes | None, _: object) -> None:
        # Called from the library's threads too; appending is all that is safe here.
        if text and (level in {_INFO, _WARNING, _ERROR} or _ASSIGNED in text):
            self._lines.append(Line(level, text.decode("utf-8", "replace").strip()[:_LINE_CHARACTERS]))

    def drain(self) -> list[Line]:
        """The lines since the last call."""
        lines = []
        while self._lines:
            lines.append(self._lines.popleft())
        return lines


def to_reports(lines: list[Line]) -> list[Log]:
    """The warnings and errors among the lines, each of them once."""
    texts = dict.fromkeys((line.level, line.text) for line in lines if line.level in _LEVELS and line.text)
    return [Log(level=_LEVELS[level], text=text) for level, text in texts]


def errors(lines: list[Line]) -> list[str]:
    """The errors among the lines."""
    return [line.text for line in lines if line.level == _ERROR]


def memory_breakdown(lines: list[Line]) -> MemoryBreakdown:
    """What was allocated, from lines such as `llama_kv_cache:  CPU KV buffer size =  45.00 MiB`.

    The library has no C call for it. Mapped weights count whole, resident or not; the state of recurrent layers counts
    as KV.
    """
    by_buffer: dict[str, int] = {}
    totals: dict[str, int] = {}
    for line in lines:
        match = _BUFFER.search(line.text)
        if match is None:
            continue
        size_bytes = round(float(match["mib"]) * _MIB)
        label = f"{match['name']} {match['kind']}"
        by_buffer[label] = by_buffer.get(label, 0) + size_bytes
        kind = "KV" if match["kind"] == "RS" else match["kind"]
        totals[kind] = totals.get(kind, 0) + size_bytes
    return MemoryBreakdown(
        weights_bytes=totals.get("model"),
        kv_bytes=totals.get("KV"),
        compute_bytes=totals.get("compute"),
        output_bytes=totals.get("output"),
        by_buffer=by_buffer,
    )


def offloaded_layers(lines: list[Line]) -> int:
    """Layers that went to an accelerator or to another machine; 0 where the log names none.

    A library built with RPC logs `offloaded 31/31 layers to GPU` of layers that stay on the CPU, too, so that the
    device of each layer goes before.
    """
    by_device = layer_devices(lines)
    if by_device:
        return sum(len(set(layers)) for device, layers in by_device.items() if device != "CPU")
    matches = (_OFFLOADED.search(line.text) for line in lines)
    return next((int(match[1]) for match in matches if match), 0)


def lock_refused(lines: Sequence[Line]) -> bool:
    """Whether the kernel did not let the weights be locked in memory; the library goes on without."""
    return any("failed to mlock" in line.text for line in lines)


def layer_devices(lines: Sequence[Line]) -> dict[str, list[int]]:
    """The layers on each device, from `layer  14 assigned to device RPC0, is_swa = 0`."""
    found: dict[str, list[int]] = {}
    for line in lines:
        match = _LAYER.search(line.text)
        if match is not None:
            found.setdefault(match[2], []).append(int(match[1]))
    return found


LoadFailure = Literal["missing", "not_a_model", "unsupported", "no_memory", "cancelled", "failed"]
_CHARACTERS = 240
_AGAIN = "Download the model again, or choose another one."


class _Case(Struct, frozen=True):
    pattern: str
    reason: LoadFailure
    what: str
    hint: str


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


def explain_load_failure(errors: list[str], shown: str) -> LoadFailed:
    """The failure that the library's error lines report; they go from the cause to its consequences."""
    for case in _CASES:
        if any(re.search(case.pattern, line, re.IGNORECASE) for line in errors):
            return LoadFailed(
                reason=case.reason, message=f"{case.what} ({shown}): {_quoted(errors[0])}.", hint=case.hint
            )
    if any(_REFUSED.search(line) for line in errors):
        return LoadFailed(
            reason="not_a_model", message=f"{shown} is no usable model: {_quoted(errors[0])}.", hint=_AGAIN
        )
    quote = f": {_quoted(errors[0])}" if errors else ""
    return LoadFailed(reason="failed", message=f"llama.cpp could not load {shown}{quote}.", hint=_AGAIN)


def _quoted(line: str) -> str:
    """A log line without the names of the functions that wrote it."""
    return re.sub(r"^(?:\w+: (?:error loading model: )?)+", "", line).rstrip(". ?")[:_CHARACTERS]

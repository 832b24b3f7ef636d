"""A load without weights: the library reads the header, lays the graph out and says what it would allocate."""

from __future__ import annotations

from pathlib import Path

from edgetop.core.engine import EngineSettings, MemoryBreakdown
from edgetop.core.gguf import GgufHeader
from edgetop.core.records import Missing
from edgetop.inference.llama.allocation import (
    AllocationUnknownError,
    BufferShare,
    buffer_shares,
    tensors_in_main_memory,
)
from edgetop.inference.llama.library import Handle, Library, LibraryError, import_library
from edgetop.inference.llama.library_log import LibraryLog, Line, errors, memory_breakdown
from edgetop.inference.llama.load_errors import explain
from edgetop.inference.llama.model import LoadError, check_kind
from edgetop.inference.llama.parameters import context_parameters, model_parameters
from edgetop.inference.model_header import read_model_header

_ROUNDING_BYTES = 2**20 // 100
"""The log has two decimals of a MiB."""
_NO_LIBRARY = "pip install llama-cpp-python==0.3.36"


def dry_run(path: Path, settings: EngineSettings) -> MemoryBreakdown | Missing:
    """What a load with these settings would allocate, by the names that a real load reports."""
    try:
        library = import_library()
    except LibraryError as error:
        return Missing(str(error), _NO_LIBRARY)
    log = LibraryLog(library)
    library.llama_backend_init()
    params = model_parameters(library, settings)
    params.no_alloc = True
    params.load_mode = library.LLAMA_LOAD_MODE_NONE  # it cannot map what it does not load
    model = library.llama_model_load_from_file(str(path).encode("utf-8", "surrogateescape"), params)
    if not model:
        return _refused(log, path)
    try:
        check_kind(library, model)
    except LoadError as error:
        return Missing(error.failed.message, error.failed.mend)
    context_params, _ = context_parameters(library, model, settings)
    log.take()
    context = library.llama_init_from_model(model, context_params)
    if not context:
        return _refused(log, path)
    try:
        shares = buffer_shares(library, context)
        mapped_bytes = None
        if settings.load_mode != "copy":
            mapped_bytes = _mapped_bytes(library, model, path)
    except AllocationUnknownError as error:
        return Missing(f"llama.cpp does not say what it would allocate: {error}")
    return _breakdown(shares, log.take(), mapped_bytes)


def _mapped_bytes(library: Library, model: Handle, path: Path) -> int | None:
    """Size of the part of the file that stays mapped: from the first tensor used in place to the last.

    `None` for a model in several files, of each of which another part is mapped; nothing but padding is between.
    """
    header, _ = read_model_header(path)
    if header is None or header.split_count > 1:
        return None
    return _span_bytes(header, tensors_in_main_memory(library, model))


def _span_bytes(header: GgufHeader, names: set[str]) -> int:
    used = [tensor for tensor in header.tensors if tensor.name in names]
    if not used:
        return 0
    return max(tensor.offset + tensor.size_bytes for tensor in used) - min(tensor.offset for tensor in used)


def _breakdown(shares: list[BufferShare], lines: list[Line], mapped_bytes: int | None) -> MemoryBreakdown:
    # The output buffer and the state of recurrent layers are small and were really allocated, so the log tells them.
    told = memory_breakdown(lines).by_buffer
    by_buffer = {label: size for label, size in told.items() if label.endswith((" output", " RS")) and size}
    for share in shares:
        model_label, model_bytes = f"{share.name} model", share.model_bytes
        if share.in_main_memory and model_bytes and mapped_bytes is not None:
            model_label, model_bytes = "CPU_Mapped model", mapped_bytes
        state_label = f"{share.name} RS"
        cache_bytes = share.context_bytes - by_buffer.get(state_label, 0)
        if state_label in by_buffer and cache_bytes <= _ROUNDING_BYTES:
            by_buffer[state_label], cache_bytes = share.context_bytes, 0
        sizes = {
            model_label: model_bytes,
            f"{share.name} KV": cache_bytes,
            f"{share.name} compute": share.compute_bytes,
        }
        by_buffer |= {label: size for label, size in sizes.items() if size > 0}
    totals = {kind: _total(by_buffer, kind) for kind in ("model", "KV", "RS", "compute", "output")}
    return MemoryBreakdown(
        weights_bytes=totals["model"],
        kv_bytes=totals["KV"] + totals["RS"],
        compute_bytes=totals["compute"],
        output_bytes=totals["output"],
        by_buffer=by_buffer,
    )


def _total(by_buffer: dict[str, int], kind: str) -> int:
    return sum(size for label, size in by_buffer.items() if label.endswith(f" {kind}"))


def _refused(log: LibraryLog, path: Path) -> Missing:
    failed = explain(errors(log.take()), path.name)
    return Missing(failed.message, failed.mend)

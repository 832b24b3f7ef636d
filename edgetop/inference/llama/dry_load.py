"""What a load would allocate, computed in a child process.

Bad metadata makes the library abort, and no_alloc is a path that is rarely used; so this runs in a child
that lives for a fraction of a second and is started afresh, never forked.

The functions asked are exported but meant for the library's own tools (`llama-ext.h`, `llama-model.h` of llama.cpp
0c1e57098). They return C++ containers, which are walked here as libstdc++ lays them out on 64-bit Linux. Where they are
laid out otherwise this crashes or contradicts itself: call it in a process that may crash.

It reads one `DryLoad` from standard input, answers on standard output and ends.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from msgspec import Struct

from edgetop.core.engine_settings import EngineSettings, MemoryBreakdown
from edgetop.core.errors import ModelError
from edgetop.core.gguf import GgufHeader, header_without_vocabulary
from edgetop.core.sources import Unavailable
from edgetop.inference.child_process import die_with_parent, explain_exit, run_module
from edgetop.inference.llama.library import Handle, Library, LibraryError, import_library
from edgetop.inference.llama.log import LibraryLog, Line, errors, explain_load_failure, memory_breakdown
from edgetop.inference.llama.model import LoadError, context_parameters, model_parameters, require_text_generation
from edgetop.inference.llama.portable import no_engine_hint
from edgetop.io.model_file import read_model_header, require_model

TIMEOUT_S = 30.0
"""A header with a large vocabulary takes a third of a second, on a slow card some seconds."""


class DryLoad(Struct, frozen=True):
    """The question put to the child."""

    path: str
    settings: EngineSettings


class WouldAllocate(Struct, frozen=True, tag=True):
    """The child's answer where it has one."""

    memory: MemoryBreakdown


class WouldNotLoad(Struct, frozen=True, tag=True):
    """The child's answer where the library refuses."""

    missing: Unavailable


Answer = WouldAllocate | WouldNotLoad


def dry_load(path: Path, settings: EngineSettings, *, timeout_s: float = TIMEOUT_S) -> MemoryBreakdown | Unavailable:
    """What loading a model with these settings would allocate, or why that is not known. Nothing is loaded.

    The sizes are those that a real load reports, but for rounding: the library's log has two decimals of a MiB.
    """
    try:
        require_model(path, settings.n_ctx)
    except ModelError as error:
        return Unavailable(error.what, error.hint)
    request = msgspec.msgpack.encode(DryLoad(str(path.absolute()), settings))
    try:
        run = run_module("edgetop.inference.llama.dry_load", data=request, timeout_s=timeout_s)
    except OSError as error:
        return Unavailable(f"the engine could not be started: {error.strerror or error}")
    except subprocess.TimeoutExpired:
        hint = "The formulas answer instead; if it comes back, the file is probably damaged."
        return Unavailable(f"llama.cpp did not report within {timeout_s:g} s what it would allocate", hint)
    if run.return_code != 0:
        death = explain_exit(run.return_code, "loading", run.last_words, oom_killed=None)
        return Unavailable(death.what, death.hint)
    try:
        answer = msgspec.msgpack.decode(run.output, type=Answer)
    except msgspec.DecodeError as error:
        return Unavailable(f"the engine gave no answer that can be read: {error}")
    return answer.memory if isinstance(answer, WouldAllocate) else answer.missing


def dry_load_header(header: GgufHeader, n_vocab: int, settings: EngineSettings) -> MemoryBreakdown | Unavailable:
    """The same of a model of which only the header is known: a sparse file stands in for it, without a vocabulary."""
    beginning, size_bytes = header_without_vocabulary(header, n_vocab)
    try:
        with TemporaryDirectory(prefix="edgetop-") as folder:
            path = Path(folder) / "header.gguf"
            with path.open("wb") as file:
                file.write(beginning)
                file.truncate(size_bytes)
            return dry_load(path, settings)
    except OSError as error:
        return Unavailable(
            f"the header could not be kept for llama.cpp: {error.strerror or error}", "make room in /tmp"
        )


_BREAKDOWN = "_Z26llama_get_memory_breakdownPK13llama_context"
_TENSORS = "_Z29llama_internal_get_tensor_mapB5cxx11PK11llama_model"
_TENSORS_OF_LIBCXX = _TENSORS.replace("B5cxx11", "")
"""The same where the library's C++ is not libstdc++, whose maps are read here."""
_BUFFERS_MAX = 1000
_TENSORS_MAX = 1_000_000


class AllocationUnknownError(Exception):
    """This library does not report what it would allocate; the text is the reason, in one line."""


class BufferShare(Struct, frozen=True):
    """What goes into one kind of buffer, in bytes."""

    name: str
    """As llama.cpp calls it, such as `CPU`, `CPU_REPACK`, `CUDA0`."""
    in_main_memory: bool
    """The processor computes with it as it lies in the file, so that it can be mapped."""
    model_bytes: int
    context_bytes: int
    compute_bytes: int


class _Node(ctypes.Structure):
    """`std::_Rb_tree_node<std::pair<buffer type, memory_breakdown_data>>`."""

    _fields_ = (
        ("color", ctypes.c_int),
        ("parent", ctypes.c_void_p),
        ("left", ctypes.c_void_p),
        ("right", ctypes.c_void_p),
        ("buffer_type", ctypes.c_void_p),
        ("model_bytes", ctypes.c_size_t),
        ("context_bytes", ctypes.c_size_t),
        ("compute_bytes", ctypes.c_size_t),
    )


class _Map(ctypes.Structure):
    """`std::map`: the comparison, the header of the tree (whose parent is the root) and the number of nodes."""

    _fields_ = (
        ("compare", ctypes.c_size_t),
        ("color", ctypes.c_int),
        ("root", ctypes.c_void_p),
        ("leftmost", ctypes.c_void_p),
        ("rightmost", ctypes.c_void_p),
        ("count", ctypes.c_size_t),
    )


class _Vector(ctypes.Structure):
    _fields_ = (("begin", ctypes.c_void_p), ("end", ctypes.c_void_p), ("capacity", ctypes.c_void_p))


class _NamedTensor(ctypes.Structure):
    """`std::pair<std::string, ggml_tensor *>`."""

    _fields_ = (
        ("characters", ctypes.c_void_p),
        ("length", ctypes.c_size_t),
        ("local", ctypes.c_char * 16),
        ("tensor", ctypes.c_void_p),
    )


class _TensorHead(ctypes.Structure):
    """The beginning of `ggml_tensor` (ggml.h)."""

    _fields_ = (("type", ctypes.c_int), ("buffer", ctypes.c_void_p))


def buffer_shares(library: Library, context: Handle) -> list[BufferShare]:
    """What a context and its model use, by kind of buffer. Raises AllocationUnknownError."""
    if hasattr(library._lib, _TENSORS_OF_LIBCXX):  # noqa: SLF001 - no function of C, so that the bindings have none
        raise AllocationUnknownError("it was built with libc++, whose maps are not known")
    name, is_host = _function(library, "ggml_backend_buft_name"), _function(library, "ggml_backend_buft_is_host")
    name.restype, is_host.restype = ctypes.c_char_p, ctypes.c_bool
    breakdown = _function(library, _BREAKDOWN)
    # Every 64-bit ABI returns 48 bytes through a pointer to where they belong, for C++ objects as for structures.
    breakdown.restype = _Map
    return [
        BufferShare(
            name(node.buffer_type).decode("utf-8", "replace"),
            is_host(node.buffer_type),
            node.model_bytes,
            node.context_bytes,
            node.compute_bytes,
        )
        for node in _nodes(breakdown(_pointer(context)))
    ]


def tensors_in_main_memory(library: Library, model: Handle) -> set[str]:
    """Names of the tensors that the processor uses as they lie in the file. Raises AllocationUnknownError."""
    tensors, name = _function(library, _TENSORS), _function(library, "ggml_get_name")
    is_host = _function(library, "ggml_backend_buffer_is_host")
    tensors.restype, name.restype, is_host.restype = ctypes.POINTER(_Vector), ctypes.c_char_p, ctypes.c_bool
    vector = tensors(_pointer(model)).contents
    begin, size_bytes = vector.begin or 0, (vector.end or 0) - (vector.begin or 0)
    count, rest = divmod(size_bytes, ctypes.sizeof(_NamedTensor))
    if rest or not 0 <= count <= _TENSORS_MAX:
        raise AllocationUnknownError("its list of tensors is laid out in an unknown way")
    found = set()
    for entry in (_NamedTensor * count).from_address(begin) if count else ():
        if is_host(_TensorHead.from_address(entry.tensor).buffer):
            found.add(name(entry.tensor).decode("utf-8", "replace"))
    return found


def _nodes(tree: _Map) -> Iterator[_Node]:
    """The nodes of a tree, which stay allocated: the process does not live long."""
    if not tree.count <= _BUFFERS_MAX:
        raise AllocationUnknownError("its memory breakdown is laid out in an unknown way")
    waiting, seen = [tree.root], 0
    while waiting:
        address = waiting.pop()
        if not address:
            continue
        seen += 1
        if seen > tree.count:
            raise AllocationUnknownError("its memory breakdown is laid out in an unknown way")
        node = _Node.from_address(address)
        waiting += [node.left, node.right]
        yield node


def _pointer(handle: Handle) -> ctypes.c_void_p:
    return ctypes.cast(handle, ctypes.c_void_p)


def _function(library: Library, name: str) -> ctypes._NamedFuncPointer:
    if sys.platform != "linux" or ctypes.sizeof(ctypes.c_void_p) != 8:
        raise AllocationUnknownError("this is read on 64-bit Linux only")
    try:
        function: ctypes._NamedFuncPointer = getattr(ctypes.CDLL(library._lib._name), name)  # noqa: SLF001
    except AttributeError:
        written = name.lstrip("_Z0123456789").partition("PK")[0].removesuffix("B5cxx11")
        raise AllocationUnknownError(f"this build of llama.cpp has no function {written}") from None
    function.argtypes = [ctypes.c_void_p]
    return function


_ROUNDING_BYTES = 2**20 // 100
"""The log has two decimals of a MiB."""


def dry_run(path: Path, settings: EngineSettings) -> MemoryBreakdown | Unavailable:
    """What a load with these settings would allocate, by the names that a real load reports."""
    try:
        library = import_library()
    except LibraryError as error:
        return Unavailable(str(error), no_engine_hint())
    log = LibraryLog(library)
    library.llama_backend_init()
    try:
        params = model_parameters(library, settings)
        params.no_alloc = True
        params.load_mode = library.LLAMA_LOAD_MODE_NONE  # it cannot map what it does not load
        model = library.llama_model_load_from_file(str(path).encode("utf-8", "surrogateescape"), params)
        if not model:
            return _refused(log, path)
        require_text_generation(library, model)
    except LoadError as error:
        return Unavailable(error.failed.message, error.failed.hint)
    context_params, _ = context_parameters(library, model, settings)
    log.drain()
    context = library.llama_init_from_model(model, context_params)
    if not context:
        return _refused(log, path)
    try:
        shares = buffer_shares(library, context)
        mapped_bytes = None
        if settings.load_mode != "copy":
            mapped_bytes = _mapped_bytes(library, model, path)
    except AllocationUnknownError as error:
        return Unavailable(f"llama.cpp does not report what it would allocate: {error}")
    return _breakdown(shares, log.drain(), mapped_bytes)


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
    # The output buffer and the state of recurrent layers are small and were really allocated, so the log reports them.
    logged = memory_breakdown(lines).by_buffer
    by_buffer = {label: size for label, size in logged.items() if label.endswith((" output", " RS")) and size}
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


def _refused(log: LibraryLog, path: Path) -> Unavailable:
    failed = explain_load_failure(errors(log.drain()), path.name)
    return Unavailable(failed.message, failed.hint)


_STDOUT, _STDERR = 1, 2


def main() -> None:
    """Answer one question."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()
    answer_fd = os.dup(_STDOUT)
    os.dup2(_STDERR, _STDOUT)  # libraries print there
    question = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=DryLoad)
    found = dry_run(Path(question.path), question.settings)
    answer: Answer = WouldNotLoad(found) if isinstance(found, Unavailable) else WouldAllocate(found)
    with os.fdopen(answer_fd, "wb") as file:
        file.write(msgspec.msgpack.encode(answer))


if __name__ == "__main__":
    main()

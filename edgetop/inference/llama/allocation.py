"""What the library would allocate, asked of a model and a context that were made with `no_alloc`.

The functions asked are exported but meant for the library's own tools (`llama-ext.h`, `llama-model.h` of llama.cpp
0c1e57098). They return C++ containers, which are walked here as libstdc++ lays them out on 64-bit Linux. Where they are
laid out otherwise this crashes or contradicts itself: call it in a process that may crash.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator

from msgspec import Struct

from edgetop.inference.llama.library import Handle, Library

_BREAKDOWN = "_Z26llama_get_memory_breakdownPK13llama_context"
_TENSORS = "_Z29llama_internal_get_tensor_mapB5cxx11PK11llama_model"
_BUFFERS_MAX = 1000
_TENSORS_MAX = 1_000_000


class AllocationUnknownError(Exception):
    """This library does not say what it would allocate; the text says why in one line."""


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
    """What a context and its model take, by kind of buffer. Raises AllocationUnknownError."""
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
        raise AllocationUnknownError(f"this build of llama.cpp has no function {name}") from None
    function.argtypes = [ctypes.c_void_p]
    return function

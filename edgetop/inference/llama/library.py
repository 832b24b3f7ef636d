"""Which library is used: found, checked, chosen; how to build a better one.

Only the module of ctypes bindings is imported, below a stub of its package: the package's own initialisation brings
numpy and the high-level API, 20 MB and a tenth of a second that nothing here uses.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from msgspec import Struct

from edgetop.core.engine_settings import EngineInfo, FlashAttention, KvType, LoadMode

Library = Any
"""The module `llama_cpp.llama_cpp`, which has no types worth the name."""

Handle = Any
"""A pointer to one of the library's objects."""

KV_TYPES: dict[KvType, str] = {
    "f32": "GGML_TYPE_F32",
    "f16": "GGML_TYPE_F16",
    "q4_0": "GGML_TYPE_Q4_0",
    "q4_1": "GGML_TYPE_Q4_1",
    "q5_0": "GGML_TYPE_Q5_0",
    "q5_1": "GGML_TYPE_Q5_1",
    "q8_0": "GGML_TYPE_Q8_0",
    "iq4_nl": "GGML_TYPE_IQ4_NL",
}

GGML_TYPE_BF16 = 30
"""From ggml.h; the bindings do not name it."""

FLASH_ATTENTION: dict[FlashAttention, str] = {
    "auto": "LLAMA_FLASH_ATTN_TYPE_AUTO",
    "on": "LLAMA_FLASH_ATTN_TYPE_ENABLED",
    "off": "LLAMA_FLASH_ATTN_TYPE_DISABLED",
}

LOAD_MODES: dict[LoadMode, str] = {
    "auto": "LLAMA_LOAD_MODE_AUTO",
    "mmap": "LLAMA_LOAD_MODE_MMAP",
    "mlock": "LLAMA_LOAD_MODE_MMAP_MLOCK",
    "copy": "LLAMA_LOAD_MODE_NONE",
}


class LibraryError(Exception):
    """llama-cpp-python is not installed or its library does not load; the text says which in one line."""


def import_library() -> Library:
    """The bindings. Raises LibraryError."""
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or spec.submodule_search_locations is None:
        raise LibraryError("llama-cpp-python is not installed")
    if "llama_cpp" not in sys.modules:
        stub = ModuleType("llama_cpp")
        stub.__path__ = list(spec.submodule_search_locations)
        sys.modules["llama_cpp"] = stub
    try:
        return importlib.import_module("llama_cpp.llama_cpp")
    except (ImportError, OSError, RuntimeError) as error:
        raise LibraryError(f"llama.cpp's library does not load: {error}") from error


def kv_type(library: Library, name: KvType) -> int:
    """The number that ggml gives a type of the KV cache."""
    return GGML_TYPE_BF16 if name == "bf16" else int(getattr(library, KV_TYPES[name]))


def engine_info(library: Library) -> EngineInfo:
    """Version, instruction sets and devices."""
    return EngineInfo(
        name="llama.cpp",
        version=library.llama_version().decode("utf-8", "replace"),
        system_info=library.llama_print_system_info().decode("utf-8", "replace").strip(" |"),
        devices=_devices(library),
        rpc=bool(library.llama_supports_rpc()),
    )


def _devices(library: Library) -> tuple[str, ...]:
    shared = library._lib  # noqa: SLF001 - the bindings leave ggml's device functions out
    shared.ggml_backend_dev_count.restype = ctypes.c_size_t
    shared.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
    shared.ggml_backend_dev_get.restype = ctypes.c_void_p
    names = []
    for function in (shared.ggml_backend_dev_name, shared.ggml_backend_dev_description):
        function.argtypes = [ctypes.c_void_p]
        function.restype = ctypes.c_char_p
    for index in range(shared.ggml_backend_dev_count()):
        device = shared.ggml_backend_dev_get(index)
        name, description = shared.ggml_backend_dev_name(device), shared.ggml_backend_dev_description(device)
        names.append(f"{name.decode('utf-8', 'replace')}: {description.decode('utf-8', 'replace')}")
    return tuple(names)


GPU_BACKENDS = ("cuda", "hip", "vulkan", "metal", "sycl", "opencl", "musa", "cann")
"""Of ggml, each a library of its own (ggml/src/CMakeLists.txt); the others compute on the processor."""


def offloads_to_gpu() -> bool:
    """Whether layers can be offloaded at all; not where there is no llama.cpp."""
    spec = find_spec("llama_cpp")
    folders = [] if spec is None else [Path(folder) / "lib" for folder in spec.submodule_search_locations or ()]
    return any(
        f"ggml-{backend}" in library.name
        for folder in folders
        if folder.is_dir()
        for library in folder.iterdir()
        for backend in GPU_BACKENDS
    )


class Advice(Struct, frozen=True):
    """Something that could be better, and how."""

    what: str
    hint: str


def engine_advice(info: EngineInfo, machine: str, *, has_nvidia: bool) -> list[Advice]:
    """Say how the library could be built better for this machine (`platform.machine`)."""
    flags = info.system_info.replace(" ", "")
    advice = []
    if "AMX_INT8=1" in flags:
        advice.append(
            Advice(
                "this llama.cpp was built with AMX, which crashes in the first decode when GCC 12 or older built it; "
                "edgetop then goes on without AMX and repacked weights",
                reinstall("-DGGML_NATIVE=OFF -DLLAVA_BUILD=OFF"),
            )
        )
    if machine in {"aarch64", "arm64"} and sys.platform == "linux" and "DOTPROD=1" not in flags:
        advice.append(
            Advice(
                "this llama.cpp was built without dot-product instructions, which make it several times as fast on "
                "Cortex-A55, A76, A78 and newer",
                reinstall("-DLLAVA_BUILD=OFF"),
            )
        )
    if has_nvidia:
        advice.append(Advice("there is an NVIDIA GPU that this llama.cpp cannot use", reinstall("-DGGML_CUDA=ON")))
    return advice


def reinstall(cmake_args: str) -> str:
    """Say how to build llama.cpp anew. pip's cache does not know of CMAKE_ARGS, so it must not be asked."""
    return f"CMAKE_ARGS='{cmake_args}' pip install --force-reinstall --no-deps --no-cache-dir llama-cpp-python"


def rpc_build(machine: str) -> str:
    """Say how to build llama.cpp with RPC on a machine (`platform.machine`)."""
    native = "-DGGML_NATIVE=OFF " if machine in {"x86_64", "amd64"} else ""
    return reinstall(f"-DGGML_RPC=ON {native}-DLLAVA_BUILD=OFF")

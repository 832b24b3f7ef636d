"""What the installed llama.cpp can compute on, seen from its files: to load it takes a process that may crash."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

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

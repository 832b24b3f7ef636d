"""The bindings of llama.cpp's library."""

from __future__ import annotations

import subprocess
import sys

import pytest


def test_the_bindings_are_imported_as_often_as_they_are_asked_for_without_their_package() -> None:
    code = (
        "import sys\n"
        "from edgetop.inference.llama.library import import_library\n"
        "assert import_library() is import_library()\n"
        "assert 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("before", ["", "import llama_cpp; own = llama_cpp"], ids=["first", "after"])
def test_a_program_has_its_own_llama_cpp_beside(before: str) -> None:
    """Who measures by edgetop's interface may run the model by llama-cpp-python."""
    pytest.importorskip("numpy")
    code = (
        f"{before}\n"
        "from edgetop.inference.llama.library import import_library\n"
        "bindings = import_library()\n"
        "import llama_cpp, llama_cpp.llama_cpp\n"
        "assert llama_cpp is globals().get('own', llama_cpp) and llama_cpp.Llama\n"
        "assert llama_cpp.llama_cpp is not bindings and llama_cpp.llama_time_us()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

"""The bindings of llama.cpp's library."""

from __future__ import annotations

import subprocess
import sys


def test_the_bindings_are_imported_as_often_as_they_are_asked_for_without_their_package() -> None:
    code = (
        "import sys\n"
        "from edgetop.inference.llama.library import import_library\n"
        "assert import_library() is import_library()\n"
        "assert 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

"""The recordings that come with edgetop."""

from __future__ import annotations

from pathlib import Path

from edgetop.core.errors import EdgetopError
from edgetop.session.folder import FILE_SUFFIX

_PACKAGE = Path(__file__).resolve().parents[1]
FOLDERS = (_PACKAGE / "data" / "sessions", _PACKAGE.parent / "sessions")
"""In an installed wheel, and in a checkout."""
PAIR = ("smollm2-135m-q4_1-2-threads", "smollm2-135m-q8_0-2-threads")
"""Two that differ in their quantization alone."""


def example_pair() -> list[Path]:
    """Two recordings to be looked at side by side. Raises EdgetopError where edgetop was installed without them."""
    for folder in FOLDERS:
        paths = [folder / f"{name}{FILE_SUFFIX}" for name in PAIR]
        if all(path.is_file() for path in paths):
            return paths
    raise EdgetopError("the examples are missing from this installation", "record a session, and replay that one")

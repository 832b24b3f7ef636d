"""Files without a name, shared between processes by their descriptor."""

from __future__ import annotations

import os
import tempfile


def anonymous_file(name: str) -> int:
    """A descriptor of a new empty file in memory or, where the system has no memfd, of a deleted temporary file.

    `name` only labels it in `/proc/<pid>/fd`. Raises OSError when none can be made.
    """
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())

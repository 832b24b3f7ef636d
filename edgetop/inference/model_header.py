"""The header of a model file, read through a map so that only its own pages come into memory."""

from __future__ import annotations

import mmap
from pathlib import Path

from edgetop.core.gguf import GgufError, GgufHeader, read_header


def read_model_header(path: Path) -> tuple[GgufHeader | None, str]:
    """Read the header of a GGUF file; `None` and the reason in one line if that cannot be done."""
    try:
        with path.open("rb") as file:
            if not file.seek(0, 2):
                return None, "the file is empty"
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                return read_header(mapped), ""
    except GgufError as error:
        return None, str(error)
    except (OSError, ValueError) as error:
        return None, (error.strerror if isinstance(error, OSError) else None) or str(error)

"""A GGUF file before it is loaded: checks, header, digest."""

from __future__ import annotations

import hashlib
import mmap
import os
from pathlib import Path

from edgetop.core.errors import ModelError
from edgetop.core.gguf import GgufError, GgufHeader, read_header
from edgetop.inference.protocol import LoadFailed

GGUF_MAGIC = b"GGUF"
_GIT_LFS = b"version https://git-lfs"
_HEAD_BYTES = 64


def check_model_file(path: Path) -> LoadFailed | None:
    """Why a file cannot be a model; `None` when the library should try."""
    shown = str(path)
    try:
        if path.is_dir():
            return _not_a_model(f"{shown} is a folder.", "Name a GGUF file in it.")
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except FileNotFoundError:
        hint = "See `edgetop models` for the models found here."
        return LoadFailed(reason="missing", message=f"There is no file {shown}.", hint=hint)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        hint = "Check the path and its permissions."
        return LoadFailed(reason="missing", message=f"{shown} cannot be read: {why}.", hint=hint)
    return _check_head(shown, head)


def _check_head(shown: str, head: bytes) -> LoadFailed | None:
    if not head:
        return _not_a_model(f"{shown} is empty.", "Download the model again.")
    if head.startswith(_GIT_LFS):
        return _not_a_model(f"{shown} is a git-lfs pointer, not the model itself.", "Run `git lfs pull` in its folder.")
    if not head.startswith(GGUF_MAGIC):
        return _not_a_model(f"{shown} is not a GGUF file.", "Name a file in GGUF format, as llama.cpp uses.")
    return None


def _not_a_model(message: str, hint: str) -> LoadFailed:
    return LoadFailed(reason="not_a_model", message=message, hint=hint)


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


_SAMPLE_BYTES = 2**20
_SAMPLES = 16


def content_key(path: Path) -> str:
    """A short digest of a model file: its size, its beginning and samples from all of it. Raises ModelError."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            digest = hashlib.sha256(str(size).encode())
            for index in range(_SAMPLES):
                file.seek(max(0, size - _SAMPLE_BYTES) * index // (_SAMPLES - 1))
                digest.update(file.read(_SAMPLE_BYTES))
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}.", "Check the path.") from None
    return digest.hexdigest()[:12]

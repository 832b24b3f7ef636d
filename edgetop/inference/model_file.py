"""What can be said of a model file before the library sees it."""

from __future__ import annotations

from pathlib import Path

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
        mend = "See `edgetop models` for the models found here."
        return LoadFailed(reason="missing", message=f"There is no file {shown}.", mend=mend)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        mend = "Check the path and its permissions."
        return LoadFailed(reason="missing", message=f"{shown} cannot be read: {why}.", mend=mend)
    return _check_head(shown, head)


def _check_head(shown: str, head: bytes) -> LoadFailed | None:
    if not head:
        return _not_a_model(f"{shown} is empty.", "Download the model again.")
    if head.startswith(_GIT_LFS):
        return _not_a_model(f"{shown} is a git-lfs pointer, not the model itself.", "Run `git lfs pull` in its folder.")
    if not head.startswith(GGUF_MAGIC):
        return _not_a_model(f"{shown} is not a GGUF file.", "Name a file in GGUF format, as llama.cpp uses.")
    return None


def _not_a_model(message: str, mend: str) -> LoadFailed:
    return LoadFailed(reason="not_a_model", message=message, mend=mend)

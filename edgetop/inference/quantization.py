"""Other quantization levels of a model file, kept so that each is made once."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from edgetop.core.errors import EdgetopError, ModelError
from edgetop.core.format import format_bytes
from edgetop.inference.llama.quantizer import LEVELS, QuantizerReport

__all__ = ["LEVELS", "MadeLevel", "QuantizationError", "content_key", "level_path", "make_level", "size_of_level"]

_SAMPLE_BYTES = 2**20
_SAMPLES = 16
_DRY_RUN_TIMEOUT_S = 120.0
_PACKAGE_ROOT = Path(__file__).resolve().parents[2]


class QuantizationError(EdgetopError):
    """A level that could not be made."""


class MadeLevel(Struct, frozen=True, kw_only=True):
    """A model file at a level."""

    path: Path
    level: str
    made_now: bool
    """False when it was there already."""
    fallback_tensors: int = 0
    """Tensors that got another type than the level's; known only when it was made now."""


def make_level(source: Path, level: str, folder: Path, *, threads: int = 0) -> MadeLevel:
    """The model of `source` at `level` (a key of LEVELS), below `folder`.

    Files are found again by the content of their source. A file is complete or not there. Raises QuantizationError,
    and ModelError when the source cannot be read.
    """
    target = level_path(source, level, folder)
    if target.is_file():
        return MadeLevel(path=target, level=level, made_now=False)
    size_bytes = size_of_level(source, level)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        free_bytes = shutil.disk_usage(target.parent).free
        if size_bytes is not None and free_bytes < size_bytes:
            taken, free = format_bytes(size_bytes), format_bytes(free_bytes)
            raise QuantizationError(
                f"{level} of {source.name} takes {taken}, and {target.parent} has {free} left.",
                "Make room, or choose another folder with EDGETOP_CACHE_DIR.",
            )
        fd, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
        os.close(fd)
    except OSError as error:
        raise QuantizationError(f"{target.parent}: {error.strerror or error}.", "Make the folder writable.") from None
    partial = Path(name)
    try:
        report = _run(source, partial, level, threads=threads)
        if report.complaints:
            raise QuantizationError(
                f"llama.cpp could not make {level} of {source.name}: {report.complaints[-1]}.",
                "Choose another level, or a file of higher precision.",
            )
        partial.replace(target)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
    return MadeLevel(path=target, level=level, made_now=True, fallback_tensors=report.fallback_tensors)


def size_of_level(source: Path, level: str) -> int | None:
    """Bytes of the weights at a level, computed without making it; `None` if llama.cpp does not say."""
    report = _run(source, Path(os.devnull), level, dry_run=True, timeout_s=_DRY_RUN_TIMEOUT_S)
    return report.size_bytes


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


def level_path(source: Path, level: str, folder: Path) -> Path:
    """Where `make_level` puts a level, made or not. Raises QuantizationError and ModelError."""
    if level not in LEVELS:
        raise QuantizationError(f"{level!r} is no level that can be made.", f"Choose from {', '.join(LEVELS)}.")
    stem = source.stem
    for known in LEVELS:
        if stem.upper().endswith(("." + known, "-" + known)):
            stem = stem[: -len(known) - 1]
            break
    return folder / content_key(source) / f"{stem}.{level}.gguf"


def _run(
    source: Path, target: Path, level: str, *, threads: int = 0, dry_run: bool = False, timeout_s: float | None = None
) -> QuantizerReport:
    command = [
        *(sys.executable, "-m", "edgetop.inference.llama.quantizer"),
        *(str(source.absolute()), str(target.absolute()), level, "--threads", str(threads)),
        *(["--dry-run"] if dry_run else []),
    ]
    environment = {**os.environ, "GGML_NO_BACKTRACE": "1"}
    try:
        done = subprocess.run(
            command, capture_output=True, check=False, timeout=timeout_s, cwd=_PACKAGE_ROOT, env=environment
        )
        return msgspec.json.decode(done.stdout, type=QuantizerReport)
    except subprocess.TimeoutExpired:
        return QuantizerReport(complaints=("it took too long",))
    except (OSError, msgspec.DecodeError):
        return QuantizerReport(complaints=("llama.cpp ended by a defect of its own or for lack of memory",))

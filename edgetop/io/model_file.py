"""A GGUF model's files before it is loaded: its headers, why it cannot be used, its digest."""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import re
import stat
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec
from msgspec import Struct
from platformdirs import user_cache_path

from edgetop.core.errors import ModelError
from edgetop.core.gguf import GgufError, GgufHeader, GgufIncompleteError, read_header
from edgetop.core.model_names import SplitPart, part_of
from edgetop.core.model_purpose import check_part, purpose_of, refused, require_text
from edgetop.core.text import one_line
from edgetop.io.files import write_atomically

HEADER_BYTES_MAX = 256 * 2**20
"""As much of a file is mapped; the largest headers, with vocabulary and merges, have about 20 MiB."""

_PARTS_NAMED = 5


class ModelHeaders(NamedTuple):
    """The headers of all files of a model, the first one first."""

    files: list[Path]
    headers: list[GgufHeader]
    sizes_bytes: list[int]


def read_headers(path: Path) -> ModelHeaders:
    """Read the headers of a model. No weight is touched.

    `path` is a GGUF file, any part of a split model, or a folder with one model in it. Raises ModelError.
    """
    file = _model_in(path) if path.is_dir() else path
    header, size_bytes = _read(file)
    if header.split_count <= 1:
        return ModelHeaders([file], [header], [size_bytes])
    files = _parts_beside(file, header.split_count)
    read = [(header, size_bytes) if part == file else _read(part) for part in files]
    for number, (part, (of_part, _)) in enumerate(zip(files, read, strict=True), 1):
        check_part(str(part), of_part, number, len(files))
    return ModelHeaders(files, [part for part, _ in read], [size for _, size in read])


def require_model(path: Path) -> None:
    """Raise ModelError for a file that no llama.cpp can generate text with.

    What a later llama.cpp may read, such as a type of weights that this reader does not know, is left to it.
    """
    if path.is_dir():
        raise ModelError(f"{one_line(str(path))} is a folder", "name a GGUF file in it")
    try:
        headers = read_headers(path).headers
    except ModelError as error:
        if isinstance(error.__cause__, GgufError) and not is_certain(error.what):
            return
        raise
    require_text(path.name, purpose_of(headers[0]))


_CERTAIN = (
    "truncated", "cannot be in", "cannot be described", "big endian", "empty", "Git LFS", "web page", "before GGUF",
    "not a GGUF file",
)  # fmt: skip


def is_certain(reason: str) -> bool:
    """Whether a header that this reader refuses for a reason can be read by no program."""
    return any(word in reason for word in _CERTAIN)


def models_in(folder: Path) -> list[Path]:
    """The models of a folder, of a split one its first part there; parts of other models (mmproj) are passed over."""
    first: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.name.lower().endswith(".gguf") and "mmproj" not in file.name.lower() and file.is_file():
            part = part_of(file.name)
            first.setdefault(f"{part.stem}/{part.count}" if part else file.name, file)
    return list(first.values())


def _model_in(folder: Path) -> Path:
    try:
        models = models_in(folder)
    except OSError as error:
        raise _unreadable(folder, error) from error
    if len(models) == 1:
        return models[0]
    if not models:
        raise ModelError(f"there is no GGUF file in {one_line(str(folder))}", "name a GGUF file")
    shown = ", ".join(one_line(model.name) for model in models[:4]) + (" ..." if len(models) > 4 else "")
    raise ModelError(f"{one_line(str(folder))} holds {len(models)} models", f"name one of them: {shown}")


def _read(path: Path) -> tuple[GgufHeader, int]:
    """The header of one file, and the file's size in bytes."""
    try:
        # A named pipe would wait for a writer, so it is looked at before it is opened.
        if not stat.S_ISREG(path.stat().st_mode):
            raise OSError(errno.EINVAL, "not a file")  # noqa: TRY301 - told like the other ones
        with path.open("rb") as file:
            return _read_mapped(file)
    except GgufIncompleteError as error:
        too_long = GgufError(error.offset, f"the header is longer than {HEADER_BYTES_MAX} bytes")
        raise refused(str(path), too_long) from error
    except GgufError as error:
        raise refused(str(path), error) from error
    except (OSError, ValueError) as error:  # a path may hold a zero byte
        raise _unreadable(path, error) from error


def _read_mapped(file: BinaryIO) -> tuple[GgufHeader, int]:
    size_bytes = os.fstat(file.fileno()).st_size
    if not size_bytes:
        return read_header(b""), 0
    with mmap.mmap(file.fileno(), min(size_bytes, HEADER_BYTES_MAX), access=mmap.ACCESS_READ) as mapped:
        return read_header(mapped, size_bytes=size_bytes), size_bytes


def _unreadable(path: Path, error: OSError | ValueError) -> ModelError:
    if isinstance(error, FileNotFoundError):
        return ModelError(
            f"there is no file {one_line(str(path))}",
            "check the path; `edgetop models` lists what is on this machine",
            reason="missing",
        )
    why = (error.strerror if isinstance(error, OSError) else None) or str(error)
    what = f"{one_line(str(path))} cannot be read: {one_line(why)}"
    return ModelError(what, "check the path and its permissions", reason="missing")


def _parts_beside(file: Path, count: int) -> list[Path]:
    part = part_of(file.name)
    if part is None or part.count != count:
        raise ModelError(
            f"{one_line(file.name)} is one of {count} parts, and its name does not lead to the others",
            f"name the files as they were: ...-00001-of-{count:05}.gguf and so on",
        )
    files = [file if number == part.number else file.with_name(part.named(number)) for number in range(1, count + 1)]
    lacking = [number for number, other in enumerate(files, 1) if not other.exists()]
    if lacking:
        raise lacks_parts(part, lacking)
    return files


def lacks_parts(part: SplitPart, lacking: Sequence[int]) -> ModelError:
    """The error for a split model, one of whose files is `part`, without those of these numbers."""
    shown = ", ".join(map(str, lacking[:_PARTS_NAMED])) + (" ..." if len(lacking) > _PARTS_NAMED else "")
    what = f"{one_line(part.stem)} lacks part {shown} of {part.count}"
    return ModelError(what, "download it, and put all parts in one folder")


def read_model_header(path: Path) -> tuple[GgufHeader | None, str]:
    """Read the header of a GGUF file; `None` and the reason in one line if that cannot be done."""
    try:
        return _read(path)[0], ""
    except ModelError as error:
        return None, error.__cause__.reason if isinstance(error.__cause__, GgufError) else error.what


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


DIGESTS_FILE = "model-digests.json"
_DIGESTS_MAX = 500
_PIECE_BYTES = 4 * 2**20
_NAMED_BY_DIGEST = re.compile(r"(?:sha256-)?([0-9a-f]{64})")


class _Digests(Struct):
    by_file: dict[str, str] = {}
    """SHA-256 by paths, sizes and times of the last change."""


def known_digest(path: Path) -> str:
    """The SHA-256 of a model without reading it: of an earlier time, or of its name in a store; else empty."""
    files = _files_of(path)
    named = _NAMED_BY_DIGEST.fullmatch(files[0].name)
    if len(files) == 1 and named is not None and "blobs" in files[0].parts:
        return named[1]
    key = _digest_key(files)
    return _digests().by_file.get(key, "") if key else ""


def compute_digest(path: Path, *, goes_on: Callable[[], bool] = lambda: True) -> str:
    """The SHA-256 of a model, kept for the next time; empty where it cannot be read or `goes_on` says no.

    Of a split model it is that of all parts, one behind the other. At idle I/O priority where the system has one, so
    that nothing else waits for it. Not to be called while a model loads or decodes.
    """
    if known := known_digest(path):
        return known
    files = _files_of(path)
    key = _digest_key(files)
    digest = hashlib.sha256()
    try:
        with idle_io():
            for each in files:
                with each.open("rb") as file:
                    while data := file.read(_PIECE_BYTES):
                        digest.update(data)
                        if not goes_on():
                            return ""
        if key and key == _digest_key(files):  # nothing has changed meanwhile
            kept = _digests()
            kept.by_file = dict(list(kept.by_file.items())[-_DIGESTS_MAX + 1 :]) | {key: digest.hexdigest()}
            write_atomically(_digests_file(), [msgspec.json.encode(kept)])
    except OSError:
        return ""
    return digest.hexdigest()


@contextmanager
def idle_io() -> Iterator[None]:
    """Let this thread read only when nobody else does."""
    import psutil  # noqa: PLC0415 - slow to import, and few files are read whole

    if not sys.platform.startswith("linux"):
        yield
        return
    thread = psutil.Process(threading.get_native_id())
    try:
        before = thread.ionice()
        thread.ionice(psutil.IOPRIO_CLASS_IDLE)
    except (psutil.Error, OSError):
        yield
        return
    try:
        yield
    finally:
        with suppress(psutil.Error, OSError):
            thread.ionice(before.ioclass, before.value)


def _files_of(path: Path) -> list[Path]:
    """The file of a model, or all parts of a split one, whichever of them is named."""
    part = part_of(path.name)
    parts = [path] if part is None else [path.with_name(part.named(number)) for number in range(1, part.count + 1)]
    return [Path(os.path.realpath(each)) for each in parts]


def _digest_key(files: Sequence[Path]) -> str:
    try:
        states = [file.stat() for file in files]
    except OSError:
        return ""
    return "|".join(
        f"{file}|{state.st_size}|{state.st_mtime_ns}|{state.st_ino}" for file, state in zip(files, states, strict=True)
    )


def _digests_file() -> Path:
    return user_cache_path("edgetop", appauthor=False) / DIGESTS_FILE


def _digests() -> _Digests:
    try:
        return msgspec.json.decode(_digests_file().read_bytes(), type=_Digests)
    except (OSError, msgspec.MsgspecError):
        return _Digests()

"""Facts from files on this machine."""

from __future__ import annotations

import errno
import mmap
import os
import stat
from pathlib import Path
from typing import BinaryIO

from edgetop.core.errors import ModelError
from edgetop.core.gguf import GgufError, GgufHeader, GgufIncompleteError, read_header
from edgetop.core.model_names import part_of
from edgetop.core.text import one_line
from edgetop.fit.model_facts import ModelFacts, check_part, facts_of, refused

HEADER_BYTES_MAX = 256 * 2**20
"""As much of a file is mapped; the largest headers, with vocabulary and merges, have about 20 MiB."""

_PARTS_NAMED = 5


def read_facts(path: Path) -> ModelFacts:
    """Read the headers of a model and give its facts. No weight is touched.

    `path` is a GGUF file, any part of a split model, or a folder with one model in it. Raises ModelError.
    """
    file = _model_in(path) if path.is_dir() else path
    header, size_bytes = _read(file)
    files = [file]
    headers, sizes_bytes = [header], [size_bytes]
    if header.split_count > 1:
        files = _parts_beside(file, header.split_count)
        read = [(header, size_bytes) if part == file else _read(part) for part in files]
        headers, sizes_bytes = [part for part, _ in read], [size for _, size in read]
        for number, (part, of_part) in enumerate(zip(files, headers, strict=True), 1):
            check_part(str(part), of_part, number, len(files))
    try:
        return facts_of(headers, source=str(path), sizes_bytes=sizes_bytes, files=[str(part) for part in files])
    except GgufError as error:
        raise refused(str(files[0]), error) from error


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
            f"there is no file {one_line(str(path))}", "check the path; `edgetop models` lists what is on this machine"
        )
    why = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return ModelError(f"{one_line(str(path))} cannot be read: {one_line(why)}", "check the path and its permissions")


def _parts_beside(file: Path, count: int) -> list[Path]:
    part = part_of(file.name)
    if part is None or part.count != count:
        raise ModelError(
            f"{one_line(file.name)} is one of {count} parts, and its name does not lead to the others",
            f"name the files as they were: ...-00001-of-{count:05}.gguf and so on",
        )
    files = [file if number == part.number else file.with_name(part.named(number)) for number in range(1, count + 1)]
    lacking = [str(number) for number, other in enumerate(files, 1) if not other.exists()]
    if lacking:
        shown = ", ".join(lacking[:_PARTS_NAMED]) + (" ..." if len(lacking) > _PARTS_NAMED else "")
        raise ModelError(
            f"{one_line(part.stem)} lacks part {shown} of {count}", "download it, and put all parts in one folder"
        )
    return files

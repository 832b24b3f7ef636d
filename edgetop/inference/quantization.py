"""Makes other quantization levels, in a child process.

A process of its own: the library aborts on some files, and its memory is freed with the process.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
from msgspec import Struct

from edgetop.core.errors import EdgetopError
from edgetop.core.format import format_bytes
from edgetop.inference.child_process import run_module
from edgetop.inference.llama.library import Library, LibraryError, MissingFunctionError, import_library
from edgetop.inference.llama.log import LibraryLog, errors
from edgetop.io.files import remove_parts, replacement
from edgetop.io.model_file import content_key

LEVELS: dict[str, str] = {
    "F32": "LLAMA_FTYPE_ALL_F32",
    **{
        name: f"LLAMA_FTYPE_MOSTLY_{name}"
        for name in (
            "F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q5_1", "Q5_0", "Q4_K_M", "Q4_K_S", "Q4_1", "Q4_0",
            "IQ4_NL", "IQ4_XS", "Q3_K_L", "Q3_K_M", "Q3_K_S", "Q2_K", "Q2_K_S",
        )
    },
}  # fmt: skip
"""Levels that need no importance matrix, the most precise first, and llama.cpp's names of them."""

_LAST_LINES = 8
_SIZE = re.compile(r"quant size\s*=\s*([\d.]+) MiB")
_FALLBACK = re.compile(r"(\d+) of (\d+) tensor")


class QuantizerReport(Struct, frozen=True, kw_only=True):
    """What became of it; the process prints it as JSON."""

    size_bytes: int | None = None
    """Of the weights, to 0.01 MiB."""
    fallback_tensors: int = 0
    """Tensors whose rows do not divide into the level's blocks, and that got another type."""
    complaints: tuple[str, ...] = ()
    """Of the library; none if it worked."""


def quantize(
    library: Library, source: str, target: str, level: str, *, threads: int = 0, dry_run: bool = False
) -> QuantizerReport:
    """Write `source` at another level to `target`, or only report how large that would be."""
    log = LibraryLog(library)
    try:
        params = library.llama_model_quantize_default_params()
    except MissingFunctionError:
        return QuantizerReport(complaints=("this engine has no quantizer; one of `edgetop engine build` has",))
    params.ftype = getattr(library, LEVELS[level])
    params.nthread = threads
    params.allow_requantize = True
    params.dry_run = dry_run
    code = library.llama_model_quantize(os.fsencode(source), os.fsencode(target), ctypes.byref(params))
    lines = log.drain()
    if code != 0:
        return QuantizerReport(complaints=tuple(errors(lines)) or (f"llama_model_quantize returned {code}",))
    text = "\n".join(line.text for line in lines[-_LAST_LINES:])
    size, fallback = _SIZE.search(text), _FALLBACK.search(text)
    return QuantizerReport(
        size_bytes=None if size is None else round(float(size[1]) * 2**20),
        fallback_tensors=0 if fallback is None else int(fallback[1]),
    )


def main(arguments: list[str] | None = None) -> None:
    """Quantize one file and print a QuantizerReport."""
    parser = argparse.ArgumentParser(prog="edgetop.inference.quantization")
    parser.add_argument("source")
    parser.add_argument("target")
    parser.add_argument("level", choices=LEVELS)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--dry-run", action="store_true")
    options = parser.parse_args(arguments)
    try:
        report = quantize(
            import_library(), options.source, options.target, options.level,
            threads=options.threads, dry_run=options.dry_run,
        )  # fmt: skip
    except LibraryError as error:
        report = QuantizerReport(complaints=(str(error),))
    sys.stdout.buffer.write(msgspec.json.encode(report))


_DRY_RUN_TIMEOUT_S = 120.0


class QuantizationError(EdgetopError):
    """A level that could not be made."""


class QuantizedModel(Struct, frozen=True, kw_only=True):
    """A model file at a level."""

    path: Path
    level: str
    made_now: bool
    """False when it was there already."""
    fallback_tensors: int = 0
    """Tensors that got another type than the level's; known only when it was made now."""


def quantize_model(source: Path, level: str, folder: Path, *, threads: int = 0) -> QuantizedModel:
    """The model of `source` at `level` (a key of LEVELS), below `folder`.

    Files are found again by the content of their source. A file is complete or not there. Raises QuantizationError,
    and ModelError when the source cannot be read.
    """
    target = level_path(source, level, folder)
    if target.is_file():
        return QuantizedModel(path=target, level=level, made_now=False)
    size_bytes = size_of_level(source, level)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_parts(target.parent)
        free_bytes = shutil.disk_usage(target.parent).free
        if size_bytes is not None and free_bytes < size_bytes:
            taken, free = format_bytes(size_bytes), format_bytes(free_bytes)
            raise QuantizationError(
                f"{level} of {source.name} takes {taken}, and {target.parent} has {free} left.",
                "Free some space, or choose another folder with EDGETOP_CACHE_DIR.",
            )
        with replacement(target) as partial:
            report = _run(source, partial, level, threads=threads)
            if report.complaints:
                raise QuantizationError(
                    f"llama.cpp could not make {level} of {source.name}: {report.complaints[-1]}.",
                    "Choose another level, or a file of higher precision.",
                )
    except OSError as error:
        raise QuantizationError(f"{target.parent}: {error.strerror or error}.", "Make the folder writable.") from None
    return QuantizedModel(path=target, level=level, made_now=True, fallback_tensors=report.fallback_tensors)


def size_of_level(source: Path, level: str) -> int | None:
    """Bytes of the weights at a level, computed without making it; `None` if llama.cpp does not report it."""
    report = _run(source, Path(os.devnull), level, dry_run=True, timeout_s=_DRY_RUN_TIMEOUT_S)
    return report.size_bytes


def level_path(source: Path, level: str, folder: Path) -> Path:
    """Where `quantize_model` puts a level, made or not. Raises QuantizationError and ModelError."""
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
    arguments = [str(source.absolute()), str(target.absolute()), level, "--threads", str(threads)]
    try:
        run = run_module(
            "edgetop.inference.quantization", *arguments, *(["--dry-run"] if dry_run else []), timeout_s=timeout_s
        )
        return msgspec.json.decode(run.output, type=QuantizerReport)
    except subprocess.TimeoutExpired:
        return QuantizerReport(complaints=("it took too long",))
    except (OSError, msgspec.DecodeError):
        return QuantizerReport(complaints=("llama.cpp ended by a defect of its own or for lack of memory",))


if __name__ == "__main__":
    main()

"""Other quantization levels of a model, made by llama.cpp: `python -m edgetop.inference.llama.quantizer`.

A process of its own: the library aborts on some files, and what it holds goes with the process.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import re
import sys

import msgspec
from msgspec import Struct

from edgetop.inference.llama.library import Library, LibraryError, import_library
from edgetop.inference.llama.library_log import LibraryLog, errors

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
    """Write `source` at another level to `target`, or only say how large that would be."""
    log = LibraryLog(library)
    params = library.llama_model_quantize_default_params()
    params.ftype = getattr(library, LEVELS[level])
    params.nthread = threads
    params.allow_requantize = True
    params.dry_run = dry_run
    code = library.llama_model_quantize(os.fsencode(source), os.fsencode(target), ctypes.byref(params))
    lines = log.take()
    if code != 0:
        return QuantizerReport(complaints=tuple(errors(lines)) or (f"llama_model_quantize returned {code}",))
    said = "\n".join(line.text for line in lines[-_LAST_LINES:])
    size, fallback = _SIZE.search(said), _FALLBACK.search(said)
    return QuantizerReport(
        size_bytes=None if size is None else round(float(size[1]) * 2**20),
        fallback_tensors=0 if fallback is None else int(fallback[1]),
    )


def main(arguments: list[str] | None = None) -> None:
    """Quantize one file and print a QuantizerReport."""
    parser = argparse.ArgumentParser(prog="edgetop.inference.llama.quantizer")
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


if __name__ == "__main__":
    main()

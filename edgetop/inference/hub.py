"""Models on the Hugging Face hub: hf:owner/repo[:quant]."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from edgetop.core.errors import ModelError
from edgetop.core.text import one_line

PREFERRED = ("Q4_K_M", "Q4_0", "Q5_K_M", "Q4_1", "Q8_0")
"""Quantizations to choose from when none is named, best first for small machines."""
_NAMED = re.compile(r"hf:(?P<repo>[\w.-]+/[\w.-]+)(?::(?P<quantization>[\w.-]+))?")
_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$", re.IGNORECASE)


class Wanted(Struct, frozen=True):
    """A repository and, perhaps, one of its quantizations."""

    repo: str
    quantization: str | None


def parse(text: str) -> Wanted:
    """Read hf:owner/repo[:quant]. Raises ModelError."""
    match = _NAMED.fullmatch(text)
    if match is None:
        raise ModelError(f"{one_line(text)} does not name a repository", "write hf:owner/repo or hf:owner/repo:Q4_K_M")
    return Wanted(match["repo"], match["quantization"])


def repo_of(file: Path) -> str:
    """`owner/repo` of a file in the hub's cache; empty if its path does not say."""
    for folder in file.parents:
        if folder.name.startswith("models--"):
            return folder.name.removeprefix("models--").replace("--", "/", 1)
    return ""


def choose(files: Sequence[str], quantization: str | None) -> str | None:
    """Choose the GGUF file of the wanted quantization, of a split model its first part; `None` if there is none."""
    models = sorted(
        file for file in files if file.lower().endswith(".gguf") and "mmproj" not in file.lower() and _is_first(file)
    )
    for wanted in (quantization,) if quantization else PREFERRED:
        word = re.compile(rf"(?<![a-z0-9]){re.escape(wanted)}(?![a-z0-9_])", re.IGNORECASE)
        for file in models:
            if word.search(file):
                return file
    return models[0] if models and quantization is None else None


def download(wanted: Wanted) -> Path:
    """Download a model into the hub's cache and give its file, of a split model the first. Raises ModelError.

    Progress goes to stderr if that is a terminal.
    """
    try:
        import huggingface_hub  # noqa: PLC0415 - an extra, and slow to import
    except ImportError:
        raise ModelError(
            f"{wanted.repo} is not on this machine, and downloading it needs huggingface_hub",
            "install it with: pip install 'edgetop[hub]'",
        ) from None
    if not sys.stderr.isatty():
        huggingface_hub.utils.disable_progress_bars()
    try:
        files = huggingface_hub.HfApi().list_repo_files(wanted.repo)
        chosen = choose(files, wanted.quantization)
        if chosen is None:
            raise ModelError(*_nothing_chosen(wanted, files))
        paths = [huggingface_hub.hf_hub_download(wanted.repo, file) for file in parts(chosen, files)]
    except (OSError, ValueError) as error:  # its own errors are of these kinds
        reason = one_line(str(error).strip().split("\n", 1)[0])
        raise ModelError(f"cannot download {wanted.repo}: {reason}", "check name, network and HF_TOKEN") from error
    return Path(paths[0])


def parts(first: str, files: Sequence[str]) -> list[str]:
    """Name all files of a model of which `first` is the first."""
    part = _PART.search(first)
    if part is None:
        return [first]
    stem = first[: part.start()]
    return sorted(
        file for file in files if file.startswith(stem) and (m := _PART.search(file)) and m.start() == len(stem)
    )


def _is_first(file: str) -> bool:
    part = _PART.search(file)
    return part is None or int(part[1]) == 1


def _nothing_chosen(wanted: Wanted, files: Sequence[str]) -> tuple[str, str]:
    offered = sorted(file for file in files if file.lower().endswith(".gguf") and _is_first(file))
    if not offered:
        return f"{wanted.repo} has no GGUF file", "look for a repository of the model with GGUF in its name"
    shown = ", ".join(one_line(file) for file in offered[:8])
    return f"{wanted.repo} has no quantization {wanted.quantization}", f"it has {shown}"

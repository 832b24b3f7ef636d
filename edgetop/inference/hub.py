"""Models on the Hugging Face hub: hf:owner/repo[:quant]."""

from __future__ import annotations

import sys
from pathlib import Path

from edgetop.core.errors import ModelError
from edgetop.core.hub_names import Wanted, choose, nothing_chosen, parse, parts
from edgetop.core.text import one_line

__all__ = ["choose", "download", "parse", "repo_of"]


def repo_of(file: Path) -> str:
    """`owner/repo` of a file in the hub's cache; empty if its path does not say."""
    for folder in file.parents:
        if folder.name.startswith("models--"):
            return folder.name.removeprefix("models--").replace("--", "/", 1)
    return ""


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
            raise nothing_chosen(wanted, files)
        paths = [huggingface_hub.hf_hub_download(wanted.repo, file) for file in parts(chosen, files)]
    except (OSError, ValueError) as error:  # its own errors are of these kinds
        reason = one_line(str(error).strip().split("\n", 1)[0])
        raise ModelError(f"cannot download {wanted.repo}: {reason}", "check name, network and HF_TOKEN") from error
    return Path(paths[0])

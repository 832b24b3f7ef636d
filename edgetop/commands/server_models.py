"""What a server offers, as `edgetop models --server` and `edgetop doctor --server` tell it."""

from __future__ import annotations

from typing import Any

from edgetop.core.errors import EdgetopError
from edgetop.core.format import NOT_AVAILABLE, format_bytes, format_count
from edgetop.core.text import one_line
from edgetop.inference.server.address import ServerChoice
from edgetop.inference.server.dialect import Offer
from edgetop.inference.server.survey import Survey, survey

SHOWN = {"Name": "NAME", "Size": "SIZE", "Quant": "QUANT", "Weights": "WEIGHTS", "Context": "CONTEXT", "State": "STATE"}
_STATES = {True: "loaded", False: "not loaded", None: NOT_AVAILABLE}


def offered(choice: ServerChoice) -> list[dict[str, Any]]:
    """Rows for a list of the server's models. Raises EdgetopError where it does not tell."""
    found = survey(choice)
    if found.problem:
        raise EdgetopError(found.problem, found.mend)
    return [_row(offer, found) for offer in found.offers]


def survey_rows(found: Survey) -> list[list[str]]:
    """What a server is, for `edgetop doctor`."""
    if found.problem:
        return [["no", "server", found.problem], *([["", "", f"-> {found.mend}"]] if found.mend else [])]
    names = ", ".join(one_line(offer.name) for offer in found.offers) or "none"
    return [
        ["ok", "server", f"{found.kind} {one_line(found.version)}".strip() + f" at {found.server}"],
        ["", "models", names],
    ]


def _row(offer: Offer, found: Survey) -> dict[str, Any]:
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

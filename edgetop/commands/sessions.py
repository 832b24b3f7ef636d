"""`edgetop sessions`: what was recorded."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from edgetop.commands.console import say, say_trouble, write_data
from edgetop.commands.conversing import open_store
from edgetop.commands.energy_text import energy_text
from edgetop.commands.listing import table, write_json, write_rows
from edgetop.commands.recompute import recompute
from edgetop.core.clock import US_PER_S
from edgetop.core.figures import Summary
from edgetop.core.format import format_bytes, format_duration, format_rate, format_seconds
from edgetop.core.text import one_line
from edgetop.session.disk import load_file
from edgetop.session.file import LoadEntry, SessionFile, TurnEntry
from edgetop.session.schema import validate
from edgetop.session.store import ListedSession, Store
from edgetop.settings.resolve import Settings

SHOWN = {
    "Number": "#", "Started": "STARTED", "Model": "MODEL", "Turns": "TURNS", "Tokens": "TOKENS", "Decode": "DECODE",
    "Length": "LENGTH",
}  # fmt: skip
PROMPT_CHARACTERS = 60
EVENTS_SHOWN = 20


def execute(arguments: argparse.Namespace, settings: Settings) -> int:
    """Do what was asked; `validate` and `recover` return 1 when something is wrong."""
    store = open_store(settings)
    match arguments.action:
        case "show":
            return _show(store.find(arguments.session), as_json=arguments.json)
        case "validate":
            return _validate([store.find(text) for text in arguments.session], as_json=arguments.json)
        case "recompute":
            path = store.find(arguments.session)
            return recompute(path, power=arguments.power, dry_run=arguments.dry_run, as_json=arguments.json)
        case "recover":
            return _recover(store, as_json=arguments.json)
    return _list(store, getattr(arguments, "format", None))


def _list(store: Store, chosen: str | None) -> int:
    listed = store.list()
    if not listed and chosen is None:
        say(f"no sessions in {store.folder} yet; `edgetop` or `edgetop run` records one")
        return 0
    write_rows([_row(each) for each in listed], chosen, SHOWN)
    return 0


def _row(listed: ListedSession) -> dict[str, Any]:
    head = listed.head
    summary = head.summary if head is not None else Summary()
    model = _model_name(head.loads) if head is not None else None
    duration_s = head.duration_us / US_PER_S if head is not None else None
    return {
        "number": listed.number,
        "path": str(listed.path),
        "id": head.id if head is not None else None,
        "started_at": head.started_at if head is not None else None,
        "model": model,
        "turns": summary.turns if head is not None else None,
        "generated_tokens": summary.generated_tokens if head is not None else None,
        "decode_tokens_per_s": summary.decode_tokens_per_s,
        "duration_s": duration_s,
        "problem": listed.problem or None,
        "Number": listed.number,
        "Started": head.started_at[:19].replace("T", " ") if head is not None else listed.path.name,
        "Model": listed.problem or model or "no model",
        "Turns": summary.turns if head is not None else "",
        "Tokens": summary.generated_tokens if head is not None else "",
        "Decode": format_rate(summary.decode_tokens_per_s) if head is not None else "",
        "Length": format_duration(duration_s) if head is not None else "",
    }


def _show(path: Path, *, as_json: bool) -> int:
    file = load_file(path)
    if as_json:
        write_json(file)
        return 0
    write_data(table(_overview(path, file)))
    if file.turns:
        write_data("\n" + table([_TURN_HEADINGS, *(_turn_cells(turn) for turn in file.turns)]))
    if file.events:
        write_data(
            "\n" + table([[format_seconds(event.t_us / US_PER_S), event.text] for event in file.events[:EVENTS_SHOWN]])
        )
    if len(file.events) > EVENTS_SHOWN:
        write_data(f"and {len(file.events) - EVENTS_SHOWN} more events\n")
    return 0


def _overview(path: Path, file: SessionFile) -> list[list[str]]:
    summary, device = file.summary, file.device
    machine = ", ".join(text for text in (device.hostname, device.model or device.cpu, device.system) if text)
    rows = [
        ["session", f"{file.id}, {path}"],
        ["started", f"{file.started_at}, {format_duration(file.duration_us / US_PER_S)} long"],
        ["device", machine],
        ["model", _model_name(file.loads) or "none was loaded"],
    ]
    if file.loads:
        chosen = file.loads[-1].settings
        rows.append(
            ["settings", f"context {chosen.n_ctx}, threads {chosen.n_threads}, KV {chosen.type_k}/{chosen.type_v}"]
        )
    rows += [
        ["decode", format_rate(summary.decode_tokens_per_s)],
        ["prefill", format_rate(summary.prefill_tokens_per_s)],
        ["first token", format_seconds(summary.first_token_s)],
        ["load", format_seconds(summary.load_s)],
        ["limited by", summary.limited_by],
        ["memory peak", format_bytes(summary.memory.rss_peak_bytes)],
        ["energy", energy_text(summary)],
    ]
    return rows


_TURN_HEADINGS = ["TURN", "PROMPT", "TOKENS", "DECODE", "PREFILL", "FIRST TOKEN", "ENDED"]


def _turn_cells(turn: TurnEntry) -> list[str]:
    figures = turn.figures
    prompt = "(not recorded)" if turn.prompt is None else one_line(turn.prompt)
    if len(prompt) > PROMPT_CHARACTERS:
        prompt = prompt[: PROMPT_CHARACTERS - 3] + "..."
    return [
        str(turn.turn),
        prompt,
        str(figures.generated_tokens),
        format_rate(figures.decode_tokens_per_s),
        format_rate(figures.prefill_tokens_per_s),
        format_seconds(figures.first_token_s),
        (figures.stop_reason or "not ended").replace("_", " "),
    ]


def _validate(paths: list[Path], *, as_json: bool) -> int:
    problems = {str(path): validate(path) for path in paths}
    if as_json:
        write_json([{"path": path, "problems": found} for path, found in problems.items()])
    else:
        for path, found in problems.items():
            for line in found or [f"{path}: is valid"]:
                write_data(f"{one_line(line)}\n")
    return 1 if any(problems.values()) else 0


def _recover(store: Store, *, as_json: bool) -> int:
    recovered = store.recover()
    if as_json:
        write_json(recovered)
    elif not recovered:
        say("nothing to recover")
    else:
        for each in recovered:
            if each.path is not None:
                write_data(f"{one_line(str(each.path))}\n")
            if each.unreadable:
                say_trouble(f"{len(each.unreadable)} lines of {each.journal.name} could not be read")
            if each.problem:
                say_trouble(each.problem)
    return 1 if any(each.path is None for each in recovered) else 0


def _model_name(loads: tuple[LoadEntry, ...]) -> str:
    names = dict.fromkeys(f"{load.model.name} {load.model.quantization}".strip() for load in loads)
    return ", ".join(names)

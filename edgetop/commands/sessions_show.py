"""`edgetop sessions show`, `validate` and `recover`: one session, and whether its file is what it should be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgetop.commands.console import say, say_trouble, write_data
from edgetop.commands.energy_text import energy_text
from edgetop.commands.listing import table, write_json
from edgetop.core.clock import US_PER_S
from edgetop.core.format import format_bytes, format_duration, format_rate, format_seconds
from edgetop.core.text import one_line
from edgetop.session.disk import load_file
from edgetop.session.file import LoadEntry, ServiceEntry, SessionFile, TurnEntry
from edgetop.session.listing import models_of
from edgetop.session.schema import validate
from edgetop.session.store import Store
from edgetop.session.watch_wording import figure_rows

PROMPT_CHARACTERS = 60
EVENTS_SHOWN = 20


def show(path: Path, *, as_json: bool) -> int:
    """Print a session: what it ran on, its figures, its turns and events. Raises SessionFileError."""
    file = load_file(path)
    if as_json:
        write_json(file)
        return 0
    write_data(table(_overview(path, file)))
    if file.services:
        write_data("\n" + table([_SERVICE_HEADINGS, *map(_service_cells, file.services)]))
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
        ["model", models_of(file) or "none was loaded"],
    ]
    if file.loads:
        rows.append(["settings", _settings(file.loads[-1])])
    if file.watch is not None:
        return [*rows, ["memory peak", format_bytes(summary.memory.rss_peak_bytes)], *figure_rows(file.watch)]
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


def _settings(load: LoadEntry) -> str:
    """What is known of them; a server does not tell all of its own."""
    chosen = load.settings
    known = [
        "" if chosen.n_ctx is None else f"context {chosen.n_ctx}",
        "" if chosen.n_threads is None else f"threads {chosen.n_threads}",
        "" if load.engine.server else f"KV {chosen.type_k}/{chosen.type_v}",
    ]
    return ", ".join(part for part in known if part)


_SERVICE_HEADINGS = ["#", "PROGRAM", "MODEL", "WHERE", "TOKENS COUNTED"]


def _service_cells(service: ServiceEntry) -> list[str]:
    why = "" if service.no_count is None else f": {service.no_count.reason}"
    return [
        str(service.number),
        f"{service.kind} {service.version}".strip(),
        ", ".join(service.models),
        service.address or (f"pid {service.pid}" if service.pid is not None else ""),
        f"{service.counts}{why}",
    ]


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


def validate_files(paths: Sequence[Path], *, as_json: bool) -> int:
    """Print what is wrong with session files; 1 if anything is."""
    problems = {str(path): validate(path) for path in paths}
    if as_json:
        write_json([{"path": path, "problems": found} for path, found in problems.items()])
    else:
        for path, found in problems.items():
            for line in found or [f"{path}: is valid"]:
                write_data(f"{one_line(line)}\n")
    return 1 if any(problems.values()) else 0


def recover(store: Store, *, as_json: bool) -> int:
    """Save what edgetops that died have left, and print where; 1 if something could not be saved."""
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

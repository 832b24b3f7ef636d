"""Verb sessions: list, show, totals, tag, note, export, import, recompute, attach-power, rm, validate, recover."""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from edgetop.commands.inputs import given_duty, open_store
from edgetop.commands.output import (
    ExitCode,
    clear_progress,
    energy_text,
    hosts_text,
    print_error,
    print_status,
    show_progress,
    table,
    write_columns,
    write_data,
    write_json,
    write_listing,
)
from edgetop.core.clock import US_PER_S
from edgetop.core.energy.duty import Duty, Price
from edgetop.core.engine_settings import ModelInfo
from edgetop.core.errors import EdgetopError, UsageError
from edgetop.core.figures import DECODE, TURN_COLUMNS, rows_of, turn_cells, with_duty
from edgetop.core.format import (
    NOT_AVAILABLE,
    Column,
    format_bytes,
    format_duration,
    format_seconds,
    format_significant,
    format_time,
    plural,
    unix_s,
)
from edgetop.core.quantity import J_PER_WH, WH_PER_KWH, Interval, cost, plus_minus, scaled, with_interval
from edgetop.core.records import HostServed, LoadEntry, ServiceEntry
from edgetop.core.text import literal, one_line
from edgetop.io import json
from edgetop.io.files import FILE_SUFFIX, replacement, write_atomically
from edgetop.session.file import SessionFile, SessionHead
from edgetop.session.file_io import (
    Change,
    SessionFileError,
    ShownTurn,
    changes,
    load,
    load_checked,
    load_file,
    load_head,
    load_shown,
    load_without_readings,
    read_bytes,
    recomputed,
    rewrite,
    validate,
)
from edgetop.session.journal import RecoveredJournal
from edgetop.session.listing import COLUMNS, SHOWN, Totals, entry_of, models_of, shown_rows, totals
from edgetop.session.requests import client_rows, energy_note, knee_line, level_rows, reread_rows
from edgetop.session.session import Series
from edgetop.session.store import LabelError, Store, StoreError, complete_digests, prunable, retag, write_labels
from edgetop.session.watch import figure_rows
from edgetop.settings.option import parse_value, real
from edgetop.settings.resolve import Settings, price_of

PROMPT_CHARACTERS = 40
EVENTS_SHOWN = 20
DIGEST_S = 20.0
"""How long `show` may read a model's file for the SHA-256 that a session lacks."""


def show(path: Path, duty: Duty | None, *, as_json: bool) -> int:
    """Print a session: what it ran on, its figures for a use, its turns and events. Raises SessionFileError."""
    complete_digests(path, DIGEST_S)
    if as_json:
        whole = load_file(path)
        write_json(replace(whole, summary=with_duty(whole.summary, duty)))
        return 0
    file = load_shown(path)
    file = replace(file, summary=with_duty(file.summary, duty))
    write_data(table(_overview(path, file)))
    if file.services:
        write_data("\n" + table([_SERVICE_HEADINGS, *map(_service_cells, file.services)]))
    if file.levels:
        write_data("\n" + table(level_rows(file.levels)) + f"{one_line(knee_line(file.levels))}\n")
        write_data(f"{one_line(energy_note(file.levels))}\n")
    elif file.clients:
        write_data("\n" + table(client_rows(file.clients)) + f"{one_line(energy_note(file.clients))}\n")
    if file.rereads:
        write_data("\n" + table(reread_rows(file.rereads)))
    if file.turns:
        write_data("\n" + table([_TURN_HEADINGS, *(_turn_cells(turn) for turn in file.turns)]))
    if file.events:
        write_data(
            "\n" + table([[format_seconds(event.t_us / US_PER_S), event.text] for event in file.events[:EVENTS_SHOWN]])
        )
    if len(file.events) > EVENTS_SHOWN:
        write_data(f"and {len(file.events) - EVENTS_SHOWN} more events\n")
    return 0


def _overview(path: Path, file: SessionHead) -> list[list[str]]:
    summary, device = file.summary, file.device
    machine = ", ".join(text for text in (device.hostname, device.model or device.cpu, device.system) if text)
    rows = [
        ["session", f"{file.id}, {path}"],
        ["started", f"{format_time(file.started_at)}, {format_duration(file.duration_us / US_PER_S)} long"],
        ["device", machine],
        ["model", models_of(file) or "none was loaded"],
    ]
    if file.loads:
        rows.append(["settings", _settings(file.loads[-1])])
        if not file.loads[-1].engine.server:
            rows.append(["model file", _model_file(file.loads[-1].model)])
    if file.watch is not None:
        return [*rows, ["memory peak", format_bytes(summary.memory.rss_peak_bytes)], *figure_rows(file.watch)]
    rows += [[label, text] for label, text in rows_of(summary).items()]
    if summary.energy is not None and summary.energy.hosts:
        rows.append(["energy by host", hosts_text(summary.energy).removeprefix(", of which ")])
    return rows


def _model_file(model: ModelInfo) -> str:
    """What tells a file from others of its name."""
    origin = f"{one_line(model.repo)} {one_line(model.revision[:12])}".strip()
    return ", ".join(part for part in (origin, f"SHA-256 {one_line(model.sha256) or 'not yet computed'}") if part)


def _settings(load: LoadEntry) -> str:
    """What is known of them; a server does not tell all of its own."""
    chosen = load.settings
    known = [
        "" if chosen.n_ctx is None else f"context {chosen.n_ctx}",
        "" if chosen.n_threads is None else f"threads {chosen.n_threads}",
        "" if load.engine.server else f"KV {chosen.type_k}/{chosen.type_v}",
        *(f"{flag} {one_line(value)}" for flag, value in chosen.flags.items()),
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
        f"{service.counts}{why}" if service.served is None else _served(service.served),
    ]


def _served(host: HostServed) -> str:
    """What the servers of one of several hosts did."""
    tokens = NOT_AVAILABLE if host.generated_tokens is None else f"{host.generated_tokens}"
    energy = f"{with_interval(host.energy_j)} J" if host.energy_j is not None else f"no energy: {host.energy_missing}"
    return one_line(f"{'at least ' if host.at_least else ''}{tokens} tokens, {energy}")


_TURN_HEADINGS = ["TURN", "PROMPT", *(figure.heading.upper() for figure in TURN_COLUMNS)]


def _turn_cells(turn: ShownTurn) -> list[str]:
    prompt = "(not recorded)" if turn.prompt is None else one_line(turn.prompt)
    if len(prompt) > PROMPT_CHARACTERS:
        prompt = prompt[: PROMPT_CHARACTERS - 3] + "..."
    return [str(turn.turn), prompt, *turn_cells(turn.figures)]


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
    """Save what edgetops that died have left, and print where; 1 if something could not be saved, 130 if stopped."""
    recovered: list[RecoveredJournal] = []
    interrupted = False
    try:
        for each in store.recovering(show_progress):
            recovered.append(each)  # noqa: PERF402 - what there is is kept when it is interrupted
    except KeyboardInterrupt:
        interrupted = True
    clear_progress()
    if as_json:
        write_json(recovered)
    elif not recovered and not interrupted:
        print_status("nothing to recover")
    else:
        for each in recovered:
            if each.path is not None:
                write_data(f"{one_line(str(each.path))}\n")
            if each.unreadable:
                print_error(f"{len(each.unreadable)} lines of {each.journal.name} could not be read")
            if each.problem:
                print_error(each.problem)
    if interrupted:
        print_status("interrupted; the other journals stay, and `edgetop sessions recover` goes on")
        return ExitCode.INTERRUPTED
    return 1 if any(each.path is None for each in recovered) else 0


def prune(store: Store, keep_s: float | None, max_bytes: int | None, *, yes: bool, as_json: bool) -> int:
    """Print what is older, or more, than is to be kept, and with `yes` delete it. Raises UsageError."""
    if keep_s is None and max_bytes is None:
        raise UsageError("nothing says what to keep", "such as: edgetop sessions prune --keep 30d --max 2G")
    found = prunable(store, time.time(), keep_s, max_bytes)
    gone = []
    for each in found:
        try:
            if yes:
                store.remove(each.path)
            gone.append(each)
        except OSError as error:
            print_error(f"{each.path}: {error.strerror}", "it is still there")
    failed = len(gone) < len(found)
    if as_json:
        rows = [{"path": str(each.path), "size_bytes": each.size_bytes, "why": each.why} for each in gone]
        write_json({"deleted": yes, "sessions": rows})
        return failed
    write_data("".join(f"{one_line(str(each.path))}\n" for each in gone))
    what = f"{plural(len(gone), 'session')} with {format_bytes(sum(each.size_bytes for each in gone))}"
    if not found:
        print_status("nothing is older or more than that")
    else:
        print_status(f"{what}: deleted" if yes else f"{what}: --yes deletes them")
    return failed


def tag(paths: Sequence[Path], changes: Sequence[str], *, as_json: bool) -> int:
    """Add and take away tags, `+name` or `name` and `-name`, and print the tags there are then.

    Raises UsageError for what cannot be a tag, SessionFileError and EdgetopError.
    """
    tags_of: dict[str, list[str]] = {}
    for path in paths:
        try:
            with _written(path):
                tags_of[str(path)] = list(retag(path, changes))
        except LabelError as error:
            raise UsageError(str(error), "such as: edgetop sessions tag 1 +baseline -draft") from None
    if as_json:
        write_json([{"path": path, "tags": tags} for path, tags in tags_of.items()])
        return 0
    for name, names in tags_of.items():
        if len(tags_of) > 1:
            write_data(f"{one_line(name)}: {one_line(' '.join(names))}\n")
        elif names:
            write_data(f"{one_line(' '.join(names))}\n")
        else:
            print_status(f"{name} has no tags")
    return 0


def note(path: Path, words: Sequence[str], *, as_json: bool) -> int:
    """Print the note of a session, or put another one in its place. Raises SessionFileError and EdgetopError."""
    if words:
        with _written(path):
            write_labels(path, notes=" ".join(words).strip())
        if not as_json:
            return 0
    notes = load_head(path).notes
    if as_json:
        write_json({"path": str(path), "notes": notes})
    elif notes:
        write_data(f"{literal(notes)}\n")
    else:
        print_status(f"{path} has no note")
    return 0


@contextmanager
def _written(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EdgetopError(f"{path}: {error.strerror}", "make the file and its folder writable") from None


def remove(store: Store, paths: Sequence[Path], *, yes: bool, as_json: bool = False) -> int:
    """Delete session files and print the path of each that is gone; 1 if one could not be, or if nothing is wanted.

    Asks on a terminal. Raises UsageError where there is none and `yes` was not said.
    """
    if not yes:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise UsageError("there is nobody to ask whether to delete sessions", "add --yes to delete them unasked")
        if not _is_confirmed(paths):
            print_status("nothing is deleted")
            return 1
    failed = False
    gone: list[str] = []
    for path in paths:
        try:
            store.remove(path)
        except StoreError as error:
            failed = True
            print_error(error.what, error.hint)
        except OSError as error:
            failed = True
            print_error(f"{path}: {error.strerror}", "it is still there")
        else:
            gone.append(str(path))
            if not as_json:
                write_data(f"{one_line(str(path))}\n")
    if as_json:
        write_json({"removed": gone})
    return 1 if failed else 0


def _is_confirmed(paths: Sequence[Path]) -> bool:
    sys.stderr.write(table([_removal_row(path) for path in paths]))
    sys.stderr.write(f"Delete {'this session' if len(paths) == 1 else f'these {len(paths)} sessions'} for good? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().casefold() in {"y", "yes"}


def _removal_row(path: Path) -> list[str]:
    try:
        head = load_head(path)
        size = format_bytes(path.stat().st_size)
    except (SessionFileError, OSError):
        return [str(path), "", "", "cannot be read"]
    return [str(path), format_time(head.started_at), size, models_of(head) or "no model"]


def export(path: Path, form: str, output: str | None) -> int:
    """Write a session as `csv`, `parquet`, `json` or `html`, and print the path of each file that was written.

    Raises SessionFileError for a session that cannot be read, NoParquetError, and EdgetopError where nothing can be
    written.
    """
    series = load(path).series.values()
    try:
        if form == "html":
            from edgetop.commands.report import report_of  # noqa: PLC0415 - with the plotting library

            target = Path(output or f"{path.stem}.html")
            write_atomically(target, [report_of([path]).encode()])
            written = [target]
        elif form == "json":
            written = [_write_json(path, Path(output or f"{path.stem}.export.json"))]
        else:
            folder = Path(output or path.stem)
            written = _write_tables(load_without_readings(path), series, folder, form)
    except OSError as error:
        raise EdgetopError(f"{error.filename or output}: {error.strerror}", "choose another place with -o") from None
    for each in written:
        write_data(f"{one_line(str(each))}\n")
    return 0


def _write_json(path: Path, target: Path) -> Path:
    """The file as it is, fields of a newer edgetop among it, indented for a person to read."""
    if target.exists() and target.samefile(path):
        raise EdgetopError(f"{target} is the session itself", "choose another file with -o")
    write_atomically(target, [msgspec.json.format(read_bytes(path), indent=2), b"\n"])
    return target


def _write_tables(file: SessionFile, series: Iterable[Series], folder: Path, form: str) -> list[Path]:
    from edgetop.session.export import csv_pieces, require_parquet, tables_of, write_parquet  # noqa: PLC0415 - the same

    if form == "parquet":
        require_parquet()
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for each in tables_of(file, series):
        target = folder / f"{each.name}.{form}"
        if form == "parquet":
            with replacement(target) as part:
                write_parquet(part, each)
        else:
            write_atomically(target, csv_pieces(each))
        written.append(target)
    if not file.text_recorded:
        print_status("this session was recorded without text: prompts and answers are empty")
    return written


NAMES_MOST = 1000


def import_results(files: Sequence[str], store: Store, *, as_json: bool = False) -> int:
    """Copy files into the store's folder for imported results, after reading them. Raises EdgetopError."""
    # No list of sessions needs what reads results.
    from edgetop.session.compare.reading import IMPORTED_FOLDER, is_session, read_results  # noqa: PLC0415

    imported = []
    for text in files:
        source = Path(text)
        results = read_results(source)
        data = read_bytes(source)
        # A session belongs among the sessions, where every verb finds it.
        folder, suffix = (store.folder, FILE_SUFFIX) if is_session(data) else (store.folder / IMPORTED_FOLDER, "")
        path = _free_path(folder, source, suffix, data)
        try:
            write_atomically(path, [data])
        except OSError as error:
            raise EdgetopError(f"{path}: {error.strerror or error}", "make the folder writable") from None
        imported.append({"from": text, "path": str(path), "kind": results[0].kind, "results": len(results)})
        measured = sum(DECODE in result.figures for result in results)
        summary = f"{plural(len(results), 'result')} of {results[0].kind}, {measured} with decode speed"
        print_status(f"{source.name}: {summary}; compare with: edgetop compare {path.stem} ...")
    if as_json:
        write_json(imported)
    else:
        for each in imported:
            write_data(f"{one_line(str(each['path']))}\n")
    return 0


def _free_path(folder: Path, source: Path, suffix: str, data: bytes) -> Path:
    """A path that is free, or has the same bytes already. Names are made safe: they may come from anywhere."""
    stem = re.sub(r"[^\w.-]+", "-", source.stem).strip(".-")[:80] or "result"
    suffix = suffix or (source.suffix if re.fullmatch(r"\.\w{1,8}", source.suffix) else ".txt")
    for number in range(1, NAMES_MOST):
        path = folder / f"{stem}{'' if number == 1 else f'-{number}'}{suffix}"
        if not os.path.lexists(path) or (path.is_file() and path.read_bytes() == data):
            return path
    raise EdgetopError(f"{folder}: there are {NAMES_MOST} files named {stem}", "remove some of them")


DIGITS = 6
"""Significant digits that are shown; figures that differ only behind them are shown in full."""


def recompute(path: Path, *, power: str | None, dry_run: bool, as_json: bool) -> int:
    """Compute the figures of a session file again, say what is different, and write them into it.

    Raises SessionFileError or EdgetopError.
    """
    file = load_file(path)
    try:
        again = recomputed(file, power)
    except ValueError as error:
        raise SessionFileError(f"{path}: {error}", "`edgetop sessions validate` tells all that is wrong") from None
    found = changes(file, again)
    if found and not dry_run:
        with _written(path):
            rewrite(path, lambda now: replace(again, tags=now.tags, notes=now.notes))
    if as_json:
        write_json({"path": str(path), "written": bool(found) and not dry_run, "changes": found})
        return 0
    for change in found:
        write_data(f"{one_line(_change_text(change))}\n")
    if not found:
        print_status(f"nothing changed: all figures of {path} are what was recorded gives")
    else:
        end = "; nothing is written, for --dry-run" if dry_run else "; the file is written"
        print_status(f"{plural(len(found), 'figure')} of {path} changed{end}")
    return 0


def _change_text(change: Change) -> str:
    old, new = _value_text(change.old), _value_text(change.new)
    if old == new:
        old, new = _in_full(change.old), _in_full(change.new)
    return f"{change.place}: {old} -> {new}"


def _value_text(value: Any) -> str:  # noqa: ANN401 - any JSON
    match value:
        case None:
            return NOT_AVAILABLE
        case float():
            return format_significant(value, DIGITS)
        case {"value": float(middle), "low": float(low), "high": float(high)}:
            return " ".join(
                [format_significant(middle, DIGITS), f"({format_significant(low, 3)} to {format_significant(high, 3)})"]
            )
        case {"gross_j": dict(gross), "source": str(source), "grade": str(grade)}:
            return f"{_value_text(gross)} J by {source}, grade {grade}"
        case str():
            return value or "nothing"
    return _in_full(value)


def _in_full(value: Any) -> str:  # noqa: ANN401 - any JSON
    return json.encode(value).decode()


ORIGINAL = ".orig"
"""Behind the name of the session as it was recorded."""


def attach_power(path: Path, given: argparse.Namespace) -> int:
    """Join a meter's log to a session file, keep the file as it was beside it, and say what came of it.

    Raises SessionFileError or EdgetopError.
    """
    from edgetop.session import attached_power  # noqa: PLC0415 - numpy
    from edgetop.session.meter_log import read_log  # noqa: PLC0415 - the same

    source = Path(given.log)
    gain = None if given.meter_gain is None else parse_value("--meter-gain", given.meter_gain, real(0, 100)) / 100
    volts = None if given.voltage is None else parse_value("--voltage", given.voltage, real(0, 1000))
    file = load_checked(path)
    log = read_log(source, time_column=given.time_column, column=given.column, unit=given.unit, volts=volts)
    found = attached_power.align(log, attached_power.session_of(file), unix_s(file.started_at))
    changed = attached_power.with_log(file, log, found, path=source.name, scope=given.scope, gain=gain)
    kept = path.with_name(path.name + ORIGINAL)
    with _written(path):
        if not kept.exists():
            write_atomically(kept, [path.read_bytes()])
        rewrite(path, lambda now: replace(changed, tags=now.tags, notes=now.notes))
    if given.json:
        write_json(
            {
                "path": str(path),
                "original": str(kept),
                "rows": log.rows,
                "unread": log.unread,
                "period_s": log.period_s,
                "columns": log.columns,
                **{name: getattr(found, name) for name in found.__struct_fields__},
                "energy": changed.summary.energy,
                "energy_missing": changed.summary.energy_missing,
            }
        )
        return 0
    unread = f", {log.unread} lines were no readings" if log.unread else ""
    print_status(f"{source.name}: {log.rows} readings of {' and '.join(map(one_line, log.columns[1:]))}{unread}")
    print_status(attached_power.words(found, source.name))
    print_status(f"energy {energy_text(changed.summary)}")
    print_status(f"session: {path}; as it was recorded: {kept}")
    return 0


Action = Callable[[Store, argparse.Namespace], int]


def execute(arguments: argparse.Namespace, settings: Settings) -> int:
    """Do what was asked; `validate`, `recover` and `rm` return 1 when something is wrong."""
    if arguments.action is None:
        arguments.format = arguments.list_format
    elif arguments.list_format is not None:
        form = f"--{arguments.list_format}"
        raise UsageError(f"{form} stands before {arguments.action}", f"type: sessions {arguments.action} ... {form}")
    arguments.duty, arguments.price = given_duty(settings), price_of(settings)
    return ACTIONS[arguments.action or "list"](open_store(settings), arguments)


def _list(store: Store, arguments: argparse.Namespace) -> int:
    words, chosen = getattr(arguments, "words", []), arguments.format
    if chosen in {"json", "csv"}:
        write_listing([entry for each in store.list() if (entry := entry_of(each)).matches(words)], COLUMNS, chosen)
        return 0
    rows, count = shown_rows(store, words)
    if not count and chosen is None:
        print_status(f"no sessions in {store.folder} yet; `edgetop` or `edgetop run` records one")
    elif not rows and chosen is None:
        print_status(
            f"none of {count} sessions has {' '.join(words)} in its title, tags, model, quantization or device"
        )
    else:
        write_columns(SHOWN, list(zip(*rows, strict=True)) or [[]] * len(SHOWN), chosen)
    return 0


def _totals(store: Store, arguments: argparse.Namespace, price: Price | None) -> int:
    if arguments.session:
        heads = [load_head(path) for path in store.find_all(arguments.session)]
    else:
        listed = store.list()
        heads = [each.head for each in listed if each.head is not None]
        if len(heads) < len(listed):
            print_error(
                f"{len(listed) - len(heads)} files cannot be read and are not in the totals",
                "`edgetop sessions list` says why",
            )
    if not heads and arguments.format is None:
        print_status(f"no sessions in {store.folder} yet; `edgetop` or `edgetop run` records one")
    else:
        write_listing(totals(heads, arguments.by), _totals_columns(arguments.by, price), arguments.format)
    return 0


def _totals_columns(by: Sequence[str], price: Price | None) -> list[Column[Totals]]:
    def of_group(name: str) -> Column[Totals]:
        return Column(name, lambda row: row.group[name], name.upper(), lambda row: row.group[name] or "not known")

    def energy(row: Totals) -> str:
        kwh = None if row.energy_j is None else scaled(row.energy_j, 1 / J_PER_WH / WH_PER_KWH)
        return f"{NOT_AVAILABLE}: {row.energy_missing}" if kwh is None else plus_minus(kwh)

    def part(name: str) -> Callable[[Totals], float | None]:
        return lambda row: None if row.energy_j is None else getattr(row.energy_j, name)

    def paid(row: Totals) -> Interval | None:
        return None if row.energy_j is None or price is None else cost(row.energy_j, price.per_kwh)

    currency = "" if price is None else price.currency
    return [
        *map(of_group, by),
        Column("sessions", heading="SESSIONS"),
        Column("answers", heading="ANSWERS"),
        Column("hours", heading="HOURS", text=lambda row: format_significant(row.hours)),
        Column(
            "generated_tokens",
            heading="TOKENS",
            text=lambda row: f"{'at least ' if row.at_least else ''}{row.generated_tokens}",
        ),
        Column("at_least"),
        Column(
            "energy_j",
            part("value"),
            "JOULES",
            lambda row: NOT_AVAILABLE if row.energy_j is None else plus_minus(row.energy_j),
        ),
        Column("energy_j_low", part("low")),
        Column("energy_j_high", part("high")),
        Column("measured_tokens"),
        Column("unmeasured_sessions"),
        Column("unmeasured_tokens"),
        Column("unmeasured_hours"),
        Column(
            "",
            None,
            "NOT MEASURED",
            lambda row: (
                f"{row.unmeasured_tokens} tokens, {format_significant(row.unmeasured_hours)} h"
                if row.unmeasured_tokens or row.unmeasured_sessions
                else ""
            ),
        ),
        Column(
            "cost",
            lambda row: None if (found := paid(row)) is None else found.value,
            None if price is None else f"COST {currency}".rstrip(),
            lambda row: plus_minus(paid(row)),
        ),
        Column("currency", lambda _row: currency or None),
        Column(
            "scopes",
            lambda row: " ".join(row.scopes),
            "COVERS",
            lambda row: ", ".join(row.scopes).replace("_", " ") or NOT_AVAILABLE,
        ),
        Column("kwh", heading="KWH", text=energy),
        Column("energy_missing"),
    ]


def _recompute(store: Store, arguments: argparse.Namespace) -> int:
    path = store.find(arguments.session)
    return recompute(path, power=arguments.power, dry_run=arguments.dry_run, as_json=arguments.json)


ACTIONS: dict[str, Action] = {
    "list": _list,
    "totals": lambda store, given: _totals(store, given, given.price),
    "show": lambda store, given: show(store.find(given.session), given.duty, as_json=given.json),
    "tag": lambda store, given: tag(store.find_all([given.session]), given.changes, as_json=given.json),
    "note": lambda store, given: note(store.find(given.session), given.text, as_json=given.json),
    "export": lambda store, given: export(store.find(given.session), given.to, given.output),
    "import": lambda store, given: import_results(given.files, store, as_json=given.json),
    "rm": lambda store, given: remove(store, store.find_all(given.session), yes=given.yes, as_json=given.json),
    "validate": lambda store, given: validate_files(store.find_all(given.session), as_json=given.json),
    "recompute": _recompute,
    "attach-power": lambda store, given: attach_power(store.find(given.session), given),
    "prune": lambda store, given: prune(store, given.keep, given.max, yes=given.yes, as_json=given.json),
    "recover": lambda store, given: recover(store, as_json=given.json),
}

"""Verb watch."""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from edgetop.commands.inputs import alerts_of, chosen_display, exporters_of, open_store, power_choice, shows_screens
from edgetop.commands.output import ExitCode, handle_signals, print_error, print_saved, table, write_data
from edgetop.core.clock import US_PER_S
from edgetop.core.errors import EdgetopError, UsageError
from edgetop.core.figures import WatchFigures
from edgetop.core.format import NOT_AVAILABLE, format_bytes_short, format_clock, format_rate, format_significant
from edgetop.core.quantity import with_interval
from edgetop.core.sources import Unavailable
from edgetop.core.text import one_line
from edgetop.inference.server.address import KEY_VARIABLE, Address, ServerChoice, key_file_of, key_of
from edgetop.io import json
from edgetop.io.terminal import terminal_size
from edgetop.live.fleet import HEADINGS, FleetSession, fleet_notes, host_cells, total_cells, total_of
from edgetop.live.live_session import WatchOptions, WatchSession, reading_of
from edgetop.live.server_monitor import SEARCHED_FOR, STATE_WORDS, ServerStatus
from edgetop.session.snapshot import Snapshot
from edgetop.session.watch import counted, figure_rows
from edgetop.settings import options
from edgetop.settings.resolve import Settings


def write_reading(watch: WatchSession, *, as_json: bool) -> None:
    """Print what is going on now, on one line."""
    now = watch.snapshot()
    if as_json:
        write_data(json.encode(reading_of(now, watch.rows)).decode() + "\n")
    else:
        write_data(_line(watch, now) + "\n")
    sys.stdout.flush()


def write_summary(watch: WatchSession, path: Path | None, *, as_json: bool) -> None:
    """Print the figures of all the time."""
    if as_json:
        write_data(json.encode(summary_of(watch, path)).decode() + "\n")
        sys.stdout.flush()
        return
    figures = _figures(watch)
    write_data("\n" + table([_HEADINGS, *map(_cells, watch.rows)]) if watch.rows else f"\n{NOTHING}\n")
    for row in watch.rows:
        if row.probe is not None:
            write_data(f"{row.number} {one_line(row.probe.words)}\n")
    write_data("\n" + table(figure_rows(figures)))


def summary_of(watch: WatchSession, path: Path | None) -> dict[str, object]:
    """The object at the end of `--json`."""
    return {
        "type": "summary",
        "device": None if watch.session.header is None else watch.session.header.device,
        "services": list(watch.session.services.values()),
        "watch": _figures(watch),
        "path": None if path is None else str(path),
    }


def _figures(watch: WatchSession) -> WatchFigures:
    now = watch.snapshot()
    return WatchFigures() if now.watch is None else now.watch.figures


NOTHING = f"No model process was found. Searched for: {SEARCHED_FOR}."
_HEADINGS = ["#", "PROGRAM", "MODEL", "WHERE", "PID", "MEMORY", "CPU", "STATE", "TOKENS"]


def state_text(row: ServerStatus) -> str:
    """How a service is, in a word or two."""
    if row.state is None:
        return "not asked" if row.trouble is None else "no address"
    words = STATE_WORDS[row.state]
    usage = row.usage
    if usage is None or usage.running is None or usage.asleep:
        return words
    return (
        f"{usage.running} running" + (f", {usage.waiting} waiting" if usage.waiting else "")
        if usage.running
        else "idle"
    )


def count_text(row: ServerStatus) -> str:
    """What it has generated, or why that is not known."""
    if row.usage is not None and isinstance(row.usage.tokens, int):
        return f"{'at least ' if row.usage.counts == 'running' else ''}{row.usage.tokens}"
    reason = row.trouble if row.usage is None else row.usage.no_count
    if reason is None:
        return NOT_AVAILABLE
    return f"{NOT_AVAILABLE}: {reason.reason}" + (f" ({reason.hint})" if reason.hint else "")


def _cells(row: ServerStatus) -> list[str]:
    return [
        str(row.number),
        f"{row.kind} {row.version}".strip(),
        ", ".join(row.models) or NOT_AVAILABLE,
        row.address or NOT_AVAILABLE,
        NOT_AVAILABLE if row.pid is None else str(row.pid),
        format_bytes_short(row.resident_bytes),
        NOT_AVAILABLE if row.cpu_percent is None else f"{row.cpu_percent:.0f}%",
        state_text(row),
        count_text(row),
    ]


def _line(watch: WatchSession, now: Snapshot) -> str:
    view = now.watch
    parts = [
        format_clock(now.t_us / US_PER_S),
        f"{len(watch.rows)} model process{'' if len(watch.rows) == 1 else 'es'}",
    ]
    if view is not None:
        parts.append(format_rate(view.recent_tokens_per_s))
        if view.requests_running is not None:
            waiting = f", {view.requests_waiting:.0f} waiting" if view.requests_waiting else ""
            parts.append(f"{view.requests_running:.0f} running{waiting}")
        if view.figures.generated_tokens is not None:
            parts.append(f"{counted(view.figures)} tokens")
    power = now.power
    parts.append(
        f"{format_significant(power.power_w)} W" if not isinstance(power, Unavailable) else f"power {NOT_AVAILABLE}"
    )
    energy = None if view is None else view.figures.energy
    parts.append(f"{NOT_AVAILABLE} J/token" if energy is None else f"{with_interval(energy.j_per_token)} J/token")
    return "  ".join(map(one_line, parts))


POLL_S = 0.1


def execute(arguments: argparse.Namespace, settings: Settings) -> int:
    """Open the screen, or print a line a second."""
    seconds: float | None = arguments.seconds
    if arguments.hosts:
        return _watch_hosts(arguments, settings)
    requested = watch_options(arguments, settings)
    if shows_screens(settings) and not arguments.json and seconds is None:
        return _open_screen(requested, settings)
    return _print(requested, settings, seconds=seconds, as_json=arguments.json)


def watch_options(arguments: argparse.Namespace, settings: Settings) -> WatchOptions:
    """What is to be watched. Raises UsageError for an address that is none, and for a key that cannot be sent."""
    configured = settings[options.SERVER]
    urls = arguments.servers or ([configured] if configured is not None else [])
    files = dict(arguments.key_files)
    usual = settings[options.SERVER_KEY_FILE]
    variable = os.environ.get(KEY_VARIABLE)
    if len(urls) == 1 and usual is not None:
        files.setdefault(0, str(usual))
    elif len(urls) > 1 and variable:
        print_error(f"{KEY_VARIABLE} is for one --server and was sent to none of these; see [server.keys]")
    keys: dict[Address, str] = {}
    for number, url in enumerate(urls):
        try:
            address = Address.parse(url)
        except ValueError as error:
            raise UsageError(f"{one_line(url)!r} is not the address of a server", f"expected {error}") from None
        file = files.get(number) or key_file_of(address, settings[options.SERVER_KEYS])
        try:
            keys[address] = key_of(ServerChoice(url=url, key_file=file), variable if len(urls) == 1 else None)
        except ValueError as error:
            raise UsageError(str(error), "put the key alone into it") from None
    return WatchOptions(
        servers=keys,
        sysroot=settings[options.SYSROOT],
        power=power_choice(settings),
        record=settings[options.RECORD],
        output=settings[options.OUTPUT],
        alerts=alerts_of(settings, "watch"),
        exporters=exporters_of(settings),
        probes=getattr(arguments, "probe", False),
    )


def _open_screen(requested: WatchOptions, settings: Settings) -> int:
    display = chosen_display(settings)
    from edgetop.tui.app import WatchApp  # noqa: PLC0415 - Textual is slow to import

    app = WatchApp(lambda warn: WatchSession(requested, open_store(settings), warn), display)
    app.run_to_end()
    code = print_saved(app.saved, app.why_not)
    if requested.alerts is not None:
        requested.alerts.raise_if_ended()
    return code or app.signal_code


def _print(requested: WatchOptions, settings: Settings, *, seconds: float | None, as_json: bool) -> int:
    quiet = settings[options.QUIET]
    ended = threading.Event()
    failure: EdgetopError | None = None
    path: Path | None = None
    with handle_signals(on_interrupt=ended.set, on_end=ended.set):
        watch = WatchSession(requested, open_store(settings), lambda text: None if quiet else print_error(text))
        try:
            # A service that exports is not read line by line.
            silent = bool(requested.exporters) and seconds is None and not as_json
            follow(watch, ended, seconds, None if silent else lambda: write_reading(watch, as_json=as_json))
        except BrokenPipeError:
            ended.set()
        finally:
            try:
                path = watch.close()
            except EdgetopError as error:
                failure = error
    if failure is not None:
        raise failure
    if requested.probes and as_json:
        write_reading(watch, as_json=True)  # the last second's has no answer yet
    write_summary(watch, path, as_json=as_json)
    code = print_saved(path, watch.recorder.why_not, quiet=quiet)
    if watch.alerts is not None:
        watch.alerts.raise_if_ended()
    if code:
        return code
    return ExitCode.INTERRUPTED if ended.is_set() and seconds is not None else 0


def _watch_hosts(arguments: argparse.Namespace, settings: Settings) -> int:
    if arguments.servers:
        raise UsageError("--server is for this machine", "the servers of other hosts are found there")
    if arguments.probe:
        raise UsageError("--probe is for the servers of this machine", "run edgetop watch --probe there")
    seconds, as_json, quiet = arguments.seconds, arguments.json, settings[options.QUIET]
    requested = WatchOptions(
        record=settings[options.RECORD],
        output=settings[options.OUTPUT],
        alerts=alerts_of(settings, "watch"),
        exporters=exporters_of(settings),
    )
    ended, failure, path = threading.Event(), None, None
    draws = shows_screens(settings) and not as_json and seconds is None
    display = chosen_display(settings) if draws else None
    with handle_signals(on_interrupt=ended.set, on_end=ended.set):
        fleet = FleetSession(
            arguments.hosts, requested, open_store(settings), lambda text: None if quiet else print_error(text)
        )
        try:
            if sys.stdin.isatty() and sys.stderr.isatty():
                fleet.ask_user(ended)
            if display is None and not ended.is_set():
                silent = bool(requested.exporters) and seconds is None and not as_json
                follow(fleet, ended, seconds, None if silent else lambda: _write_hosts(fleet, as_json=as_json))
        except BrokenPipeError:
            ended.set()
        finally:
            if display is None or ended.is_set():
                try:
                    path = fleet.close()
                except EdgetopError as error:
                    failure = error
    if failure is not None:
        raise failure
    if display is not None and not ended.is_set():
        from edgetop.tui.app import WatchApp  # noqa: PLC0415 - Textual is slow to import

        app = WatchApp(fleet.warned_by, display)
        app.run_to_end()
        code = print_saved(app.saved, app.why_not) or app.signal_code
    else:
        _write_hosts(fleet, as_json=as_json, path=path, ends=True)
        code = print_saved(path, fleet.recorder.why_not, quiet=quiet)
    if requested.alerts is not None:
        requested.alerts.raise_if_ended()
    return code or (ExitCode.INTERRUPTED if ended.is_set() and seconds is not None else 0)


def _write_hosts(fleet: FleetSession, *, as_json: bool, path: Path | None = None, ends: bool = False) -> None:
    """Print the hosts as they are now, or were at the end."""
    rows = fleet.last_hosts if ends else fleet.hosts
    total = total_of(rows)
    if as_json:
        document: dict[str, object] = {
            "type": "summary" if ends else "fleet",
            "t_s": round(fleet.now_us() / US_PER_S, 3),
        }
        document |= {"hosts": rows, "total": total} | ({"path": None if path is None else str(path)} if ends else {})
        write_data(json.encode(document).decode() + "\n")
    else:
        columns = terminal_size().columns if sys.stdout.isatty() else None
        write_data(f"{format_clock(fleet.now_us() / US_PER_S)}\n")
        write_data(table([HEADINGS, *map(host_cells, rows), total_cells(total)], columns))
        write_data("".join(f"{one_line(note)}\n" for note in fleet_notes(rows, total)) + "\n")
    sys.stdout.flush()


def follow(
    watch: WatchSession | FleetSession,
    ended: threading.Event,
    seconds: float | None,
    each_second: Callable[[], None] | None = None,
) -> None:
    """Pump, and call `each_second`, until it is to end, or for so many seconds from the first look on."""
    begin_s = due_s = None
    while not ended.is_set():
        now_s = time.monotonic()
        if begin_s is None and watch.has_searched:
            begin_s = due_s = now_s
        is_over = begin_s is not None and seconds is not None and now_s >= begin_s + seconds and now_s > begin_s
        if is_over and not (isinstance(watch, WatchSession) and watch.is_probing):
            return
        watch.pump()
        if watch.is_ended_by_alert:
            return
        if due_s is not None and now_s >= due_s and each_second is not None:
            each_second()
            due_s = max(due_s + 1.0, now_s)
        ended.wait(POLL_S)

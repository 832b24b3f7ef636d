"""Verb proxy."""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from edgetop.commands.inputs import chosen_display, open_store, shows_screens
from edgetop.commands.output import ExitCode, handle_signals, print_error, print_saved, print_status, table, write_data
from edgetop.commands.watch import follow, summary_of, watch_options
from edgetop.core.errors import EdgetopError, UsageError
from edgetop.core.records import RequestServed
from edgetop.core.text import one_line
from edgetop.io import json
from edgetop.live.live_session import WatchOptions
from edgetop.live.proxy_session import OPEN_TO_ALL, ProxySession
from edgetop.session.requests import client_figures, client_rows, energy_note, request_line, reread_figures, reread_line
from edgetop.settings import options
from edgetop.settings.resolve import Settings

SWITCH_S = 0.0005
"""So long a chunk waits for Python's lock while the screen is drawn or a record is made; it would be 5 ms."""


def execute(arguments: argparse.Namespace, settings: Settings) -> int:
    """Pass requests on until it is ended; open the screen, or print a line for each."""
    requested = watch_options(arguments, settings)
    if len(requested.servers) != 1:
        raise UsageError("the proxy stands before one server", "name it with --server URL")
    listen = arguments.listen
    requested = msgspec.structs.replace(requested, text_recorded=arguments.keep_text)
    quiet, as_json = settings[options.QUIET], arguments.json
    sys.setswitchinterval(SWITCH_S)
    if shows_screens(settings) and not (as_json or quiet) and arguments.seconds is None:
        return _open_screen(requested, settings, listen)
    ended, failure, path = threading.Event(), None, None
    with handle_signals(on_interrupt=ended.set, on_end=ended.set):
        proxy = ProxySession(
            requested,
            open_store(settings),
            lambda text: None if quiet else print_error(text),
            listen=listen,
            on_request=lambda record: _write(proxy, record, as_json=as_json, quiet=quiet),
        )
        try:
            if not quiet:
                print_status(f"listening on {proxy.url} for {next(iter(requested.servers))}; Ctrl+C ends")
                print_status(f"OPENAI_BASE_URL={proxy.url}/v1  OLLAMA_HOST={proxy.url}")
                if not proxy.is_for_here:
                    print_error(*OPEN_TO_ALL)
            follow(proxy, ended, arguments.seconds)
        except BrokenPipeError:
            ended.set()
        finally:
            try:
                path = proxy.close()
            except EdgetopError as error:
                failure = error
    if failure is not None:
        raise failure
    _write_summary(proxy, path, as_json=as_json)
    if path is not None and not quiet:
        print_status(f"session: {path}")
    if proxy.alerts is not None:
        proxy.alerts.raise_if_ended()
    return ExitCode.INTERRUPTED if ended.is_set() and arguments.seconds is not None else 0


def _open_screen(requested: WatchOptions, settings: Settings, listen: tuple[str, int]) -> int:
    display = chosen_display(settings)
    from edgetop.tui.app import WatchApp  # noqa: PLC0415 - Textual is slow to import

    started: list[ProxySession] = []

    def start(warn: Callable[[str], None]) -> ProxySession:
        started.append(ProxySession(requested, open_store(settings), warn, listen=listen))
        return started[0]

    app = WatchApp(start, display)
    app.run_to_end()
    _write_summary(started[0], app.saved, as_json=False)
    code = print_saved(app.saved, app.why_not)
    if requested.alerts is not None:
        requested.alerts.raise_if_ended()
    return code or app.signal_code


def _write_summary(proxy: ProxySession, path: Path | None, *, as_json: bool) -> None:
    rows = client_figures(proxy.session, proxy.session.end_us)
    again = reread_figures(proxy.session, proxy.session.end_us)
    if as_json:
        write_data(json.encode({**summary_of(proxy, path), "clients": rows, "rereads": again}).decode() + "\n")
    else:
        write_data("\n" + (table(client_rows(rows)) if rows else "No request came.\n"))
        if rows:
            write_data(f"{one_line(energy_note(rows))}\n")
        if again:
            write_data(f"{one_line(reread_line(again))}\n")


def _write(proxy: ProxySession, record: RequestServed, *, as_json: bool, quiet: bool) -> None:
    if as_json:
        entry = {**msgspec.structs.asdict(record), "t_us": proxy.session.relative(record.t_us)}
        write_data(json.encode({"type": "request", **entry}).decode() + "\n")
    elif not quiet:
        write_data(f"{one_line(request_line(record, proxy.session.relative(record.t_us)))}\n")
    sys.stdout.flush()

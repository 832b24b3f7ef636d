"""Verb proxy."""

from __future__ import annotations

import argparse
import sys
import threading
from pathlib import Path

import msgspec

from edgetop.commands.inputs import open_store
from edgetop.commands.output import ExitCode, handle_signals, print_error, print_status, table, write_data
from edgetop.commands.watch import follow, summary_of, watch_options
from edgetop.core.clock import US_PER_S
from edgetop.core.errors import EdgetopError, UsageError
from edgetop.core.format import NOT_AVAILABLE, format_clock, format_rate, format_seconds
from edgetop.core.records import RequestServed
from edgetop.core.text import one_line
from edgetop.io import json
from edgetop.live.proxy_session import ProxySession
from edgetop.session.requests import client_figures, client_rows, decode_of, energy_note, reread_figures, reread_line
from edgetop.session.turn import tokens_per_s
from edgetop.settings import options
from edgetop.settings.resolve import Settings


def execute(arguments: argparse.Namespace, settings: Settings) -> int:
    """Pass requests on until it is ended, and print a line for each."""
    requested = watch_options(arguments, settings)
    if len(requested.servers) != 1:
        raise UsageError("the proxy stands before one server", "name it with --server URL")
    listen = arguments.listen
    requested = msgspec.structs.replace(requested, text_recorded=arguments.keep_text)
    quiet, as_json = settings[options.QUIET], arguments.json
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
                if listen[0] not in {"127.0.0.1", "::1", "localhost"}:
                    print_error(
                        "whoever reaches this address can use the server", "--listen 127.0.0.1:PORT is for here"
                    )
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
        write_data(f"{one_line(_line(proxy, record))}\n")
    sys.stdout.flush()


def _line(proxy: ProxySession, record: RequestServed) -> str:
    prompt, tokens = (
        NOT_AVAILABLE if count is None else str(count) for count in (record.prompt_tokens, record.generated_tokens)
    )
    first_s = None if record.first_token_us is None else record.first_token_us / US_PER_S
    parts = [
        format_clock(proxy.session.relative(record.t_us) / US_PER_S),
        record.client,
        record.model or NOT_AVAILABLE,
        f"{record.status or ''} {record.outcome if record.outcome != 'complete' else ''}".strip(),
        f"{prompt} + {'' if record.counted else 'at least '}{tokens} tokens",
        f"first {format_seconds(first_s)}",
        format_rate(tokens_per_s(*decode_of(record))),
        record.error,
    ]
    return "  ".join(filter(None, parts))

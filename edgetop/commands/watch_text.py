"""What `edgetop watch` prints without a screen: a line a second, and the figures at the end."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from edgetop.commands.console import write_data
from edgetop.commands.listing import table
from edgetop.core.clock import US_PER_S
from edgetop.core.energy.figure import with_interval
from edgetop.core.format import NOT_AVAILABLE, format_bytes_short, format_clock, format_rate, format_significant
from edgetop.core.records import Missing
from edgetop.core.text import one_line
from edgetop.core.watch_figures import WatchFigures
from edgetop.live.watch_session import WatchSession
from edgetop.live.watched_service import ServiceRow
from edgetop.session.codec import encode_value
from edgetop.session.snapshot import Snapshot
from edgetop.session.watch_wording import figure_rows
from edgetop.telemetry.model_programs import LOOKED_FOR


def write_reading(watch: WatchSession, *, as_json: bool) -> None:
    """Print what is going on now, on one line."""
    now = watch.snapshot()
    if as_json:
        write_data(encode_value(_reading(watch, now)).decode() + "\n")
    else:
        write_data(_line(watch, now) + "\n")
    sys.stdout.flush()


def write_summary(watch: WatchSession, path: Path | None, *, as_json: bool) -> None:
    """Print the figures of all the time."""
    now = watch.snapshot()
    figures = WatchFigures() if now.watch is None else now.watch.figures
    if as_json:
        summary = {
            "type": "summary",
            "device": msgspec.to_builtins(watch.session.header.device if watch.session.header is not None else None),
            "services": msgspec.to_builtins(list(watch.session.services.values())),
            "watch": msgspec.to_builtins(figures),
            "path": None if path is None else str(path),
        }
        write_data(encode_value(summary).decode() + "\n")
        sys.stdout.flush()
        return
    write_data("\n" + table([_HEADINGS, *map(_cells, watch.rows)]) if watch.rows else f"\n{NOTHING}\n")
    write_data("\n" + table(figure_rows(figures)))


NOTHING = f"No model process was found. Looked for: {LOOKED_FOR}."
_HEADINGS = ["#", "PROGRAM", "MODEL", "WHERE", "PID", "MEMORY", "CPU", "STATE", "TOKENS"]


def state_text(row: ServiceRow) -> str:
    """How a service is, in a word or two."""
    if row.state is None:
        return "not asked" if row.trouble is None else "no address"
    words = {"silent": "no answer", "down": "ended", "refuses": "refuses"}.get(row.state, row.state)
    usage = row.usage
    if usage is None or usage.running is None:
        return words
    return (
        f"{usage.running} running" + (f", {usage.waiting} waiting" if usage.waiting else "")
        if usage.running
        else "idle"
    )


def count_text(row: ServiceRow) -> str:
    """What it has generated, or why that is not known."""
    if row.usage is not None and isinstance(row.usage.tokens, int):
        return str(row.usage.tokens)
    reason = row.trouble if row.usage is None else row.usage.no_count
    if reason is None:
        return NOT_AVAILABLE
    return f"{NOT_AVAILABLE}: {reason.reason}" + (f" ({reason.mend})" if reason.mend else "")


def _cells(row: ServiceRow) -> list[str]:
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


def _reading(watch: WatchSession, now: Snapshot) -> dict[str, object]:
    view = now.watch
    energy = None if view is None else view.figures.energy
    return {
        "type": "reading",
        "t_s": round(now.t_us / US_PER_S, 3),
        "tokens_per_s": None if view is None else view.recent_tokens_per_s,
        "generated_tokens": None if view is None else view.figures.generated_tokens,
        "requests_running": None if view is None else view.requests_running,
        "requests_waiting": None if view is None else view.requests_waiting,
        "power_w": None if isinstance(now.power, Missing) else now.power.power_w,
        "rss_bytes": now.memory.rss_bytes,
        "j_per_token": None if energy is None else msgspec.to_builtins(energy.j_per_token),
        "energy_missing": "" if view is None else view.figures.energy_missing,
        "services": [_service(row) for row in watch.rows],
    }


def _service(row: ServiceRow) -> dict[str, object]:
    """A service in a reading, without what the summary tells of it."""
    usage = row.usage
    return {
        "number": row.number,
        "kind": row.kind,
        "pid": row.pid,
        "address": row.address,
        "state": row.state,
        "tokens_per_s": row.tokens_per_s,
        "generated_tokens": usage.tokens if usage is not None and isinstance(usage.tokens, int) else None,
        "requests_running": None if usage is None else usage.running,
        "requests_waiting": None if usage is None else usage.waiting,
        "context_share": None if usage is None else usage.context_share,
        "slots": [] if usage is None else msgspec.to_builtins(usage.slots),
        "rss_bytes": row.resident_bytes,
        "cpu_percent": row.cpu_percent,
        "gpu_bytes": row.gpu_bytes,
    }


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
            parts.append(f"{view.figures.generated_tokens} tokens")
    power = now.power
    parts.append(
        f"{format_significant(power.power_w)} W" if not isinstance(power, Missing) else f"power {NOT_AVAILABLE}"
    )
    energy = None if view is None else view.figures.energy
    parts.append(f"{NOT_AVAILABLE} J/token" if energy is None else f"{with_interval(energy.j_per_token)} J/token")
    return "  ".join(map(one_line, parts))

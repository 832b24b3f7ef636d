"""What stands above each session of several: first what it has of its own, then what they have in common."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_uppercase

from edgetop.core.format import format_bytes_short
from edgetop.core.text import one_line
from edgetop.session.session import Session
from edgetop.tui.widgets.lines import Line, Span, line_of

DIFFERING = ("model", "quantization", "device", "threads", "layers", "context", "size", "started")
"""Names of facts, in the order in which they tell sessions apart."""
ALIKE = ("device", "threads", "model", "quantization")
"""Those that are told where all sessions have them in common, too."""


def letter(index: int) -> str:
    """What a session is called beside the others: A, B ... Z, 27."""
    return ascii_uppercase[index] if index < len(ascii_uppercase) else str(index + 1)


def headings(sessions: Sequence[Session]) -> list[tuple[Line, ...]]:
    """For each session, its letter and its facts, the most telling first; none for a single one."""
    if len(sessions) < 2:
        return [()]
    facts = [_facts(session) for session in sessions]
    differing = [name for name in facts[0] if len({each[name] for each in facts}) > 1]
    # What they are of tells them apart, so that it does not matter when they were.
    differing = [name for name in differing if name != "started"] or differing
    alike = [name for name in ALIKE if name not in differing]
    return [
        (
            line_of(Span(letter(index), "headline")),
            *(line_of(Span(own[name], "accent")) for name in differing if own[name]),
            *(line_of(Span(own[name], "dim")) for name in alike if own[name]),
        )
        for index, own in enumerate(facts)
    ]


def _facts(session: Session) -> dict[str, str]:
    """By name, empty where it is not known. A session with several models goes by its last one."""
    header, load = session.header, session.loads[-1] if session.loads else None
    device = None if header is None else header.device
    facts = dict.fromkeys(DIFFERING, "")
    if device is not None and header is not None:
        facts["device"] = one_line(device.hostname)
        facts["started"] = one_line(header.started_at[:16].replace("T", " "))
    if load is None:
        return {**facts, "model": "no model"}
    threads, layers = load.settings.n_threads, load.settings.n_gpu_layers
    return {
        **facts,
        "model": one_line(load.model.name) or "unnamed model",
        "quantization": one_line(load.model.quantization),
        "threads": one_line(load.engine.name) if threads is None else f"{threads} thread{'' if threads == 1 else 's'}",
        "layers": f"{layers} layers {'offloaded' if load.settings.rpc_servers else 'on GPU'}" if layers else "",
        "context": "" if load.settings.n_ctx is None else f"ctx {load.settings.n_ctx}",
        "size": format_bytes_short(load.model.size_bytes),
    }

"""The list of model processes and servers as lines: what each is, what it does, and why something is not known."""

from __future__ import annotations

from collections.abc import Sequence

from edgetop.core.format import format_bytes_short, format_rate
from edgetop.inference.server.usage import Slot, Usage
from edgetop.live.watched_service import ServiceRow
from edgetop.telemetry.model_programs import LOOKED_FOR
from edgetop.tui.glyphs import GlyphLevel
from edgetop.tui.widgets.lines import Line, Role, Span, fit, joined, line_of, shortened, spread, width_of
from edgetop.tui.wrap import wrap

NOTHING = (
    "No model process runs on this device.",
    f"Looked for: {LOOKED_FOR}.",
    "A server elsewhere, or in a container: edgetop watch --server URL",
)
LOOKING = "Looking for model processes."
_STATES = {
    "answers": "answers",
    "loading": "loads its model",
    "busy": "busy",
    "silent": "no answer",
    "down": "ended",
    "refuses": "refuses",
}
_INDENT = "  "


def lines_of(rows: Sequence[ServiceRow], width: int, level: GlyphLevel, *, looked: bool) -> list[Line]:
    """The whole list in `width` cells."""
    if not rows:
        texts = NOTHING if looked else (LOOKING,)
        return [line_of(Span(row.rstrip(), "dim" if number else "text")) for number, text in enumerate(texts)
                for row in wrap(text, width)]  # fmt: skip
    lines: list[Line] = []
    for row in rows:
        lines += [*([()] if lines else []), *_lines(row, width, level)]
    return [line if width_of(line) <= width else fit(line, width) for line in lines]


def _lines(row: ServiceRow, width: int, level: GlyphLevel) -> list[Line]:
    state, role = _state(row)
    right = line_of(Span(state, role))
    name = line_of(Span(f"{row.number} ", "dim"), Span(row.kind, "title"))
    models = ", ".join(row.models) or "model not known"
    room = width - sum(len(span.text) for span in (*name, *right)) - 3
    short = line_of(Span(state.rpartition("  ")[2], role))
    left = line_of(*name, " ", Span(shortened(models, max(8, room), level), "accent"))
    lines = [spread(left, [right, short], width)]
    lines.append((Span(_INDENT), *joined(_facts(row), width - len(_INDENT))))
    usage = row.usage
    if usage is not None and usage.slots:
        lines += [_slot_line(slot) for slot in usage.slots if slot.doing != "idle"]
    for words, of in _reasons(row):
        lines += [line_of(_INDENT, Span(text, of)) for text in wrap(words, max(8, width - len(_INDENT)))]
    return lines


def _state(row: ServiceRow) -> tuple[str, Role]:
    usage = row.usage
    if row.state is None:
        return ("no address", "warning") if row.trouble is not None else ("not asked", "dim")
    if row.state != "answers" or usage is None:
        return _STATES[row.state], "bad" if row.state in {"silent", "refuses"} else "warning"
    if usage.running is None:
        return "answers", "good"
    waiting = f" {usage.waiting} waiting" if usage.waiting else ""
    rate = f"{format_rate(row.tokens_per_s)}  " if row.tokens_per_s is not None and usage.running else ""
    return (f"{rate}{usage.running} running{waiting}" if usage.running or waiting else "idle"), "good"


def _facts(row: ServiceRow) -> list[Line]:
    """What it takes, and where it is; the first ones before later ones."""
    usage = row.usage
    facts = [
        f"{row.cpu_percent:.0f} % cpu" if row.cpu_percent is not None else "",
        format_bytes_short(row.resident_bytes) if row.resident_bytes is not None else "",
        f"gpu {format_bytes_short(row.gpu_bytes)}" if row.gpu_bytes is not None else "",
        _context(usage),
        f"{usage.tokens} tok" if usage is not None and isinstance(usage.tokens, int) else "",
        row.address.partition("://")[2] or "",
        f"pid {row.pid}" if row.pid is not None else "",
        f"{row.threads} threads" if row.threads else "",
        row.version,
    ]
    return [line_of(Span(fact, "dim" if number > 4 else "text")) for number, fact in enumerate(facts) if fact]


def _context(usage: Usage | None) -> str:
    return "" if usage is None or usage.context_share is None else f"ctx {usage.context_share:.0%}"


def _slot_line(slot: Slot) -> Line:
    parts = [f"{_INDENT}slot {slot.number} {slot.doing}"]
    if slot.generated:
        parts.append(f"{slot.generated} tok")
    if slot.context_used is not None and slot.n_ctx:
        parts.append(f"ctx {slot.context_used}/{slot.n_ctx}")
    return line_of(Span("  ".join(parts), "graph"))


def _reasons(row: ServiceRow) -> list[tuple[str, Role]]:
    """Why something is not known, and what would make it."""
    found: list[tuple[str, Role]] = []
    usage = row.usage
    missing = row.trouble if usage is None else usage.no_count
    if missing is not None and row.state != "down":
        words = f"{missing.reason[:1].upper()}{missing.reason[1:]}"
        found.append((f"{words}: {missing.mend}." if missing.mend else f"{words}.", "dim" if usage else "warning"))
    if not row.is_open:
        found.append(("Another user's process: with sudo more of it is shown.", "dim"))
    return found

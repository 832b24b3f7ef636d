"""The watch screen and its list of model servers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from msgspec.structs import replace
from rich.cells import cell_len
from textual import events
from textual.containers import Vertical

from edgetop.core.clock import US_PER_S
from edgetop.core.energy.duty import Price
from edgetop.core.format import NOT_AVAILABLE, format_bytes_short, format_rate, plural
from edgetop.core.quantity import plus_minus
from edgetop.core.text import one_line
from edgetop.inference.server.usage import Slot, Usage
from edgetop.live.fleet import (
    HEADINGS,
    FleetSession,
    fleet_notes,
    host_cells,
    total_cells,
    total_of,
)
from edgetop.live.live_session import WatchSession
from edgetop.live.proxy_session import OPEN_TO_ALL, ProxySession
from edgetop.live.server_monitor import SEARCHED_FOR, STATE_WORDS, ServerStatus
from edgetop.session.requests import (
    CLIENT_HEADINGS,
    SETTLED_S,
    ClientFigures,
    RereadFigures,
    client_cells,
    client_figures,
    energy_note,
    request_line,
    reread_figures,
    reread_line,
)
from edgetop.tui.keys import WATCH
from edgetop.tui.panes.meters import status_line
from edgetop.tui.panes.pane import View
from edgetop.tui.screens.monitor import KeyLine, Monitor, RecordingScreen
from edgetop.tui.styled_text import (
    Line,
    Role,
    Span,
    fit,
    fit_text,
    for_level,
    joined,
    line_of,
    paragraph,
    sentence,
    shortened,
    spread,
    width_of,
)
from edgetop.tui.themes import GlyphLevel
from edgetop.tui.widgets import LinesWidget

NOTHING = (
    "No model process runs on this device.",
    f"Searched for: {SEARCHED_FOR}.",
    "For a server elsewhere or in a container: edgetop watch --server URL",
)

SEARCHING = "Searching for model processes."

_INDENT = "  "


def lines_of(rows: Sequence[ServerStatus], width: int, level: GlyphLevel, *, searched: bool) -> list[Line]:
    """The whole list in `width` cells."""
    if not rows:
        texts = NOTHING if searched else (SEARCHING,)
        return [
            line for number, text in enumerate(texts) for line in paragraph(text, width, "dim" if number else "text")
        ]
    lines: list[Line] = []
    for row in rows:
        lines += [*([()] if lines else []), *_lines(row, width, level)]
    return [line if width_of(line) <= width else fit(line, width) for line in lines]


def _lines(row: ServerStatus, width: int, level: GlyphLevel) -> list[Line]:
    state, role = _state(row)
    right = line_of(Span(state, role))
    name = line_of(Span(f"{row.number} ", "dim"), Span(row.kind, "title"))
    models = ", ".join(row.models) or "model not known"
    room = width - sum(len(span.text) for span in (*name, *right)) - 3
    shorter = [line_of(Span(part, role)) for part in state.split("  ")]
    left = line_of(*name, " ", Span(shortened(models, max(8, room), level), "accent"))
    lines = [spread(left, [right, *shorter], width)]
    lines.append((Span(_INDENT), *joined(_facts(row), width - len(_INDENT))))
    usage = row.usage
    if usage is not None and usage.slots:
        lines += [_slot_line(slot) for slot in usage.slots if slot.doing != "idle"]
    if row.probe is not None:
        lines += [(Span(_INDENT), *line) for line in paragraph(row.probe.words, max(8, width - len(_INDENT)), "graph")]
    for text, reason_role in _reasons(row):
        lines += [(Span(_INDENT), *line) for line in paragraph(text, max(8, width - len(_INDENT)), reason_role)]
    return lines


def _state(row: ServerStatus) -> tuple[str, Role]:
    usage = row.usage
    if row.state is None:
        return ("no address", "warning") if row.trouble is not None else ("not asked", "dim")
    if row.state != "answers" or usage is None:
        role: Role = {"silent": "bad", "refuses": "bad", "asleep": "dim"}.get(row.state, "warning")  # type: ignore[assignment]
        return STATE_WORDS[row.state], role
    if usage.running is None:
        return "answers", "good"
    waiting = f" {usage.waiting} waiting" if usage.waiting else ""
    rate = f"{format_rate(row.tokens_per_s)}  " if row.tokens_per_s is not None and usage.running else ""
    return (f"{rate}{usage.running} running{waiting}" if usage.running or waiting else "idle"), "good"


def _facts(row: ServerStatus) -> list[Line]:
    """What it uses, and where it is, the most important first."""
    usage = row.usage
    facts = [
        f"{row.cpu_percent:.0f} % cpu" if row.cpu_percent is not None else "",
        format_bytes_short(row.resident_bytes) if row.resident_bytes is not None else "",
        f"gpu {format_bytes_short(row.gpu_bytes)}" if row.gpu_bytes is not None else "",
        _context(usage),
        f"{'>= ' if usage.counts == 'running' else ''}{usage.tokens} tok"
        if usage is not None and isinstance(usage.tokens, int)
        else "",
        row.address.partition("://")[2] or "",
        f"pid {row.pid}" if row.pid is not None else "",
        plural(row.threads, "thread") if row.threads else "",
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


def _reasons(row: ServerStatus) -> list[tuple[str, Role]]:
    """Why something is not known, and what to do about it."""
    found: list[tuple[str, Role]] = []
    usage = row.usage
    missing = row.trouble if usage is None else usage.no_count
    if missing is not None and row.state != "down":
        text = f"{missing.reason}: {missing.hint}" if missing.hint else missing.reason
        found.append((sentence(text), "dim" if usage else "warning"))
    if not row.is_open:
        found.append(("Another user's process: sudo shows more of it.", "dim"))
    return found


TICK_S = 1.0
"""Servers are polled once a second."""


class ServerList(LinesWidget):
    """Lines that are made anew for another size."""

    def __init__(self, draw: Callable[[], None]) -> None:
        super().__init__(id="services")
        self._draw_lines = draw

    def on_resize(self, _event: events.Resize) -> None:
        """Show as many lines as there is room for now."""
        self._draw_lines()


class WatchScreen(RecordingScreen):
    """Watches until it is closed."""

    TABLE = WATCH
    DELAYS_S = tuple(delay_s for delay_s in RecordingScreen.DELAYS_S if delay_s >= TICK_S)
    DEFAULT_CSS = """
    WatchScreen #services { height: 1fr; }
    """

    TITLE_OF_LIST = "model servers"
    VERB = "watch"

    def __init__(
        self, watch: WatchSession | FleetSession, *, level: GlyphLevel, delay_s: float = 1.0, price: Price | None = None
    ) -> None:
        services = ServerList(self._draw_services)
        monitor = Monitor(Vertical(services, id="services-box"), self.TITLE_OF_LIST, level)
        super().__init__(watch, monitor, level=level, delay_s=delay_s, price=price)
        self._watch = watch
        self._services = services
        self._first_line = 0
        """Of the list, at the top of its box."""

    def on_mount(self) -> None:
        """Start the timer."""
        self.query_one(KeyLine).in_panes = True
        self._tick_every(TICK_S)
        self.call_after_refresh(self._tick)

    def _next_tick_s(self) -> float:
        return TICK_S

    def _pump(self) -> None:
        self._watch.pump()

    def _drawn(self, _view: View) -> None:
        self._draw_services()

    def _draw_services(self) -> None:
        width, height = self._services.size
        if width < 1 or height < 1:
            return
        lines = self._lines_of(width)
        self._first_line = min(self._first_line, max(0, len(lines) - height))
        shown = lines[self._first_line : self._first_line + height]
        below = len(lines) - self._first_line - len(shown)
        if below > 0:
            shown[-1] = line_of(Span(f"{below + 1} more lines: {self.keys.key_of('down')}", "dim"))
        self._services.show_lines([for_level(line, self._level) for line in shown])

    def _lines_of(self, width: int) -> list[Line]:
        return lines_of(self._watch.rows, width, self._level, searched=self._watch.has_searched)

    def _found(self) -> str:
        """How many there are."""
        count = len(self._watch.rows)
        return f"{count or 'no'} model process{'' if count == 1 else 'es'}"

    def _view(self) -> View:
        header = self._watch.session.header
        host = "" if header is None else header.device.hostname
        heading = (
            line_of(Span(f"{'' if self._monitor.layout_name == 'small' else 'edgetop '}{self.VERB}", "title")),
            *(line_of(Span(fact, "dim")) for fact in (self._found(), host) if fact),
        )
        return replace(super()._view(), heading=heading)

    def action_sessions(self) -> None:
        """Show recorded sessions, to compare and to replay them."""
        from edgetop.tui.screens.sessions import SessionsScreen  # noqa: PLC0415 - few watches need it

        self.app.push_screen(SessionsScreen(self._watch.store, self._level, price=self._price))

    def action_probe(self) -> None:
        """Measure how fast each server is."""
        if isinstance(self._watch, WatchSession):
            self._watch.probe()
            self.notify_text("Each server is asked for 16 tokens, one after the other.")
        else:
            self.notify_text("A probe is for the servers of one machine: edgetop watch there.")

    def action_scroll(self, lines: int) -> None:
        """Move the list by lines."""
        self._first_line = max(0, self._first_line + lines)
        self._draw_services()


PROXY_TICK_S = 0.25
"""What has gone by is read so often, in small pieces: a chunk that goes by meanwhile waits for the interpreter."""
CLIENTS_SHARE = 0.01
"""Of a core's time, which the figures of the clients may take: they are of all requests so far."""
LAST_REQUESTS = 8
_OF_CLIENT = (("REQUESTS", "TOKENS", "SPEED", "FIRST"), ("PROMPT", "CACHED", "GAP", "SHARED"))
"""What a client has in lines of their own, by the headings of the table."""


class ProxyScreen(WatchScreen):
    """Shows the clients of a proxy and its last requests, above the servers of this device."""

    TITLE_OF_LIST = "clients"
    VERB = "proxy"

    def __init__(
        self, proxy: ProxySession, *, level: GlyphLevel, delay_s: float = 1.0, price: Price | None = None
    ) -> None:
        super().__init__(proxy, level=level, delay_s=delay_s, price=price)
        self._proxy = proxy
        self._clients: Sequence[ClientFigures] = ()
        self._rereads: Sequence[RereadFigures] = ()
        self._counted = 0
        """Requests of which the figures are."""
        self._due_s = 0.0

    def _next_tick_s(self) -> float:
        return PROXY_TICK_S

    def _found(self) -> str:
        count = len(self._proxy.session.requests)
        return f"{count} request{'' if count == 1 else 's'}, {self._proxy.running} running"

    def _count_clients(self) -> None:
        session, now_us = self._proxy.session, self._proxy.now_us()
        requests = session.requests
        is_new = len(requests) != self._counted or (requests and now_us - requests[-1].t_us < SETTLED_S * US_PER_S)
        if not is_new or time.monotonic() < self._due_s:
            return
        begin_s = time.thread_time()
        self._clients, self._rereads = client_figures(session, now_us), reread_figures(session, now_us)
        self._counted = len(requests)
        self._due_s = time.monotonic() + (time.thread_time() - begin_s) / CLIENTS_SHARE

    def _lines_of(self, width: int) -> list[Line]:
        self._count_clients()
        proxy = self._proxy
        requests = proxy.session.requests
        lines = paragraph(f"{proxy.url} for {proxy.server}", width)
        if not proxy.is_for_here:
            lines += paragraph(f"{sentence(OPEN_TO_ALL[0])} {OPEN_TO_ALL[1]}.", width, "warning")
        if not requests:
            lines += paragraph(f"OPENAI_BASE_URL={proxy.url}/v1", width, "dim")
            lines += paragraph(f"OLLAMA_HOST={proxy.url}", width, "dim")
            lines += [(), *paragraph("No request has come yet.", width, "dim")]
        for row in self._clients:
            lines += [(), *_client_lines(row, width, self._level)]
        if self._clients:
            behind = len(requests) - self._counted
            lines += [(), *paragraph(sentence(energy_note(self._clients)), width, "dim")]
            lines += paragraph(f"{behind} more requests are being counted.", width, "dim") if behind else []
        lines += paragraph(sentence(reread_line(self._rereads)), width) if self._rereads else []
        if requests:
            lines += [(), line_of(Span("last requests", "title"))]
            lines += [line_of(one_line(request_line(each, each.t_us))) for each in reversed(requests[-LAST_REQUESTS:])]
        lines += [(), line_of(Span("model servers", "title")), *super()._lines_of(width)]
        return [line if width_of(line) <= width else fit(line, width) for line in lines]


def _client_lines(row: ClientFigures, width: int, level: GlyphLevel) -> list[Line]:
    cells = {heading: one_line(cell) for heading, cell in zip(CLIENT_HEADINGS, client_cells(row), strict=True)}
    energy = line_of(Span(f"{plus_minus(row.j_per_token)} J/token", "energy" if row.j_per_token else "dim"))
    name = line_of(Span(f"{cells['CLIENT']} ", "title"))
    room = width - width_of(name) - width_of(energy) - 1
    is_narrow = room < min(MODEL_LEAST, len(cells["MODEL"]))
    room = max(MODEL_LEAST, width - width_of(name) if is_narrow else room)
    first = line_of(*name, Span(shortened(cells["MODEL"], room, level), "accent"))
    lines = [first, spread((), [energy], width)] if is_narrow else [spread(first, [energy], width)]
    for headings in _OF_CLIENT:
        parts = [f"{heading.lower()} {cells[heading]}" for heading in headings if cells[heading] != NOT_AVAILABLE]
        if parts:
            lines.append((Span(_INDENT), *joined(list(map(line_of, parts)), width - len(_INDENT))))
    return lines


class FleetScreen(WatchScreen):
    """Shows several hosts until it is closed: a row each, without panes."""

    TITLE_OF_LIST = "hosts"

    def __init__(
        self, fleet: FleetSession, *, level: GlyphLevel, delay_s: float = 1.0, price: Price | None = None
    ) -> None:
        super().__init__(fleet, level=level, delay_s=delay_s, price=price)
        self._fleet = fleet
        self._monitor.meters.display = False

    def fit_into(self, _columns: int, _rows: int) -> None:
        """Give the list all the room: panes have nothing to show."""
        self._monitor.fit_into(0, 0)

    def _found(self) -> str:
        rows = self._fleet.hosts
        return f"{sum(row.reading is not None for row in rows)} of {len(rows)} hosts"

    def _lines_of(self, width: int) -> list[Line]:
        rows = self._fleet.hosts
        total = total_of(rows)
        roles: list[Role] = ["dim", *("warning" if row.missing else "text" for row in rows), "title"]
        texts = _columns([HEADINGS, *map(host_cells, rows), total_cells(total)], width)
        notes = [paragraph(one_line(note), width, "dim") for note in fleet_notes(rows, total)]
        return [
            status_line(self._view(), width),
            (),
            *(line_of(Span(text, role)) for text, role in zip(texts, roles, strict=True)),
            (),
            *(line for note in notes for line in note),
        ]


MODEL_LEAST = 10


def _columns(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Cells side by side. Hosts and models have what the figures leave."""
    harmless = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*harmless, strict=True)]
    spare = width - sum(widths) - 2 * (len(widths) - 1)
    for place, least in ((1, MODEL_LEAST), (0, MODEL_LEAST), (6, len("THROTTLED"))):
        cut = min(max(0, -spare), max(0, widths[place] - least))
        widths[place] -= cut
        spare += cut
    return ["  ".join(map(fit_text, row, widths)) for row in harmless]


def screen_of(
    watch: WatchSession | FleetSession, *, level: GlyphLevel, delay_s: float = 1.0, price: Price | None = None
) -> WatchScreen:
    """The screen of what is watched."""
    if isinstance(watch, FleetSession):
        return FleetScreen(watch, level=level, delay_s=delay_s, price=price)
    screen = ProxyScreen if isinstance(watch, ProxySession) else WatchScreen
    return screen(watch, level=level, delay_s=delay_s, price=price)  # type: ignore[arg-type]

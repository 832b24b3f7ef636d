"""The lines above: status, bars as in htop, and the panes folded into one line each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from edgetop.core.format import format_bytes_short, format_clock, format_significant, plural
from edgetop.core.sources import Unavailable
from edgetop.core.text import one_line
from edgetop.tui.panes.column import PANES, TITLES, has_no_power, now_line
from edgetop.tui.panes.energy import contents
from edgetop.tui.panes.pane import Pane, View
from edgetop.tui.styled_text import Line, Role, Span, fit, for_level, joined, line_of, shortened, spread, width_of
from edgetop.tui.themes import glyphs_for
from edgetop.tui.widgets import LinesWidget

Layout = Literal["wide", "narrow", "small"]

BAR_COLUMNS_MIN = 9
"""Where a core would have less than this, one bar stands for all cores and one for the busiest of them."""

BAR_ROWS = 2
HIGH_SHARE, FULL_SHARE = 0.8, 0.95
POWER_STEPS = 60
"""Steps in which the highest power in the time of the graphs is found."""

PHASE_TEXTS = {
    "loading": "loading a model",
    "starting": "starting",
    "no_model": "no model",
    "dead": "the engine stopped: /reload",
}
"""Phases without a model in memory."""


class TopMeters(LinesWidget):
    """Status line, a bar for each core, memory, swap, context and power."""

    DEFAULT_CSS = """
    TopMeters { height: 3; width: 100%; padding: 0 1; }
    """

    def show(self, view: View, layout: Layout) -> None:
        """Draw `view` in a layout."""
        width = self.content_size.width
        if width < 1:
            return
        lines = draw(view, width, layout)
        self.styles.height = len(lines)
        self.show_lines(lines, width)


def draw(view: View, width: int, layout: Layout) -> list[Line]:
    """The lines, each exactly `width` cells."""
    lines = [small_line(view, width)] if layout == "small" else [status_line(view, width), *_bars(view, width)]
    if layout == "narrow":
        hidden = view.hidden | ({"energy"} if has_no_power(view) and "power" not in view.hidden else set())
        lines += [_folded(title, view, width) for title in view.order or TITLES if title not in hidden]
    return [for_level(fit(line, width), view.level) for line in lines]


def _folded(title: str, view: View, width: int) -> Line:
    """A pane in one line. That of the tokens has both headline figures, that of the energy what its figure contains."""
    pane = PANES[title]
    headline = pane.headline(view)
    if title == "tokens":
        headline = now_line(view)
    elif title == "energy" and (contains := contents(view)):
        headline = line_of(contains, *headline[1:2])
    return spread((*_folded_name(pane, view), *headline), pane.summary(view), width)


def _folded_name(pane: Pane, view: View) -> Line:
    """A pane's name in four cells, marked where it has the focus."""
    return (Span(f"{pane.short}>", "key"),) if view.focus == pane.title else (Span(f"{pane.short} ", "title"),)


def status_line(view: View, width: int) -> Line:
    """Model and device on one line, with the recording mark and the session's time at its end."""
    time = format_clock(view.snapshot.t_us / 1_000_000)
    mark = {"recording": "● rec", "off": "not recorded", "trouble": "! not recording", "replay": "replay"}
    roles: dict[str, Role] = {"recording": "good", "off": "dim", "trouble": "bad", "replay": "accent"}
    right = line_of(Span(f"{mark[view.recording]} {time}", roles[view.recording]))
    room = width - width_of(right) - 1
    if view.heading:
        title = line_of(*view.heading[0], "  ")
        more = joined(view.heading[1:], room - width_of(title), f" {glyphs_for(view.level).dot} ")
        return spread((*title, *more), [right], width)
    model, device = _model(view), _device(view)
    choices: tuple[tuple[list[str], list[str]], ...] = (
        *(([*model, engine], device) for engine in _engine(view)),
        (model, device), (model, [*device[:1], *device[1:][-1:]]), (model, []),
        (model[:1], []),
    )  # fmt: skip
    for names, facts in choices:
        left = _status(view, names, facts)
        if width_of(left) <= room:
            return spread(left, [right], width)
    name = shortened(model[0], max(8, room - len("edgetop  ")), view.level)
    left = _status(view, [name], [])
    return spread(left if width_of(left) <= room else line_of(Span(name, "accent")), [right], width)


def small_line(view: View, width: int) -> Line:
    """What fits on the only line of the smallest screen, the most urgent first."""
    phase, context, n_ctx = view.snapshot.phase, view.snapshot.context_used, view.snapshot.n_ctx
    tokens, memory, power, energy = (PANES[title].headline(view) for title in ("tokens", "memory", "power", "energy"))
    parts = [
        *view.heading[:1],
        line_of(Span("PAUSED" if view.paused else "", "warning")),
        line_of(Span("! not recording" if view.recording == "trouble" else "", "bad")),
        line_of(Span(_phase_text(view), "warning")) if phase in PHASE_TEXTS else tokens[-1:],
        *(line_of(span._replace(text=span.text.replace("J/token", "J/t"))) for span in energy if span.role == "energy"),
        line_of(f"ctx {context}/{n_ctx}") if context is not None and n_ctx else (),
        line_of("mem ", *memory[:1]),
        power[:1] if not isinstance(view.snapshot.power, Unavailable) else (),
    ]
    return joined(parts, width)


def bar(name: str, share: float | None, texts: tuple[str, ...], width: int) -> Line:
    """`name[||||     text]` in `width` cells, with the first of `texts` that fits.

    Without a share the bar is empty, and the text says why. A full bar ends with an exclamation mark, so that colour is
    not the only sign.
    """
    inner = max(0, width - len(name) - 2)
    mark = "!" if share is not None and share >= FULL_SHARE else ""
    shown = next((f"{text}{mark}" for text in texts if len(text) + len(mark) <= inner), mark[:inner])
    filled = 0 if share is None else round(min(max(share, 0.0), 1.0) * inner)
    # The text covers the end of the bar, so that it is readable when the bar is full.
    room = inner - len(shown)
    ticks = "|" * min(filled, room)
    high, full = round(HIGH_SHARE * inner), round(FULL_SHARE * inner)
    parts: tuple[tuple[str, Role], ...] = (
        (ticks[:high], "good"), (ticks[high:full], "warning"), (ticks[full:], "bad"),
        (" " * (room - len(ticks)), "text"),
        (shown, "dim" if share is None or share < HIGH_SHARE else "warning" if share < FULL_SHARE else "bad"),
    )  # fmt: skip
    return (Span(f"{name}[", "title"), *(Span(*part) for part in parts if part[0]), Span("]", "title"))


def _status(view: View, model: list[str], device: list[str]) -> Line:
    dot = f" {glyphs_for(view.level).dot} "
    parts = [Span("edgetop", "title"), Span("  "), Span(dot.join(model), "accent")]
    return line_of(*parts, *([Span("   "), Span(dot.join(device), "dim")] if device else []))


def _phase_text(view: View) -> str:
    share = f" {view.load_fraction:.0%}" if view.load_fraction is not None else ""
    return PHASE_TEXTS[view.snapshot.phase] + share


def _model(view: View) -> list[str]:
    """The model's name and more about it, the most important first."""
    load = view.snapshot.load
    if view.snapshot.watch is not None:
        return ["watch"]
    if load is None or view.snapshot.phase in PHASE_TEXTS:
        return [_phase_text(view) if view.snapshot.phase in PHASE_TEXTS else view.snapshot.phase]
    count = load.settings.n_threads
    threads = one_line(load.engine.name) if count is None else plural(count, "thread")
    layers = load.settings.n_gpu_layers
    name = " ".join(part for part in (one_line(load.model.name), one_line(load.model.quantization)) if part)
    return [
        name or "unnamed model",
        format_bytes_short(load.model.size_bytes),
        f"{layers} layers {'offloaded' if load.settings.rpc_servers else 'on GPU'}" if layers else threads,
    ]


def _engine(view: View) -> list[str]:
    """The engine's name with its build and commit, and without."""
    load = view.snapshot.load
    hidden = load is None or view.snapshot.watch is not None or view.snapshot.phase in PHASE_TEXTS
    return [] if load is None or hidden else [one_line(load.engine.full), one_line(load.engine.short)]


def _device(view: View) -> list[str]:
    device = view.device
    temperature = view.value("temperature.cpu")
    frequency = view.value("cpu.frequency")
    degrees = "C" if view.level == "ascii" else "°C"
    parts = [
        one_line(device.hostname),
        format_bytes_short(device.memory_bytes) if device.memory_bytes else "",
        one_line(device.governor),
        f"{frequency / 1e9:.2g} GHz" if frequency is not None else "",
        f"{temperature:.0f} {degrees}" if temperature is not None else "",
    ]
    return [part for part in parts if part]


_Bar = tuple[str, float | None, tuple[str, ...]]


def _bars(view: View, width: int) -> list[Line]:
    half = (width - 1) // 2
    meter_width = (width - half - 2) // 2
    meters: tuple[Callable[[View], _Bar], ...] = (_memory_bar, _context_bar, _swap_bar, _power_bar)
    cores = _core_bars(view, half)
    columns = -(-len(cores) // BAR_ROWS)
    core_width = (half - (columns - 1)) // columns
    lines: list[Line] = []
    for row in range(BAR_ROWS):
        line: list[Span] = []
        for core in cores[row::BAR_ROWS]:
            line += [*bar(*core, core_width), Span(" ")]
        left = fit(tuple(line), half + 1)
        first, second = (meter(view) for meter in meters[BAR_ROWS * row : BAR_ROWS * row + 2])
        lines.append((*left, *bar(*first, meter_width), Span(" "), *bar(*second, meter_width)))
    return lines


def _core_bars(view: View, width: int) -> list[_Bar]:
    """A bar a core in columns of two; where they would be too small, one for all cores and one for the busiest."""
    cores: list[float | None] = []
    while (channel := f"cpu.{len(cores)}") in view.snapshot.readings:
        cores.append(view.value(channel))
    columns = -(-len(cores) // BAR_ROWS)
    if cores and (width - (columns - 1)) // columns >= BAR_COLUMNS_MIN:
        return [_percent_bar(f"{number:>2}", percent) for number, percent in enumerate(cores, 1)]
    bars = [_percent_bar("CPU" if not cores else f"{len(cores)} CPUs", view.value("cpu.total"))]
    known = [percent for percent in cores if percent is not None]
    return [*bars, _percent_bar("busiest", max(known))] if known else bars


def _percent_bar(name: str, percent: float | None) -> _Bar:
    return (name, None, ("n/a",)) if percent is None else (name, percent / 100, (f"{percent:.0f}%",))


def _memory_bar(view: View) -> _Bar:
    return _amount_bar("Mem", view.value("memory.used"), view.value("memory.total"))


def _swap_bar(view: View) -> _Bar:
    total = view.value("swap.total")
    return ("Swp", None, ("none",)) if total == 0 else _amount_bar("Swp", view.value("swap.used"), total)


def _amount_bar(name: str, used: float | None, total: float | None) -> _Bar:
    if used is None or not total:
        return name, None, ("n/a",)
    text = format_bytes_short(used)
    return name, used / total, (f"{text}/{format_bytes_short(total)}", text)


def _context_bar(view: View) -> _Bar:
    used, n_ctx = view.snapshot.context_used, view.snapshot.n_ctx
    if used is None or not n_ctx:
        return "Ctx", None, ("n/a",)
    return "Ctx", used / n_ctx, (f"{used}/{n_ctx}", f"{used / n_ctx:.0%}")


def _power_bar(view: View) -> _Bar:
    """Power now. The highest power in the time of the graph fills three quarters: it is no reason for an alarm."""
    power = view.snapshot.power
    if isinstance(power, Unavailable):
        return "Pwr", None, ("n/a",)
    highest = max([power.power_w, *(watts for watts in view.history.power(POWER_STEPS).values if watts is not None)])
    highest = view.history.scales.end_of("highest power", highest)
    share = 0.75 * power.power_w / highest if highest > 0 else 0.0
    return "Pwr", share, (f"{format_significant(power.power_w)} W",)

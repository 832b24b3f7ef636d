"""A made-up session on a made-up board, and the screens over it without engine, sensors or clock.

Everything is written out, so that a picture of it is the same on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import sin
from pathlib import Path
from typing import cast

from msgspec.structs import replace

from edgetop.core.engine_settings import EngineInfo, EngineSettings, MemoryBreakdown, ModelInfo, SamplingSettings
from edgetop.core.records import (
    DeviceInfo,
    Event,
    ModelLoaded,
    Predicted,
    Prediction,
    Prefill,
    Record,
    Sampled,
    SessionStarted,
    SourceAdded,
    SourceMissing,
    Tokens,
    TurnFinished,
    TurnStarted,
)
from edgetop.core.sources import Channel, SourceInfo, Unavailable
from edgetop.inference.protocol import Report
from edgetop.live.chat_session import LiveOptions, LiveSession
from edgetop.live.conversation import Notice, Phase
from edgetop.session.session import Session
from edgetop.session.snapshot import Reading, Snapshot, snapshot
from edgetop.session.store import Store
from edgetop.tui.app import ChatApp, Display, SingleScreenApp
from edgetop.tui.panes.column import LayoutStore
from edgetop.tui.panes.pane import View, view_of
from edgetop.tui.screens.replay import ReplayScreen
from edgetop.tui.themes import DEFAULT_THEME, GlyphLevel
from tests.support.recorded_sessions import fold

S = 1_000_000
GIB = 2**30
TURN_1_US, TURN_2_US = 30 * S, 62 * S
NOW_US = 67 * S
"""In the middle of the second answer."""

STARTED = SessionStarted(
    t_us=0,
    session_id="0123456789ab",
    started_at="2026-10-12T14:03:22.500+00:00",
    edgetop_version="0.1.0",
    device=DeviceInfo(hostname="raspberrypi5", cores_physical=4, memory_bytes=8 * GIB, governor="ondemand"),
)
LOADED = ModelLoaded(
    t_us=2 * S,
    load_s=1.4,
    model=ModelInfo(
        path="/models/smollm2.gguf",
        name="SmolLM2-1.7B-Instruct",
        quantization="Q4_K_M",
        size_bytes=1_060_000_000,
        n_layer=24,
    ),
    engine=EngineInfo(name="llama.cpp"),
    settings=EngineSettings(n_ctx=4096, n_threads=4, n_gpu_layers=0),
    memory=MemoryBreakdown(weights_bytes=1_060_000_000, kv_bytes=201_326_592, compute_bytes=104_857_600),
)
PREDICTED = Predicted(
    t_us=2 * S,
    prediction=Prediction(
        depth_tokens=512,
        prompt_tokens=512,
        basis="calibrated",
        limited_by="memory-bandwidth",
        bytes_per_token=1_050_000_000,
        bytes_per_position=49_152,
        bandwidth_bytes_per_s=9.6e9,
    ),
)
PROMPTS = ("Explain what a PMIC does.", "And what follows for a monitor?")
REPLIES = (
    """A *power management integrated circuit* turns one supply into the many rails that a board needs:

- it brings them up **in order**
- it watches current and voltage of each

On a Raspberry Pi 5, `vcgencmd pmic_read_adc` reads them.""",
    """It can add up the rails to know what the board draws, token by token. Two things remain outside: what the \
supply itself loses, and what is plugged into USB.""",
)


def _source(name: str, unit: str, *channels: str) -> SourceInfo:
    return SourceInfo(
        name=name, driver="made up", period_s=1.0, channels=tuple(Channel(name=each, unit=unit) for each in channels)
    )


_CPU = _source("cpu", "%", "cpu.total", "cpu.others", "cpu.0", "cpu.1", "cpu.2", "cpu.3")
_MEMORY = _source("memory", "B", "memory.used", "memory.total", "memory.available", "swap.used", "swap.total")
_ENGINE = _source("engine", "B", "engine.rss", "engine.mapped", "engine.anonymous", "engine.swap")
_FAULTS = _source("faults", "1/s", "engine.major_faults")
_HEAT = _source("heat", "Cel", "temperature.cpu")
_OWN = _source("own", "%", "edgetop.cpu")
_OWN_MEMORY = _source("own memory", "B", "edgetop.rss")
PMIC = SourceInfo(
    name="PMIC",
    driver="made up",
    kind="power",
    period_s=0.1,
    channels=(
        Channel(name="power.board", unit="W", digits=3, scope="board_rails"),
        Channel(name="power.core", unit="W", digits=3, scope="component"),
        Channel(name="power.ddr", unit="W", digits=3, scope="component"),
        Channel(name="power.3v3", unit="W", digits=3, scope="component"),
    ),
    properties={"window_s": 0.0, "update_s": 0.1, "gain": 0.03, "offset_w": 0.05, "total.power.board": True},
)
NO_POWER = SourceMissing(
    name="power",
    missing=Unavailable(
        "virtual machine: power sensors stay with the host", "use an external meter: --power shelly:HOST"
    ),
)


def _pieces(text: str) -> list[str]:
    return [text[at : at + 4] for at in range(0, len(text), 4)]


def _turn(number: int, at_us: int) -> list[Record]:
    pieces = _pieces(REPLIES[number - 1])
    total, cached = (38, 0) if number == 1 else (24, 100)
    begin_us = at_us + 20_000
    records: list[Record] = [
        TurnStarted(turn=number, t_us=at_us, prompt=PROMPTS[number - 1], sampling=SamplingSettings(seed=7)),
        Prefill(turn=number, t_us=begin_us, done=0, total=total, cached=cached),
        Prefill(turn=number, t_us=begin_us + total * 16_000, done=total, total=total, cached=cached),
    ]
    t_us = begin_us + total * 16_000 + 2_000
    for index, piece in enumerate(pieces):
        records.append(Tokens(turn=number, t_us=(t_us,), pieces=(piece,)))
        t_us += round(150_000 + 20_000 * sin(index / 5)) + (30_000 if index % 9 == 0 else 0)
    records.append(
        TurnFinished(
            turn=number,
            t_us=t_us,
            stop_reason="end_of_generation",
            prompt_tokens=total + cached,
            cached_tokens=cached,
            generated_tokens=len(pieces),
            context_used=total + cached + len(pieces),
            seed=7,
        )
    )
    return records


def _samples(t_us: int, busy: bool, power: bool) -> list[Record]:
    if power and t_us % S:
        return [_power(t_us, busy)]
    ripple = sin(t_us / S)
    cores = tuple(82 + 5 * sin(core + t_us / S) if busy else 3.0 + core for core in range(4))
    rss = 1.31 * GIB if t_us >= LOADED.t_us else 0.05 * GIB
    readings: list[tuple[SourceInfo, tuple[float, ...]]] = [
        (_CPU, (sum(cores) / 4, 1.0, *cores)),
        (_MEMORY, (2.1 * GIB, 7.87 * GIB, 5.5 * GIB, 0.0, 0.1 * GIB)),
        (_ENGINE, (rss, rss - 0.3 * GIB, 0.3 * GIB, 0.0)),
        (_FAULTS, (0.0,)),
        (_HEAT, (62.0 + ripple,)),
        (_OWN, (1.2,)),
        (_OWN_MEMORY, (46 * 2**20,)),
    ]
    records: list[Record] = [Sampled(source=source.name, t_us=t_us, values=values) for source, values in readings]
    return [*records, _power(t_us, busy)] if power else records


def _power(t_us: int, busy: bool) -> Sampled:
    board = 8.7 + 0.3 * sin(t_us / 700_000) if busy else 3.1 + 0.05 * sin(t_us / 900_000)
    return Sampled(source="PMIC", t_us=t_us, values=(board, 0.68 * board, 0.14 * board, 0.4))


def demo_records(*, until_us: int = NOW_US, power: bool = True) -> list[Record]:
    """What was recorded until then: a model loaded, a turn answered, and from 62 s on a second turn."""
    sources = (_CPU, _MEMORY, _ENGINE, _FAULTS, _HEAT, _OWN, _OWN_MEMORY, *((PMIC,) if power else ()))
    head: list[Record] = [STARTED, *(SourceAdded(source=source) for source in sources)]
    if not power:
        head.append(NO_POWER)
    turns = [_turn(1, TURN_1_US), _turn(2, TURN_2_US)]
    spans = [(records[0].t_us, records[-1].t_us) for records in turns]  # type: ignore[union-attr]
    body: list[Record] = [LOADED, PREDICTED, *turns[0], *turns[1]]
    for t_us in range(0, until_us + 1, S // 10 if power else S):
        body += _samples(t_us, any(begin <= t_us <= end for begin, end in spans), power)  # type: ignore[operator]
    return [*head, *sorted((record for record in body if _stamp(record) <= until_us), key=_stamp)]


def _stamp(record: Record) -> int:
    assert not isinstance(record, SourceAdded | SourceMissing)
    return record.t_us[0] if isinstance(record.t_us, tuple) else record.t_us


def demo_view(
    *, until_us: int = NOW_US, power: bool = True, level: GlyphLevel = "braille", more: Sequence[Record] = ()
) -> View:
    """What the panes draw from at that moment, with `more` records at the end."""
    return view_of(fold([*demo_records(until_us=until_us, power=power), *more]), until_us, level)


def demo_event(kind: str, t_us: int = NOW_US) -> Event:
    """An event of a kind."""
    return Event(t_us=t_us, kind=kind, text=kind)


def with_readings(view: View, values: Mapping[str, float | None]) -> View:
    """`view` with other readings by their channels; `None` takes a reading away."""
    readings = dict(view.snapshot.readings)
    for channel, value in values.items():
        readings.pop(channel, None)
        if value is not None:
            readings[channel] = Reading(value, 0)
    return replace(view, snapshot=replace(view.snapshot, readings=readings))


class _StillConversation:
    """As much of a conversation as a screen that is only looked at asks for."""

    phase: Phase = "ready"
    load_fraction = 0.0
    doing = ""
    system: str | None = None
    sampling = SamplingSettings()


class _StillRecorder:
    is_recorded = True
    trouble = ""


class DemoLiveSession:
    """Stands where the live session stands, and holds records instead of an engine."""

    def __init__(self, records: Iterable[Record]) -> None:
        self.session = Session()
        self.options = LiveOptions()
        self.conversation = _StillConversation()
        self.recorder = _StillRecorder()
        self.alerts = None
        self.is_ended_by_alert = False
        self.downloading = ""
        self._records = list(records)
        self._now_us = 0

    def play(self, on_engine_event: Callable[[Report | Notice], None], ask: Callable[[str], object]) -> None:
        """Let everything happen at once, in order."""
        for record in self._records:
            self.take(record)
            if isinstance(record, TurnStarted):
                ask(record.prompt or "")
            elif isinstance(record, ModelLoaded | Tokens | TurnFinished):
                on_engine_event(record)

    def take(self, record: Record) -> None:
        """Let one thing happen."""
        self.session.apply(record)
        if not isinstance(record, SourceAdded | SourceMissing):
            self._now_us = max(self._now_us, _stamp(record))

    def now_us(self) -> int:
        return self._now_us

    def snapshot(self) -> Snapshot:
        return snapshot(self.session, self._now_us)

    def pump(self, wait_s: float = 0.0) -> None:
        """Nothing comes any more."""

    def check(self) -> None:
        """Nothing is to be looked after."""

    def close(self) -> Path | None:
        return None


class DemoApp(ChatApp):
    """The application over a session that stands still."""

    def __init__(
        self,
        records: Iterable[Record],
        level: GlyphLevel = "braille",
        theme: str = DEFAULT_THEME,
        layout_store: LayoutStore | None = None,
    ) -> None:
        super().__init__(self._nothing, model=None, display=Display(level, theme), layout_store=layout_store)
        self.demo = DemoLiveSession(records)
        self.played = False
        """Everything has happened, and was drawn."""

    @staticmethod
    def _nothing() -> tuple[LiveOptions, Store]:
        raise AssertionError("a demo session has no engine")

    def _start(self) -> None:
        self.live_screen = self._open_live_screen(cast("LiveSession", self.demo))
        self.live_screen.call_after_refresh(self._play)
        self.live_screen.call_after_refresh(self.call_next, self._replay_typed)

    def happen(self, record: Record, *, shown: bool = True) -> None:
        """Let one more thing happen, and append what is said to the chat if it is to be shown now."""
        screen = self.live_screen
        self.demo.take(record)
        if isinstance(record, TurnStarted):
            screen._chat.add_message("user", record.prompt or "")
        elif isinstance(record, ModelLoaded | Tokens | TurnFinished):
            screen.on_engine_event(record)
        if shown:
            screen._controller.flush()

    def draw(self) -> None:
        """Draw the panes."""
        self.live_screen._draw()

    def _play(self) -> None:
        screen = self.live_screen
        self.demo.play(screen.on_engine_event, lambda prompt: screen._chat.add_message("user", prompt))
        screen._controller.flush()
        screen._draw()
        self.played = True


END_US = 80 * S
"""After the second answer."""
ENDED = Event(t_us=END_US, kind="session_ended", text="The session ended.")


def ended_records() -> list[Record]:
    """A session of two turns, from the beginning to its end."""
    return [*demo_records(until_us=END_US - 1), ENDED]


def slowed_down(records: Sequence[Record], by: float = 1.5, quantization: str = "Q8_0") -> list[Record]:
    """The same on a model of another quantization, for which everything takes longer."""

    def later(record: Record) -> Record:
        if isinstance(record, SourceAdded | SourceMissing):
            return record
        if isinstance(record, Tokens):
            return replace(record, t_us=tuple(round(by * t_us) for t_us in record.t_us))
        moved = replace(record, t_us=round(by * record.t_us))
        if isinstance(moved, ModelLoaded):
            return replace(moved, model=replace(moved.model, quantization=quantization))
        return moved

    return [later(record) for record in records]


def two_sessions() -> list[Session]:
    """The two, the second one slower."""
    return [fold(ended_records()), fold(slowed_down(ended_records()))]


class ReplayApp(SingleScreenApp[None]):
    """The replay screen as `edgetop replay` opens it."""

    def __init__(self, sessions: Sequence[Session], level: GlyphLevel = "braille", *, plays: bool = False) -> None:
        self.now_us = 0
        self.replay = ReplayScreen(sessions, level=level, clock=lambda: self.now_us, plays=plays)
        super().__init__(lambda _: self.replay, Display(level))

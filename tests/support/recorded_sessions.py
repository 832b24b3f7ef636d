"""Recordings for the tests of sessions: one written out by hand, and hypothesis strategies for any."""

from __future__ import annotations

from collections.abc import Iterable
from math import nan
from pathlib import Path

from hypothesis import strategies as st

from edgetop.core.engine_settings import (
    EngineInfo,
    EnginePerf,
    EngineSettings,
    MemoryBreakdown,
    ModelInfo,
    SamplingSettings,
)
from edgetop.core.quantity import Interval
from edgetop.core.records import (
    DeviceInfo,
    Event,
    ModelLoaded,
    Predicted,
    Prediction,
    Prefill,
    Record,
    ReplyPart,
    Sampled,
    SessionStarted,
    SourceAdded,
    SourceMissing,
    Tokens,
    TurnFinished,
    TurnStarted,
)
from edgetop.core.sources import Channel, SourceInfo, Unavailable
from edgetop.session.journal import open_journal
from edgetop.session.session import Session

START_US = 5_000_000_000
"""The clock when the recordings begin."""
MS = 1000
S = 1_000_000

STARTED = SessionStarted(
    t_us=START_US,
    session_id="0123456789ab",
    started_at="2026-10-12T14:03:22.500+00:00",
    edgetop_version="0.1.0",
    device=DeviceInfo(hostname="pi", model="Raspberry Pi 5", cores_physical=4),
)
LOADED = ModelLoaded(
    t_us=START_US + 500 * MS,
    load_s=0.5,
    model=ModelInfo(path="/models/tiny.gguf", name="Tiny Instruct", quantization="Q4_0"),
    engine=EngineInfo(name="llama.cpp", version="b1"),
    settings=EngineSettings(n_ctx=4096, n_threads=2, template_args={"enable_thinking": False}),
    memory=MemoryBreakdown(weights_bytes=100_000_000, kv_bytes=20_000_000, compute_bytes=5_000_000),
)
MEMORY = SourceInfo(
    name="memory",
    driver="procfs",
    period_s=1.0,
    channels=(Channel(name="memory.available", unit="B"), Channel(name="swap.used", unit="B")),
)
CPU = SourceInfo(
    name="cpu",
    driver="psutil",
    period_s=1.0,
    channels=(Channel(name="cpu.others", unit="%", digits=1), Channel(name="cpu.steal", unit="%", digits=1)),
)
ENGINE = SourceInfo(
    name="engine",
    driver="procfs",
    period_s=1.0,
    channels=(
        Channel(name="engine.rss", unit="B"),
        Channel(name="engine.swap", unit="B"),
        Channel(name="engine.major_faults", unit="1/s", digits=1),
    ),
)
OWN = SourceInfo(
    name="edgetop",
    driver="procfs",
    period_s=1.0,
    channels=(Channel(name="edgetop.cpu", unit="%", digits=2), Channel(name="edgetop.rss", unit="B")),
)
HEAD: tuple[Record, ...] = (
    STARTED,
    *(SourceAdded(source=source) for source in (MEMORY, CPU, ENGINE, OWN)),
    SourceMissing(name="power", missing=Unavailable("this board has no power sensor", "use an external meter")),
    LOADED,
)


def fold(records: Iterable[Record]) -> Session:
    """The session of the records."""
    session = Session()
    for record in records:
        session.apply(record)
    return session


def turn(
    number: int = 1,
    *,
    at_us: int = 1 * S,
    prefill_us: int = 200 * MS,
    gaps_us: Iterable[int] = (100 * MS,) * 4,
    finished: bool = True,
) -> list[Record]:
    """A turn of a 60-token prompt, 10 of them cached: submitted at `at_us`, evaluated from 50 ms later on."""
    begin_us = START_US + at_us
    records: list[Record] = [
        TurnStarted(turn=number, t_us=begin_us, prompt="What is a PMIC?", sampling=SamplingSettings(seed=7)),
        Prefill(turn=number, t_us=begin_us + 50 * MS, done=0, total=50, cached=10),
        Prefill(turn=number, t_us=begin_us + 50 * MS + prefill_us, done=50, total=50, cached=10),
    ]
    stamps_us = [begin_us + 50 * MS + prefill_us + 1 * MS]
    for gap_us in gaps_us:
        stamps_us.append(stamps_us[-1] + gap_us)
    records += [
        Tokens(turn=number, t_us=(stamp_us,), pieces=(f" w{index}",)) for index, stamp_us in enumerate(stamps_us)
    ]
    if finished:
        records.append(
            TurnFinished(
                turn=number,
                t_us=stamps_us[-1] + 2 * MS,
                stop_reason="end_of_generation",
                prompt_tokens=60,
                cached_tokens=10,
                generated_tokens=len(stamps_us),
                context_used=60 + len(stamps_us),
                seed=7,
                perf=EnginePerf(prefill_ms=200.0, prefill_tokens=50, decode_ms=400.0, decode_tokens=4),
            )
        )
    return records


def sample(source: SourceInfo, at_us: int, *values: float | None, reasons: tuple[str, ...] = ()) -> Sampled:
    """A reading `at_us` after the beginning."""
    return Sampled(source=source.name, t_us=START_US + at_us, values=values, reasons=reasons)


def journal_lines(path: Path) -> bytes:
    """The lines of a journal as they are unpacked."""
    with path.open("rb") as file, open_journal(file.fileno()) as lines:
        return lines.read()


def event(kind: str, at_us: int) -> Event:
    """An event `at_us` after the beginning."""
    return Event(t_us=START_US + at_us, kind=kind, text=f"{kind} happened", data={"why": "test", "count": 2.0})


_texts = st.text('ab 1é"\\\n\x1b\u202e😀', max_size=8)
_dt_us = st.integers(0, 3 * S)
_values = st.none() | st.floats(-1e12, 1e12) | st.just(nan)
_KINDS = ("sample", "sample", "tokens", "tokens", "tokens", "prefill", "turn", "turn_end", "event", "load")


@st.composite
def recordings(draw: st.DrawFn) -> list[Record]:
    """Any session in the order of its stamps; not every record fits what came before it."""
    records: list[Record] = list(HEAD)
    t_us, number, generated = LOADED.t_us, 0, 0
    for kind in draw(st.lists(st.sampled_from(_KINDS), max_size=40)):
        t_us += draw(_dt_us)
        if kind == "sample":
            source = draw(st.sampled_from((MEMORY, CPU, ENGINE, OWN)))
            values = tuple(draw(_values) for _ in source.channels)
            reasons = draw(st.just(()) | st.tuples(*(st.sampled_from(("", "gone", "asleep")) for _ in source.channels)))
            records.append(Sampled(source=source.name, t_us=t_us, values=values, reasons=reasons))
        elif kind == "tokens":
            # A single stamp each, so that a recording can be cut at any moment.
            part: ReplyPart = draw(st.sampled_from(("answer", "reasoning")))
            records.append(Tokens(turn=number, t_us=(t_us,), pieces=(draw(_texts),), part=part))
            generated += 1
        elif kind == "prefill":
            records.append(Prefill(turn=number, t_us=t_us, done=draw(st.integers(0, 99)), total=99, cached=3))
        elif kind == "turn":
            number, generated = number + 1, 0
            records.append(TurnStarted(turn=number, t_us=t_us, prompt=draw(st.none() | _texts)))
        elif kind == "turn_end":
            records.append(
                TurnFinished(
                    turn=number,
                    t_us=t_us,
                    stop_reason=draw(st.sampled_from(("max_tokens", "cancelled"))),
                    prompt_tokens=102,
                    cached_tokens=3,
                    generated_tokens=generated,
                    context_used=102 + generated,
                )
            )
        elif kind == "event":
            name = draw(st.sampled_from(("throttled", "engine_died", "session_ended")))
            records.append(Event(t_us=t_us, kind=name, text=draw(_texts)))
        else:
            records.append(
                ModelLoaded(t_us=t_us, load_s=1.5, model=LOADED.model, engine=LOADED.engine, settings=LOADED.settings)
            )
    return records


def figure_around(value: float, off: float = 0.2) -> Interval:
    return Interval(
        value=value, low=value * (1 - off), high=value * (1 + off), u_systematic=value * off / 2, u_random=0.0
    )


PREDICTION = Prediction(
    memory_bytes=500_000_000,
    decode_tokens_per_s=figure_around(11.0),
    decode_s_per_position=1e-5,
    prefill_tokens_per_s=figure_around(300.0),
    first_token_s=figure_around(2.0),
    depth_tokens=500,
    prompt_tokens=600,
    basis="formula",
    limited_by="memory-bandwidth",
    bytes_per_token=100_000_000,
    bytes_per_position=10_000,
    bandwidth_bytes_per_s=2e9,
)

PREDICTED = Predicted(t_us=LOADED.t_us + 20 * MS, prediction=PREDICTION)

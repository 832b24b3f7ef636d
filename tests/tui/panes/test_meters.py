from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from rich.cells import cell_len

from edgetop.core.records import DeviceInfo
from edgetop.tui.panes.meters import Layout, bar, draw
from edgetop.tui.panes.pane import View
from edgetop.tui.styled_text import Line
from edgetop.tui.themes import LEVELS, GlyphLevel
from tests.support.demo_session import S, demo_event, demo_view, with_readings
from tests.support.hostile_text import acts_on_a_terminal, hostile_text


def text_of(line: Line) -> str:
    return "".join(span.text for span in line)


def drawn(view: View, columns: int, layout: Layout) -> list[str]:
    return [text_of(line) for line in draw(view, columns, layout)]


def with_cores(view: View, count: int) -> View:
    readings = {f"cpu.{core}": None for core in range(16)} | {f"cpu.{core}": 10.0 + core for core in range(count)}
    return with_readings(view, {**readings, "cpu.total": 55.0})


@pytest.mark.parametrize(("columns", "layout"), [(118, "wide"), (78, "narrow"), (58, "narrow"), (40, "small")])
@pytest.mark.parametrize("cores", [0, 1, 2, 3, 4, 6, 16])
def test_every_line_fills_its_columns_whatever_the_machine(columns: int, layout: Layout, cores: int) -> None:
    for level in LEVELS:
        for power in (True, False):
            lines = drawn(with_cores(demo_view(level=level, power=power), cores), columns, layout)
            assert len(lines) == {"wide": 3, "narrow": 7 if power else 6, "small": 1}[layout]
            assert {cell_len(line) for line in lines} == {columns}
            assert level != "ascii" or "".join(lines).isascii()


def test_cores_stand_below_each_other_as_in_htop() -> None:
    _, first, second = drawn(with_cores(demo_view(), 4), 118, "wide")
    assert re.match(r" 1\[\|+ +10%\]  3\[\|+ +12%\] ", first)
    assert re.match(r" 2\[\|+ +11%\]  4\[\|+ +13%\] ", second)


@pytest.mark.parametrize(("columns", "layout", "cores"), [(118, "wide", 16), (58, "narrow", 8)])
def test_more_cores_than_there_is_room_for_become_their_mean_and_the_busiest(
    columns: int, layout: Layout, cores: int
) -> None:
    _, first, second, *_ = drawn(with_cores(demo_view(), cores), columns, layout)
    assert re.match(rf"{cores} CPUs\[\|+ +55%\]", first)
    assert re.match(rf"busiest\[\|+ +{9 + cores}%\]", second)


def test_a_full_bar_says_so_without_colour() -> None:
    assert text_of(bar("Mem", 0.96, ("7.6G/7.9G",), 20)) == "Mem[|||||7.6G/7.9G!]"
    assert "!" not in text_of(bar("Mem", 0.94, ("7.6G/7.9G",), 20))
    assert text_of(bar("Mem", 1.0, ("no room",), 8)) == "Mem[||!]"


def test_a_bar_never_shows_half_a_figure() -> None:
    for width in range(5, 30):
        words = text_of(bar("Ctx", 0.5, ("2048/4096", "50%"), width))[4:-1].lstrip("| ")
        assert words in {"2048/4096", "50%", ""}


def test_a_missing_reading_is_an_empty_bar_that_says_so() -> None:
    assert text_of(bar("Pwr", None, ("n/a",), 14)) == "Pwr[      n/a]"


def test_the_status_line_names_model_device_and_recording() -> None:
    (line, *_) = drawn(demo_view(), 118, "wide")
    assert line.startswith("edgetop  SmolLM2-1.7B-Instruct Q4_K_M · 0.99G · 4 threads   raspberrypi5 · 8.0G · ondemand")
    assert "61 °C" in line
    assert line.endswith("● rec 00:01:07")
    assert "°C" not in drawn(with_readings(demo_view(), {"temperature.cpu": None}), 118, "wide")[0]


def test_the_engine_is_named_where_there_is_room_for_it() -> None:
    view = demo_view()
    load = view.snapshot.load
    assert load is not None
    system = "CPU : SSE3 = 1 | SSSE3 = 1 | AVX = 1 | AVX2 = 1 | OPENMP = 1"
    engine = replace(load.engine, version="b9554", kind="portable", system_info=system)
    view = replace(view, snapshot=replace(view.snapshot, load=replace(load, engine=engine)))
    named = " · 4 threads · llama.cpp b9554 portable AVX2   raspberrypi5"
    assert named in drawn(view, 150, "wide")[0]
    built = replace(
        engine, build="edgetop-engine 0.3.36", commit="0c1e570",
        devices=("CUDA0: Orin", "CUDA1: Orin", "CPU: Cortex-A78AE"),
    )  # fmt: skip
    view = replace(view, snapshot=replace(view.snapshot, load=replace(load, engine=built)))
    whole = "llama.cpp b9554 (portable, edgetop-engine 0.3.36, 0c1e570, AVX2, CUDA)   raspberrypi5"
    assert whole in drawn(view, 190, "wide")[0]
    assert "llama.cpp b9554 portable AVX2 CUDA   raspberrypi5" in drawn(view, 155, "wide")[0]
    assert "llama.cpp" not in drawn(view, 118, "wide")[0], "what says more of the device goes before"
    neon = replace(engine, system_info="CPU : NEON = 1 | ARM_FMA = 1 | DOTPROD = 1", kind="installed")
    assert neon.short == "llama.cpp b9554 installed DOTPROD"
    assert replace(engine, name="llama-server", kind="llama-server", system_info="").short == "llama-server b9554"


def test_whether_it_is_recorded_outlives_a_name_of_any_length() -> None:
    view = demo_view()
    load = view.snapshot.load
    assert load is not None
    named = replace(load, model=replace(load.model, name="x" * 200))
    view = replace(view, snapshot=replace(view.snapshot, load=named), recording="trouble")
    for columns in (118, 78, 58):
        line = drawn(view, columns, "narrow")[0]
        assert line.endswith("! not recording 00:01:07")
        assert "xxx…" in line


@pytest.mark.parametrize(
    ("kind", "says"),
    [("model_loading", "loading a model 45%"), ("load_failed", "no model"), ("engine_died", "the engine stopped")],
)
def test_without_a_model_the_status_says_what_is_the_matter(kind: str, says: str) -> None:
    view = demo_view(more=[demo_event(kind)])
    view = replace(view, load_fraction=0.45 if kind == "model_loading" else None)
    assert says in drawn(view, 118, "wide")[0]
    assert drawn(view, 40, "small")[0].startswith(says)


def test_panes_fold_into_lines_that_lose_their_longest_words_first() -> None:
    wide, narrow = drawn(demo_view(), 78, "narrow"), drawn(demo_view(), 58, "narrow")
    assert [line[:4] for line in wide[3:]] == [line[:4] for line in narrow[3:]] == ["tok ", "mem ", "pwr ", "J/t "]
    both = r"^tok 6.46 tok/s decode   1\.\d+ ± 0\.0\d+ J/token"
    assert re.search(rf"{both} +first token 0.41 s$", wide[3])
    assert re.search(rf"{both} *$", narrow[3])
    assert re.search(r"^J/t board rails, prefill in, not final · B +net 0\.\d+  turn [\d.]+ J$", wide[6])
    hidden = replace(demo_view(), hidden=frozenset({"memory", "energy"}))
    assert [line[:4] for line in drawn(hidden, 78, "narrow")[3:]] == ["tok ", "pwr "]


def test_without_power_one_folded_line_says_why() -> None:
    lines = drawn(demo_view(power=False), 78, "narrow")
    assert re.search(r"^pwr n/a +virtual machine: power sensors stay with the host$", lines[5])
    assert len(lines) == 6
    assert lines[3].startswith("tok 6.46 tok/s decode   J/token n/a ")


def test_the_small_line_tells_trouble_before_figures() -> None:
    view = replace(demo_view(), recording="trouble", paused=True)
    assert drawn(view, 40, "small")[0].startswith("PAUSED  ! not recording  6.46 tok/s")
    assert re.match(r"6\.46 tok/s  1\.46 ± 0\.0\d+ J/t  mem 1\.3G", drawn(demo_view(), 40, "small")[0])


@given(hostile_text, hostile_text, st.sampled_from(LEVELS), st.integers(1, 130))
def test_names_cannot_leave_their_line(model: str, host: str, level: GlyphLevel, columns: int) -> None:
    view = demo_view(until_us=3 * S, level=level, power=False)
    load = view.snapshot.load
    assert load is not None
    named = replace(load, model=replace(load.model, name=model, quantization=host))
    view = replace(view, device=DeviceInfo(hostname=host, governor=model), snapshot=replace(view.snapshot, load=named))
    layouts: tuple[Layout, ...] = ("wide", "narrow", "small")
    for layout in layouts:
        for line in drawn(view, columns, layout):
            assert cell_len(line) == columns
            assert not acts_on_a_terminal(line)

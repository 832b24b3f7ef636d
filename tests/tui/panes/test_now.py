"""The two headline figures at the top of the panes."""

from __future__ import annotations

import re
from collections import deque
from itertools import pairwise

import pytest
from msgspec.structs import replace

from edgetop.core.energy.uncertainty import LIMITS, UNSEEN, graded, seconds_to_certain
from edgetop.core.engine_settings import SamplingSettings
from edgetop.core.quantity import Components, Interval, Quantity
from edgetop.core.records import Sampled, SourceAdded, Tokens, TurnStarted
from edgetop.core.sources import Channel, SourceInfo, Unavailable
from edgetop.session.session import Session
from edgetop.tui.panes.column import PANES, _figure, box, now_line
from edgetop.tui.panes.energy import measuring
from edgetop.tui.panes.meters import Layout, draw
from edgetop.tui.panes.pane import View, view_of
from edgetop.tui.styled_text import Span, width_of
from edgetop.tui.themes import LEVELS, GlyphLevel
from tests.support.demo_session import PMIC, TURN_1_US, DemoApp, S, demo_records, demo_view
from tests.support.recorded_sessions import LOADED, START_US, STARTED
from tests.tui.screen_text import rows_of, text_of, until, until_shown


def missing(view: View, reason: str, elapsed_s: float, energy_in_s: float | None = None) -> View:
    """`view` in the middle of an answer whose energy is missing for a reason."""
    turn = view.snapshot.turn
    assert turn is not None
    figures = replace(turn.figures, energy=None, energy_missing=reason)
    changed = replace(turn, running=True, figures=figures, elapsed_s=elapsed_s, energy_in_s=energy_in_s)
    return replace(view, snapshot=replace(view.snapshot, turn=changed))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("width", [50, 67, 90])
def test_both_figures_are_three_rows_high(level: GlyphLevel, width: int) -> None:
    lines = box(demo_view(level=level), width)
    text = ["".join(span.text for span in line) for line in lines]
    assert len(lines) == 5
    assert {width_of(line) for line in lines} == {width}
    assert "prefill in" in text[0]
    assert "not final" in text[0]
    assert "tok/s" in text[2]
    assert "J/token" in text[2]
    assert "decode" in text[3]
    assert "grade B" in text[3]
    roles = {span.role for line in lines for span in line}
    assert {"headline", "energy"} <= roles


def test_what_will_come_is_not_yet_there_and_no_failure() -> None:
    before = demo_view(until_us=TURN_1_US - S)
    assert measuring(before) == "J/token comes with the answer"
    prompt = demo_view(until_us=TURN_1_US + S // 100)
    assert prompt.snapshot.turn is not None
    for view in (before, prompt):
        shown = [*box(view, 60), now_line(view)]
        shown += [
            line
            for name in ("tokens", "energy")
            for line in (PANES[name].headline(view), *PANES[name].render(view, 60, 9))
        ]
        assert "n/a" not in "\n".join("".join(span.text for span in line) for line in shown)


@pytest.mark.parametrize(("level", "sign"), [("ascii", "+-"), ("braille", "±")])
def test_an_interval_is_there_whole_or_not_at_all(level: GlyphLevel, sign: str) -> None:
    shown = set()
    for width in range(24, 40):
        lines = _figure(Span(f"0.310 {sign} 0.0066 J/token", "energy"), "grade B", width, level)
        assert all(width_of(line) <= width for line in lines)
        shown.add("".join(span.text for span in lines[0][1:]))
    assert shown - {""} <= {f"{sign} 0.0066", f"{sign}0.0066", f"0.310 {sign} 0.0066 J/token"}
    assert f"{sign} 0.0066" in shown


def test_a_figure_that_is_too_uncertain_yet_says_when_it_will_be_there() -> None:
    view = missing(demo_view(), "too little is known", 4.0, energy_in_s=8.0)
    assert measuring(view) == "measuring: J/token in about 8 s"
    assert "".join(span.text for span in now_line(view)).endswith("measuring: J/token in about 8 s")
    assert "measuring: J/token" in "".join(span.text for line in box(view, 60) for span in line)


def test_the_wait_ends_where_the_interval_is_as_wide_as_the_last_grade_allows() -> None:
    def after_3_s(relative: float) -> float | None:
        u = Components(edges=relative / 2)
        return seconds_to_certain(graded(Quantity(value=1.0, u=u), "wall", averaged=True), 3.0, 0.0)

    assert after_3_s(LIMITS[-1][1] * 3) == pytest.approx(6.0)
    assert after_3_s(LIMITS[-1][1] * 1.0001) == pytest.approx(0.0, abs=0.01)
    assert after_3_s(LIMITS[-1][1] / 2) is None
    assert seconds_to_certain(Unavailable("the sensor was lost"), 3.0, 10.0) is None
    assert seconds_to_certain(UNSEEN, 3.0, 10.0) == 7.0


def stamp_us(record: Sampled | TurnStarted | Tokens) -> int:
    return record.t_us[0] if isinstance(record.t_us, tuple) else record.t_us


WALL = Channel(name="power.wall", unit="W", digits=3, scope="wall")


@pytest.mark.parametrize("window_s", [None, 0.0], ids=["a mean", "a moment"])
@pytest.mark.parametrize("period_s", [1, 10])
@pytest.mark.parametrize("idle_s", [5, 200])
def test_the_wait_that_is_foretold_falls_to_the_second_and_no_figure_comes_before(
    window_s: float | None, period_s: int, idle_s: int
) -> None:
    properties: dict[str, str | float | bool] = {"total": True, "gain": 0.02}
    properties |= {} if window_s is None else {"window_s": window_s}
    source = SourceInfo(
        name="plug", driver="test", kind="power", period_s=period_s, channels=(WALL,), properties=properties
    )
    begin, length = 2 + idle_s, 70
    powers = [8.0 if begin <= second - period_s / 2 else 3.0 for second in range(begin + length)]
    sampled = [
        Sampled(source="plug", t_us=START_US + second * S + 100_000, values=(power_w + second % 3 / 50,))
        for second, power_w in enumerate(powers)
        if second % period_s == 0
    ]
    tokens = [
        Tokens(turn=1, t_us=(START_US + begin * S + tenth * S // 10,), pieces=("a ",))
        for tenth in range(1, length * 10)
    ]
    asked = TurnStarted(turn=1, t_us=START_US + begin * S, prompt="Hi.", sampling=SamplingSettings())
    session = Session()
    for record in (STARTED, SourceAdded(source=source), LOADED):
        session.apply(record)
    body: list[Sampled | TurnStarted | Tokens] = [*sampled, asked, *tokens]
    rest = deque(sorted(body, key=stamp_us))
    waits: list[int] = []
    figures: list[Interval] = []
    for second in range(begin, begin + length):
        while rest and stamp_us(rest[0]) <= START_US + second * S:
            session.apply(rest.popleft())
        view = view_of(session, second * S, "braille")
        if found := re.search(r"in about (\d+) s", measuring(view)):
            assert not figures, "it is measured once"
            waits.append(int(found[1]))
        elif (turn := view.snapshot.turn) is not None and turn.figures.energy is not None:
            assert turn.figures.energy.j_per_token is not None
            figures.append(turn.figures.energy.j_per_token)
    assert all(after <= before for before, after in pairwise(waits)), str(waits)
    assert waits[-1] <= (10 if window_s == 0 and period_s > 1 else 3) <= waits[0], str(waits)
    # All that is said of an answer is true, from the first figure on.
    assert all(each.low <= 0.8 <= each.high for each in figures), figures


def test_what_waiting_does_not_cure_is_not_called_measuring() -> None:
    assert measuring(missing(demo_view(), "the sensor was lost", 60.0)) == ""
    assert measuring(missing(demo_view(power=False), "power is not known", 1.0)) == ""
    assert measuring(demo_view()) == ""


async def test_without_power_one_line_stands_for_two_panes() -> None:
    app = DemoApp(demo_records(power=False))
    async with app.run_test(size=(120, 36)) as pilot:
        await until_shown(pilot, "J/token n/a", "No power: virtual machine: power", "F1 what to do", "█▀█ tok/s")
        await until(pilot, lambda: "─ energy" not in text_of(app) and "─ power" not in text_of(app), "folded")
        assert text_of(app).count("n/a") < 5
        await pilot.press("f1")
        await until_shown(
            pilot, "Virtual machine: power sensors stay with the host", "Use an external meter: --power shelly:HOST"
        )


async def test_a_low_screen_has_the_figures_in_one_row() -> None:
    app = DemoApp(demo_records())
    async with app.run_test(size=(120, 28)) as pilot:
        await until_shown(pilot, "6.46 tok/s decode   1.46 ± 0.067 J/token")
        assert "─ now ─" not in "".join(rows_of(app))


def test_before_the_first_token_the_answer_is_being_measured() -> None:
    assert measuring(demo_view(until_us=TURN_1_US + S)) == "measuring: J/token in a few seconds"


@pytest.mark.parametrize("size", [(120, 36), (100, 30)])
async def test_the_reason_for_no_power_is_whole(size: tuple[int, int]) -> None:
    app = DemoApp(demo_records(power=False))
    async with app.run_test(size=size) as pilot:
        await until_shown(pilot, "what to do")
        rows = rows_of(app)
    at = next(at for at, row in enumerate(rows) if "No power:" in row)
    told = " ".join(row[rows[at].index("No power") :] for row in rows[at : at + 2])
    words = " ".join(told.replace("F1 what to do", "").split())
    assert words == "No power: virtual machine: power sensors stay with the host"


async def test_power_that_is_computed_is_called_simulated() -> None:
    pmic = replace(PMIC, properties={**PMIC.properties, "simulated": True})
    records = [replace(each, source=pmic) if getattr(each, "source", None) == PMIC else each for each in demo_records()]
    app = DemoApp(records)
    async with app.run_test(size=(120, 36)) as pilot:
        await until_shown(pilot, "simulated power, prefill in", "W  simulated power", "simulated power: PMIC")


ERRORS = re.compile(r"n/a|too few|too little|no energy|not known", re.IGNORECASE)


@pytest.mark.parametrize("ds", [3, 10, 20, 30, 40, 60, 90, 150])
@pytest.mark.parametrize(("columns", "layout"), [(118, "wide"), (78, "narrow"), (40, "small")])
def test_no_moment_of_an_answer_with_power_reads_like_an_error(ds: int, columns: int, layout: Layout) -> None:
    t_us = TURN_1_US + ds * S // 10
    view = demo_view(until_us=t_us)
    lines = [*draw(view, columns, layout), *PANES["energy"].boxed(view, 55, 9), *box(view, 55)]
    text = "\n".join("".join(span.text for span in line) for line in lines)
    assert not ERRORS.search(text), text
    assert "measuring: J/token in" in text or "J/token" in text


@pytest.mark.parametrize("width", [40, 50, 100])
def test_the_reason_for_no_energy_is_the_true_one_wherever_it_stands(width: int) -> None:
    view = demo_view(power=False)
    pane = PANES["energy"]
    lines = [*pane.render(view, width, 6), *pane.render_zoomed(view, width, 6), pane.summary(view)[1]]
    words = " ".join(" ".join("".join(span.text for span in line) for line in lines).split())
    assert words.count("virtual machine: power sensors stay with the host") == 3

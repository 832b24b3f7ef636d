"""The results section: its table in three forms, fronts of several models, the method."""

from __future__ import annotations

import csv
import io
import re

import pytest
from msgspec.structs import replace

from edgetop.bench.paper import (
    COLUMNS,
    Ownership,
    Value,
    View,
    fronts,
    method_of,
    paper_rows,
    section,
    table_csv,
    table_latex,
    table_markdown,
)
from edgetop.bench.plan import Plan, QualityPlan
from edgetop.bench.results import SettingResult
from edgetop.core.energy.duty import Duty, Price
from edgetop.core.records import Score
from tests.bench.made_results import PP, TG, measured, of_setting, plan_result, quality

VIEW = View(
    price=Price(per_kwh=0.36, currency="EUR"),
    ownership=Ownership(device_price=100.0, life_years=1.0),
    duty=Duty(answer_tokens=100),
)


def model(label: str, right: float, rate: float, joules: float, memory: float) -> SettingResult:
    """A model that answers a share of 40 questions."""
    scores = replace(
        quality(20.0), accuracy=Score(value=right, error=0.05), questions_digest="x", scoring="so", questions_name="q"
    )
    made = of_setting(
        label,
        measured(TG, [rate * 0.99, rate, rate, rate * 1.01], [joules * 0.99, joules, joules, joules * 1.01]),
        measured(PP, [rate * 10] * 4),
        scores=scores,
    )
    return replace(made, figures={"memory.rss_peak_bytes": memory, "load_s": 1.5})


LARGE = model("1.5B_Q4", 0.8, 10.0, 0.50, 1e9)
SMALL = model("0.5B_Q8", 0.6, 25.0, 0.20, 6e8)
BEATEN = model("0.5B_F16", 0.6, 15.0, 0.30, 1.1e9)
RESULT = plan_result(LARGE, SMALL, BEATEN, power_mode="15W")
TOLD = paper_rows(RESULT, VIEW)


def cell(name: str, row: int = 0) -> Value:
    (column,) = [each for each in COLUMNS if each.name == name]
    found = column.read(TOLD[row])
    assert isinstance(found, Value)
    return found


def test_right_answers_per_joule_and_per_watt_by_hand() -> None:
    """0.8 right of answers of 100 tokens at 0.5 J, with Wilson's 65.2 to 89.5 % of 40; 5 W at 10 tok/s."""
    assert cell("right_share").low == pytest.approx(0.652, abs=1e-3)
    per_j, per_w = cell("right_per_j"), cell("right_per_w")
    assert per_j.value == pytest.approx(0.8 / 50)
    assert per_w.value == pytest.approx(0.8 / 5.0)
    joules = cell("j_per_token")
    assert joules.low is not None
    assert joules.high is not None
    assert (per_j.low, per_j.high) == pytest.approx((0.652 / joules.high / 100, 0.895 / joules.low / 100), rel=2e-3)
    assert cell("right_per_j", 1).value > per_j.value, "the small one gives more for a joule"


def test_a_million_tokens_cost_energy_and_the_device() -> None:
    """0.5 MJ are 0.1389 kWh; 10 tok/s are 315.6 million tokens in a year of 365.25 days."""
    assert cell("energy_cost_per_million").value == pytest.approx(0.05)
    assert cell("device_cost_per_million").value == pytest.approx(100 / 315.576)


def test_what_is_beaten_is_said_with_what_beats_it() -> None:
    assert fronts(TOLD) == [
        f"Right answers against {name}: nothing beats 1.5B_Q4 t2, 0.5B_Q8 t2 beyond noise; "
        "0.5B_Q8 t2 dominates 0.5B_F16 t2."
        for name in ("J/token", "tok/s", "memory")
    ]
    assert SMALL.quality is not None
    other = replace(SMALL, quality=replace(SMALL.quality, questions_digest="y"))
    assert fronts(paper_rows(plan_result(LARGE, other), VIEW)) == [], "other questions say nothing of each other"
    assert fronts(paper_rows(plan_result(LARGE), VIEW)) == []


def test_noise_dominates_nothing() -> None:
    """One is a little better in all; over the same questions, and within the repetitions, that is chance."""
    little = model("little", 0.625, 25.1, 0.199, 5.99e8)
    assert fronts(paper_rows(plan_result(SMALL, little), VIEW)) == [
        f"Right answers against {name}: nothing beats little t2, 0.5B_Q8 t2 beyond noise."
        for name in ("J/token", "tok/s", "memory")
    ]
    assert little.quality is not None
    assert SMALL.quality is not None
    much = replace(little, quality=replace(little.quality, answers="1" * 24 + "0" * 16))
    less = replace(SMALL, quality=replace(SMALL.quality, answers="1" * 14 + "0" * 26))
    assert all(
        said.endswith("; little t2 dominates 0.5B_Q8 t2.") for said in fronts(paper_rows(plan_result(less, much), VIEW))
    )


def test_the_three_forms_say_the_same() -> None:
    markdown, latex = table_markdown(TOLD), table_latex(TOLD, "Three & more")
    (first, *rows) = list(csv.reader(io.StringIO(table_csv(TOLD))))
    assert [len(row) for row in rows] == [len(first)] * 3
    assert float(rows[0][first.index("decode_tokens_per_s")]) == pytest.approx(10.0)
    assert float(rows[0][first.index("j_per_token_high")]) > 0.5
    assert "battery_h" not in first, "a column without anything is left out"
    assert markdown.splitlines()[0].startswith("| setting | ")
    assert re.search(r"\| 80(\.0)? \(65\.2 to 89\.5\) \|", markdown)
    assert re.search(r"& 80(\.0)? \[65\.2, 89\.5\] &", latex)
    assert r"\caption{Three \& more}" in latex
    assert r"1.5B\_Q4 t2 & " in latex
    columns = latex.split(r"\begin{tabular}{", 1)[1].split("}", 1)[0]
    assert {line.count(" & ") for line in latex.splitlines() if line.endswith("\\\\")} == {len(columns) - 1}


def test_names_cannot_break_a_table() -> None:
    odd = paper_rows(plan_result(of_setting("a|b & \\c{%_\n$\x1b[2J", measured(TG, (1.0, 1.1)))), VIEW)
    assert len(table_markdown(odd).splitlines()) == 3
    latex = table_latex(odd, "x")
    assert r"a|b \& \textbackslash{}c\{\%\_" in latex
    assert "\x1b" not in latex + table_markdown(odd) + table_csv(odd)


def test_the_method_says_what_a_reader_asks() -> None:
    plan = Plan(
        name="made",
        settings=tuple(each.setting for each in RESULT.settings),
        tests=(PP, TG),
        quality=QualityPlan(text="x"),
    )
    said = method_of(plan, RESULT, VIEW)
    for words in (
        "Raspberry Pi 5 (Cortex-A76)", "power mode 15W", "power.board (board input", "Engine: llama.cpp b1",
        "Each of 3 settings, taking turns, was measured 5 times.", "warm-ups do not count",
        "at least 11 s before the first run of each setting", "pp512, tg128", "Questions (q): so",
        "answers of 100 tokens",
        "No run was rejected; 0 problems and 0 disturbances",
    ):  # fmt: skip
        assert words in said
    assert "Energy is not known: this board has no power sensor." in method_of(
        plan, plan_result(replace(of_setting("a", measured(TG, (1.0,))), energy_source="")), VIEW
    )
    whole = section(plan, RESULT, VIEW, ("One thing.",))
    assert whole.index("## Method") < whole.index("## Results") < whole.index("- One thing.")
    assert section(plan, plan_result(), VIEW, ("Nothing.",)) == "- Nothing.\n"

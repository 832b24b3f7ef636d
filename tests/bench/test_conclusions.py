"""What results say in plain words."""

from __future__ import annotations

from math import expm1, sqrt

import pytest
from msgspec.structs import replace

from edgetop.bench.conclusions import conclusions_of
from edgetop.bench.paper import Ownership
from edgetop.bench.plan import TokenTest
from edgetop.core.energy.duty import Price
from edgetop.fit.assessment import Reader
from tests.bench.made_results import PP, TG, measured, of_setting, plan_result, quality

STUDY = plan_result(
    of_setting("Q8_0", measured(TG, (10.0, 10.1, 9.9), (0.60, 0.61, 0.59)), threads=1, scores=quality(20.0)),
    of_setting("Q8_0", measured(TG, (15.0, 15.1, 14.9), (0.80, 0.81, 0.79)), threads=2, scores=quality(20.0)),
    of_setting("Q4_0", measured(TG, (15.2, 15.1, 14.8), (0.50, 0.51, 0.49)), threads=1,
               scores=quality(22.0, reference="Q8_0")),
    of_setting("Q4_0", measured(TG, (24.0, 24.1, 23.9), (0.70, 0.71, 0.69)), threads=2,
               scores=quality(22.0, reference="Q8_0")),
    power_mode="15W",
)  # fmt: skip


QUALITY_OF_Q4_0 = (
    "Quality of Q4_0: perplexity 22.00 ± 0.20, diverges from Q8_0 by 0.050 nats, agrees on 93 % of tokens, "
    "80 % (65 % to 90 %) of 40 questions."
)
RESOLUTION = (
    "Two settings that differ by less than 3.2 % in tok/s or 4.6 % in J/token would look alike in these repetitions."
)
COST = (
    "A million tokens with Q4_0 t1 cost 0.04 EUR for energy and 0.04 EUR for the device (80 EUR over 4 years, "
    "generating 100 % of the time)."
)


def test_the_conclusions_of_a_study() -> None:
    conclusions = conclusions_of(
        STUDY,
        reader=Reader(),
        price=Price(per_kwh=0.30, currency="EUR"),
        ownership=Ownership(device_price=80.0, life_years=4.0),
    )
    assert conclusions.test == "tg128"
    assert (conclusions.fastest, conclusions.most_efficient) == ("Q4_0 t2", "Q4_0 t1")
    assert conclusions.best_trade_off == "Q4_0 t2", "0.70 / 24 is less than 0.50 / 15"
    assert conclusions.pareto_front == ("Q4_0 t2", "Q4_0 t1")
    assert conclusions.sentences == (
        "Fastest (tg128): Q4_0 t2 with 24.0 tok/s (3 repetitions).",
        "Most efficient: Q4_0 t1 with 0.5 (3 repetitions) J/token (board input).",
        (
            "Best trade-off (least energy per token over speed): Q4_0 t2. Nothing beats these in both beyond noise: "
            "Q4_0 t2, Q4_0 t1."
        ),
        "Q4_0: with 1 thread a token takes 29 % less energy than with 2 threads, and comes 37 % slower.",
        "Q8_0: with 1 thread a token takes 25 % less energy than with 2 threads, and comes 33 % slower.",
        RESOLUTION,
        "All of this holds in power mode 15W; measure again in the others.",
        "Reading pace of every setting: comfortable.",
        "Quality of Q8_0: perplexity 20.00 ± 0.20, 80 % (65 % to 90 %) of 40 questions.",
        QUALITY_OF_Q4_0,
        COST,
    )


def test_what_repetitions_cannot_tell_apart_is_said() -> None:
    conclusions = conclusions_of(
        plan_result(
            of_setting("a", measured(TG, (10.0, 10.4, 11.0), (0.5, 0.6, 0.55))),
            of_setting("b", measured(TG, (10.2, 10.3, 11.1), (0.5, 0.7, 0.6))),
            of_setting("c", measured(TG, (5.0, 5.01, 5.02), (1.5, 1.51, 1.52))),
        )
    )
    assert conclusions.sentences[0].endswith("These repetitions do not distinguish it from: a t2.")
    assert conclusions.pareto_front == ("b t2", "a t2"), "c is beaten; of the two, noise tells nothing"
    assert conclusions.sentences[1].endswith("These repetitions do not distinguish it from: b t2.")


def test_a_single_repetition_tells_nothing_apart() -> None:
    conclusions = conclusions_of(
        plan_result(of_setting("a", measured(TG, (10.0,))), of_setting("b", measured(TG, (30.0,))))
    )
    assert conclusions.sentences[0] == (
        "Fastest (tg128): b t2 with 30.0 tok/s. These repetitions do not distinguish it from: a t2."
    )


def test_without_energy_it_says_what_is_missing() -> None:
    conclusions = conclusions_of(plan_result(of_setting("a", measured(TG, (10.0, 10.1)))))
    assert "Energy: n/a, this board has no power sensor." in conclusions.sentences
    assert (conclusions.most_efficient, conclusions.pareto_front) == ("", ())


def test_without_a_test_of_decode_speed_quality_is_told_all_the_same() -> None:
    conclusions = conclusions_of(plan_result(of_setting("a", measured(PP, (100.0,)), scores=quality(20.0))))
    assert conclusions.test == ""
    assert conclusions.sentences == (
        "No test of decode speed was measured.",
        "Quality of a: perplexity 20.00 ± 0.20, 80 % (65 % to 90 %) of 40 questions.",
    )


def test_slow_and_fast_settings_are_told_for_a_reader() -> None:
    slow, usable = measured(TG, (2.0, 2.0)), measured(TG, (5.0, 5.0))
    conclusions = conclusions_of(plan_result(of_setting("a", slow), of_setting("b", usable)))
    assert "Reading pace: usable: b t2; too slow for reading: a t2." in conclusions.sentences


def test_decode_speed_is_that_of_the_longest_reply_at_no_depth() -> None:
    deep = TokenTest(n_gen=256, depth=1024)
    tests = (measured(deep, (5.0,)), measured(PP, (50.0,)), measured(TG, (9.0,)))
    assert conclusions_of(plan_result(of_setting("a", *tests))).test == "tg128"
    assert conclusions_of(plan_result(of_setting("a", tests[0]))).test == "tg256@d1024"


def test_every_result_says_the_smallest_difference_it_could_have_shown() -> None:
    """t(4) = 2.776 and t(2) = 4.303 at 95 %; the mean's relative uncertainty is 1 / 10 / √3."""
    test = measured(TG, [9.0, 10.0, 11.0])
    assert test.least_speed_percent == pytest.approx(100 * expm1(2.776445 * 0.1 / sqrt(3) * sqrt(2)), rel=1e-5)
    assert test.half_width_percent("speed") == pytest.approx(430.2653 * 0.1 / sqrt(3), rel=1e-5)
    assert (test.least_energy_percent, test.half_width_percent("energy")) == (None, None)
    once = measured(TG, [10.0])
    assert (once.least_speed_percent, once.half_width_percent("speed")) == (None, None)


def test_below_four_repetitions_their_number_stands_in_place_of_an_interval() -> None:
    few, enough = (
        conclusions_of(plan_result(of_setting("a", measured(TG, speeds, (0.5, 0.9, 0.6, 0.7)[: len(speeds)]))))
        for speeds in ((100.0, 230.0), (100.0, 101.0, 102.0, 103.0))
    )
    assert "165.0 tok/s (2 repetitions)" in few.sentences[0]
    assert not any(" to " in sentence and "(" in sentence for sentence in few.sentences[:2])
    assert "101.5 tok/s (99.4 to 103.6)" in enough.sentences[0]


def test_levels_are_held_against_each_other_over_the_same_questions() -> None:
    best = replace(
        quality(20.0), answers="1" * 12 + "00", questions_digest="x", scoring="so", questions_name="arc.jsonl"
    )
    worse = replace(best, answers="11" + "0" * 10 + "11")
    other = replace(best, answers="0" * 14, questions_digest="y")
    said = conclusions_of(
        plan_result(
            of_setting("a", measured(PP, (100.0,)), scores=worse),
            of_setting("b", measured(PP, (100.0,)), scores=best),
            of_setting("c", measured(PP, (100.0,)), scores=other),
        )
    ).sentences
    assert "Quality of a: perplexity 20.00 ± 0.20, 80 % (65 % to 90 %) of 40 questions of arc.jsonl." in said
    assert said[-2:] == (
        "How the questions were scored: so.",
        (
            "Of the same 14 questions, b alone answers 10 right and a alone 2: a difference "
            "(exact McNemar test, p = 0.039)."
        ),
    )
    alike = [of_setting(each, measured(PP, (100.0,)), scores=best) for each in "abc"]
    last = conclusions_of(plan_result(*alike)).sentences[-1]
    assert last == "The same 14 questions show no difference from a in b and c (exact McNemar test, p at least 1)."
    alike = [
        replace(each, quality=replace(best, answers="1" * 11 + "000")) if at else each for at, each in enumerate(alike)
    ]
    last = conclusions_of(plan_result(*alike[:2])).sentences[-1]
    assert last == "The same 14 questions show no difference from a in b (exact McNemar test, p = 1)."


def test_less_that_beats_the_most_is_said_first() -> None:
    """As on an Orin in 25 W and on a Pi 5 with two threads: nobody expects it."""
    modes = [
        of_setting("orin", measured(TG, rates, energies), threads=4)
        for rates, energies in (
            ((20.0, 20.1, 19.9), (1.00, 1.01, 0.99)),
            ((22.0, 22.1, 21.9), (0.80, 0.81, 0.79)),
            ((15.0, 15.1, 14.9), (0.90, 0.91, 0.89)),
        )
    ]
    named = [
        replace(each, setting=replace(each.setting, power_mode=mode))
        for each, mode in zip(modes, ("MAXN", "25W", "15W"), strict=True)
    ]
    said = conclusions_of(plan_result(*named, power_mode="MAXN")).sentences
    assert said[0] == "orin t4: power mode 25W beats MAXN: 10 % faster, 20 % less energy per token."
    assert not any("beats MAXN" in each for each in said[1:])
    assert not any("All of this holds in power mode" in each for each in said), "it was varied"
    threads = [
        of_setting("Q4_0", measured(TG, (24.0, 24.1, 23.9), (0.70, 0.71, 0.69)), threads=2),
        of_setting("Q4_0", measured(TG, (20.0, 20.1, 19.9), (0.80, 0.81, 0.79)), threads=4),
        of_setting("Q8_0", measured(TG, (12.0, 12.4, 11.9), (0.70, 0.71, 0.69)), threads=2),
        of_setting("Q8_0", measured(TG, (12.1, 12.2, 12.0), (1.40, 1.41, 1.39)), threads=4),
    ]
    said = conclusions_of(plan_result(*threads)).sentences
    assert said[:2] == (
        "Q4_0: 2 threads beat 4: 20 % faster, 13 % less energy per token.",
        "Q8_0: 2 threads beat 4: as fast, within noise, 50 % less energy per token.",
    )

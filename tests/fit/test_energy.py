from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from edgetop.core.engine_settings import EngineSettings
from edgetop.core.quantity import banded, sigma_of
from edgetop.core.records import PastRun
from edgetop.core.sources import Unavailable
from edgetop.fit.machine import Machine, Power
from edgetop.fit.speed import EnergyPrediction, SpeedPrediction, predict_energy
from tests.fit.runs import run_of_model
from tests.fit.test_speed import FACTS, MACHINE, predict

POWER = Power(
    scope="board_rails", meter="PMIC", decode_w={1: banded(4.5, 0.1), 2: banded(5.8, 0.1), 4: banded(6.6, 0.1)}
)
METERED = {"decode_j_per_token": 4.0, "prefill_j_per_token": 0.5, "energy_scope": "wall"}


def energy(of: Machine, runs: list[PastRun], **changes: Any) -> EnergyPrediction | Unavailable:
    speed: SpeedPrediction = changes.pop("speed", predict(of))
    threads = changes.pop("threads", 4)
    return predict_energy(
        FACTS, of, speed, settings=EngineSettings(), threads=threads, depth_tokens=100, past_runs=runs
    )


def found(of: Machine, runs: list[PastRun], **changes: Any) -> EnergyPrediction:
    prediction = energy(of, runs, **changes)
    assert isinstance(prediction, EnergyPrediction)
    return prediction


def test_without_any_power_there_is_no_energy_but_a_reason() -> None:
    missing = energy(MACHINE, [run_of_model(FACTS)])
    assert isinstance(missing, Unavailable)
    assert "no power of PC has been recorded" in missing.reason
    assert missing.hint


def test_the_tables_power_over_the_predicted_speed() -> None:
    prediction = found(replace(MACHINE, power=POWER), [])
    rate = predict().decode_tokens_per_s
    assert prediction.decode_j_per_token.value == pytest.approx(6.6 / rate.value)
    assert (prediction.scope, prediction.basis) == ("board_rails", "device table")
    assert "PMIC" in prediction.explanation
    assert sigma_of(prediction.decode_j_per_token) > sigma_of(rate)


def test_power_depends_on_the_number_of_threads() -> None:
    prediction = found(replace(MACHINE, power=POWER), [], threads=1)
    assert prediction.decode_j_per_token.value == pytest.approx(4.5 / predict().decode_tokens_per_s.value)


def test_own_metered_runs_come_before_the_table() -> None:
    prediction = found(replace(MACHINE, power=POWER), [run_of_model(FACTS, **METERED)])
    assert (prediction.scope, prediction.basis) == ("wall", "own sessions")
    assert prediction.decode_j_per_token.value == pytest.approx(8.0 / predict().decode_tokens_per_s.value)
    assert prediction.prefill_j_per_token is not None


def test_runs_without_a_meter_leave_the_table_in_its_place() -> None:
    assert found(replace(MACHINE, power=POWER), [run_of_model(FACTS)]).basis == "device table"


def test_of_several_scopes_the_widest_is_taken_and_never_mixed() -> None:
    inner = run_of_model(FACTS, **{**METERED, "energy_scope": "cpu_package", "decode_j_per_token": 1.0})
    prediction = found(MACHINE, [inner, run_of_model(FACTS, **METERED)])
    assert prediction.scope == "wall"
    assert prediction.decode_j_per_token.value == pytest.approx(8.0 / predict().decode_tokens_per_s.value)


def test_power_with_other_threads_has_a_wider_band() -> None:
    same = found(MACHINE, [run_of_model(FACTS, **METERED)])
    other = found(MACHINE, [run_of_model(FACTS, threads=2, **METERED)])
    assert sigma_of(other.decode_j_per_token) > sigma_of(same.decode_j_per_token) + 0.1


def test_an_answer_costs_its_prompt_and_all_tokens_but_the_first() -> None:
    prediction = found(replace(MACHINE, power=POWER), [])
    answer = prediction.answer_j(100, 50)
    assert prediction.prefill_j_per_token is not None
    assert answer is not None
    decode, prefill = prediction.decode_j_per_token, prediction.prefill_j_per_token
    assert answer.value == pytest.approx(100 * prefill.value + 49 * decode.value)
    assert answer.low < answer.value < answer.high


def test_an_answer_whose_prompt_cannot_be_predicted_has_no_figure() -> None:
    speed = replace(predict(), prefill_tokens_per_s=None)
    prediction = found(replace(MACHINE, power=POWER), [], speed=speed)
    assert prediction.prefill_j_per_token is None
    assert prediction.answer_j(100, 50) is None

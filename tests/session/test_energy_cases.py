"""Sessions recorded on a virtual board that went wrong once, against the true energy of their turns.

`energy_cases/` holds the sessions and `truth.json`, the energy of each turn and phase that the meter's place in the
board really took. A figure holds the truth within its interval, or it is absent for the true reason.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgetop.core.energy.tokens import Energy
from edgetop.core.quantity import Interval
from edgetop.session.file_io import load_file, recomputed

FOLDER = Path(__file__).with_name("energy_cases")
TRUTH: dict[str, list[dict[str, float]]] = json.loads((FOLDER / "truth.json").read_text())

LATE = "the readings show the work 1."
STILL = "the sensor gave one and the same reading for"
ABSENT: dict[str, dict[int, str]] = {
    "stream-delay1.5-stamped-p20": dict.fromkeys(range(4), LATE),
    "st-silence4": {0: STILL},
    "stream-freeze-all": {0: STILL},
    "ina-freeze-all": {0: STILL},
    "lostend": {1: "readings were missing for 37 % of the window"},
    "battery-30s-l40": dict.fromkeys(range(2), "battery gauge: update period not known yet"),
    "gpuidle": dict.fromkeys(
        range(2), "the model runs on the processor, and only the power of the graphics card is read"
    ),
    "nvml-disagree": {0: "the model runs on the processor, and only the power of the graphics card is read"},
    "plug-start-lag0.35": {0: "the meter was not read from the beginning of the window"},
    "two226run": {
        0: "which of 2 meters measures the whole device is not known: power.ina226.4-0040 0.300 W, power.ina2"
    },
}
"""Why the turns without energy have none; all others have one."""


def figures(name: str) -> list[tuple[Energy | None, str, int, int]]:
    """Energy, or why there is none, tokens decoded after the first and prompt tokens evaluated, of each turn."""
    return [
        (
            turn.figures.energy,
            turn.figures.energy_missing,
            (turn.figures.generated_tokens or 0) - 1,
            (turn.figures.prompt_tokens or 0) - (turn.figures.cached_tokens or 0),
        )
        for turn in recomputed(load_file(FOLDER / f"{name}.json")).turns
    ]


def holds(figure: Interval | None, truth: float) -> bool:
    return figure is None or figure.low <= truth <= figure.high


@pytest.mark.parametrize("name", TRUTH)
def test_the_energy_of_a_turn_holds_the_truth_or_is_absent_for_the_true_reason(name: str) -> None:
    for index, (energy, missing, decoded, evaluated) in enumerate(figures(name)):
        reason = ABSENT.get(name, {}).get(index)
        if reason is not None:
            assert energy is None
            assert missing.startswith(reason)
            continue
        assert energy is not None, missing
        truth = TRUTH[name][index]
        assert holds(energy.gross_j, truth["turn_j"]), index
        assert holds(energy.decode_j_per_token, truth["decode_j"] / decoded), index
        assert holds(energy.prefill_j_per_token, truth["prefill_j"] / evaluated), index


def test_a_counter_at_half_of_its_own_cards_power_makes_no_figure_although_it_was_chosen() -> None:
    (turn,) = recomputed(load_file(FOLDER / "nvml-disagree.json"), power="energy.gpu.0").turns
    energy = turn.figures.energy
    if energy is not None:
        assert "disagreement" in energy.flags
        assert holds(energy.gross_j, TRUTH["nvml-disagree"][0]["turn_j"])
    else:
        assert "two meters of the same thing disagree" in turn.figures.energy_missing


def test_the_meter_that_a_person_chooses_of_two_gives_the_figure() -> None:
    ((turn,), truth) = recomputed(load_file(FOLDER / "two226run.json"), power="power.ina226.4-0041").turns, TRUTH
    assert turn.figures.energy is not None
    assert holds(turn.figures.energy.gross_j, truth["two226run"][0]["turn_j"])


def test_idle_power_that_other_programs_disturbed_makes_no_net_figure() -> None:
    ((energy, _, _, _),) = figures("pollstat-idle")
    assert energy is not None
    assert energy.net_j is None
    assert energy.missing["net_j"].reason == "other programs used the processor while the device was left idle"


def test_what_was_bridged_is_said_and_limits_the_grade() -> None:
    ((energy, _, _, _),) = figures("rapl-vanish-amd-nearwrap")
    assert energy is not None
    assert energy.flags == ("bridged",)
    assert energy.grade == "C"
    assert energy.estimated_share == pytest.approx(0.1, abs=0.05)


def test_a_point_sensor_under_a_structured_load_is_known_to_a_few_percent() -> None:
    for energy, missing, _, _ in figures("ina-orin-nano-r11"):
        assert energy is not None, missing
        assert (energy.gross_j.high - energy.gross_j.low) / 2 / energy.gross_j.value < 0.12

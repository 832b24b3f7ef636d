from __future__ import annotations

from edgetop.commands.output import energy_text
from edgetop.core.energy.tokens import Energy
from edgetop.core.figures import Summary
from edgetop.core.quantity import Interval


def figure(value: float, reach: float) -> Interval:
    return Interval(value=value, low=value - reach, high=value + reach, u_systematic=reach / 2, u_random=0)


def test_energy_says_interval_scope_source_and_grade() -> None:
    energy = Energy(
        scope="board_input", source="power.VDD_IN", method="strict", grade="B", grade_reason="gain within 5 %",
        grade_hint="", flags=(), final=True, estimated_share=0, gross_j=figure(106, 7), net_j=None, idle_w=None,
        mean_w=figure(8.9, 0.5), peak_w=figure(9.4, 0.5), j_per_token=figure(0.72, 0.05), net_j_per_token=None,
        decode_j_per_token=None, prefill_j_per_token=None, tokens_per_wh=None,
    )  # fmt: skip
    assert energy_text(Summary(energy=energy)) == (
        "0.720 (0.670 to 0.770) J/token gross, net n/a, in all 106 (99.0 to 113) J "
        "(board input, power.VDD_IN, grade B: gain within 5 %)"
    )


def test_energy_that_is_not_known_is_no_zero() -> None:
    assert energy_text(Summary(energy_missing="no meter")) == "n/a: no meter"

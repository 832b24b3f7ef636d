"""The table of figures against the structs that hold them, and how a figure is said to people."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest

from docs import make_figures
from edgetop.core.energy.tokens import Energy
from edgetop.core.figures import (
    BY_NAME,
    COMPARED,
    FIGURES,
    J_PER_TOKEN,
    NET_J_PER_TOKEN,
    RSS_PEAK,
    Kind,
    MemoryFigures,
    Subject,
    Summary,
    TokenGaps,
    TurnFigures,
    WatchFigures,
    cell_of,
    number_of,
    reason_of,
    rows_of,
    text_of,
    value_of,
)
from edgetop.core.quantity import Interval
from edgetop.core.sources import Unavailable

HOLDERS: dict[Subject, type[msgspec.Struct]] = {"turn": TurnFigures, "session": Summary, "watch": WatchFigures}
SAID_BY_ENERGY = {
    "grade_reason",
    "grade_hint",
    "flags",
    "final",
    "estimated_share",
    "missing",
    "hosts",
    "measured_tokens",
}
"""What an energy says of itself besides figures."""


def leaves(holder: type[msgspec.Struct], before: str = "") -> Iterator[str]:
    """The names of all that a struct holds, through the structs in it."""
    for name, hint in get_type_hints(holder).items():
        parts = get_args(hint) if get_origin(hint) in {Union, types.UnionType} else (hint,)
        inner = [part for part in parts if isinstance(part, type) and issubclass(part, msgspec.Struct)]
        if inner and inner != [Interval]:
            yield from leaves(inner[0], f"{before}{name}.")
        else:
            yield before + name


@pytest.mark.parametrize("subject", HOLDERS)
def test_every_field_of_the_structs_has_a_row_and_every_row_a_field(subject: Subject) -> None:
    held = {name for name in leaves(HOLDERS[subject]) if name.rpartition(".")[2] not in SAID_BY_ENERGY}
    if subject == "watch":
        held -= {"left_out", "at_least"}
    held = {name for name in held if not name.startswith("duty.use.")}
    assert {figure.name for figure in FIGURES if subject in figure.of} == held


def test_names_columns_and_labels_are_unique() -> None:
    assert len(BY_NAME) == len(FIGURES)
    for keys in ([figure.column for figure in FIGURES], [figure.label for figure in FIGURES]):
        assert len(keys) == len(set(keys))


def test_what_a_row_refers_to_is_there() -> None:
    for figure in FIGURES:
        assert not figure.reason or BY_NAME[figure.reason].kind == "reason"
        assert not figure.numerator or BY_NAME[figure.numerator].kind == "energy"
        assert not figure.formula.endswith(".")
        assert figure.label
        assert figure.source
    for figure in COMPARED.values():
        assert figure.heading
        assert figure.better
        assert "session" in figure.of


def interval(value: float) -> Interval:
    return Interval(value=value, low=value - 0.1, high=value + 0.1, u_systematic=0.05, u_random=0.0)


def energy(**known: Any) -> Energy:
    fields: dict[str, Any] = dict.fromkeys(Energy.__struct_fields__)
    return Energy(**{**fields, "missing": {}, "hosts": (), "flags": (), **known})


def test_a_figure_is_found_by_its_name() -> None:
    gaps = TokenGaps(p50=1.0, p95=2.0, p99=3.0, max=4.0)
    summary = Summary(energy=energy(j_per_token=interval(0.5)), token_gap_ms=gaps)
    assert value_of(summary, J_PER_TOKEN) == interval(0.5)
    assert number_of(summary, J_PER_TOKEN) == 0.5
    assert number_of(summary, "token_gap_ms.p95") == 2.0
    assert value_of(Summary(), J_PER_TOKEN) is None
    assert number_of({"energy": {"j_per_token": 2}}, J_PER_TOKEN) == 2
    with pytest.raises(AttributeError):
        value_of(summary, "energy.no_such_figure")


def test_what_is_missing_has_its_reason() -> None:
    net = BY_NAME[NET_J_PER_TOKEN]
    unknown = Unavailable("no idle baseline", "use --idle 10")
    assert reason_of(Summary(energy=energy(missing={"net_j_per_token": unknown})), net) == (
        "no idle baseline: use --idle 10"
    )
    assert reason_of(Summary(energy_missing="no sensor"), net) == "no sensor"
    assert reason_of(Summary(), BY_NAME[RSS_PEAK]) == "the engine's memory was not read"


@pytest.mark.parametrize(
    ("name", "value", "text", "cell"),
    [
        ("decode_tokens_per_s", 12.43, "12.4 tok/s", "12.4"),
        ("first_token_s", 0.0812, "81 ms", "0.0812"),
        ("token_gap_ms.p95", 20.5, "20.5 ms", "20.5"),
        ("memory.rss_peak_bytes", 2**30, "1.00 GiB", "1.00 GiB"),
        ("energy.j_per_token", interval(0.5), "0.500 (0.400 to 0.600) J", None),
        ("bandwidth_use", 0.614, "61 %", None),
        ("own_cost.cpu_percent", 1.25, "1.2 %", None),
        ("stop_reason", "end_of_generation", "end of generation", None),
        ("generated_tokens", 5, "5", None),
        ("turns", 0, "0", None),
        ("decode_tokens_per_s", None, "n/a", "n/a"),
        ("decode_tokens_per_s", float("inf"), "n/a", "n/a"),
    ],
)
def test_a_value_is_said_with_its_unit(name: str, value: Any, text: str, cell: str | None) -> None:
    figure = BY_NAME[name]
    assert text_of(figure, value) == text
    assert cell is None or cell_of(figure, value) == cell


def test_headings_name_the_unit_that_cells_leave_out() -> None:
    assert COMPARED["decode_tokens_per_s"].heading_with_unit == "decode tok/s"
    assert COMPARED[J_PER_TOKEN].heading_with_unit == "J/tok"
    assert COMPARED[RSS_PEAK].heading_with_unit == "memory"


def test_the_figures_of_a_session_are_listed_and_one_row_says_why_there_is_no_energy() -> None:
    rows = rows_of(Summary(decode_tokens_per_s=10.0, memory=MemoryFigures(rss_peak_bytes=2**20)))
    assert rows["decode speed"] == "10.0 tok/s"
    assert rows["peak memory of the engine"] == "1.00 MiB"
    assert rows["model load"] == "n/a: no model was loaded"
    assert [label for label in rows if "energy" in label] == ["energy"]
    assert rows["energy"] == "n/a: no power source was recorded"
    assert rows_of(Summary(energy=energy(j_per_token=interval(0.5))))["energy per token, gross"].endswith(" J")
    assert "model load" not in rows_of(TurnFigures())


def test_the_page_of_figures_is_the_one_that_would_be_written_now() -> None:
    assert make_figures.FILE.read_text("utf-8") == make_figures.page(), "run python -m docs.make_figures"
    assert {kind for kinds in make_figures.SECTIONS.values() for kind in kinds} == set(get_args(Kind))


def test_what_did_not_happen_has_no_row() -> None:
    assert "stood still" not in rows_of(TurnFigures())
    assert rows_of(TurnFigures(paused_s=6.0))["stood still"] == "6.00 s"

"""The tables against the session they are of: nothing left out, nothing made up, nothing that acts in a spreadsheet."""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from edgetop.core.format import Column
from edgetop.core.records import Record
from edgetop.session.export import (
    NoParquetError,
    Table,
    csv_cell,
    csv_pieces,
    require_parquet,
    tables_of,
    write_parquet,
)
from edgetop.session.file import SessionFile, to_file
from edgetop.session.file_io import decode_file, encode_file
from tests.support.hostile_text import acts_on_a_terminal, hostile_text
from tests.support.recorded_power import with_energy
from tests.support.recorded_sessions import CPU, HEAD, MEMORY, S, fold, recordings, sample, turn


def read(table: Table) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(b"".join(csv_pieces(table)).decode())))


def small() -> SessionFile:
    return to_file(
        fold([
            *HEAD,
            sample(MEMORY, 1 * S, 8e9, None, reasons=("", "no swap")),
            sample(CPU, 1 * S, 3.5, 0.0),
            *turn(1, at_us=1 * S),
            sample(MEMORY, 2 * S, None, 5.0, reasons=("gone", "")),
            *turn(2, at_us=10 * S, finished=False),
        ])
    )  # fmt: skip


def test_turns_have_a_row_each_with_their_model_and_figures() -> None:
    turns, _, _ = tables_of(small())
    first, second = read(turns)
    assert (first["turn"], first["model"], first["quantization"], first["threads"]) == (
        "1",
        "Tiny Instruct",
        "Q4_0",
        "2",
    )
    assert (first["submitted_s"], first["first_token_at_s"], first["finished_s"]) == ("1", "1.251", "1.653")
    assert (first["decode_tokens_per_s"], first["prompt_tokens"], first["stop_reason"]) == (
        "10",
        "60",
        "end_of_generation",
    )
    assert (first["token_gap_p95_ms"], first["prompt"], first["answer"]) == (
        "100",
        "What is a PMIC?",
        " w0 w1 w2 w3 w4",
    )
    assert (second["finished_s"], second["stop_reason"], second["seed"]) == ("", "", "")
    assert "no power sensor" in first["energy_missing"]


def test_energy_stands_with_the_ends_of_its_interval() -> None:
    file = with_energy()
    turns, _, _ = tables_of(file)
    energy = file.turns[0].figures.energy
    assert energy is not None
    first = read(turns)[0]
    assert [float(first[f"gross_j{ending}"]) for ending in ("", "_low", "_high")] == [
        energy.gross_j.value,
        energy.gross_j.low,
        energy.gross_j.high,
    ]
    assert (first["energy_scope"], first["energy_grade"], first["energy_missing"]) == (energy.scope, energy.grade, "")


def test_samples_are_long_with_units_and_reasons() -> None:
    _, samples, _ = tables_of(small())
    assert [tuple(row.values()) for row in read(samples)] == [
        ("1", "memory", "memory.available", "B", "8000000000", ""),
        ("2", "memory", "memory.available", "B", "", "gone"),
        ("1", "memory", "swap.used", "B", "", "no swap"),
        ("2", "memory", "swap.used", "B", "5", ""),
        ("1", "cpu", "cpu.others", "%", "3.5", ""),
        ("1", "cpu", "cpu.steal", "%", "0", ""),
    ]


def test_tokens_have_a_stamp_and_a_gap_each() -> None:
    _, _, tokens = tables_of(small())
    rows = read(tokens)
    assert [tuple(row.values()) for row in rows[:2]] == [
        ("1", "0", "1.251", "", "answer", "3"),
        ("1", "1", "1.351", "100", "answer", "3"),
    ]
    assert [row["turn"] for row in rows] == ["1"] * 5 + ["2"] * 5


@given(recordings())
def test_every_reading_token_and_turn_is_in_a_table(records: list[Record]) -> None:
    file = decode_file(b"".join(encode_file(to_file(fold(records)))))
    turns, samples, tokens = (list(table.rows) for table in tables_of(file))
    assert [row[0] for row in turns] == [turn.turn for turn in file.turns]
    recorded = [
        value for series in file.series for name in series.source.channels for value in series.values[name.name]
    ]
    assert [row[4] for row in samples] == recorded
    assert all((row[4] is None) == (row[5] is not None) for row in samples)
    assert sum(row[5] for row in tokens if isinstance(row[5], int)) == sum(
        len(span.text) for turn in file.turns for span in turn.reply
    )


@given(
    hostile_text | st.sampled_from(["=1+1", "@SUM(A1)", "-2+3", "+1", "\t=1", " =1", "\n=1", "＝1", "\x1b=1", "'=1"])
)
def test_no_text_is_a_formula_or_acts_on_a_terminal(text: str) -> None:
    cell = csv_cell(text)
    assert isinstance(cell, str)
    assert not cell.lstrip().startswith(("=", "+", "-", "@", "＝"))
    assert not set(acts_on_a_terminal(cell)) - {"\n", "\t"}
    table = Table("x", (Column[object]("said"), Column[object]("n", kind="count")), [(text, 1)])
    (row,) = read(table)
    assert row == {"said": cell, "n": "1"}


def test_negative_numbers_stay_numbers() -> None:
    assert [csv_cell(cell) for cell in (-1, -0.5, -3.0, None)] == [-1, -0.5, -3, None]


def test_parquet_has_the_same_cells_with_their_types(tmp_path: Path) -> None:
    file = small()
    hostile = replace(file, turns=(replace(file.turns[0], prompt="=1\ud800 ü"), file.turns[1]))
    for table, again in zip(tables_of(hostile), tables_of(hostile), strict=True):
        path = tmp_path / f"{table.name}.parquet"
        write_parquet(path, table)
        read_back = pq.read_table(path)
        assert read_back.column_names == [column.name for column in table.columns]
        expected = [{column.name: cell for column, cell in zip(again.columns, row, strict=True)} for row in again.rows]
        for row in expected:
            if isinstance(row.get("prompt"), str):
                row["prompt"] = str(row["prompt"]).replace("\ud800", "?")
        assert read_back.to_pylist() == expected


def test_without_pyarrow_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(NoParquetError) as error:
        require_parquet()
    assert "pip install" in error.value.hint

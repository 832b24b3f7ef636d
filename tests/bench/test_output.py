"""Rows with llama-bench's names, and every form that they are printed in."""

from __future__ import annotations

import csv
import io
import json
import sqlite3

import msgspec
import pytest

from edgetop.bench.output import as_cells, as_csv, as_json, as_jsonl, as_markdown, as_sql, rows_of
from edgetop.session.compare.reading import llama_bench_csv, llama_bench_json, llama_bench_results
from tests.bench.made_results import PP, TG, measured, of_setting, plan_result, quality

LLAMA_BENCH = [
    "build_commit", "build_number", "cpu_info", "gpu_info", "backends", "model_filename", "model_type", "model_size",
    "model_n_params", "n_batch", "n_ubatch", "n_threads", "cpu_mask", "cpu_strict", "poll", "type_k", "type_v",
    "n_gpu_layers", "n_cpu_moe", "split_mode", "main_gpu", "no_kv_offload", "flash_attn", "devices", "tensor_split",
    "tensor_buft_overrides", "load_mode", "lazy_mode", "embeddings", "no_op_offload", "no_host", "repack", "fit_target",
    "fit_min_ctx", "n_prompt", "n_gen", "n_depth", "test_time", "avg_ns", "stddev_ns", "avg_ts", "stddev_ts",
    "samples_ns", "samples_ts",
]  # fmt: skip
"""The fields of llama.cpp's tools/llama-bench in the release that is pinned, in its order."""
RESULT = plan_result(
    of_setting("a", measured(PP, (200.0, 210.0)), measured(TG, (20.0, 21.0), (0.45, 0.44)), scores=quality(20.5)),
    of_setting("b|\x1b[31m'", measured(TG, (30.0,)), threads=4),
)
ROWS = rows_of(RESULT)


def test_the_fields_are_those_of_llama_bench_in_its_order_and_ours_behind_them() -> None:
    for row in ROWS:
        assert list(row)[: len(LLAMA_BENCH)] == LLAMA_BENCH
    row = ROWS[1]
    assert (row["test"], row["n_prompt"], row["n_gen"]) == ("tg128", 0, 128)
    assert row["avg_ts"] == pytest.approx(20.5)
    assert row["stddev_ts"] == pytest.approx(0.7071, rel=1e-3)
    assert row["samples_ns"] == [6_400_000_000, 6_095_238_095]
    assert row["avg_ns"] == round(sum(row["samples_ns"]) / 2)
    assert row["j_per_token"]["value"] == pytest.approx(0.445)
    assert row["perplexity"] == 20.5
    assert ROWS[2]["stddev_ts"] == 0.0, "as llama-bench has it for a single repetition"
    assert ROWS[2]["ts_low"] is None


def test_a_setting_of_which_only_the_quality_is_known_has_a_row() -> None:
    (row,) = rows_of(plan_result(of_setting("a", scores=quality(20.5))))
    assert (row["test"], row["avg_ts"], row["perplexity"]) == ("", None, 20.5)
    assert as_cells([row])[1][-2:] != []
    assert rows_of(plan_result(of_setting("a"))) == []


def test_json_and_lines_of_json_hold_every_field() -> None:
    assert json.loads(as_json(ROWS)) == json.loads(json.dumps(ROWS))
    assert [json.loads(line) for line in as_jsonl(ROWS).splitlines()] == json.loads(json.dumps(ROWS))
    assert json.loads(as_json([])) == []


def test_csv_is_read_back_with_intervals_as_columns_and_without_lists() -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(ROWS))))
    assert float(rows[1]["j_per_token_low"]) < float(rows[1]["j_per_token"]) < float(rows[1]["j_per_token_high"])
    assert rows[0]["j_per_token"] == ""
    assert "samples_ns" not in rows[0]
    assert "\x1b" not in as_csv(ROWS)


def test_a_spreadsheet_takes_no_name_for_a_formula() -> None:
    rows = rows_of(plan_result(of_setting("=cmd()", measured(TG, (20.0,)))))
    assert next(csv.DictReader(io.StringIO(as_csv(rows))))["setting"] == "'=cmd() t2"


def test_sqlite_loads_the_sql() -> None:
    with sqlite3.connect(":memory:") as database:
        database.executescript(as_sql(ROWS))
        database.executescript(as_sql(ROWS))
        found = database.execute("SELECT setting, avg_ts, n_gen, cpu_strict FROM edgetop_bench LIMIT 3").fetchall()
    assert [row[:1] + row[2:] for row in found] == [("a t2", 0, 0), ("a t2", 128, 0), ("b|␛[31m' t4", 128, 0)]
    assert found[1][1] == pytest.approx(20.5)
    assert as_sql([]) == ""


def test_markdown_has_a_line_for_each_row_and_no_cell_breaks_it() -> None:
    lines = as_markdown(ROWS).splitlines()
    assert len(lines) == 2 + len(ROWS)
    assert {line.replace("\\|", "").count("|") for line in lines} == {lines[0].count("|")}
    assert "20.50 ± 0.71" in lines[3]
    assert "0.445 ±" in lines[3]
    assert as_markdown([]) == ""


def test_a_column_that_says_nothing_anywhere_is_left_out() -> None:
    headings = as_cells(ROWS)[0]
    assert "perplexity" in headings
    assert "notes" not in headings
    assert "perplexity" not in as_cells(ROWS[2:])[0]


def test_compare_reads_it_as_it_reads_llama_bench() -> None:
    for tests in (
        llama_bench_json(as_json(ROWS).encode()),
        llama_bench_json(as_jsonl(ROWS).encode()),
        llama_bench_csv(as_csv(ROWS)),
    ):
        found = llama_bench_results(tests, "bench", "bench.json")
        assert [result.threads for result in found] == [2, 2], "as the model was loaded"
        assert found[0].figures["decode_tokens_per_s"].value == pytest.approx(20.5)
        assert found[0].figures["prefill_tokens_per_s"].value == pytest.approx(205.0)


def test_a_name_that_is_no_unicode_is_printed_all_the_same() -> None:
    rows = rows_of(plan_result(of_setting("a\udce9", measured(TG, (20.0,)))))
    assert msgspec.json.decode(as_json(rows))[0]["setting"] == "a\ufffd t2"

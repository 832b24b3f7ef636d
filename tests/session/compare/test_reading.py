from __future__ import annotations

import csv
import io
import json
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetop.core import figures
from edgetop.io.files import write_atomically
from edgetop.session.compare.reading import quantization_of, read_results
from edgetop.session.compare.result import attributes_of
from edgetop.session.file_io import SessionFileError, encode_file
from tests.support.benchmark_outputs import OLLAMA, PP, TG
from tests.support.simulated_results import session_file


def written(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_tests_of_one_configuration_are_one_result(tmp_path: Path) -> None:
    (result,) = read_results(written(tmp_path, "bench.json", json.dumps([PP, TG])))
    assert (result.name, result.kind, result.model) == ("bench", "llama-bench", "SmolLM2-135M-Instruct.Q4_K_M")
    assert (result.quantization, result.threads, result.gpu_layers) == ("Q4_K_M", 4, 0)
    assert (result.device, result.engine, result.prompts) == ("Cortex-A76", "llama.cpp b8146 3469684", "pp512+tg128")
    assert result.bits_per_weight == pytest.approx(6.27, abs=0.01)
    assert result.figures[figures.DECODE].value == 119.844681
    assert result.figures[figures.PREFILL].repetitions == tuple(PP["samples_ts"])
    assert result.absent[figures.J_PER_TOKEN] == "llama-bench does not measure it"


def test_what_llama_bench_was_told_is_named_by_its_flags(tmp_path: Path) -> None:
    told = {"cpu_mask": "0xf0", "n_cpu_moe": 4, "tensor_buft_overrides": "ffn=CPU;attn=CPU", "flash_attn": True}
    usual = {"cpu_mask": "0x0", "n_cpu_moe": 0, "tensor_buft_overrides": "none", "flash_attn": -1}
    results = read_results(written(tmp_path, "bench.json", json.dumps([{**TG, **told}, {**TG, **usual}])))
    assert [result.flags for result in results] == [
        "--flash-attn on --cpu-mask f0 --n-cpu-moe 4 --override-tensor ffn=CPU,attn=CPU", "default flags",
    ]  # fmt: skip
    differing, _ = attributes_of(results)
    assert [attribute.name for attribute in differing] == ["flags"]
    _, alike = attributes_of(results[1:] * 2)
    assert "flags" not in [attribute.name for attribute in alike], "nothing was told"


def test_each_configuration_and_depth_is_a_result_of_its_own(tmp_path: Path) -> None:
    tests = [PP, TG, {**TG, "n_threads": 2}, {**TG, "n_depth": 512}, {**PP, "n_gen": 128}]
    results = read_results(written(tmp_path, "bench.jsonl", "\n".join(map(json.dumps, tests))))
    assert [(result.threads, result.depth) for result in results] == [(4, 0), (2, 0), (4, 512)]
    assert [result.name for result in results] == ["bench pp512+tg128", "bench tg128", "bench tg128 @ d512"]


def test_csv_tells_a_deviation_instead_of_repetitions(tmp_path: Path) -> None:
    text = io.StringIO()
    rows = [{key: value for key, value in each.items() if not key.startswith("samples")} for each in (PP, TG)]
    writer = csv.DictWriter(text, sorted({*rows[0], *rows[1]}), quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(rows)
    (result,) = read_results(written(tmp_path, "bench.csv", text.getvalue()))
    decode = result.figures[figures.DECODE]
    assert (decode.value, decode.deviation, decode.count, decode.repetitions) == (119.844681, 0.699739, 5, ())
    assert result.threads == 4


def test_the_figures_below_answers_of_ollama_are_repetitions(tmp_path: Path) -> None:
    second = OLLAMA.replace("1.504071084s", "20.5ms").replace("1m4.75s", "51.8s")
    (result,) = read_results(written(tmp_path, "pi5.txt", f"\x1b[?25l{OLLAMA}\r\n{second}"))
    decode = result.figures[figures.DECODE]
    assert (result.kind, result.model, result.turns) == ("ollama", "llama3.2:1b", 2)
    assert decode.repetitions == (4.0, 5.0)
    assert decode.value == pytest.approx(2 * 259 / (64.75 + 51.8))
    assert result.figures[figures.PREFILL].value == pytest.approx(200)
    assert result.figures[figures.LOAD].value == pytest.approx(1.504071084)


@pytest.mark.parametrize(
    ("model_type", "quantization"),
    [
        ("llama 7B mostly Q4_0", "Q4_0"), ("qwen2 1.5B Q4_K - Medium", "Q4_K_M"), ("llama 8B all F32", "F32"),
        ("gemma3 1B IQ2_XXS - 2.0625 bpw", "IQ2_XXS"), ("phi3 3B BF16", "BF16"), ("something else", ""),
    ],
)  # fmt: skip
def test_the_quantization_is_in_the_type(model_type: str, quantization: str) -> None:
    assert quantization_of(model_type) == quantization


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.json", "[", "truncated"),
        ("a.json", json.dumps([{**TG, "avg_ts": "fast"}]), r"\$\[0\]\.avg_ts: Expected `float`"),
        ("a.json", json.dumps([TG, {**TG, "avg_ts": -1}]), r"\$\[1\]\.avg_ts: a speed must be above 0"),
        ("a.json", json.dumps([{**TG, "avg_ts": 1e300}]), r"\$\[0\]\.avg_ts"),
        ("a.json", json.dumps([{**TG, "samples_ts": [1, 0, 1]}]), r"\$\[0\]\.samples_ts"),
        ("a.json", json.dumps([{**PP, "n_gen": 128}]), "no pp test and no tg test"),
        ("a.json", "[]", "no pp test and no tg test"),
        ("a.json", "[" * 100_000, "Expected `object`, got `array`"),
        ("a.json", '[{"x":' + "[" * 100_000, "nested too deeply"),
        ("a.jsonl", json.dumps(TG) + "\n{\n", "line 2: "),
        ("a.json", '{"dependencies": {}}', "line 1: Object missing required field `avg_ts`"),
        ("a.csv", '"avg_ts","n_prompt","n_gen"\n"1","x","1"\n', "line 2: .*n_prompt"),
        ("a.txt", "eval count: many\n", "line 1: eval count: this is not a number of tokens"),
        ("a.txt", "eval rate: 1\neval duration: soon\n", "line 2: eval duration: this is not a duration"),
        ("a.txt", "eval count: 0 token(s)\neval duration: 0s\n", "all 0 or missing"),
        ("a.txt", "hello", "not a result that can be compared"),
        ("a.txt", "", "not a result that can be compared"),
        ("a.txt", "\n" * 300_000, "not a result that can be compared"),
        ("a.txt", " \r" * 300_000, "not a result that can be compared"),
        ("a.csv", '"avg_ts","n_prompt"\n"' + "1" * 200_000, "line 1: field larger than field limit"),
        ("a.json", b'{"format":"edgetop-session","version":1', "truncated"),
        ("a.json", b'{"format":"edgetop-session","version":99}', "missing required field|format 99"),
    ],
)  # fmt: skip
def test_what_is_no_result_is_told_in_one_line_with_the_place(
    tmp_path: Path, name: str, text: str | bytes, told: str
) -> None:
    path = written(tmp_path, name, text)
    with pytest.raises(SessionFileError, match=told) as error:
        read_results(path)
    assert error.value.what.startswith(f"{path}: ")
    assert "\n" not in error.value.what
    assert len(error.value.what) < len(str(path)) + 300
    assert error.value.hint


def test_a_folder_a_pipe_and_nothing_are_told(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.json"):
        with pytest.raises(SessionFileError):
            read_results(path)


@given(st.binary(max_size=300), st.integers(0, 3))
def test_no_bytes_lead_to_anything_but_a_result_or_an_error(data: bytes, kind: int) -> None:
    whole = [b"".join(encode_file(session_file(1, turns=1))), json.dumps([PP, TG]).encode(), OLLAMA.encode(), b""][kind]
    with tempfile.TemporaryDirectory() as folder:
        place = len(data) * 7 % (len(whole) + 1)
        path = written(Path(folder), "some.json", whole[:place] + data + whole[place + len(data) // 2 :])
        with suppress(SessionFileError):
            assert read_results(path)


def test_a_session_file_gives_its_summary_and_its_turns(tmp_path: Path) -> None:
    file = session_file(3)
    path = tmp_path / "pi5.json"
    write_atomically(path, encode_file(file))
    (result,) = read_results(path)
    assert (result.name, result.kind, result.device, result.host) == ("pi5", "session", "Raspberry Pi 5", "pi5")
    assert result.figures[figures.DECODE].value == file.summary.decode_tokens_per_s
    assert result.figures[figures.DECODE].repetitions == tuple(turn.figures.decode_tokens_per_s for turn in file.turns)
    assert (result.turns, result.depth, result.n_ctx, result.power_mode) == (10, 40, 4096, "ondemand")
    assert result.energy_scope == "board_input"

"""What llama-bench writes with `-o json`, `-o jsonl` and `-o csv`, as results to compare.

Its names of fields are those of llama.cpp's tools/llama-bench. A `pp` test gives the prefill speed and a `tg` test the
decode speed; of one configuration they are put together. A `pg` test is neither and is left out.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import TypeVar

import msgspec
from msgspec import Struct

from edgetop.session.codec import SessionFileError
from edgetop.session.comparison import figures
from edgetop.session.comparison.figures import is_plausible
from edgetop.session.comparison.result import Measured, Result

TESTS_MOST = 10_000
CSV_REPETITIONS = 5
"""CSV tells the spread and not the number of repetitions; this is what llama-bench does unless told otherwise."""
_QUANTIZATION = re.compile(r"\b((?:I?Q\d\w*|TQ\d\w*|MXFP4\w*|B?F16|F32|all F32)(?: - (?:Small|Medium|Large|XS|XXS))?)")
_SIZES = {" - Small": "_S", " - Medium": "_M", " - Large": "_L", " - XS": "_XS", " - XXS": "_XXS"}
T = TypeVar("T")


class Test(Struct, frozen=True, kw_only=True):
    """One test of llama-bench; what it says besides is not needed."""

    avg_ts: float
    stddev_ts: float = 0.0
    samples_ts: tuple[float, ...] = ()
    n_prompt: int
    n_gen: int
    n_depth: int = 0
    model_filename: str = ""
    model_type: str = ""
    model_size: int | None = None
    model_n_params: int | None = None
    build_commit: str = ""
    build_number: int | None = None
    cpu_info: str = ""
    gpu_info: str = ""
    backends: str = ""
    n_threads: int | None = None
    n_gpu_layers: int | None = None
    n_batch: int | None = None
    n_ubatch: int | None = None
    type_k: str = ""
    type_v: str = ""
    flash_attn: bool | int | str | None = None
    test_time: str = ""


def read_json(data: bytes) -> list[Test]:
    """Tests in a JSON array or in lines of JSON. Raises SessionFileError, which names the place."""
    if data.lstrip()[:1] == b"[":
        return _decoded(data, list[Test], "")
    tests = []
    for number, line in enumerate(data.splitlines(), 1):
        if line.strip():
            tests.append(_decoded(line, Test, f"line {number}: "))
        if len(tests) > TESTS_MOST:
            break
    return tests


def read_csv(text: str) -> list[Test]:
    """Tests in CSV with a line of headings. Raises SessionFileError, which names the line."""
    rows = csv.DictReader(text.splitlines())
    tests = []
    try:
        for row in rows:
            given = {name: value for name, value in row.items() if name is not None and value not in {None, ""}}
            tests.append(_converted(given, rows.line_num))
            if len(tests) > TESTS_MOST:
                break
    except csv.Error as error:
        raise SessionFileError(f"line {rows.line_num}: {error}") from None
    return tests


def results_of(tests: Sequence[Test], name: str, origin: str) -> list[Result]:
    """The results of a file's tests. Raises SessionFileError if none is one that can be compared."""
    if len(tests) > TESTS_MOST:
        raise SessionFileError(f"it has more than {TESTS_MOST} tests")
    for index, test in enumerate(tests):
        if not (is_plausible(test.avg_ts) and 0 <= test.stddev_ts <= figures.MOST):
            raise SessionFileError(f"$[{index}].avg_ts: a speed must be above 0, and its spread not negative")
        if not all(map(is_plausible, test.samples_ts)):
            raise SessionFileError(f"$[{index}].samples_ts: a speed must be above 0")
    pairs = list(_pairs(tests))
    if not pairs:
        raise SessionFileError("it has no pp test and no tg test", "run llama-bench with -p and -n above 0")
    several = len(pairs) > 1
    return [_result(prefill, decode, name, origin, several=several) for prefill, decode in pairs]


def _pairs(tests: Sequence[Test]) -> Iterator[tuple[Test | None, Test | None]]:
    """The pp and tg tests of each configuration, first with first, second with second."""
    configurations: dict[tuple[object, ...], tuple[list[Test], list[Test]]] = {}
    for test in tests:
        if (test.n_prompt > 0) == (test.n_gen > 0):
            continue
        key = tuple(
            getattr(test, field)
            for field in Test.__struct_fields__
            if field not in {"avg_ts", "stddev_ts", "samples_ts", "n_prompt", "n_gen", "test_time"}
        )
        prefills, decodes = configurations.setdefault(key, ([], []))
        (prefills if test.n_prompt > 0 else decodes).append(test)
    for prefills, decodes in configurations.values():
        for index in range(max(len(prefills), len(decodes))):
            yield (
                prefills[index] if index < len(prefills) else None,
                decodes[index] if index < len(decodes) else None,
            )


def _result(prefill: Test | None, decode: Test | None, name: str, origin: str, *, several: bool) -> Result:
    test = decode or prefill
    assert test is not None  # noqa: S101 - a pair has at least one
    titles = [f"pp{prefill.n_prompt}"] if prefill is not None else []
    titles += [f"tg{decode.n_gen}"] if decode is not None else []
    asked = "+".join(titles) + (f" @ d{test.n_depth}" if test.n_depth else "")
    figured = {
        figure: _measured(each) for figure, each in ((figures.DECODE, decode), (figures.PREFILL, prefill)) if each
    }
    bits = None
    if test.model_size and test.model_n_params and test.model_n_params > 0:
        bits = test.model_size * 8 / test.model_n_params
    runs_on_cpu = test.backends.upper() in {"CPU", "BLAS", "CPU,BLAS", "BLAS,CPU"}
    build = f"b{test.build_number}" if test.build_number else ""
    return Result(
        name=f"{name} {asked}" if several else name,
        origin=origin,
        kind="llama-bench",
        when=test.test_time,
        device=", ".join(text for text in (test.cpu_info, "" if runs_on_cpu else test.gpu_info) if text),
        model=PurePath(test.model_filename).stem or test.model_type,
        quantization=quantization_of(test.model_type),
        bits_per_weight=bits,
        size_bytes=test.model_size,
        parameters=test.model_n_params,
        threads=test.n_threads,
        gpu_layers=0 if runs_on_cpu else test.n_gpu_layers,
        kv_types=f"{test.type_k}/{test.type_v}" if test.type_k and test.type_v else "",
        depth=test.n_depth,
        engine=" ".join(text for text in ("llama.cpp", build, test.build_commit) if text),
        prompts=asked,
        sequence="",
        turns=max(len(each.samples_ts) for each in (prefill, decode) if each is not None),
        absent={each: "llama-bench does not measure it" for each in figures.BY_NAME if each not in figured},
        figures=figured,
    )


def _measured(test: Test) -> Measured:
    if len(test.samples_ts) >= figures.REPETITIONS_LEAST:
        return Measured(value=test.avg_ts, made="mean", repetitions=test.samples_ts)
    if test.stddev_ts > 0:
        count = len(test.samples_ts) or CSV_REPETITIONS
        return Measured(value=test.avg_ts, made="mean", deviation=test.stddev_ts, count=count)
    return Measured(value=test.avg_ts, made="single")


def quantization_of(model_type: str) -> str:
    """`Q4_K_M` of `llama 1B Q4_K - Medium`; empty where the text names none."""
    found = _QUANTIZATION.search(model_type)
    if found is None:
        return ""
    label = found[1].removeprefix("all ")
    for words, short in _SIZES.items():
        if label.endswith(words):
            return label.removesuffix(words) + short
    return label


def _decoded(data: bytes, kind: type[T], place: str) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise SessionFileError(place + explained(error)) from None


def _converted(row: dict[str, str], line: int) -> Test:
    try:
        return msgspec.convert(row, Test, strict=False)
    except (msgspec.MsgspecError, ValueError) as error:
        raise SessionFileError(f"line {line}: {explained(error)}") from None


def explained(error: Exception) -> str:
    """What is wrong, the place first."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    what, _, place = str(error).partition(" - at `")
    return f"{place.rstrip('`')}: {what}"[:200] if place else what[:200]

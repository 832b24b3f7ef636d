"""Files that nobody would call a session: each gives one line that names the place, soon and in little memory.

`EDGETOP_MUTANTS=100000` lets the mutation fuzzer try so many.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetop.core.format import format_significant
from edgetop.core.quantity import Interval, reciprocal
from edgetop.core.records import LARGEST, Event, Sampled, SourceAdded
from edgetop.session.file import structure_problems, to_file, to_session
from edgetop.session.file_io import TITLE_CHARACTERS, SessionFileError, encode_file, load, load_titled, rewrite
from edgetop.session.session import MissingRun
from edgetop.session.snapshot import snapshot
from edgetop.session.store import Store
from tests.session.mutation import mutants, opened
from tests.support.recorded_power import SENSORS, ended, record
from tests.support.recorded_sessions import HEAD, LOADED, MEMORY, START_US, S, event, fold, sample, turn

MUTANTS = int(os.environ.get("EDGETOP_MUTANTS", "4000"))
EXAMPLES = Path(__file__).resolve().parents[2] / "sessions"
SMALL = b"".join(encode_file(to_file(fold([*HEAD, sample(MEMORY, S, None, 7.0), *turn(), event("throttled", 9 * S)]))))


@cache
def recorded_files() -> tuple[bytes, ...]:
    """Sessions with power of each kind of sensor, and the recordings that are shipped."""
    kinds = ("slow average", "gain and offset", "counter")
    made = [fold(ended(record(SENSORS[kind], seed=1, turns_s=(4.0, 3.0)).records)) for kind in kinds]
    shipped = sorted(EXAMPLES.glob("*.json"), key=lambda path: path.stat().st_size)[:2]
    return (
        *(b"".join(encode_file(to_file(session))) for session in made),
        *(path.read_bytes() for path in shipped),
        SMALL,
    )


def test_every_mutant_of_a_real_file_opens_or_is_refused() -> None:
    seed = 20261012
    verdicts: Counter[str] = Counter()
    for index, data in enumerate(mutants(recorded_files(), MUTANTS, seed)):
        try:
            verdicts[opened(data)] += 1
        except Exception as error:
            raise AssertionError(f"mutant {index} of seed {seed}: {error!r}") from error
    assert min(verdicts["opened"], verdicts["refused"]) > MUTANTS / 50


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
_PARTS = sorted(msgspec.json.decode(SMALL))


@given(st.sampled_from(_PARTS), _json)
def test_any_json_in_the_place_of_a_part_opens_or_is_refused(part: str, value: object) -> None:
    document = msgspec.json.decode(SMALL)
    document[part] = value
    opened(json.dumps(document).encode())


@given(st.binary(max_size=200) | _json.map(lambda value: json.dumps(value).encode()))
def test_other_data_is_refused(data: bytes) -> None:
    assert opened(data) == "refused"


def _document(**changes: object) -> bytes:
    return json.dumps({**msgspec.json.decode(SMALL), **changes}).encode()


def _with(change: Callable[[dict[str, Any]], object]) -> bytes:
    document = msgspec.json.decode(SMALL)
    change(document)
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (SMALL[:1000], "byte 1000: Input data was truncated"),
        (SMALL.replace(b'"notes":""', b'"notes":"\xff"'), f"byte {SMALL.index(b'notes') + 8}: it is not UTF-8"),
        (SMALL.replace(b'"notes":""', b'"notes":NaN'), "line 1: JSON is malformed"),
        (_document(notes=5), "$.notes: Expected `str`, got `int`"),
        (_document(version=0), "$.version: it is a session of format 0, and this edgetop reads format 1"),
        (_document(version=2), "$.version: it is a session of format 2, and this edgetop reads format 1"),
        (_document(format="llama-bench"), "$.format: Invalid enum value"),
        (b'[{"model_filename": "x.gguf", "avg_ts": 1.0}]', "$: Expected `object`, got `array`"),
        (b'{"later": ' + b"[" * 5000 + b"]" * 5000 + b"}", "byte 109: it is nested too deeply for a session"),
        (b'{"id": "\\"[[", "later": ' + b"[" * 5000, "byte 123: it is nested too deeply for a session"),
        (_with(lambda d: d["loads"][0].update(load_s=1e31)), "$.loads[0].load_s: a number beyond 1e+30"),
        (
            _with(lambda d: d["loads"][0]["memory"].update(kv_bytes=10**400)),
            "$.loads[0].memory.kv_bytes: a whole number beyond 2^53",
        ),
        (
            _with(lambda d: d["series"][0]["source"].update(period_s=0.0)),
            "$.series[0].source.period_s: a period of 0 s, in which nothing can be read",
        ),
        (
            _with(lambda d: d["series"][0]["values"].update({"swap.used": [1e20]})),
            "$.series[0].values[...][0]: Expected `float` <= 9007199254740992.0",
        ),
        (
            _with(lambda d: d["series"][0].update(missing={"memory.available": [[0, 10**300, "x"]]})),
            "$.series[0].missing.memory.available: they are not the readings that are null",
        ),
        (
            _with(lambda d: d["absent"].update({"\x1b[2J" * 500: {"reason": 1}})),
            "$.absent[...].reason: Expected `str`, got `int`",
        ),
    ],
)
def test_a_refusal_names_the_place_in_the_file(tmp_path: Path, data: bytes, told: str) -> None:
    path = tmp_path / "hostile.json"
    path.write_bytes(data)
    with pytest.raises(SessionFileError) as error:
        load(path)
    assert error.value.what.startswith(f"{path}: {told}")
    assert error.value.what.isprintable()
    assert len(error.value.what) < len(str(path)) + 300


def test_a_refused_number_in_the_head_is_refused_in_a_list_too(tmp_path: Path) -> None:
    path = tmp_path / "20261012-140322-x-01.json"
    path.write_bytes(
        SMALL.replace(b'"duration_us":', b'"duration_us":1,"clock_us":').replace(b'"load_s":0.5', b'"load_s":1e200')
    )
    (listed,) = Store(tmp_path).list()
    assert listed.head is None
    assert "load_s: a number beyond 1e+30" in listed.problem


def test_what_is_no_plain_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.json")
    (tmp_path / "loop.json").symlink_to(tmp_path / "loop.json")
    (tmp_path / "device.json").symlink_to("/dev/zero")
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "gone.json").symlink_to(tmp_path / "nothing")
    for each in Store(tmp_path).list():
        assert each.head is None
        assert each.problem.startswith(f"{each.path}: ")
        with pytest.raises(SessionFileError):
            load(each.path)
        with pytest.raises(SessionFileError):
            rewrite(each.path, lambda file: file)


_OPEN = """
import re, sys
from pathlib import Path
from edgetop.session.file_io import SessionFileError
from edgetop.session.file_io import load, load_head
for read in (load_head, load):
    try:
        read(Path(sys.argv[1]))
    except SessionFileError as error:
        print(error.what)
print(int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024)
"""
"""The peak is that of the process itself: `ru_maxrss` would begin with that of the test run it was forked from."""
needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process is read in /proc")


@needs_proc
def test_two_gigabytes_of_one_field_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.json"
    with path.open("wb") as file:
        file.write(b'{"format":"edgetop-session","notes":"')
        file.truncate(2 * 2**30)
    ran = subprocess.run([sys.executable, "-c", _OPEN, str(path)], capture_output=True, text=True, check=True)
    head, whole, peak_mib = ran.stdout.splitlines()
    assert head == whole == f"{path}: it has 2048 MiB, more than any session"
    assert int(peak_mib) < 100


@needs_proc
@pytest.mark.parametrize(
    ("begin", "item", "end"),
    [
        (b'{"x":[', b"[],", b"0]}"),
        (b'{"events":[', b'{"t_us":0,"kind":"","text":""},', b"0]}"),
        (b'{"turns":[', b'{"turn":1,"prompt":null,"sampling":{},"stamps":{"submitted_us":0},"figures":{}},', b"0]}"),
        (b'{"series":[{"values":{"a":[', b"0,", b'"x"]}}]}'),
        (b'{"series":[{"values":{"a":[', b"1.5,", b'"x"]}}]}'),
        (b'{"series":[{"missing":{"a":[', b'[0,1,""],', b"0]}}]}"),
        (b'{"tags":[', b'"",', b"0]}"),
    ],
)
def test_memory_stays_within_a_multiple_of_the_file(tmp_path: Path, begin: bytes, item: bytes, end: bytes) -> None:
    size_bytes = 8 * 2**20
    path = tmp_path / "dense.json"
    path.write_bytes(begin + item * (size_bytes // len(item)) + end)
    ran = subprocess.run([sys.executable, "-c", _OPEN, str(path)], capture_output=True, text=True, check=True)
    *refusals, peak_mib = ran.stdout.splitlines()
    assert len(refusals) == 2
    # The densest file of the largest size that is read takes less than 2 GiB.
    assert int(peak_mib) < 40 + 15 * size_bytes / 2**20


class _Counted(list[Any]):
    """A list that counts what is copied from it."""

    copied = 0

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        self.copied += len(found) if isinstance(index, slice) else 1
        return found


def test_many_runs_of_missing_readings_cost_in_proportion_to_the_readings() -> None:
    count = 1000
    file = to_file(fold([*HEAD, *(sample(MEMORY, index * S, None, 7.0) for index in range(count))]))
    values = _Counted([None] * count)
    runs = [MissingRun(index, 1, "") for index in range(count)]
    entry = msgspec.structs.replace(
        file.series[0],
        values={**file.series[0].values, "memory.available": values},
        missing={"memory.available": runs},
    )
    assert list(structure_problems(msgspec.structs.replace(file, series=(entry,)))) == []
    assert values.copied <= 2 * count


def test_what_a_recording_cannot_mean_is_left_out_as_it_comes_so_that_its_file_can_be_read() -> None:
    absurd = msgspec.structs.replace(MEMORY, name="absurd", period_s=0.0)
    session = fold([
        *HEAD,
        SourceAdded(source=absurd),
        Sampled(source=MEMORY.name, t_us=START_US + S, values=(1e300, 7.0)),
        msgspec.structs.replace(LOADED, load_s=1e300),
        Event(t_us=START_US + S, kind="odd", text="", data={"n": 1e300}),
        *turn(),
    ])  # fmt: skip
    file = to_file(session)
    assert to_file(to_session(msgspec.json.decode(b"".join(encode_file(file)), type=type(file)))) == file
    assert "absurd" not in session.series
    assert session.series["memory"].columns[0].runs
    assert len(session.loads) == 1
    assert [each.kind for each in session.events].count("record_refused") == 2


def test_the_largest_reading_is_kept() -> None:
    session = fold([*HEAD, sample(MEMORY, S, float(LARGEST), -float(LARGEST))])
    assert to_file(to_session(to_file(session))) == to_file(session)
    assert snapshot(session, session.end_us).summary.memory.available_min_bytes == LARGEST


def test_figures_next_to_nothing_have_no_reciprocal_and_a_short_text() -> None:
    nearly = Interval(value=1e-200, low=9e-201, high=1.1e-200, u_systematic=0.0, u_random=1e-201)
    assert reciprocal(nearly, 3600.0) is None
    assert [format_significant(value) for value in (1e-200, 1e30, -1e-300)] == ["1e-200", "1e+30", "-1e-300"]


@pytest.mark.parametrize(
    "prompt", ["", "Why?", 'A "quote"\\ and\na line', "\u00e9\U0001f600" * 400, "\\" * 1000, None], ids=range(6)
)
def test_the_first_prompt_is_read_with_the_head(prompt: str | None, tmp_path: Path) -> None:
    file = to_file(fold([*HEAD, *turn()]))
    first = msgspec.structs.replace(file.turns[0], prompt=prompt)
    (tmp_path / "x.json").write_bytes(b"".join(encode_file(msgspec.structs.replace(file, turns=(first,)))))
    head, title = load_titled(tmp_path / "x.json")
    assert head.id == file.id
    assert title == (prompt or "")[: len(title)]
    assert len(title) >= min(len(prompt or ""), TITLE_CHARACTERS - 1)

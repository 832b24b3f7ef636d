"""JSON that edgetop writes, against what json reads."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetop.core.records import Event, EventEntry
from edgetop.io.json import encode, encode_record, printable
from edgetop.session.file_io import SessionFileError, decode_file, encode_file, load_file
from edgetop.session.journal import RecoveredJournal
from edgetop.session.session import MissingRun
from tests.support.shipped_sessions import FOLDER

ENCODERS = (encode, encode_record)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES)
def test_what_is_written_is_read_again(value: Any) -> None:
    assert json.loads(encode(value)) == json.loads(encode(value, indented=True)) == value


@pytest.mark.parametrize("write", ENCODERS)
@pytest.mark.parametrize(
    ("value", "written"),
    [
        (math.nan, b"null"),
        (-math.inf, b"null"),
        (2**64, b"18446744073709551616"),
        (-(2**70), b"-1180591620717411303424"),
        ("a\ud800b", '"a\ufffdb"'.encode()),
        ({"\udfff": ["\ud800"]}, '{"\ufffd":["\ufffd"]}'.encode()),
        ({3: 1.5}, b'{"3":1.5}'),
        (EventEntry(t_us=1, kind="a", text="\ud800"), '{"t_us":1,"kind":"a","text":"\ufffd","data":{}}'.encode()),
        (Event(t_us=1, kind="a", text="b"), b'{"type":"event","t_us":1,"kind":"a","text":"b","data":{}}'),
        ([MissingRun(1, 2, "lost")], b'[[1,2,"lost"]]'),
    ],
)
def test_what_json_has_no_form_for(write: Callable[[object], bytes], value: object, written: bytes) -> None:
    assert write(value) == written


@pytest.mark.parametrize("write", ENCODERS)
def test_what_is_no_data_is_refused(write: Callable[[object], bytes]) -> None:
    with pytest.raises(TypeError):
        write(object())


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_a_session_is_written_byte_for_byte_as_msgspec_writes_it(path: Any) -> None:
    file = load_file(path)
    for part in (*file.turns, *file.events, *file.series):
        assert encode(part) == msgspec.json.encode(part)
    assert json.loads(b"".join(encode_file(file))) == json.loads(msgspec.json.encode(file))


def test_a_path_is_its_text() -> None:
    recovered = RecoveredJournal(journal=Path("sessions/a.journal"), path=Path("sessions/a.json"))
    assert json.loads(encode(recovered))["path"] == "sessions/a.json"


@pytest.mark.parametrize("write", ENCODERS)
def test_whatever_is_not_printable_is_escaped_and_means_the_same(write: Callable[[object], bytes]) -> None:
    every = [chr(code) for code in range(0x11_0000) if not 0xD800 <= code < 0xE000]
    written = write(every)
    assert written.decode().isprintable()
    assert json.loads(written) == every
    assert write("\x7f\x9b\u2028\u202e\U000e0041\u00e9\u4e2d") == r'"\u007f\u009b\u2028\u202e\udb40\udc41é中"'.encode()


@given(VALUES)
def test_json_of_any_encoder_is_made_printable(value: Any) -> None:
    shown = printable(json.dumps(value, ensure_ascii=False, indent=2).encode("utf-8"))
    assert all(line.isprintable() for line in shown.decode().split("\n"))
    assert json.loads(shown) == value


def test_nan_is_no_json() -> None:
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(b"[NaN]")
    with pytest.raises(SessionFileError):
        decode_file(b'{"version":1,"id":NaN}')


def test_a_whole_number_beyond_64_bits_is_refused_where_one_is_read() -> None:
    whole = b"".join(encode_file(load_file(min(FOLDER.glob("*.json")))))
    started = re.search(rb'"submitted_us":(\d+)', whole)
    assert started is not None
    with pytest.raises(SessionFileError, match="submitted_us"):
        decode_file(whole.replace(started[0], b'"submitted_us":%d' % 10**400, 1))

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from edgetop.core.records import Record, TurnStarted
from edgetop.session.file import SessionFile, to_file, to_session
from edgetop.session.file_io import (
    LARGEST_FILE_BYTES,
    SessionFileError,
    decode_file,
    encode_file,
    encode_session,
    load,
    load_file,
    load_head,
    load_shown,
    load_without_readings,
    rewrite,
    save,
    validate,
)
from edgetop.session.session import Session
from tests.support.long_sessions import an_hour
from tests.support.recorded_sessions import CPU, HEAD, MEMORY, START_US, S, event, fold, recordings, sample, turn


@pytest.fixture
def recorded() -> Session:
    return fold([
        *HEAD,
        sample(MEMORY, 1 * S, 8e9, None, reasons=("", "no swap")),
        sample(CPU, 1 * S, 3.5, 0.0),
        *turn(1, at_us=1 * S),
        event("throttled", 2 * S),
        *turn(2, at_us=10 * S),
        sample(CPU, 11 * S, 80.0, 0.0),
    ])  # fmt: skip


@pytest.fixture
def path(tmp_path: Path, recorded: Session) -> Path:
    path = tmp_path / "session.json"
    save(path, recorded)
    return path


def _document(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_bytes())
    return document


@given(recordings())
def test_a_file_keeps_the_whole_session(records: list[Record]) -> None:
    session = fold(records)
    file = to_file(session)
    data = b"".join(encode_file(file))
    read = decode_file(data)
    assert to_file(to_session(read)) == read == file
    assert b"".join(encode_file(read)) == data


def _with_lists(file: SessionFile) -> SessionFile:
    """With the tokens as they are where a file is read at once."""
    turns = [
        replace(turn, tokens=replace(turn.tokens, dt_us=list(turn.tokens.dt_us), chars=list(turn.tokens.chars)))
        for turn in file.turns
    ]
    return replace(file, turns=tuple(turns))


@given(records=recordings(), block=st.integers(1, 7))
def test_a_session_is_written_and_read_line_by_line_as_it_is_whole(
    records: list[Record], block: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    session = fold(records)
    path = tmp_path_factory.getbasetemp() / "lines.json"
    whole = to_file(session)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgetop.session.file.BLOCK", block)
        patch.setattr("edgetop.session.file_io.PIECE_BYTES", block)
        patch.setattr("edgetop.core.numbers.BLOCK", block)
        patch.setattr("edgetop.core.numbers.AT_ONCE", 2 * block)
        path.write_bytes(b"".join(encode_session(session)))
        assert path.read_bytes() == b"".join(encode_file(whole))
        patch.setattr("edgetop.session.file_io.load_file", None)  # It is not needed.
        assert to_file(load(path)) == whole
        shown = load_shown(path)
        assert _with_lists(load_without_readings(path)) == replace(whole, series=())
        assert load_without_readings(path, lambda source: source.name == "cpu").series == tuple(
            each for each in whole.series if each.source.name == "cpu"
        )
    assert (shown.summary, shown.events, shown.clients) == (whole.summary, whole.events, whole.clients)
    assert [(turn.prompt, turn.figures) for turn in shown.turns] == [
        (turn.prompt, turn.figures) for turn in whole.turns
    ]


@pytest.mark.parametrize("form", ["indented", "one line", "other order", "spaces"])
def test_a_file_that_another_program_has_laid_out_is_read_as_well(path: Path, recorded: Session, form: str) -> None:
    document = json.loads(path.read_bytes())
    if form == "other order":
        document = dict(reversed(document.items()))
    lines = path.read_bytes().replace(b'":[', b'": [')
    path.write_bytes(
        lines if form == "spaces" else json.dumps(document, indent=1 if form == "indented" else None).encode()
    )
    assert to_file(load(path)) == to_file(recorded)
    assert len(load_shown(path).turns) == len(recorded.turns)
    assert _with_lists(load_without_readings(path, lambda _: True)) == to_file(recorded)


@given(records=recordings())
def test_what_is_written_is_plain_json_that_validates(
    records: list[Record], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    save(path, fold(records))
    assert _document(path)["format"] == "edgetop-session"
    assert validate(path) == []


def test_stamps_are_whole_differences_and_whole_values_have_no_fraction(path: Path) -> None:
    document = _document(path)
    turn_entry = document["turns"][0]
    assert turn_entry["stamps"]["first_token_us"] == 1_251_000
    assert turn_entry["tokens"] == {"dt_us": [251_000, *[100_000] * 4], "chars": [3] * 5, "counted": True}
    assert turn_entry["reply"] == [{"part": "answer", "tokens": 5, "text": " w0 w1 w2 w3 w4"}]
    assert document["series"][0]["values"] == {"memory.available": [8_000_000_000], "swap.used": [None]}
    assert document["series"][0]["missing"] == {"swap.used": [[0, 1, "no swap"]]}
    assert document["series"][1]["values"]["cpu.others"] == [3.5, 80]
    assert b"8000000000.0" not in path.read_bytes()


def test_the_summary_stands_on_the_first_line_and_can_be_read_from_it(path: Path, recorded: Session) -> None:
    whole = load_file(path)
    head = load_head(path)
    assert (head.id, head.summary, head.loads) == (whole.id, whole.summary, whole.loads)
    path.write_text(json.dumps(_document(path), indent=1))
    assert load_head(path).summary == to_file(recorded).summary


def test_only_its_owner_can_read_a_session(path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600


def test_text_that_no_file_can_hold_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "odd.json"
    save(path, fold([*HEAD, TurnStarted(turn=1, t_us=START_US + S, prompt="a\ud800b\x1b]0;x\x07")]))
    assert load(path).turns[0].started.prompt == "a\ufffdb\x1b]0;x\x07"


def test_fields_of_a_newer_edgetop_survive_a_rewrite(path: Path) -> None:
    document = _document(path)
    document["colour"] = {"of": ["the", {"device": 1}]}
    document["device"]["serial"] = "42"
    document["loads"][0]["settings"]["speculative"] = {"draft": 4}
    document["summary"]["memory"]["npu_bytes"] = 7
    document["turns"][1]["thumbs"] = "up"
    document["turns"][1]["tokens"]["logprob"] = [0.5, 0.25]
    document["series"][0]["source"]["channels"][1]["colour"] = "red"
    document["events"][0]["severity"] = 3
    path.write_text(json.dumps(document))
    rewrite(path, lambda file: replace(file, tags=("kept",), notes="good"))
    assert _document(path) == {**document, "tags": ["kept"], "notes": "good"}
    assert load_head(path).tags == ("kept",)
    assert validate(path) == []


def test_a_rewrite_does_not_bring_back_what_was_taken_out(path: Path) -> None:
    document = _document(path)
    document["absent"]["gpu"] = {"reason": "none", "hint": "", "extra": 1}
    path.write_text(json.dumps(document))
    rewrite(path, lambda file: replace(file, absent={}, events=()))
    assert _document(path)["absent"] == {}
    assert _document(path)["events"] == []


def test_a_file_that_cannot_be_written_whole_leaves_the_old_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()

    def broken(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", broken)
    with pytest.raises(OSError, match="No space"):
        save(path, fold(HEAD))
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def _changed(path: Path, place: str, value: object) -> None:
    document = _document(path)
    *way, last = place.split(".")
    at: Any = document
    for step in way:
        at = at[int(step)] if step.isdigit() else at[step.replace("/", ".")]
    at[int(last) if last.isdigit() else last.replace("/", ".")] = value
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        ("format", "other", "$.format: "),
        ("version", 2, "$.version: it is a session of format 2"),
        ("device", None, "$.device: "),
        ("turns.1.tokens.dt_us.2", "soon", "$.turns[1].tokens.dt_us[2]: "),
        ("turns.1.tokens.dt_us.2", -1, "$.turns[1].tokens.dt_us[2]: "),
        ("turns.1.tokens.dt_us.2", 10**30, "$.turns[1].tokens.dt_us[2]: "),
        ("turns.1.tokens.dt_us", [2**53] * 5, "$.turns[1].tokens.dt_us: "),
        ("turns.0.tokens.dt_us", [1, 2], "$.turns[0].tokens: 2 stamps, but 5 numbers"),
        ("turns.0.tokens.chars.0", 99, "$.turns[0].tokens.chars: "),
        ("turns.0.reply", [], "$.turns[0].reply: "),
        ("turns.0.stamps.first_token_us", 5, "$.turns[0].stamps: "),
        ("turns.0.stamps.finished_us", None, "$.turns[0].end: "),
        ("turns.0.stamps.submitted_us", 9_000_000_000, "$.turns[1]: it is stamped before"),
        ("turns.0.prefill.done", [0], "$.turns[0].prefill: "),
        ("turns.0.figures.decode_tokens_per_s", 99.5, "$.turns[0].figures.decode_tokens_per_s: it says 99.5"),
        ("summary.generated_tokens", 3, "$.summary.generated_tokens: it says 3"),
        ("series.0.dt_us", [1, 2], "$.series[0].values.memory/available: 1 values for 2 stamps"),
        ("series.1.dt_us.1", -5, "$.series[1].dt_us: "),
        ("series.0.values", {}, "$.series[0].values: "),
        ("series.0.missing", {}, "$.series[0].missing.swap/used: "),
        ("series.0.missing.swap/used", [[-4, 1, "x"]], "$.series[0].missing.swap/used: "),
        ("series.0.missing.swap/used", [[0, 10**12, "x"]], "$.series[0].missing.swap/used: "),
        ("series.0.missing.power", [], "$.series[0].missing.power: "),
        ("series.1.source.name", "memory", "$.series[1].source: "),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_place(path: Path, place: str, value: object, told: str) -> None:
    _changed(path, place, value)
    problems = validate(path)
    assert problems
    assert problems[0].startswith(f"{path}: {told.replace('/', '.')}")
    assert "\n" not in problems[0]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "Input data was truncated"),
        (b"\x00\xff", "line 1: JSON is malformed"),
        (b'{"format":"edgetop-session"', "truncated"),
        (b"[" * 100_000, "Expected `object`"),
        (b'{"format":"edgetop-session","later":' + b"[" * 100_000, "nested too deeply"),
        (b'{"format":"edgetop-session","version":1' + b"9" * 5000 + b"}", "$.version: "),
        (b'{"format":"edgetop-session","version":1,"notes":"\x1b[2J', "malformed"),
        (b"[1,2,3]", "Expected `object`"),
        (b'{"hello":"world"}', "missing required field"),
        (b'{"format":"\\u001b[2J"}', "$.format: "),
    ],
)
def test_other_and_hostile_files_give_one_harmless_line(tmp_path: Path, data: bytes, told: str) -> None:
    path = tmp_path / "hostile.json"
    path.write_bytes(data)
    with pytest.raises(SessionFileError) as error:
        load(path)
    assert told in error.value.what
    assert error.value.what.startswith(str(path))
    assert error.value.what.isprintable()
    assert len(error.value.what) < len(str(path)) + 300
    with pytest.raises(SessionFileError):
        load_head(path)


def test_a_malformed_line_is_told_by_its_number(path: Path) -> None:
    lines = path.read_bytes().split(b"\n")
    lines[3] = b"?" + lines[3]
    path.write_bytes(b"\n".join(lines))
    assert f"{path}: line 4: " in validate(path)[0]


def test_what_is_no_file_or_larger_than_any_session_is_not_read(tmp_path: Path) -> None:
    huge = tmp_path / "huge.json"
    with huge.open("wb") as file:
        file.truncate(LARGEST_FILE_BYTES + 1)
    assert "more than any session" in validate(huge)[0]
    assert "not a regular file" in validate(Path("/dev/zero"))[0]
    assert "No such file" in validate(tmp_path / "none.json")[0]
    assert validate(tmp_path)


_SMALL = b"".join(encode_file(to_file(fold([*HEAD, sample(MEMORY, 1 * S, None, 7.0), *turn()]))))


@given(seed=st.integers(0, 10**9), changes=st.integers(1, 4))
def test_damaged_files_load_or_are_refused_and_never_crash(
    seed: int, changes: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    damaged = bytearray(_SMALL)
    chance = random.Random(seed)  # noqa: S311
    for _ in range(changes):
        at = chance.randrange(len(damaged))
        match chance.randrange(3):
            case 0:
                damaged[at] = chance.randrange(256)
            case 1:
                del damaged[at : at + chance.randrange(1, 40)]
            case _:
                damaged[at:at] = chance.choice((b"-", b"9" * 25, b"null", b"[", b'"', b"1e999", b"{}", b","))
    path = tmp_path_factory.getbasetemp() / "damaged.json"
    path.write_bytes(damaged)
    try:
        session = to_session(decode_file(bytes(damaged)))
    except (SessionFileError, ValueError):
        with pytest.raises(SessionFileError):
            load(path)
        return
    whole = b"".join(encode_file(to_file(session)))
    assert b"".join(encode_session(load(path))) == whole


def test_an_hour_of_ten_channels_and_two_hundred_thousand_tokens_stays_below_8_mb() -> None:
    file = to_file(an_hour())
    assert file.summary.generated_tokens == 200_000
    assert sum(len(each) for each in encode_file(file)) < 8_000_000

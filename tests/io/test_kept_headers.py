"""Headers that are kept: read once, read anew when the file changes, and never believed when they are broken."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edgetop.core.gguf import GgufHeader, read_header
from edgetop.io import model_file
from edgetop.io.model_file import read_model_header
from tests.support.gguf_files import ARRAY, STRING, array, gguf, pair, tensor, text


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(model_file, "user_folder", lambda _: tmp_path / "cache")
    monkeypatch.setattr(model_file, "_KEPT_FROM_BYTES", 2**16)
    monkeypatch.setattr(model_file, "_SETTLED_NS", -(10**18))
    return tmp_path / "cache" / model_file.HEADERS_FOLDER


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The size of each file whose header was read."""
    sizes: list[int] = []

    def reads(buffer: bytes, *, size_bytes: int) -> GgufHeader:
        sizes.append(size_bytes)
        return read_header(buffer, size_bytes=size_bytes)

    monkeypatch.setattr(model_file, "read_header", reads)
    return sizes


def data(name: str = "Tiny") -> bytes:
    return gguf(
        [
            pair("general.architecture", STRING, text("llama")),
            pair("general.name", STRING, text(name)),
            pair("llama.rope.scale", 6, bytes.fromhex("0000c07f")),  # NaN
            pair("llama.some", ARRAY, array(STRING, [text("a"), text("b")])),
            pair("tokenizer.ggml.tokens", ARRAY, array(STRING, [text(f"token {n}") for n in range(9000)])),
        ],
        [tensor("blk.0.weight", [32, 4], 3, 0), tensor("norm.weight", [8], 0, 96)],
        data_bytes=128,
    )


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "m.gguf"
    path.write_bytes(data())
    os.utime(path, ns=(10**18, 10**18))  # a change has another time, however soon it comes
    return path


def header_of(path: Path) -> GgufHeader:
    header, problem = read_model_header(path)
    assert header is not None, problem
    return header


def test_a_header_is_read_once_and_is_the_same_the_second_time(model: Path, parsed: list[int], folder: Path) -> None:
    first, second = header_of(model), header_of(model)
    assert repr(second) == repr(first)
    assert len(parsed) == 1
    (kept,) = folder.iterdir()
    assert kept.stat().st_mode & 0o077 == 0
    assert kept.stat().st_size < 4096, "the vocabulary is not in it"


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(data("Other")),
        lambda path: path.write_bytes(data("Tony")),  # of the same size
        lambda path: os.utime(path, ns=(1, 1)),
        lambda path: (path.unlink(), path.write_bytes(data("Tony"))),
        lambda path: (path.with_name("n").write_bytes(data("Tony")), path.with_name("n").replace(path)),
    ],
)
def test_a_file_that_changed_is_read_anew(model: Path, parsed: list[int], change: Callable[[Path], object]) -> None:
    header_of(model)
    change(model)
    assert header_of(model).name == read_header(model.read_bytes()).name
    assert len(parsed) == 2


def test_what_was_written_just_now_is_not_kept(
    model: Path, parsed: list[int], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_file, "_SETTLED_NS", 10**18)
    header_of(model)
    header_of(model)
    assert len(parsed) == 2
    assert not folder.exists()


def test_a_short_header_is_not_kept(model: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_file, "_KEPT_FROM_BYTES", 2**20)
    header_of(model)
    assert not folder.exists()


def test_what_is_kept_stays_within_bounds(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_file, "HEADERS_KEPT", 3)
    for number in range(6):
        path = tmp_path / f"{number}.gguf"
        path.write_bytes(data(f"Model {number}"))
        header_of(path)
    assert len(list(folder.iterdir())) == 3


def _elsewhere(kept: Path) -> None:
    """A link to what never ends."""
    kept.unlink()
    kept.symlink_to("/dev/zero")


def _pipe(kept: Path) -> None:
    kept.unlink()
    os.mkfifo(kept)


def _flipped(kept: Path) -> None:
    found = bytearray(kept.read_bytes())
    place = found.index(b"Tiny")
    found[place] ^= 1
    kept.write_bytes(found)


@pytest.mark.parametrize(
    "harm",
    [
        lambda kept: kept.write_bytes(b""),
        lambda kept: kept.write_bytes(b"{}"),
        lambda kept: kept.write_bytes(b"\xff" * 100),
        lambda kept: kept.write_bytes(bytes(kept.stat().st_size)),
        lambda kept: kept.write_bytes(kept.read_bytes()[:-1]),
        lambda kept: kept.write_bytes(kept.read_bytes() + bytes(2**21)),
        lambda kept: kept.write_bytes(b"\x91" * 100_000),
        _flipped,
        _elsewhere,
        _pipe,
    ],
)
def test_what_is_broken_is_read_anew(
    model: Path, parsed: list[int], folder: Path, harm: Callable[[Path], object]
) -> None:
    header_of(model)
    (kept,) = folder.iterdir()
    harm(kept)
    assert header_of(model).name == "Tiny"
    assert len(parsed) == 2


def test_what_another_version_or_another_user_kept_is_not_taken(
    model: Path, parsed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    header_of(model)
    monkeypatch.setattr(model_file, "__version__", "99")
    header_of(model)
    assert len(parsed) == 2
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    header_of(model)
    assert len(parsed) == 3


def test_without_a_folder_to_keep_them_in_headers_are_read_all_the_same(
    model: Path, parsed: list[int], tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("a file")
    header_of(model)
    header_of(model)
    assert len(parsed) == 2

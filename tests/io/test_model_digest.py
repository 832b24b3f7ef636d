"""The SHA-256 of model files: known, computed once, at idle I/O priority."""

from __future__ import annotations

import hashlib
import os
import sys
import threading
from pathlib import Path

import psutil
import pytest

from edgetop.io import model_file
from edgetop.io.model_file import compute_digest, idle_io, known_digest

DATA = b"GGUF" + bytes(9 * 2**20)
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(model_file, "user_folder", lambda _: tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "m.gguf"
    path.write_bytes(DATA)
    return path


def test_a_digest_is_computed_once_and_anew_when_the_file_changes(model: Path) -> None:
    assert known_digest(model) == ""
    assert compute_digest(model) == known_digest(model) == DIGEST
    link = model.with_name("link.gguf")
    link.symlink_to(model)
    assert known_digest(link) == DIGEST
    model.write_bytes(DATA + b"more")
    assert known_digest(model) == ""
    os.utime(model, ns=(1, 1))
    assert compute_digest(model) == hashlib.sha256(DATA + b"more").hexdigest()


def test_a_split_model_s_is_that_of_all_parts_and_knows_when_one_changes(tmp_path: Path) -> None:
    parts = [tmp_path / f"m-0000{number}-of-00002.gguf" for number in (1, 2)]
    for part in parts:
        part.write_bytes(DATA + part.name.encode())
    digest = hashlib.sha256(b"".join(part.read_bytes() for part in parts)).hexdigest()
    assert compute_digest(parts[1]) == known_digest(parts[0]) == digest
    parts[1].write_bytes(b"other")
    assert known_digest(parts[0]) == ""
    parts[1].unlink()
    assert compute_digest(parts[0]) == ""


def test_a_name_of_parts_that_cannot_be_is_that_of_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("m-00001-of-00000.gguf", "m-00000-of-00000.gguf", "m-00003-of-00002.gguf"):
        (tmp_path / name).write_bytes(DATA)
        assert compute_digest(tmp_path / name) == known_digest(tmp_path / name) == DIGEST
    looked_at: list[Path] = []

    def exists(path: Path) -> bool:
        looked_at.append(path)
        return path.is_file()

    monkeypatch.setattr(Path, "exists", exists)
    (tmp_path / "m-00001-of-99999.gguf").write_bytes(DATA)
    assert known_digest(tmp_path / "m-00001-of-99999.gguf") == ""
    assert len(looked_at) == 2, "the first that lacks ends it"


def test_one_that_is_stopped_is_not_computed(model: Path) -> None:
    assert compute_digest(model, goes_on=lambda: False) == ""
    assert known_digest(model) == ""


def test_a_store_names_its_files_by_their_digest(tmp_path: Path) -> None:
    for name in ("f" * 64, f"sha256-{'f' * 64}"):
        blob = tmp_path / "blobs" / name
        blob.parent.mkdir(exist_ok=True)
        blob.write_bytes(b"GGUF")
        link = tmp_path / f"{len(name)}.gguf"
        link.symlink_to(blob)
        assert known_digest(link) == "f" * 64
    mine = tmp_path / ("f" * 64)
    mine.write_bytes(b"GGUF")
    assert known_digest(mine) == "", "a name elsewhere says nothing"


def test_what_cannot_be_read_or_kept_is_no_failure(tmp_path: Path, model: Path, cache: Path) -> None:
    assert compute_digest(tmp_path / "none") == ""
    cache.mkdir()
    (cache / model_file.DIGESTS_FILE).write_bytes(b"\xff{")
    assert compute_digest(model) == DIGEST


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="I/O priorities are Linux's")
def test_reading_has_idle_priority_and_gives_it_back() -> None:
    def priority() -> int:
        return int(psutil.Process(threading.get_native_id()).ionice().ioclass)

    before = priority()
    with idle_io():
        assert priority() == psutil.IOPRIO_CLASS_IDLE
    assert priority() == before

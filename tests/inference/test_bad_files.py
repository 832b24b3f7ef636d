"""What llama.cpp's loader makes of bad files: each ends in a clear report or in a death that is explained."""

from __future__ import annotations

import resource
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgetop.core.engine_settings import EngineSettings
from edgetop.core.records import ModelLoaded
from edgetop.inference.client import EngineProcess
from edgetop.inference.protocol import Hello, LoadFailed
from tests.inference.tiny_gguf import write_tiny_gguf
from tests.support.engine_worker import EngineWorker

SMALL = EngineSettings(n_ctx=256, n_threads=1)


@pytest.fixture(scope="module")
def talk() -> Iterator[EngineWorker]:
    with EngineProcess.start() as engine:
        yield EngineWorker(engine)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_tiny_gguf(tmp_path_factory.mktemp("good") / "good.gguf").read_bytes()


def failure(talk: EngineWorker, path: Path, settings: EngineSettings = SMALL) -> LoadFailed:
    failed = talk.load(path, settings)
    assert isinstance(failed, LoadFailed), failed
    assert failed.message
    assert failed.hint
    assert "\n" not in failed.message + failed.hint
    return failed


def _with(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + value + data[at + len(value) :]


Damage = tuple[Callable[[bytes], bytes], str, str]
HUGE = struct.pack("<Q", 2**62)
DAMAGES: dict[str, Damage] = {
    "empty": (lambda good: b"", "not_a_model", "is empty"),
    "text": (lambda good: b"Once upon a time", "not_a_model", "not a GGUF file"),
    "git-lfs": (lambda good: b"version https://git-lfs.github.com/spec/v1\n", "not_a_model", "Git LFS pointer"),
    "magic alone": (lambda good: good[:4], "not_a_model", "truncated"),
    "cut in the metadata": (lambda good: good[:3000], "not_a_model", "truncated"),
    "cut in the data": (lambda good: good[:-5000], "not_a_model", "bytes after the file"),
    "version 99": (lambda good: _with(good, 4, struct.pack("<I", 99)), "unsupported", "version 99"),
    "version 1": (lambda good: _with(good, 4, struct.pack("<I", 1)), "unsupported", "GGUFv1"),
    "big-endian": (lambda good: _with(good, 4, struct.pack(">I", 3)), "not_a_model", "big endian"),
    "huge tensor count": (lambda good: _with(good, 8, HUGE), "not_a_model", "tensors cannot be"),
    "huge key count": (lambda good: _with(good, 16, HUGE), "not_a_model", "pairs cannot be"),
    "huge string": (lambda good: _with(good, 24, HUGE), "not_a_model", "string length"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_refused_with_its_reason(
    talk: EngineWorker, good: bytes, tmp_path: Path, damage: str
) -> None:
    make, reason, told = DAMAGES[damage]
    path = tmp_path / "bad.gguf"
    path.write_bytes(make(good))
    failed = failure(talk, path)
    assert failed.reason == reason
    assert told in failed.message


def test_a_path_that_is_no_file_is_refused(talk: EngineWorker, tmp_path: Path) -> None:
    assert failure(talk, tmp_path / "nothing.gguf").reason == "missing"
    assert failure(talk, tmp_path).reason == "not_a_model"


WRONG_METADATA = {
    "unknown architecture": ({"architecture": "nosuch"}, "unsupported", "nosuch"),
    "missing key": ({"context_length": None}, "not_a_model", "context_length"),
    "no heads": ({"head_count": 0}, "not_a_model", "wrong shape"),
    "more blocks than tensors": ({"block_count": 3}, "not_a_model", "blk.2"),
    "missing tensor": ({"without_tensor": "blk.1.ffn_up.weight"}, "not_a_model", "blk.1.ffn_up.weight"),
}


@pytest.mark.parametrize("wrong", WRONG_METADATA)
def test_a_model_that_contradicts_itself_is_refused_with_its_reason(
    talk: EngineWorker, tmp_path: Path, wrong: str
) -> None:
    changes, reason, told = WRONG_METADATA[wrong]
    failed = failure(talk, write_tiny_gguf(tmp_path / "bad.gguf", **changes))  # type: ignore[arg-type]
    assert failed.reason == reason
    assert told in failed.message


@pytest.mark.parametrize("block_count", [0, 600])
def test_a_block_count_that_makes_the_library_abort_is_explained(tmp_path: Path, block_count: int) -> None:
    path = write_tiny_gguf(tmp_path / "bad.gguf", block_count=block_count)
    with EngineProcess.start() as engine:
        talk = EngineWorker(engine)
        with pytest.raises(AssertionError):
            talk.load(path, SMALL)
        death = talk.death()
    assert death.phase == "loading"
    assert death.signal_name == "SIGABRT"
    assert "GGML_ASSERT" in death.what
    assert "/" not in death.what
    assert "download it again" in death.hint


@pytest.mark.parametrize("context_length", [0, 2**31])
def test_a_context_length_that_cannot_be_true_is_not_taken_over(
    talk: EngineWorker, tmp_path: Path, context_length: int
) -> None:
    loaded = talk.load(
        write_tiny_gguf(tmp_path / "odd.gguf", context_length=context_length), EngineSettings(n_threads=1)
    )
    assert isinstance(loaded, ModelLoaded)
    assert loaded.settings.n_ctx == 2048


@pytest.mark.skipif(sys.platform != "linux", reason="prlimit")
def test_a_context_beyond_memory_is_refused_as_such(start: Callable[..., EngineWorker], tmp_path: Path) -> None:
    talk = start()
    talk.until(Hello)
    resource.prlimit(talk.engine.pid, resource.RLIMIT_AS, (2**30, 2**30))
    path = write_tiny_gguf(tmp_path / "good.gguf")
    failed = failure(talk, path, EngineSettings(n_ctx=2**21, n_threads=1))
    assert failed.reason == "no_memory"


def test_a_quantized_cache_without_flash_attention_is_refused_with_the_way_out(
    talk: EngineWorker, tmp_path: Path
) -> None:
    path = write_tiny_gguf(tmp_path / "good.gguf")
    settings = EngineSettings(n_ctx=256, n_threads=1, type_k="q8_0", type_v="q4_0", flash_attention="off")
    failed = failure(talk, path, settings)
    assert "flash attention" in failed.message


def test_after_a_failed_load_there_is_no_model_and_a_good_one_loads(talk: EngineWorker, tmp_path: Path) -> None:
    failure(talk, tmp_path / "nothing.gguf")
    finished = talk.ask("Hello")
    assert (finished.stop_reason, finished.error) == ("failed", "No model is loaded: load one first.")
    assert isinstance(talk.load(write_tiny_gguf(tmp_path / "good.gguf"), SMALL), ModelLoaded)
    assert talk.ask("Hello", max_tokens=4).error == ""

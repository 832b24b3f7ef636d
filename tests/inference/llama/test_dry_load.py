"""What the library says it would allocate, against what it does allocate."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from edgetop.core.engine_settings import EngineSettings, MemoryBreakdown
from edgetop.core.records import ModelLoaded
from edgetop.core.sources import Unavailable
from edgetop.inference.client import EngineProcess
from edgetop.inference.llama import dry_load as dry_loads
from edgetop.inference.llama.dry_load import AllocationUnknownError, buffer_shares, dry_load
from edgetop.inference.llama.library import import_library
from tests.inference.tiny_gguf import write_tiny_gguf
from tests.support.engine_worker import EngineWorker
from tests.support.gguf_architectures import ARCHITECTURES
from tests.support.gguf_files import write_model

ROUNDING_BYTES = 2**20 // 200 + 1
"""Half of the last decimal of the library's log, which is what a real load reports."""


@pytest.fixture(scope="module")
def talk() -> Iterator[EngineWorker]:
    with EngineProcess.start() as engine:
        yield EngineWorker(engine)


def sizes(memory: MemoryBreakdown) -> dict[str, int]:
    """By buffer, those left out that a log rounds to nothing."""
    return {label: size for label, size in memory.by_buffer.items() if size > ROUNDING_BYTES}


def assert_same(talk: EngineWorker, path: Path, settings: EngineSettings) -> MemoryBreakdown:
    dry = dry_load(path, settings)
    real = talk.load(path, settings)
    assert isinstance(dry, MemoryBreakdown), dry
    assert isinstance(real, ModelLoaded), real
    assert sizes(dry) == pytest.approx(sizes(real.memory), abs=ROUNDING_BYTES)
    return dry


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_a_dry_load_names_the_buffers_and_sizes_of_a_real_one(talk: EngineWorker, tmp_path: Path, kind: str) -> None:
    assert_same(talk, write_model(tmp_path / "tiny.gguf", kind), EngineSettings(n_ctx=2048, n_threads=1))


@pytest.mark.parametrize(
    "settings",
    [
        EngineSettings(n_ctx=1000, n_threads=1, type_k="q8_0", type_v="q4_0"),
        EngineSettings(n_ctx=4096, flash_attention="off", n_ubatch=128),
        EngineSettings(n_ctx=512, n_outputs_max=64, n_batch=64),
    ],
)
def test_every_setting_that_takes_memory_counts(
    talk: EngineWorker, small_model: Path, settings: EngineSettings
) -> None:
    memory = assert_same(talk, small_model, settings)
    parts = (memory.weights_bytes, memory.kv_bytes, memory.compute_bytes, memory.output_bytes)
    assert sum(part or 0 for part in parts) == sum(memory.by_buffer.values())


def test_a_window_may_be_kept_whole_and_repacking_left_out(talk: EngineWorker, tmp_path: Path) -> None:
    gemma = write_model(tmp_path / "gemma.gguf", "gemma3")
    short = assert_same(talk, gemma, EngineSettings(n_ctx=4096))
    full = assert_same(talk, gemma, EngineSettings(n_ctx=4096, swa_full=True))
    assert (full.kv_bytes or 0) > 2 * (short.kv_bytes or 0)
    packed = write_model(tmp_path / "q4_0.gguf", weights="q4_0")
    assert_same(talk, packed, EngineSettings(n_ctx=512))
    plain = assert_same(talk, packed, EngineSettings(n_ctx=512, use_extra_bufts=False))
    assert "CPU_REPACK model" not in plain.by_buffer


def test_weights_that_are_copied_are_not_mapped(talk: EngineWorker, tmp_path: Path) -> None:
    whole = write_model(tmp_path / "whole.gguf", "mixtral")
    copied = assert_same(talk, whole, EngineSettings(n_ctx=512, load_mode="copy"))
    assert "CPU_Mapped model" not in copied.by_buffer


def test_a_file_that_makes_the_library_abort_is_missing_with_what_it_said(tmp_path: Path) -> None:
    found = dry_load(write_tiny_gguf(tmp_path / "bad.gguf", block_count=0), EngineSettings())
    assert isinstance(found, Unavailable)
    assert "aborted while it loaded the model" in found.reason
    assert "GGML_ASSERT" in found.reason
    assert "\n" not in found.reason + found.hint


def test_a_library_that_takes_too_long_is_missing(small_model: Path) -> None:
    found = dry_load(small_model, EngineSettings(), timeout_s=0.0)
    assert isinstance(found, Unavailable)
    assert "did not report within 0 s" in found.reason


def test_what_the_library_refuses_is_missing_with_its_reason(tmp_path: Path, small_model: Path) -> None:
    bad = tmp_path / "bad.gguf"
    cases = {
        "there is no file": (tmp_path / "none.gguf", EngineSettings()),
        "not a GGUF file": (_written(bad, b"Once upon a time"), EngineSettings()),
        "needs flash attention": (small_model, EngineSettings(type_v="q8_0", flash_attention="off")),
    }
    for reason, (path, settings) in cases.items():
        found = dry_load(path, settings)
        assert isinstance(found, Unavailable), found
        assert reason in found.reason
        assert found.hint
    truncated = dry_load(_written(bad, struct.pack("<4sIQQ", b"GGUF", 3, 5, 5)), EngineSettings())
    assert isinstance(truncated, Unavailable)


def test_maps_of_another_c_plus_plus_library_are_not_read() -> None:
    """As edgetop-engine's are, which Zig compiles with libc++: their sizes would be anything."""
    functions = {"_Z29llama_internal_get_tensor_mapPK11llama_model": None, "_name": None}
    with pytest.raises(AllocationUnknownError, match="libc\\+\\+"):
        buffer_shares(SimpleNamespace(_lib=SimpleNamespace(**functions)), None)


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_a_function_that_lacks_is_named_as_it_is_written() -> None:
    with pytest.raises(AllocationUnknownError, match=r"no function llama_internal_get_nothing$"):
        dry_loads._function(import_library(), "_Z26llama_internal_get_nothingB5cxx11PK11llama_model")

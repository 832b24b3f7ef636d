"""Levels of the real small model, made by llama.cpp."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgetop.core.errors import ModelError
from edgetop.core.gguf import read_header
from edgetop.inference.quantization import QuantizationError, quantize_model, size_of_level
from edgetop.io.model_file import content_key
from tests.inference.tiny_gguf import write_tiny_gguf


def test_a_level_is_made_once_and_found_again(small_model: Path, tmp_path: Path) -> None:
    made = quantize_model(small_model, "Q8_0", tmp_path)
    assert made.path.name == "SmolLM2-135M-Instruct.Q8_0.gguf"
    assert made.made_now
    header = read_header(made.path.read_bytes())
    assert header.file_type == "Q8_0"
    assert size_of_level(small_model, "Q8_0") == pytest.approx(header.tensor_bytes, rel=0.001)
    again = quantize_model(small_model, "Q8_0", tmp_path)
    assert (again.path, again.made_now) == (made.path, False)
    assert [path.name for path in made.path.parent.iterdir()] == [made.path.name], "nothing half made is left"


def test_rows_that_do_not_divide_into_the_levels_blocks_are_counted(small_model: Path, tmp_path: Path) -> None:
    assert quantize_model(small_model, "Q2_K", tmp_path).fallback_tensors > 0


def test_files_are_told_apart_by_their_content(tmp_path: Path) -> None:
    first = write_tiny_gguf(tmp_path / "first.gguf")
    same = tmp_path / "same.gguf"
    same.write_bytes(first.read_bytes())
    other = write_tiny_gguf(tmp_path / "other.gguf", weight_scale=0.2)
    assert content_key(first) == content_key(same) != content_key(other)
    with pytest.raises(ModelError):
        content_key(tmp_path / "absent.gguf")


def test_what_cannot_be_made_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"GGUF" + bytes(100))
    levels = tmp_path / "levels"
    with pytest.raises(QuantizationError, match=r"could not make Q4_0 of bad\.gguf"):
        quantize_model(bad, "Q4_0", levels)
    assert [path for path in levels.rglob("*") if path.is_file()] == []
    with pytest.raises(QuantizationError, match="no level"):
        quantize_model(bad, "Q9_Z", levels)

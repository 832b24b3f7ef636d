from __future__ import annotations

import ctypes
import mmap
import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgetop.core.errors import ModelError
from edgetop.fit.model_facts import read_facts
from edgetop.io.model_file import models_in
from tests.fit.llama_verdict import llama_verdicts
from tests.support.gguf_architectures import Setting
from tests.support.gguf_files import (
    ARRAY,
    STRING,
    U32,
    U64,
    array,
    gguf,
    model_bytes,
    pair,
    tensor,
    text,
    u32,
    write_model,
    write_split,
)

HUGE = struct.pack("<Q", 2**62)


def refusal(path: Path) -> ModelError:
    with pytest.raises(ModelError) as refused:
        read_facts(path)
    assert refused.value.exit_code == 3
    assert refused.value.what
    assert refused.value.hint
    assert "\n" not in refused.value.what + refused.value.hint
    return refused.value


def test_a_single_file_is_read(tmp_path: Path) -> None:
    path = write_model(tmp_path / "tiny.gguf", "llama")
    told = read_facts(path)
    assert (told.source, told.files, told.size_bytes) == (str(path), (str(path),), path.stat().st_size)


@pytest.mark.parametrize("named", [0, 1, 2])
def test_any_part_of_a_split_model_leads_to_all(tmp_path: Path, named: int) -> None:
    whole = read_facts(write_model(tmp_path / "whole.gguf", "qwen2moe"))
    parts = write_split(tmp_path, "qwen2moe", 3)
    told = read_facts(parts[named])
    assert told.files == tuple(map(str, parts))
    assert told.size_bytes == sum(part.stat().st_size for part in parts)
    assert (told.parameters, told.weight_bytes_per_token) == (whole.parameters, whole.weight_bytes_per_token)
    assert (told.name, told.n_vocab, told.has_template) == (whole.name, whole.n_vocab, True)


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    parts = write_split(tmp_path, "llama", 4)
    parts[1].unlink()
    parts[3].unlink()
    told = refusal(parts[0])
    assert "lacks part 2, 4 of 4" in told.what
    assert "all parts in one folder" in told.hint


def test_a_part_under_another_name_cannot_lead_to_the_others(tmp_path: Path) -> None:
    part = write_split(tmp_path, "llama", 2)[0].rename(tmp_path / "renamed.gguf")
    told = refusal(part)
    assert "one of 2 parts" in told.what
    assert "-00001-of-00002.gguf" in told.hint


def test_parts_in_the_wrong_order_are_noticed(tmp_path: Path) -> None:
    first, second = write_split(tmp_path, "llama", 2)
    data = first.read_bytes(), second.read_bytes()
    first.write_bytes(data[1])
    second.write_bytes(data[0])
    assert "says that it is part 2 of 2, not 1 of 2" in refusal(first).what


def test_a_damaged_part_is_the_one_that_is_named(tmp_path: Path) -> None:
    parts = write_split(tmp_path, "llama", 3)
    parts[2].write_bytes(parts[2].read_bytes()[:-1000])
    told = refusal(parts[0])
    assert parts[2].name in told.what
    assert "truncated" in told.what


def test_a_folder_with_one_model_is_that_model(tmp_path: Path) -> None:
    parts = write_split(tmp_path, "llama", 2)
    write_model(tmp_path / "mmproj-tiny.gguf", "llama")
    (tmp_path / "README.md").write_text("no model")
    assert models_in(tmp_path) == [parts[0]]
    told = read_facts(tmp_path)
    assert (told.source, told.files) == (str(tmp_path), tuple(map(str, parts)))


def test_a_folder_with_no_model_or_several_asks_which(tmp_path: Path) -> None:
    assert "no GGUF file in" in refusal(tmp_path).what
    write_model(tmp_path / "a.gguf")
    write_model(tmp_path / "b.gguf")
    told = refusal(tmp_path)
    assert "holds 2 models" in told.what
    assert "a.gguf, b.gguf" in told.hint


@pytest.mark.parametrize(
    ("content", "what", "hint"),
    [
        (b"", "the file is empty (at byte 0)", "download it again"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer", "git lfs pull"),
        (b"<!DOCTYPE html><html>", "web page", "check the address"),
        (b"Once upon a time", "not a GGUF file", "in GGUF format"),
        (model_bytes()[:-1], "truncated", "download it again"),
        (model_bytes(metadata={"general.architecture": "gnu"}), "does not know the architecture", "newer edgetop"),
    ],
)
def test_what_is_no_model_is_told_in_a_line_each(tmp_path: Path, content: bytes, what: str, hint: str) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)
    told = refusal(path)
    assert what in told.what
    assert "at byte" in told.what
    assert hint in told.hint


def test_a_path_that_leads_to_no_file_is_told(tmp_path: Path) -> None:
    assert "there is no file" in refusal(tmp_path / "none.gguf").what
    os.mkfifo(tmp_path / "pipe.gguf")
    assert "not a file" in refusal(tmp_path / "pipe.gguf").what
    assert "cannot be read" in refusal(Path("zero\0byte.gguf")).what
    hostile = tmp_path / "\x1b[31mred.gguf"
    assert "\x1b" not in refusal(hostile).what


def test_a_refusal_stays_short_however_long_a_key_is(tmp_path: Path) -> None:
    path = tmp_path / "long.gguf"
    path.write_bytes(gguf([pair("k" * 60_000, U32, u32(1))] * 2))
    told = refusal(path)
    assert "metadata key" in told.what
    assert len(told.what) < 500


def test_no_weight_comes_into_memory(tmp_path: Path) -> None:
    """Pages of a 5 GB file that are in memory after its header was read."""
    path = tmp_path / "large.gguf"
    header = gguf(
        [
            pair("general.architecture", STRING, text("llama")),
            pair("llama.block_count", U32, u32(1)),
            pair("llama.context_length", U32, u32(1)),
            pair("llama.embedding_length", U32, u32(1)),
            pair("tokenizer.ggml.tokens", ARRAY, array(STRING, [text(f"token{n}") for n in range(128_000)])),
        ],
        [tensor("blk.0.ffn_up.weight", [2**20, 1280], 0, 0)],
    )
    path.write_bytes(header)
    os.truncate(path, len(header) + 5 * 2**30)
    told = read_facts(path)
    assert (told.tensor_bytes, told.n_vocab) == (5 * 2**30, 128_000)
    if sys.platform == "linux":
        assert _resident_bytes(path) < len(header) + 16 * 2**20, "the kernel may read ahead a little"


def _resident_bytes(path: Path) -> int:
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as mapped:
        pages = ctypes.create_string_buffer(-(-len(mapped) // mmap.PAGESIZE))
        start = ctypes.c_char.from_buffer(mapped)
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            failed = libc.mincore(ctypes.c_void_p(ctypes.addressof(start)), ctypes.c_size_t(len(mapped)), pages)
            assert not failed, os.strerror(ctypes.get_errno())
        finally:
            del start
        return sum(page & 1 for page in pages.raw) * mmap.PAGESIZE


def with_keys(**metadata: Setting) -> Callable[[bytes], bytes]:
    changed = {key.replace("__", "."): value for key, value in metadata.items()}
    return lambda good: model_bytes(metadata=changed)


def at(offset: int, value: bytes) -> Callable[[bytes], bytes]:
    return lambda good: good[:offset] + value + good[offset + len(value) :]


def in_place(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    """Replace the first `old`, bytes of the same length that are there."""
    assert len(old) == len(new)
    return lambda good: good.replace(old, new, 1) if old in good else pytest.fail("the bytes to replace are not there")


LAYER = tensor("blk.0.attn_q.weight", [64, 64], 0, 2**30)[: 8 + 19 + 4 + 16]
CRASH_MATRIX: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda good: b"", "the file is empty (at byte 0)"),
    "wrong magic": (at(0, b"GGUX"), "begins with b'GGUX' (at byte 0)"),
    "text": (lambda good: b"Once upon a time", "not a GGUF file"),
    "git-lfs pointer": (lambda good: b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
    "truncated metadata": (lambda good: good[:3000], "truncated"),
    "truncated data": (lambda good: good[:-5000], "truncated: tensor"),
    "version 99": (at(4, u32(99)), "version 99 is not supported (2 and 3 are) (at byte 4)"),
    "huge number of pairs": (at(16, HUGE), "metadata pairs cannot be in the"),
    "huge number of tensors": (at(8, HUGE), "tensors cannot be described in the"),
    "huge text": (lambda good: gguf([pair("k", STRING, HUGE)]), "a text of 4611686018427387904 bytes is too long"),
    "huge key": (at(24, HUGE), "a metadata key has 4611686018427387904 bytes"),
    "huge array": (lambda good: gguf([pair("k", ARRAY, struct.pack("<IQ", U64, 2**61))]), "truncated: an array of"),
    "nested array": (
        lambda good: gguf([pair("k", ARRAY, array(ARRAY, [array(U32, [])]))]),
        "an array of arrays, which llama.cpp does not read either (at byte 37)",
    ),
    "bad tensor type": (in_place(LAYER + u32(0), LAYER + u32(99)), "has the unknown type 99"),
    "bad tensor offset": (
        lambda good: gguf([], [tensor("a", [8], 0, 0), tensor("b", [8], 0, 64)], 96),
        "begins at 64, not at 32 behind the last one",
    ),
    "bad tensor dimensions": (in_place(LAYER[:27] + u32(2), LAYER[:27] + u32(9)), "has 9 dimensions"),
    "unknown architecture": (with_keys(general__architecture="gnu"), "does not know the architecture 'gnu'"),
    "missing key": (lambda good: model_bytes(without=("llama.context_length",)), "context_length is not there"),
    "head_count 0": (with_keys(llama__attention__head_count=0), "head_count is 0, but layer 0 attends"),
    "one layer too many": (with_keys(llama__block_count=3), "block_count is 3, but there are no tensors of layer 2"),
    "block_count 0": (with_keys(llama__block_count=0), "block_count is 0, and llama.cpp takes 1 to 512"),
    "block_count 513": (with_keys(llama__block_count=513), "block_count is 513, and llama.cpp takes 1 to 512"),
    "corrupted weights": (lambda good: good[:-5000] + b"\xff" * 5000, ""),
    "bad eos id": (with_keys(tokenizer__ggml__eos_token_id=999_999), ""),
    "context_length 0": (with_keys(llama__context_length=0), ""),
    "context_length 2^31": (with_keys(llama__context_length=2**31), ""),
}
"""What became of each file in llama.cpp's loader, and what must become of it here; empty where both take it."""


@pytest.mark.parametrize("row", CRASH_MATRIX)
def test_the_crash_matrix(tmp_path: Path, row: str) -> None:
    damage, reason = CRASH_MATRIX[row]
    path = tmp_path / "file.gguf"
    path.write_bytes(damage(model_bytes()))
    if reason:
        told = refusal(path)
        assert reason in told.what
        assert "(at byte " in told.what
    else:
        assert read_facts(path).parameters == 107_464


def test_the_crash_matrix_is_that_of_the_installed_library(tmp_path: Path) -> None:
    paths = []
    for number, (damage, _) in enumerate(CRASH_MATRIX.values()):
        paths.append(tmp_path / f"{number}.gguf")
        paths[-1].write_bytes(damage(model_bytes()))
    taken = [isinstance(verdict, list) for verdict in llama_verdicts(paths)]
    assert dict(zip(CRASH_MATRIX, taken, strict=True)) == {row: not why for row, (_, why) in CRASH_MATRIX.items()}

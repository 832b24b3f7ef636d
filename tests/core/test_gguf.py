from __future__ import annotations

import ctypes
import mmap
import os
import struct
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgetop.core.gguf import FILE_TYPES, TENSOR_TYPES, GgufArray, GgufError, read_header
from tests.support.gguf_files import ARRAY, F32, STRING, U32, U64, array, gguf, pair, small_gguf, tensor, u32
from tests.support.requirements import need_engine


def test_a_header_tells_what_the_model_is() -> None:
    header = read_header(small_gguf())
    assert (header.name, header.architecture, header.file_type, header.license) == (
        "Tiny",
        "llama",
        "Q4_1",
        "apache-2.0",
    )
    assert (header.n_ctx_train, header.n_layer, header.n_vocab) == (2048, 2, 2000)
    assert (header.n_head, header.n_head_kv) == ((4,), (2, 1))
    assert header.chat_template == "{{ messages }}"
    assert header.metadata["tokenizer.ggml.tokens"] == GgufArray(2000, None)


def test_sizes_come_from_the_tensors() -> None:
    header = read_header(small_gguf())
    assert header.parameters == 32 * 4 + 8
    assert header.tensor_bytes == 4 * 20 + 8 * 4
    assert header.bits_per_weight == (4 * 20 + 32) * 8 / 136
    assert header.bytes_by_type == {"q4_1": 80, "f32": 32}
    assert header.data_offset % 32 == 0
    assert header.data_offset + 128 == len(small_gguf())


def test_the_quantization_is_that_of_most_bytes_where_the_file_does_not_say() -> None:
    header = read_header(gguf([], [tensor("a", [256], 14, 0), tensor("b", [4], 0, 224)], 240))
    assert header.file_type == "Q6_K"


def test_what_the_file_does_not_say_is_none_and_not_zero() -> None:
    header = read_header(gguf([pair("llama.block_count", F32, struct.pack("<f", 1.0))]))
    assert (header.name, header.architecture, header.chat_template) == ("", "", "")
    for figure in (header.n_layer, header.n_ctx_train, header.n_head, header.bits_per_weight, header.n_vocab):
        assert figure is None


def test_a_beginning_is_enough_when_the_size_of_the_file_is_known() -> None:
    file = small_gguf()
    assert read_header(file[:-128], size_bytes=len(file)) == read_header(file)
    with pytest.raises(GgufError, match="truncated"):
        read_header(file[:-128])


def test_version_2_is_read_too() -> None:
    assert read_header(gguf([], version=2)).version == 2


def test_no_byte_of_the_weights_is_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "huge.gguf"
    header = gguf([], [tensor("w", [2**30, 5], 0, 0)])
    path.write_bytes(header)
    os.truncate(path, len(header) + 20 * 2**30)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert read_header(mapped).tensor_bytes == 20 * 2**30


@pytest.mark.parametrize(
    ("file", "offset", "reason"),
    [
        (b"", 0, "empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", 0, "git lfs pull"),
        (b"<!DOCTYPE html>", 0, "web page"),
        (b"tjgg\x03\0\0\0", 0, "before GGUF"),
        (b"not a model", 0, "not a GGUF file"),
        (b"GGUF\0\0\0\x03" + bytes(16), 4, "big endian"),
        (b"GGUF" + struct.pack("<I", 1), 4, "version 1"),
        (b"GGUF" + struct.pack("<I", 99), 4, "version 99"),
        (b"GGUF\x03\0\0\0\1", 8, "truncated"),
        (struct.pack("<4sIQQ", b"GGUF", 3, 0, 2**63), 16, "metadata pairs"),
        (struct.pack("<4sIQQ", b"GGUF", 3, 2**63, 0), 8, "tensors"),
        (gguf([pair("k", STRING, struct.pack("<Q", 2**62))]), 37, "too long"),
        (gguf([pair("k", ARRAY, struct.pack("<IQ", STRING, 2**62))]), 41, "texts cannot be"),
        (gguf([pair("k", ARRAY, struct.pack("<IQ", U64, 2**61))]), 41, "truncated"),
        (gguf([pair("k", ARRAY, array(ARRAY, [array(U32, [])]))]), 37, "array of arrays"),
        (gguf([pair("k", 13, b"")]), 33, "unknown type 13"),
        (gguf([pair("k", U32, u32(1)), pair("k", U32, u32(2))]), 41, "comes twice"),
        (gguf([pair("general.alignment", U32, u32(24))]), 57, "power of two"),
        (gguf([], [tensor("t", [1] * 5, 0, 0)], 32), 33, "5 dimensions"),
        (gguf([], [tensor("t", [2**40, 2**40], 0, 0)], 32), 33, "has the shape"),
        (gguf([], [tensor("t", [0], 0, 0)], 32), 33, "has the shape"),
        (gguf([], [tensor("t", [4], 77, 0)], 32), 45, "unknown type 77"),
        (gguf([], [tensor("t", [33], 2, 0)], 32), 45, "do not divide"),
        (gguf([], [tensor("t", [1], 0, 8)], 64), 24, "multiple of 32"),
        (gguf([], [tensor("t", [9], 0, 0)], 32), 24, "truncated"),
        (gguf([], [tensor("t", [1], 0, 0)] * 2, 32), 57, "comes twice"),
    ],
)
def test_a_broken_file_is_refused_with_place_and_reason(file: bytes, offset: int, reason: str) -> None:
    with pytest.raises(GgufError, match=reason) as refused:
        read_header(file)
    assert refused.value.offset == offset


def test_a_sparse_file_of_zeros_ends_the_walk_through_its_texts_at_once(tmp_path: Path) -> None:
    path = tmp_path / "zeros.gguf"
    path.write_bytes(gguf([pair("k", ARRAY, struct.pack("<IQ", STRING, 2**29))]))
    os.truncate(path, 2**33)
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        pytest.raises(GgufError, match="texts cannot be"),
    ):
        read_header(mapped)


@settings(max_examples=1500)
@given(
    st.lists(st.tuples(st.integers(0, 400), st.binary(min_size=1, max_size=8)), max_size=4),
    st.one_of(st.none(), st.integers(0, len(small_gguf()))),
)
def test_only_gguf_errors_ever_leave_the_reader(edits: list[tuple[int, bytes]], cut: int | None) -> None:
    file = bytearray(small_gguf())
    for offset, data in edits:
        # Most of the structure lies before the vocabulary and, with the tensors, after it.
        place = offset if offset < 300 else len(file) - 700 + offset
        file[place : place + len(data)] = data
    try:
        header = read_header(bytes(file[:cut]))
    except GgufError as error:
        assert 0 <= error.offset <= len(file)  # noqa: PT017 - either way must hold
    else:
        assert header.file_type.isascii()


@settings(max_examples=500)
@given(st.binary(max_size=300))
def test_any_bytes_behind_the_magic_are_survived(rest: bytes) -> None:
    try:
        read_header(b"GGUF\x03\0\0\0" + rest)
    except GgufError:
        return


def test_memory_is_bounded_however_many_values_a_file_has() -> None:
    arrays = [pair(f"k{n}", ARRAY, array(0, [b"\1"] * 1024)) for n in range(3000)]
    file = gguf(arrays)
    tracemalloc.start()
    try:
        read_header(file)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 16 * 2**20


def test_tensor_types_are_those_of_the_installed_library() -> None:
    library = ctypes.CDLL(str(need_engine().library))  # what it is linked with is found through it
    library.ggml_type_name.restype = ctypes.c_char_p
    library.ggml_blck_size.restype = ctypes.c_int64
    library.ggml_type_size.restype = ctypes.c_size_t
    for number, ours in TENSOR_TYPES.items():
        assert library.ggml_type_name(number) == ours.name.encode()
        assert (library.ggml_blck_size(number), library.ggml_type_size(number)) == (
            ours.block_elements,
            ours.block_bytes,
        )


def test_file_types_are_those_of_the_bindings() -> None:
    source = (need_engine().bindings / "llama_cpp.py").read_text()
    theirs = {
        int(number.split("#")[0]): name.removeprefix("LLAMA_FTYPE_").removeprefix("MOSTLY_").removeprefix("ALL_")
        for name, _, number in (
            line.partition(" = ") for line in source.splitlines() if line.startswith("LLAMA_FTYPE_")
        )
    }
    theirs.pop(1024)
    assert theirs == FILE_TYPES


def test_the_real_model_is_read(small_model: Path) -> None:
    with small_model.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        header = read_header(mapped)
    assert (header.architecture, header.file_type, header.n_layer) == ("llama", "Q4_1", 30)
    assert header.parameters == 134_515_008
    assert header.bits_per_weight == pytest.approx(5.744, abs=0.001)


def test_a_split_model_is_known_as_such() -> None:
    assert read_header(gguf([pair("split.count", U32, u32(3))])).split_count == 3
    assert read_header(gguf([])).split_count == 1

"""Files that strangers wrote, or that are none."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from edgetop.io.files import TOML_BYTES_MAX, read_small, read_toml, with_tilde, write_atomically
from tests.support.eventually import eventually

UNUSABLE = {
    "deep arrays": (b"a=" + b"[" * 5000 + b"]" * 5000, "nested too deeply"),
    "deep tables": (b"a=" + b"{a=" * 3000 + b"1" + b"}" * 3000, "nested too deeply"),
    "digits": (b"a=" + b"9" * 5000, "more digits than can be read"),
    "dotted key": (b".".join([b"a"] * 20_000) + b"=1", "more than 16 parts"),
    "dotted table": (b"[" + b".".join([b"a"] * 20_000) + b"]", "more than 16 parts"),
    "quoted key": (b".".join([b'"a b"', b"'c'"] * 4500) + b"=1", "more than 16 parts"),
    "dotted key inside": (b"x = {y = 1, " + b" . ".join([b"a"] * 9000) + b"=1}", "more than 16 parts"),
    "open string": (b'a="' + b'\\"' * 100_000, "Unterminated string"),
    "not UTF-8": (b"\xff\xfe", "codec can't decode"),
}


@pytest.mark.parametrize(("data", "why"), UNUSABLE.values(), ids=UNUSABLE)
def test_toml_of_strangers_is_refused_in_words(data: bytes, why: str, tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_bytes(data)
    with pytest.raises(ValueError, match=why):
        read_toml(file)


def test_dots_in_texts_and_comments_are_no_keys(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text(
        f'# {"1. " * 40}\na = \'{"x." * 40}\'\nb = "{"x." * 40}"\nc = """\n{"one. " * 40}\n"""\n'
        f"d = '''\n{'one. ' * 40}\n'''\ne.f.g = 1\n",
        "utf-8-sig",
    )
    assert read_toml(file)["e"] == {"f": {"g": 1}}


def test_a_file_is_read_to_its_limit_and_no_further(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_bytes(b"#" * TOML_BYTES_MAX)
    assert read_toml(file) == {}
    file.write_bytes(b"#" * (TOML_BYTES_MAX + 1))
    with pytest.raises(OSError, match=r"larger than 0\.25 MiB"):
        read_toml(file)


def test_a_pipe_and_a_device_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="directory"):
        read_toml(tmp_path)
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(OSError, match="no regular file"):
            read_toml(path)
    assert read_small(Path("/dev/null"), regular=False) == b""
    with pytest.raises(OSError, match="larger than 1 MiB"):
        read_small(Path("/dev/zero"), regular=False)


def is_written(path: Path, data: bytes) -> bool:
    with suppress(OSError):
        write_atomically(path, [data])
        return True
    return False


def test_a_pipe_is_written_to_and_never_replaced(tmp_path: Path) -> None:
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    data = bytes(range(256)) * 1000
    for path in (pipe, link):
        with pytest.raises(OSError, match="No such device or address"):
            write_atomically(path, [data])  # nobody reads it
        with ThreadPoolExecutor(1) as pool:
            read = pool.submit(pipe.read_bytes)
            eventually(partial(is_written, path, data), "the reader is there")
            assert read.result(60) == data
    assert pipe.is_fifo()
    assert link.is_symlink()
    assert {each.name for each in tmp_path.iterdir()} == {"pipe", "link"}


@pytest.mark.parametrize(
    ("home", "path", "shown"),
    [
        ("/home/me", "/home/me/models/a.gguf", "~/models/a.gguf"),
        ("/home/me/", "/home/me/a", "~/a"),
        ("/home/me", "/home/men/a", "/home/men/a"),
        ("/", "/models/a", "/models/a"),
        ("", "/models/a", "/models/a"),
    ],
)
def test_the_home_folder_is_a_tilde(home: str, path: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", home)
    assert with_tilde(Path(path)) == shown

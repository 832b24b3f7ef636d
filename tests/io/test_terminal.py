"""What is written to terminals and pipes that nobody reads."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from edgetop.io.terminal import Writer
from tests.support.eventually import eventually

LONG = b"x" * 300_000
"""More than a pipe takes."""


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def _read(fd: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += os.read(fd, size - len(data))
    return data


def test_writing_to_what_nobody_reads_waits_for_nothing_and_loses_nothing(pipe: tuple[int, int]) -> None:
    reader, end = pipe
    writer = Writer()
    for _ in range(10):
        writer.put(end, LONG)
    assert not writer.drain(0.0)
    assert _read(reader, 10 * len(LONG)) == 10 * LONG
    assert writer.drain(60.0)


def test_frames_for_a_stalled_terminal_are_dropped_and_asked_for_again(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgetop.io.terminal.STALLED_S", -1.0)
    reader, end = pipe
    asked = threading.Event()
    writer = Writer(asked.set)
    writer.put(end, LONG)
    eventually(lambda: writer._writing_since_s is not None, "it is being written")
    writer.put(end, b"dropped")
    assert not asked.is_set()
    assert _read(reader, len(LONG)) == LONG
    assert asked.wait(60.0)
    assert writer.drain(60.0)
    writer.put(end, b"anew")
    assert _read(reader, 4) == b"anew"


def test_what_waits_can_be_dropped_for_what_restores_the_terminal(pipe: tuple[int, int]) -> None:
    reader, end = pipe
    writer = Writer()
    writer.put(end, LONG)
    writer.put(end, b"waits")
    eventually(lambda: writer._writing_since_s is not None, "it is being written")
    writer.discard()
    writer.put(end, b"restored")
    assert _read(reader, len(LONG) + 8)[-8:] == b"restored"


def test_a_closed_pipe_is_kept_as_the_failure_of_its_descriptor(pipe: tuple[int, int]) -> None:
    _, end = pipe
    gone_reader, gone = os.pipe()
    os.close(gone_reader)
    writer = Writer()
    writer.put(gone, b"x")
    writer.put(gone, b"y")
    writer.put(end, b"z")
    assert writer.drain(60.0)
    assert isinstance(writer.failures.pop(gone), BrokenPipeError)
    assert _read(pipe[0], 1) == b"z"
    os.close(gone)

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator

import pytest

from edgetop.inference.engine import FLAGS, StopFlags


@pytest.fixture
def pages() -> Iterator[tuple[StopFlags, StopFlags]]:
    fd = StopFlags.create()
    ours, theirs = StopFlags(fd), StopFlags(fd)
    os.close(fd)
    yield ours, theirs
    ours.close()
    theirs.close()


def strlen(address: int) -> int:
    function = ctypes.CDLL(None).strlen
    function.argtypes = [ctypes.c_void_p]
    return int(function(address))


def test_what_one_side_sets_the_other_reads_as_a_c_string(pages: tuple[StopFlags, StopFlags]) -> None:
    ours, theirs = pages
    assert strlen(theirs.address(5)) == 0
    ours.set(5)
    assert theirs.is_set(5)
    assert strlen(theirs.address(5)) == 1
    ours.clear(5)
    assert strlen(theirs.address(5)) == 0


def test_a_stop_reaches_its_own_command_only(pages: tuple[StopFlags, StopFlags]) -> None:
    ours, theirs = pages
    ours.set(7)
    assert [theirs.is_set(command) for command in (6, 7, 8)] == [False, True, False]
    assert strlen(theirs.address(6)) == 0


def test_the_last_flag_of_the_page_is_a_string_too(pages: tuple[StopFlags, StopFlags]) -> None:
    ours, theirs = pages
    ours.set(FLAGS - 1)
    assert strlen(theirs.address(FLAGS - 1)) == 1
    assert theirs.is_set(2 * FLAGS - 1)

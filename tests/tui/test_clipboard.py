from __future__ import annotations

import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetop.tui.terminal_output import BASE64_MAX, TEXT_MAX_BYTES, TooLongError, clipboard_sequence, what_is_needed


def copied(sequence: str) -> str:
    """What a terminal would put into its clipboard."""
    match = re.fullmatch(r"\x1b\]52;c;([A-Za-z0-9+/=]*)\x07", sequence)
    assert match is not None
    return base64.b64decode(match[1]).decode("utf-8")


@given(st.text(st.characters(codec="utf-8")))
def test_a_terminal_gets_the_text_as_it_is(text: str) -> None:
    assert copied(clipboard_sequence(text, {})) == text


def test_tmux_gets_it_for_itself_and_wrapped_for_the_terminal_around_it() -> None:
    sequence = clipboard_sequence("naïve", {"TMUX": "/tmp/tmux-0/default,1,0"})
    own, _, wrapped = sequence.partition("\x1bPtmux;")
    assert copied(own) == "naïve"
    assert wrapped.endswith("\x1b\\")
    assert copied(wrapped.removesuffix("\x1b\\").replace("\x1b\x1b", "\x1b")) == "naïve"
    assert "tmux" in what_is_needed({"TMUX": "x"})
    assert "tmux" not in what_is_needed({})


def test_what_terminals_would_cut_off_is_refused() -> None:
    longest = "x" * TEXT_MAX_BYTES
    assert len(clipboard_sequence(longest, {})) <= BASE64_MAX + len("\x1b]52;c;\x07")
    with pytest.raises(TooLongError):
        clipboard_sequence(longest + "x", {})

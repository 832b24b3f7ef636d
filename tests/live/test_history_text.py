from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetop.inference.protocol import ChatMessage
from edgetop.live.history import as_markdown, code_blocks, harmless


@given(st.text(st.characters(codec=None)))
def test_what_is_left_acts_on_no_terminal_and_hides_nothing(text: str) -> None:
    left = harmless(text)
    for character in left:
        assert character in "\n\t\u200c\u200d" or unicodedata.category(character) not in {"Cc", "Cf", "Cs"}
    assert left == harmless(left)
    left.encode("utf-8")


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("plain\ttext\n", "plain\ttext\n"),
        ("a\r\nb\rc", "a\nb\nc"),
        ("rm -rf \x1b[31m/\x07", "rm -rf [31m/"),
        ("\u202ereversed\u202c \u200b\ufeffhidden", "reversed hidden"),
        ("\x1b[201~\rrm -rf ~\r", "[201~\nrm -rf ~\n"),
        ("\U0001f469\u200d\U0001f467 می\u200cخواهم", "\U0001f469\u200d\U0001f467 می\u200cخواهم"),
        ("lone \ud800", "lone "),
        ("tab\u2028line", "tab\nline"),
    ],
)
def test_letters_stay_and_controls_go(text: str, left: str) -> None:
    assert harmless(text) == left


def test_a_conversation_is_written_with_a_heading_for_each_message() -> None:
    messages = [ChatMessage("user", "What?\n"), ChatMessage("assistant", "\n**That**\x1b.")]
    assert as_markdown(messages, system="Be brief.", model="SmolLM2 Q4_1") == (
        "## System\n\nBe brief.\n\n## You\n\nWhat?\n\n## SmolLM2 Q4_1\n\n**That**.\n"
    )
    assert as_markdown(messages[1:], system=None, model="").startswith("## Assistant\n")


@pytest.mark.parametrize(
    ("text", "blocks"),
    [
        ("no code", []),
        ("```python\nprint(1)\n```\ntext\n~~~\na\n\nb\n~~~", ["print(1)", "a\n\nb"]),
        ("````\n```\ninside\n```\n````", ["```\ninside\n```"]),
        ("```\nnot closed", ["not closed"]),
        ("```\n~~~\n``\n```", ["~~~\n``"]),
        ("``` a`b\nno fence", []),
        ("1. so:\n   ```sh\n   ls\n     -l\n   ```\n", ["ls\n  -l"]),
        ("- - deep\n\n      ```\n      x\n      ```", ["x"]),
        ("inline ```code``` only", []),
        ("```\n```", [""]),
    ],
)
def test_code_is_what_stands_between_fences(text: str, blocks: list[str]) -> None:
    assert code_blocks(text) == blocks


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="`~\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"))))
def test_code_comes_back_as_it_was_put_into_fences(lines: list[str]) -> None:
    code = "\n".join(lines) if lines else "x"
    assert code_blocks(f"text\n\n```py\n{code}\n```\n\nmore") == [code]

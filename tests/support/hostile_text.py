"""Text of every hostile kind, and what makes it hostile."""

from __future__ import annotations

import unicodedata

from hypothesis import strategies as st

HOSTILE_REPLIES = [
    "[/",
    "[b +",
    "[bold red]not bold[/]",
    "\x1b]0;x\x07",
    "\x1b[2J\x1b[1;1H",
    "\x9b31m",
    "abc\u202edef\u2066ghi\u200f",
    "\ud800 and \udfff",
    "x" * 10_000,
    "\u4e2d\u6587" * 5_000,
    "a\u0301" * 500 + "\u0301" * 500,
    "\U0001f469\u200d\U0001f469\u200d\U0001f467\ufe0f" * 300,
    "\tindented\twith tabs\r\nand\ra lone return\x00\x7f",
    "&#x1b;[31m &#8238; <b>kept</b> <!-- kept --> ![kept](kept) [kept]: http://kept",
    ">" * 3_000,
    "- " * 2_000,
    "|" * 300 + "\n" + "|-" * 300 + "|\n" + "|a" * 300,
    "`" * 2_000,
    "```python\n" + "('" * 1_000,
    "**bold** *a* `code`\n\n# Head\n\n1. one\n2. two\n\n> quote\n\n---\n\n| a | b |\n|---|---|\n| 1 | 2 |",
]

hostile_text = st.one_of(
    st.text(st.characters(codec=None), max_size=300),
    st.text("ab \t\n\r*_`#>|-[]()<>&;:~!0123456789.\\\x1b\x9b\u202e\u200d\ufe0f\u4e2d\u0301\ud800", max_size=300),
)


def acts_on_a_terminal(text: str) -> list[str]:
    """The characters of `text` that would steer a terminal or the order of a line."""
    harmless = {"\u200c", "\u200d"}
    return [c for c in text if unicodedata.category(c) in {"Cc", "Cs", "Cf", "Zl", "Zp"} and c not in harmless]

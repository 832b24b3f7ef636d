"""A conversation as text to be kept elsewhere: as Markdown, and the code that is in it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from edgetop.inference.protocol import ChatMessage

_FENCE = re.compile(r" {0,3}(?P<fence>`{3,}|~{3,})(?P<info>.*)")
_KEPT = frozenset("\n\t\u200c\u200d")
"""Line breaks and tabs; zero-width joiners, which hold emoji and words of some scripts together."""
_LEFT_OUT = frozenset({"Cc", "Cf", "Cs"})
"""Controls, invisible characters that change the order of a line or hide text, lone surrogates (Unicode categories)."""


def harmless(text: str) -> str:
    """`text` without what would act on a terminal or hide when it is pasted; line breaks and tabs stay."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\u2028", "\n").replace("\u2029", "\n")
    if text.isascii() and text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return "".join(each for each in text if each in _KEPT or unicodedata.category(each) not in _LEFT_OUT)


def as_markdown(messages: Sequence[ChatMessage], *, system: str | None, model: str) -> str:
    """The whole conversation, a heading before each message, harmless to show and to paste."""
    names = {"system": "System", "user": "You", "assistant": model or "Assistant"}
    head = [ChatMessage("system", system)] if system else []
    parts = [f"## {names[message.role]}\n\n{message.content.strip()}\n" for message in (*head, *messages)]
    return harmless("\n".join(parts))


def code_blocks(text: str) -> list[str]:
    """What stands in the fences of a Markdown text, the first first; a fence that is not closed goes to the end.

    As CommonMark 0.31.2 has it (4.5): of backticks or tildes, indented by up to three blanks, closed by a fence that is
    no shorter. Fences inside of lists are found as well, with the indentation of the opening one taken away.
    """
    blocks: list[str] = []
    fence, indent = "", 0
    lines: list[str] = []
    for line in text.splitlines():
        if not fence:
            opening = _FENCE.fullmatch(line.lstrip() if line.startswith("    ") else line)
            if opening is not None and not (opening["fence"][0] == "`" and "`" in opening["info"]):
                fence, indent, lines = opening["fence"], len(line) - len(line.lstrip(" ")), []
            continue
        closing = _FENCE.fullmatch(line[min(indent, len(line) - len(line.lstrip(" "))) :])
        if closing is not None and closing["fence"].startswith(fence) and not closing["info"].strip():
            blocks.append("\n".join(lines))
            fence = ""
        else:
            lines.append(line[min(indent, len(line) - len(line.lstrip(" "))) :])
    if fence and lines:
        blocks.append("\n".join(lines))
    return blocks

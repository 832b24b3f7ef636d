"""Hostile text made harmless for a terminal.

A model, a GGUF header, a file or a sensor may say anything, escape sequences and invisible characters among it. What
`literal` returns can be written to a terminal: it moves no cursor, reorders no line and hides nothing.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Container, Iterable, Sequence

MARKS_MAX = 6
"""Combining marks on one character that are shown; Thai, Tibetan and Hebrew with accents need up to four or five."""

# Characters with no picture of their own that steer a terminal or the order of a line, or that hide text: C0 and C1
# controls, soft hyphen, bidirectional controls, zero-width space, separators, fillers, annotations, tags, surrogates,
# and the two that XML does not allow.
# A single zero-width joiner or non-joiner holds emoji and Persian or Indic words together and stays.
_UNSAFE = (
    "\r\n"
    "|[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff\ud800-\udfff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e00ff\U000e01f0-\U000e0fff]"
    "|[\u200c\u200d]{2,}"
)

# Runs in the blocks where combining marks live; only these are looked at mark by mark.
_PERHAPS_MARKS = (
    "[\u0300-\u1fff\u20d0-\u20ff\u2ce0-\u2dff\u302a-\u302f\u3099\u309a\ua66f-\uabff\ud7b0-\ud7ff\ufb1e\ufe00-\ufe2f"
    f"\U00010000-\U0001efff\U0001f3fb-\U0001f3ff\U000e0100-\U000e01ef]{{{MARKS_MAX + 1},}}"
)

# A joiner takes the next character into the cell of the one before it; families of emoji and words of Indic scripts
# have some in a row.
_PERHAPS_JOINED = f"(?:\u200d[^\u200d\\s]{{1,{MARKS_MAX + 2}}}){{{MARKS_MAX + 1},}}"


def literal(text: str, *, ascii: bool = False) -> str:  # noqa: A002 - the option's own name
    r"""`text` with everything shown that would otherwise act or hide.

    A control character becomes its picture (␛), or caret notation (^[) with `ascii`; newline and tab stay, \r\n is a
    newline. An invisible format character becomes its code point, <U+202E>. A lone surrogate becomes U+FFFD, or ? with
    `ascii`. Combining marks beyond MARKS_MAX on one character are counted instead of drawn. Other letters stay as they
    are, with `ascii` as well: it is a choice of glyphs, not of language.
    """
    shown = text.replace("\n", "").replace("\t", "")
    if shown.isprintable() and are_narrow((shown,)):
        return text
    # Compiled when they are needed, which takes milliseconds; re keeps them.
    text = re.sub(_UNSAFE, _shown_as_caret if ascii else _shown_as_picture, text)
    text = re.sub(_PERHAPS_MARKS, _capped, text)
    return re.sub(_PERHAPS_JOINED, _parted, text) if "\u200d" in text else text


def one_line(text: str, *, ascii: bool = False) -> str:  # noqa: A002 - the option's own name
    """`text` as `literal` gives it, with line breaks and runs of blanks made single blanks; for names and titles."""
    return literal(" ".join(text.split()), ascii=ascii)


def one_lines(texts: Sequence[str]) -> Sequence[str]:
    """Each as `one_line` gives it; looked at together where none needs a change, as in a column of a long list."""
    joined = "\n".join(texts)
    text = joined.replace("\n", "")
    apart = len(joined) - len(text) == max(0, len(texts) - 1)
    if apart and text.isprintable() and are_narrow(texts):
        lines = f"\n{joined}\n"
        if not any(blanks in lines for blanks in ("  ", "\n ", " \n")):
            return texts
    return [one_line(each) for each in texts]


def are_narrow(texts: Iterable[str]) -> bool:
    """Whether no character is combined with another one, and none is wide: harmless ones have one cell each."""
    try:
        "".join(texts).encode("latin-1")
    except UnicodeEncodeError:
        return False
    return True


def distinct(texts: Iterable[str]) -> str:
    """Texts that are not empty, each once, with commas between them."""
    return ", ".join(dict.fromkeys(text for text in texts if text))


_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""A spreadsheet takes a cell that begins so for a formula (OWASP, CSV injection); the last four are full-width."""


def spreadsheet_text(text: str) -> str:
    """`text`, harmless already, with an apostrophe before what a spreadsheet would take for a formula."""
    # Some spreadsheets skip blanks before they look for a formula.
    return f"'{text}" if text.startswith(_FORMULA_STARTS) or text.lstrip().startswith(_FORMULA_STARTS) else text


def csv_lines(rows: Iterable[Iterable[object]]) -> str:
    """Rows as CSV; `None` is an empty cell, text is harmless to terminals and spreadsheets."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        [spreadsheet_text(one_line(cell)) if isinstance(cell, str) else "" if cell is None else cell for cell in row]
        for row in rows
    )
    return text.getvalue()


def markdown_table(rows: Sequence[Sequence[str]], numeric: Container[str] = ()) -> str:
    """A Markdown table, of which the first row is the headings; columns with `numeric` ones are aligned right.

    A cell is text: no HTML, link or picture of its own is made of it.
    """
    rule = ["---:" if heading in numeric else "---" for heading in rows[0]]
    escaped = (map(markdown_text, row) for row in (rows[0], rule, *rows[1:]))
    return "".join(f"| {' | '.join(row)} |\n" for row in escaped)


def markdown_text(text: str) -> str:
    """`text` in one line of Markdown, of which no HTML, link, picture or column of a table is made."""
    return re.sub(r"[\\|\[<>&]", _escaped_markup, one_line(text))


def _escaped_markup(match: re.Match[str]) -> str:
    return {"<": "&lt;", ">": "&gt;", "&": "&amp;"}.get(match[0], f"\\{match[0]}")


def _shown_as_picture(match: re.Match[str]) -> str:
    found = match.group()
    if found == "\r\n":
        return "\n"
    return "".join(_picture(ord(character)) for character in found)


def _shown_as_caret(match: re.Match[str]) -> str:
    found = match.group()
    if found == "\r\n":
        return "\n"
    return "".join(_caret(ord(character)) for character in found)


def _picture(code: int) -> str:
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    if 0xD800 <= code <= 0xDFFF:
        return "\ufffd"
    return f"<U+{code:04X}>"


def _caret(code: int) -> str:
    if code < 0x20 or code == 0x7F:
        return "^" + chr(code ^ 0x40)
    if 0xD800 <= code <= 0xDFFF:
        return "?"
    return f"<U+{code:04X}>"


def _capped(match: re.Match[str]) -> str:
    shown: list[str] = []
    marks = 0
    for character in match.group():
        if _is_mark(character):
            marks += 1
        else:
            _append_hidden_count(shown, marks)
            marks = 0
        if marks <= MARKS_MAX:
            shown.append(character)
    _append_hidden_count(shown, marks)
    return "".join(shown)


def _is_mark(character: str) -> bool:
    """Whether it may have no cell of its own: a mark, a vowel or final of a Korean syllable, a colour of skin.

    What this Python does not know yet may be a mark.
    """
    if "\u1160" <= character <= "\u11ff" or "\ud7b0" <= character <= "\ud7ff":
        return True
    category = unicodedata.category(character)
    unknown = category == "Cn" and character < "\U0001f000"
    return unknown or category[0] == "M" or category == "Cf" or "\U0001f3fb" <= character <= "\U0001f3ff"


def _parted(match: re.Match[str]) -> str:
    parts = match.group().split("\u200d")
    return "\u200d".join(parts[: MARKS_MAX + 1]) + "".join(f"<U+200D>{part}" for part in parts[MARKS_MAX + 1 :])


def _append_hidden_count(shown: list[str], marks: int) -> None:
    if marks > MARKS_MAX:
        shown.append(f"<{marks - MARKS_MAX} marks>")

"""A model that answers with what steers terminals: the words are shown, nothing else happens."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from edgetop.inference.scripted import Reply
from tests.end_to_end.recorded_terminal import RecordedTerminal
from tests.support.isolated_home import IsolatedHome, reply_of

Open = Callable[[Sequence[str]], RecordedTerminal]

BEGIN, END = "begin", "finis"
LITERAL = {
    "[/": "[/",
    "[b +": "[b +",
    "[@click=app.quit]press[/]": "[@click=app.quit]press[/]",
    "\x1b]0;hijacked\x07": "␛]0;hijacked␇",
    "\x1b[2J": "␛[2J",
    "\x9b31m": "<U+009B>31m",
    "abc\u202edef\u2066ghi": "abc<U+202E>def<U+2066>ghi",
    "one\ud800two": "one\ufffdtwo",
}
"""Payloads, and how they are shown."""
LONG = "x" * 10_000
_ACTS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def wrapped(payload: str) -> str:
    return f"{BEGIN}{payload}{END}"


def flat(screen: str) -> str:
    """The chat's text without the blanks and breaks of its lines."""
    return one_mark("".join("".join(re.findall(r"(?m)^│(.*?)│", screen)).split()))


def one_mark(text: str) -> str:
    """Text in which bytes that are no UTF-8 have left one mark, however many they were."""
    return re.sub("\ufffd+", "\ufffd", text)


def sequences(written: bytes) -> set[bytes]:
    """The kinds of escape sequences in what was written: without numbers, but the whole of a title."""
    controls = re.findall(rb"\x1b(?:\][^\x07\x1b]*[\x07\x1b]?|\[[ -?]*[@-~]|.)", written, re.DOTALL)
    return {re.sub(rb"[\d;:]+", b"", control) if control[1:2] == b"[" else control for control in controls}


def without_titles(written: bytes, titles: set[bytes]) -> bytes:
    """What was written besides these titles, which end in a control character."""
    for title in titles:
        written = written.replace(title, b"") if title.startswith(b"\x1b]") else written
    return written


def converse(terminal: RecordedTerminal, prompts: int) -> list[str]:
    """Ask so many times; the screens after the answers."""
    terminal.sees("loaded in")
    screens = []
    for number in range(1, prompts + 1):
        terminal.type(f"question {number}")
        terminal.sees(rf"question {number}\b[\s\S]*?\d+ tok · ")
        screens.append(terminal.text)
    return screens


def test_hostile_replies_are_shown_literally(open_terminal: Open, home: IsolatedHome) -> None:
    tame = open_terminal(home.scripted(Reply(text=wrapped("tame"))))
    converse(tame, 1)
    tame.press("\x1b[21~")
    assert tame.exit_code() == 0
    for path in home.session_paths:
        path.unlink()

    replies = [Reply(text=wrapped(payload)) for payload in (*LITERAL, LONG)]
    hostile = open_terminal(home.scripted(*replies, tokens_per_s=5000))
    screens = converse(hostile, len(LITERAL))
    hostile.type("the long one")
    hostile.sees(rf"x{END}[\s\S]*?\d+ tok · ")
    assert flat(hostile.text).count("x") > 100
    hostile.press("\x1b[21~")
    assert hostile.exit_code() == 0

    for shown, screen in zip(LITERAL.values(), screens, strict=True):
        assert wrapped(shown).replace(" ", "") in flat(screen)

    own = sequences(tame.written)
    assert sequences(hostile.written) <= own
    assert not _ACTS.search(without_titles(hostile.written, own).decode("utf-8"))
    assert hostile.written.count(b"\x1b[2J") == tame.written.count(b"\x1b[2J")

    # What was recorded is what was said.
    told = [wrapped(payload.replace("\ud800", "\ufffd")) for payload in (*LITERAL, LONG)]
    assert [one_mark(reply_of(turn)) for turn in home.only_session().turns] == told


def test_without_a_terminal_hostile_replies_are_literal_too(home: IsolatedHome) -> None:
    home.scripted(*(Reply(text=wrapped(payload)) for payload in LITERAL))
    prompts = [argument for number in range(len(LITERAL)) for argument in ("-p", f"question {number}")]
    run = home.run("run", *prompts)
    assert run.returncode == 0
    for shown in LITERAL.values():
        assert wrapped(shown) in one_mark(run.stdout)
    assert not _ACTS.search(run.stdout + run.stderr)
    assert "\x1b" not in run.stdout + run.stderr

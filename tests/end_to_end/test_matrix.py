"""Locales, kinds of terminal, and ways to be started, against each other: start, one prompt, quit.

Every way meets every locale here, and a terminal every TERM; `make terminals` tries each with each other
(EDGETOP_WHOLE_MATRIX=1). The locales are compiled into the test's own folder (localedef and its sources, of the package
locales).
"""

from __future__ import annotations

import os
import shlex
import subprocess
import termios
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path

import pytest

from edgetop.commands.output import ExitCode
from edgetop.commands.verbs import VERBS
from edgetop.inference.scripted import Reply
from tests.end_to_end.recorded_terminal import RecordedTerminal
from tests.support.isolated_home import IsolatedHome, reply_of
from tests.support.requirements import NotInstalledError, need_program
from tests.support.sshd import Sshd

LOCALES = {"C": "", "C.UTF-8": "", "tr_TR": "UTF-8", "de_DE": "ISO-8859-1", "ja_JP": "EUC-JP"}
"""Each with the encoding that it is compiled for."""

TERMS = ("xterm", "xterm-256color", "screen", "tmux-direct", "linux", "vt100", "unknown")
WAYS = ("terminal", "no terminal", "ssh")
QUESTION, ANSWER = "Größe?", "Größe: 12 µm, ıİ, 日本."
_F10 = "\x1b[21~"


def cases() -> list[tuple[str, str, str]]:
    """Locale, TERM and way: all of them, or each TERM on a terminal and each locale on each way."""
    if os.environ.get("EDGETOP_WHOLE_MATRIX"):
        return list(product(LOCALES, TERMS, WAYS))
    names = list(LOCALES)
    seen = [(names[at % len(names)], term, "terminal") for at, term in enumerate(TERMS)]
    read = [(name, TERMS[at + shift], way) for shift, way in enumerate(WAYS[1:], 1) for at, name in enumerate(names)]
    return seen + read


@pytest.fixture(scope="session")
def locales(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of locales, as LOCPATH."""
    need_program("localedef", "locales")
    folder = tmp_path_factory.mktemp("locales")
    for name, encoding in LOCALES.items():
        if encoding:
            subprocess.run(
                ["localedef", "-i", name, "-f", encoding, str(folder / name)], check=False, capture_output=True
            )
    return folder


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """One server for all."""
    folder = tmp_path_factory.mktemp("ssh")
    folder.chmod(0o700)
    server = Sshd(folder)
    yield server
    server.close()


def test_every_way_meets_every_locale_and_a_terminal_every_term() -> None:
    tried = cases()
    assert {(way, locale) for locale, _, way in tried} == set(product(WAYS, LOCALES))
    assert {term for _, term, way in tried if way == "terminal"} == set(TERMS)


@pytest.mark.parametrize(("locale", "term", "way"), cases())
def test_it_starts_answers_and_quits(  # noqa: PLR0917 - fixtures
    locale: str,
    term: str,
    way: str,
    locales: Path,
    home: IsolatedHome,
    open_terminal: Callable[[Sequence[str]], RecordedTerminal],
    request: pytest.FixtureRequest,
) -> None:
    if LOCALES[locale] and not (locales / locale).exists():
        raise NotInstalledError(f"the sources of the locale {locale} are missing: install locales")
    command = home.scripted(Reply(text=ANSWER))
    home.environment.update({"LANG": locale, "LOCPATH": str(locales), "TERM": term})
    if way == "terminal":
        on_a_terminal(open_terminal(command), LOCALES[locale])
    else:
        words = [*command, "-p", "Size?"]
        if way == "ssh":
            words = request.getfixturevalue("server").command(words, home.environment)
        check_streams(without_a_terminal(words, home, stays_open=way == "ssh"), locale)
    (turn,) = home.only_session().turns
    assert turn.prompt == (QUESTION if way == "terminal" else "Size?")
    assert reply_of(turn) == ANSWER


CLOSED = ("2>&-", ">&-", "<&- >&- 2>&-")


def closed_cases() -> list[tuple[str, str]]:
    """Verb and redirections: all of them, or a few."""
    whole = product(VERBS, CLOSED)
    return (
        list(whole)
        if os.environ.get("EDGETOP_WHOLE_MATRIX")
        else list(zip(("check", "doctor", "watch"), CLOSED, strict=True))
    )


@pytest.mark.parametrize(("verb", "redirections"), closed_cases())
def test_a_verb_whose_streams_are_closed_ends_in_good_order(verb: str, redirections: str, home: IsolatedHome) -> None:
    words = {"chat": "-p x", "run": "-p x", "serve": "-- serve", "watch": "--seconds 0", "proxy": "--seconds 0"}
    command = f"{shlex.join(home.scripted(Reply(text=ANSWER)))} {verb} {words.get(verb, '')} {redirections}"
    ran = subprocess.run(
        ["sh", "-c", command], env=home.environment, cwd=home.folder, stdin=subprocess.DEVNULL, capture_output=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert ran.returncode in set(ExitCode)
    assert b"Traceback" not in ran.stderr
    assert b"edgetop: internal" not in ran.stderr


@pytest.mark.parametrize(
    "said",
    [{"TERM": ""}, {"LANG": "xx_XX.UTF-8", "LC_ALL": ""}],
    ids=["empty TERM", "locale that is not installed"],
)
def test_what_is_empty_or_not_installed_changes_nothing(
    said: dict[str, str], home: IsolatedHome, open_terminal: Callable[[Sequence[str]], RecordedTerminal]
) -> None:
    command = home.scripted(Reply(text=ANSWER))
    home.environment.update(said)
    terminal = open_terminal(command)
    if said.get("TERM") == "":
        terminal.sees("you>")
        terminal.type("What size?")
        terminal.sees(r"12 [\s\S]*tok/s[\s\S]*you>")
        terminal.press("\x04")
        assert terminal.exit_code() == 0
        assert b"\x1b" not in terminal.written
    else:
        on_a_terminal(terminal)
    (turn,) = home.only_session().turns
    assert reply_of(turn) == ANSWER


def without_a_terminal(
    words: Sequence[str], home: IsolatedHome, *, stays_open: bool
) -> subprocess.CompletedProcess[bytes]:
    """Run a command; its standard input is empty, or stays open as that of `ssh host command` in a shell does."""
    reader, writer = os.pipe()
    try:
        if not stays_open:
            os.close(writer)
        return subprocess.run(
            words, env={**home.environment, "PATH": os.environ["PATH"]}, cwd=home.folder, stdin=reader,
            capture_output=True, timeout=60, check=False,
        )  # fmt: skip
    finally:
        os.close(reader)
        if stays_open:
            os.close(writer)


def check_streams(ran: subprocess.CompletedProcess[bytes], locale: str) -> None:
    assert ran.returncode == 0, ran.stderr
    assert b"\x1b" not in ran.stdout + ran.stderr
    assert b"Traceback" not in ran.stderr
    assert b"12 " in ran.stdout
    if locale in {"C", "C.UTF-8", "tr_TR"}:
        assert ran.stdout.decode("utf-8") == f"{ANSWER}\n"
    else:
        written = ANSWER.encode({"de_DE": "iso8859-1", "ja_JP": "euc_jp"}[locale], "backslashreplace")
        assert ran.stdout == written + b"\n"


def on_a_terminal(terminal: RecordedTerminal, encoding: str = "") -> None:
    before = termios.tcgetattr(terminal.fd)
    terminal.sees("loaded in")
    os.write(terminal.fd, f"{QUESTION}\r".encode(encoding or "utf-8"))
    terminal.sees(r"12 [\s\S]*tok/s")
    terminal.press(_F10)
    assert terminal.exit_code() == 0
    assert termios.tcgetattr(terminal.fd) == before
    for mode in (b"1049", b"1000", b"1002", b"1003", b"1006", b"2004", b"1004"):
        asked, given_back = terminal.written.rfind(b"\x1b[?%sh" % mode), terminal.written.rfind(b"\x1b[?%sl" % mode)
        assert given_back >= asked, mode
    assert terminal.written.rfind(b"\x1b[?25h") > terminal.written.rfind(b"\x1b[?25l")

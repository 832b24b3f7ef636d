"""Screens in a real browser, behind a token."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import NamedTuple

import pyte
import pytest
from textual.drivers._byte_stream import ByteStream

from edgetop import cli
from edgetop.inference.scripted import Reply
from tests.end_to_end.chromium import browser
from tests.support.eventually import eventually
from tests.support.isolated_home import IsolatedHome

UPGRADE = {
    "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}  # fmt: skip


class Served(NamedTuple):
    process: subprocess.Popen[str]
    host: str
    token: str

    @property
    def address(self) -> str:
        return f"http://{self.host}/?token={self.token}"

    def status(self, path: str, **headers: str) -> int:
        """What the server answers."""
        connection = HTTPConnection(self.host, timeout=60)
        try:
            connection.request("GET", path, headers=headers)
            return connection.getresponse().status
        finally:
            connection.close()


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """`edgetop serve` with the examples, on a free port."""
    pytest.importorskip("textual_serve", reason="the extra `serve` is not installed")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    command = [sys.executable, "-m", "edgetop", "serve", "--listen", "127.0.0.1:0", "--", "replay", "--demo"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        assert process.stderr is not None
        try:
            found = re.match(r"http://(127\.0\.0\.1:\d+)/\?token=(\S{32,})\n", process.stderr.readline())
            assert found is not None
            yield Served(process, *found.groups())
        finally:
            process.kill()


def test_pages_websocket_and_downloads_are_refused_without_the_token(served: Served) -> None:
    for path in ("/", "/ws", "/download/x", "/static/js/textual.js"):
        headers = UPGRADE if path == "/ws" else {}
        assert served.status(path, **headers) == 403
        assert served.status(f"{path}?token=", **headers) == 403
        assert served.status(f"{path}?token={served.token[:-1]}", **headers) == 403
        own = {**headers, "Cookie": f"edgetop-{served.host.rpartition(':')[2]}={served.token}"}
        assert served.status(path, **own) == {"/ws": 101, "/download/x": 404}.get(path, 200)
        assert served.status(path, **own, Origin="http://elsewhere.example") == 403
        assert served.status(path, **own, Origin="http://[") == 403
        odd = {**headers, "Cookie": f"edgetop-{served.host.rpartition(':')[2]}=\xff\xfe"}
        assert served.status(path, **odd) == 403
        assert served.status(f"{path}?token=%FF%ED%A0%80", **headers) == 403
    host, _, port = served.host.rpartition(":")
    for garbage in (
        b"\x16\x03\x01" + bytes(200),
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    ):
        with socket.create_connection((host, int(port)), timeout=60) as visitor:
            visitor.sendall(garbage)
            visitor.shutdown(socket.SHUT_WR)
            assert b"200 OK" not in visitor.recv(65536)
    served.process.send_signal(signal.SIGTERM)
    _, told = served.process.communicate(timeout=60)
    assert served.process.returncode == 0
    assert "Traceback" not in told


def test_a_screen_is_drawn_takes_keys_and_ends_in_chromium(served: Served, tmp_path: Path) -> None:
    with browser(tmp_path / "profile", 1200) as page:
        page.visit(served.address)
        eventually(lambda: page.run("return document.body.classList.contains('-first-byte')"), "the screen is drawn")
        assert not page.run("return document.body.classList.contains('-closed')")
        page.set_size(400, 700)
        assert page.run("return document.documentElement.clientWidth") == 400
        assert {address.split("/")[2] for address in page.sent() if not address.startswith("chrome")} == {served.host}

        def closed_by_key() -> bool:
            # What is typed before the screen stands goes nowhere.
            page.press("q")
            return bool(page.run("return document.body.classList.contains('-closed')"))

        eventually(closed_by_key, "q ends the screen")


class Browser:
    """The server's end of a screen that is shown in a browser, as textual-serve speaks with it."""

    def __init__(self, command: list[str], home: IsolatedHome) -> None:
        self._screen = pyte.Screen(120, 36)
        self._stream = pyte.ByteStream(self._screen)
        self._packets = ByteStream()
        environment = {**home.environment, "TEXTUAL_DRIVER": "textual.drivers.web_driver:WebDriver"}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, cwd=home.folder, bufsize=0
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"__GANGLION__\n"
        self.resize(120, 36)

    def send(self, payload: bytes, kind: bytes = b"D") -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(kind + len(payload).to_bytes(4, "big") + payload)
        self.process.stdin.flush()

    def resize(self, width: object, height: object) -> None:
        self.send(json.dumps({"type": "resize", "width": width, "height": height}).encode(), b"M")

    def sees(self, text: str) -> None:
        eventually(lambda: text in self._text(), f"the screen shows {text!r}", told=self._text)

    def has_ended(self) -> bool:
        self._text()
        return self.process.poll() is not None

    def _text(self) -> str:
        assert self.process.stdout is not None
        while select.select([self.process.stdout], [], [], 0)[0] and (
            data := os.read(self.process.stdout.fileno(), 65536)
        ):
            for kind, payload in self._packets.feed(data):
                if kind == "D":
                    self._stream.feed(payload)
        return "\n".join(line.rstrip() for line in self._screen.display)


def test_the_keyboard_is_that_of_a_terminal_and_a_server_that_is_gone_ends_it(home: IsolatedHome) -> None:
    page = Browser(home.scripted(Reply(text="An answer.")), home)
    page.sees("loaded in")
    page.send(b"\x1b]11;rgb:0000/ffff/1111\x07\x1b[200~first \x1b[31mERROR\x1b[0m line\rsecond \xc3")
    page.send(b"\xa4nd last line\x1b[201~")
    for size in ((99_999, 30), (-1, 0), ("wide", None), (120, 36)):
        page.resize(*size)
    page.sees("second änd last line")
    page.send(b"!\r")
    page.sees("An answer.")
    assert page.process.stdin is not None
    page.process.stdin.close()
    eventually(page.has_ended, "it has ended")
    home.everyone_gone()
    (turn,) = home.only_session().turns
    assert turn.prompt == "first ␛[31mERROR␛[0m line\nsecond änd last line!"


def test_what_is_missing_or_cannot_be_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["serve", "--", "serve"]) == 2
    assert "edgetop serve cannot be served" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "textual_serve.server", None)
    assert cli.main(["serve"]) == 1
    assert "pip install 'edgetop[serve]'" in capsys.readouterr().err

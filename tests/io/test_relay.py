"""What comes out of the relay is, byte for byte, what a client of the server itself gets."""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from edgetop.core.errors import EdgetopError
from edgetop.io.relay import HEAD_BYTES_MAX, Body, FramingError, Head, Relay, Upstream
from tests.support.eventually import eventually
from tests.support.loopback_server import (
    LoopbackServer,
    Step,
    chunk,
    document,
    head,
    loopback_server,
    reset,
    stream,
    without_end,
)
from tests.support.requirements import need_program


@contextmanager
def relay_to(url: str, prefix: str = "") -> Iterator[Relay]:
    parts = urlsplit(url)
    assert parts.port is not None
    relay = Relay(Upstream("127.0.0.1", parts.port, prefix, authority=parts.netloc), "127.0.0.1", 0)
    relay.start()
    try:
        yield relay
    finally:
        relay.stop()


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with loopback_server() as running:
        yield running


def exchanged(port: int, data: bytes) -> bytes:
    """Everything that comes back for these bytes, up to the end of the connection."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(data)
        try:
            while piece := connection.recv(65536):
                received += piece
        except ConnectionResetError:
            received += b"RESET"
    return received


def post(path: str, body: bytes, *, headers: str = "", host: str = "localhost:1") -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\n{headers}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    ).encode() + body


SAID = json.dumps({"model": "m", "choices": [{"delta": {"content": "ü\u2028\x1b[31m"}}]}).encode()
PNG = os.urandom(3 * 2**20)
ANSWERS: dict[str, Sequence[Step]] = {
    "document": document({"choices": []}),
    "an error": document({"error": {"message": "no"}}, "404 Not Found", X_Odd="\xe9"),
    "a stream": stream(b"data: " + SAID + b"\n\n", b"data: [DONE]\n\n"),
    "lines": stream(b'{"done":false}\n', b'{"done":true}\n', media="application/x-ndjson"),
    "a large one": document(PNG),
    "up to the end": [head(), b"all ", b"there is"],
    "chunks with a trailer": [head(Transfer_Encoding="chunked"), b"3;x=1\r\nabc\r\n0\r\nDigest: 1\r\n\r\n"],
    "chunks cut anywhere": [
        head(Transfer_Encoding="chunked"),
        b"1",
        b"0\r",
        b"\n0123456789abcdef\r",
        b"\n0\r\n\r",
        b"\n",
    ],
    "one that breaks off": stream(b"data: half", reset, end=False),
    "no HTTP": [b"\x00\x01\xff" * 100],
    "no size": [head(Transfer_Encoding="chunked"), b"zz\r\nabc"],
    "too long": [head(Content_Length="3"), b"abcdef"],
    "nothing": [],
    "no content": [b"HTTP/1.1 204 No Content\r\n\r\n"],
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_is_what_the_server_sends(server: LoopbackServer, name: str) -> None:
    server.answers["POST /v1/chat/completions"] = ANSWERS[name]
    asked = post("/v1/chat/completions", b"{}")
    direct = exchanged(int(server.url.rpartition(":")[2]), asked)
    with relay_to(server.url) as relay:
        assert exchanged(relay.port, asked) == direct


def test_a_server_of_https_is_verified_and_its_answer_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [need_program("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
         "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            with suppress(OSError), plain, context.wrap_socket(plain, server_side=True) as secure:
                request = b""
                while not request.endswith(b"{}") and (piece := secure.recv(65536)):
                    request += piece
                secure.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        port = listener.getsockname()[1]
        upstream = Upstream("localhost", port, authority=f"localhost:{port}", tls=True)
        for trusted in (False, True):
            if trusted:
                monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
            relay = Relay(upstream, "127.0.0.1", 0)
            relay.start()
            try:
                received = exchanged(relay.port, post("/v1/chat/completions", b"{}"))
            finally:
                relay.stop()
            assert received == answer if trusted else received.startswith(b"HTTP/1.1 502"), received
        listener.shutdown(socket.SHUT_RDWR)


def test_a_request_is_what_a_client_of_the_server_sends(server: LoopbackServer) -> None:
    server.answers["POST /sub/api/chat"] = document({})
    body = os.urandom(5 * 2**20)
    with relay_to(server.url, "/sub") as relay:
        exchanged(relay.port, post("/api/chat", body, headers="Authorization: Bearer k\r\nX-Odd:  two \r\n"))
    (request,) = server.requests
    assert request.body == body
    assert request.headers == {
        "host": server.url.removeprefix("http://"), "authorization": "Bearer k", "x-odd": "two",
        "content-length": str(len(body)), "connection": "close",
    }  # fmt: skip


HOSTILE = {
    "no HTTP": b"\x16\x03\x01\x02\x00\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
    "length and chunks": b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc",
    "hidden chunks": b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked, x\r\n\r\nabc",
    "negative": b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    "superscript": "POST / HTTP/1.1\r\nContent-Length: ²\r\n\r\n".encode("latin-1"),
    "a blank before the colon": b"POST / HTTP/1.1\r\nContent-Length : 3\r\n\r\nabc",
    "a blank of another kind": b"POST / HTTP/1.1\r\nContent-Length: 3\xa0\r\n\r\nabc",
    "chunks twice": b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and more": b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunks of 1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "another version": b"GET / HTTP/2.0\r\n\r\n",
    "no version": b"GET /\r\nHost: x\r\n\r\n",
    "a bare line feed": b"GET / HTTP/1.1\r\nX: y\nContent-Length: 5\r\n\r\n",
    "a folded line": b"GET / HTTP/1.1\r\nX: y\r\n z\r\n\r\n",
    "an endless head": b"GET / HTTP/1.1\r\nX: " + b"y" * (3 * HEAD_BYTES_MAX),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_clear_request_does_not_reach_the_server(server: LoopbackServer, name: str) -> None:
    with relay_to(server.url) as relay:
        assert exchanged(relay.port, HOSTILE[name])[:12] in {b"HTTP/1.1 400", b"RESET"}
    assert server.requests == []


def test_a_server_that_is_not_there_is_an_error_at_once() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with relay_to(f"http://127.0.0.1:{port}") as relay:
        answer = exchanged(relay.port, post("/api/chat", b"{}"))
        assert answer.startswith(b"HTTP/1.1 502")
        assert "cannot be reached" in json.loads(answer.rpartition(b"\r\n\r\n")[2])["error"]["message"]
        with pytest.raises(EdgetopError, match="cannot listen"):
            Relay(Upstream("127.0.0.1", port), "127.0.0.1", relay.port).start()


def test_a_client_that_leaves_takes_its_request_with_it(server: LoopbackServer) -> None:
    server.answers["POST /api/chat"] = stream(b"one", server.hang, end=False)
    with relay_to(server.url) as relay:
        with socket.create_connection(("127.0.0.1", relay.port), timeout=30) as connection:
            connection.sendall(post("/api/chat", b"{}"))
            while b"one" not in connection.recv(65536):
                pass
        assert server.hung_up.wait(30)
        eventually(lambda: [each for each in relay.seen if each.exchange.outcome], "the exchange ends")
        assert relay.seen[-1].exchange.outcome == "client left"


def test_the_end_of_the_relay_leaves_nobody_waiting(server: LoopbackServer) -> None:
    server.answers["POST /api/chat"] = stream(b"one", server.hang, end=False)
    with ThreadPoolExecutor() as pool:
        with relay_to(server.url) as relay:
            waiting = pool.submit(exchanged, relay.port, post("/api/chat", b"{}"))
            eventually(lambda: any(each.data == b"one" for each in relay.seen), "the answer begins")
        assert waiting.result(30).endswith(b"one\r\n")
    assert server.hung_up.wait(30)
    assert relay.seen[-1].exchange.outcome == "proxy ended"


@contextmanager
def lasting_server() -> Iterator[tuple[str, list[tuple[int, str, bytes]]]]:
    """A server that keeps its connections: its address, and the requests with the port of their connection."""
    asked: list[tuple[int, str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            asked.append((self.client_address[1], self.path, body))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST  # noqa: N815 - as the base has it

        def log_message(self, *_args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", asked
        finally:
            server.shutdown()
            thread.join()


def test_a_connection_is_used_again_on_both_sides() -> None:
    with lasting_server() as (url, asked), relay_to(url) as relay:
        client = HTTPConnection("127.0.0.1", relay.port, timeout=30)
        for number in range(5):
            client.request("POST", "/api/chat", b"%d" % number)
            assert client.getresponse().read() == b"%d" % number
        client.close()
        assert len({port for port, _, _ in asked}) == 1
        eventually(lambda: len(outcomes(relay)) == 5, "all are told of")
        assert set(outcomes(relay)) == {"complete"}


def outcomes(relay: Relay) -> list[str | None]:
    return [each.exchange.outcome for each in relay.seen if not each.data and each.t_us == each.exchange.end_us]


def test_requests_one_behind_the_other_are_answered_one_after_the_other() -> None:
    once = b"POST /1 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
    bare = b"GET /2 HTTP/1.1\r\nHost: x\r\n\r\n"
    last = post("/3", b"xyz")
    with lasting_server() as (url, asked), relay_to(url) as relay:
        direct = exchanged(int(url.rpartition(":")[2]), once + bare + last)
        through = exchanged(relay.port, once + bare + last)
        assert [without_date(each) for each in (direct, through)] == [without_date(direct)] * 2
        assert [path for _, path, _ in asked] == ["/1", "/2", "/3"] * 2
        # As a pipe into nc has it: the client's side is ended before the first answer.
        with socket.create_connection(("127.0.0.1", relay.port), timeout=30) as client:
            client.sendall(once + bare + last)
            client.shutdown(socket.SHUT_WR)
            assert without_date(client.makefile("rb").read()) == without_date(direct)
        eventually(lambda: outcomes(relay) == ["complete"] * 6, "all are told of", told=lambda: str(outcomes(relay)))


def without_date(answer: bytes) -> bytes:
    return re.sub(rb"Date: [^\r]*\r\n", b"", answer)


CHUNKED = b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "body",
    [b"zz\r\nabc", b"3\nabc\r\n0\r\n\r\n", b"3\r\nabcd\r\n", b"3 \r\nabc\r\n", b"-3\r\nabc", b"3;" + b"x" * 70_000],
    ids=["no size", "bare line feed", "too long", "blank", "negative", "endless line"],
)
def test_a_body_that_goes_wrong_is_told_and_hangs_nobody(server: LoopbackServer, body: bytes) -> None:
    server.answers["POST /api/chat"] = [server.hang]
    with relay_to(server.url) as relay:
        assert exchanged(relay.port, CHUNKED + body).startswith(b"HTTP/1.1 400")
        eventually(lambda: outcomes(relay), "it is over")
        assert outcomes(relay) == ["refused"]
    assert server.hung_up.wait(30)


def test_whoever_does_not_go_on_is_left(server: LoopbackServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgetop.io.relay.STALLED_S", 0.3)
    monkeypatch.setattr("edgetop.io.relay.HEAD_S", 0.3)
    server.answers["POST /api/chat"] = [server.hang]
    with relay_to(server.url) as relay:
        assert exchanged(relay.port, b"") == b""
        assert exchanged(relay.port, b"POST / HTTP/1.1\r\nHost: ") == b""
        for begun in (b"POST /x HTTP/1.1\r\nContent-Length: 9\r\n\r\nab", CHUNKED + b"9\r\nab", CHUNKED + b"9"):
            assert exchanged(relay.port, begun).startswith(b"HTTP/1.1 408")
        # Whoever has ended its side, and hears nothing, is taken for gone.
        with socket.create_connection(("127.0.0.1", relay.port), timeout=30) as client:
            client.sendall(post("/api/chat", b"{}"))
            client.shutdown(socket.SHUT_WR)
            assert client.recv(1) == b""


def test_a_client_that_takes_nothing_is_left(server: LoopbackServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgetop.io.relay.STALLED_S", 0.3)
    server.answers["POST /api/chat"] = [head(), without_end(b"x" * 65536), server.hang]
    with relay_to(server.url) as relay, socket.create_connection(("127.0.0.1", relay.port), timeout=30) as client:
        client.sendall(post("/api/chat", b"{}"))
        eventually(lambda: outcomes(relay), "it is left")
        assert outcomes(relay) == ["client left"]
        with suppress(ConnectionResetError):
            while client.recv(2**20):
                pass


def test_a_client_that_breaks_off_within_its_request_is_no_ghost(server: LoopbackServer) -> None:
    with relay_to(server.url) as relay:
        with socket.create_connection(("127.0.0.1", relay.port), timeout=30) as client:
            client.sendall(b"POST /api/chat HTTP/1.1\r\nContent-Length: 900000\r\n\r\nab")
            eventually(lambda: relay.seen, "it has begun")
            reset(client)
        eventually(lambda: outcomes(relay), "it is over")
        assert outcomes(relay) == ["client left"]


def test_those_who_ask_nothing_make_room(server: LoopbackServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgetop.io.relay.CONNECTIONS_MAX", 3)
    server.answers["POST /api/chat"] = document({})
    with relay_to(server.url) as relay, ExitStack() as idle:
        first = idle.enter_context(socket.create_connection(("127.0.0.1", relay.port), timeout=30))
        for begun in (b"", b"POST / HTTP"):
            each = idle.enter_context(socket.create_connection(("127.0.0.1", relay.port), timeout=30))
            each.sendall(begun)
        eventually(lambda: len(relay.idle) == 3, "they are there")
        assert exchanged(relay.port, post("/api/chat", b"{}")).startswith(b"HTTP/1.1 200")
        with suppress(ConnectionResetError):
            assert first.recv(1) == b""


def test_what_is_no_http_any_more_goes_both_ways(server: LoopbackServer) -> None:
    def echo(connection: socket.socket) -> None:
        while data := connection.recv(100):
            connection.sendall(data[::-1])

    server.answers["GET /live"] = [
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
        echo,
    ]
    asked = b"GET /live HTTP/1.1\r\nHost: localhost\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"
    with relay_to(server.url) as relay, socket.create_connection(("127.0.0.1", relay.port), timeout=30) as client:
        client.sendall(asked)
        answer = client.makefile("rb")
        assert answer.readline().startswith(b"HTTP/1.1 101")
        while answer.readline().strip():
            pass
        for said in (b"abc", b"\x00\xff\x01"):
            client.sendall(said)
            assert answer.read(3) == said[::-1]
        client.shutdown(socket.SHUT_WR)
        assert answer.read() == b""


def test_a_body_that_waits_to_be_asked_for() -> None:
    go_on = b"HTTP/1.1 100 Continue\r\n\r\n"
    with lasting_server() as (url, _), relay_to(url) as relay:
        with socket.create_connection(("127.0.0.1", relay.port), timeout=30) as client:
            client.sendall(post("/api/chat", b"abc", headers="Expect: 100-continue\r\n").removesuffix(b"abc"))
            answer = client.makefile("rb")
            assert answer.read(len(go_on)) == go_on
            client.sendall(b"abc")
            assert answer.read().endswith(b"\r\n\r\nabc")
        eventually(lambda: outcomes(relay) == ["complete"], "it is over")


def test_an_answer_before_the_end_of_a_request_is_not_lost(server: LoopbackServer) -> None:
    def early(connection: socket.socket) -> None:
        connection.sendall(head("413 Content Too Large", Content_Length="2") + b"{}")

    asked = b"POST /api/chat HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    server.answers["POST /api/chat"] = [early, server.hang]
    with relay_to(server.url) as relay:
        got = exchanged(relay.port, asked + b"3\r\nabc\r\n")
    assert got == head("413 Content Too Large", Content_Length="2") + b"{}"


def test_a_client_of_http_1_0(server: LoopbackServer) -> None:
    server.answers["POST /api/chat"] = [head(), b"{}"]
    asked = b"POST /api/chat HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}"
    with relay_to(server.url) as relay:
        assert exchanged(relay.port, asked) == head() + b"{}"
        assert server.requests[0].headers == {"content-length": "2"}


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [
        ("127.0.0.1:8090", True),
        ("localhost", True),
        ("[::1]:8090", True),
        ("a.localhost:1", True),
        pytest.param(socket.gethostname(), True, id="this machine"),
        ("evil.example:8090", False),
        ("127.0.0.1.evil.example", False),
        ("[::1", False),
    ],
)
def test_a_name_that_a_page_of_the_web_gave_this_machine_is_the_servers_to_judge(
    server: LoopbackServer, host: str, *, is_ours: bool
) -> None:
    with relay_to(server.url) as relay:
        exchanged(relay.port, post("/api/chat", b"{}", host=host))
    assert server.requests[0].headers["host"] == (server.url.removeprefix("http://") if is_ours else host)


def test_a_hundred_clients_at_once(server: LoopbackServer) -> None:
    together = threading.Barrier(100)

    def meet(_connection: socket.socket) -> None:
        together.wait(60)

    answer = [b"data: %d\n\n" % number for number in range(20)]
    server.answers["POST /v1/completions"] = stream(meet, *answer)
    with relay_to(server.url) as relay, ThreadPoolExecutor(100) as pool:
        asked = [post("/v1/completions", json.dumps({"n": number}).encode()) for number in range(100)]
        answers = set(pool.map(lambda data: exchanged(relay.port, data), asked))
    assert answers == {
        head(media="text/event-stream", Transfer_Encoding="chunked") + b"".join(map(chunk, answer)) + b"0\r\n\r\n"
    }
    assert sorted(request.document["n"] for request in server.requests) == list(range(100))  # type: ignore[type-var]


def test_one_connection_too_many_is_told_so(server: LoopbackServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgetop.io.relay.CONNECTIONS_MAX", 3)
    server.answers["POST /api/generate"] = [server.hang]
    server.answers["POST /api/chat"] = document({})
    asked = post("/api/chat", b"{}")
    with relay_to(server.url) as relay, ExitStack() as busy:
        for _ in range(3):
            each = busy.enter_context(socket.create_connection(("127.0.0.1", relay.port), timeout=30))
            each.sendall(post("/api/generate", b"{}"))
        eventually(lambda: len(server.requests) == 3, "they have asked")
        assert exchanged(relay.port, asked).startswith(b"HTTP/1.1 503")
        busy.close()
        eventually(lambda: exchanged(relay.port, asked).startswith(b"HTTP/1.1 200"), "there is room again")


def test_more_than_waits_to_be_read_is_passed_on_all_the_same(
    server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgetop.io.relay.WAITING_BYTES_MAX", 2**20)
    server.answers["POST /api/chat"] = document(PNG)
    with relay_to(server.url) as relay:
        assert exchanged(relay.port, post("/api/chat", b"{}")).endswith(PNG)
        assert not relay.seen[-1].exchange.is_read
        assert sum(len(each.data) for each in relay.seen) < 2 * 2**20


def test_chunks_are_followed_wherever_they_are_cut() -> None:
    whole = b"4\r\nabcd\r\nA;x\r\n0123456789\r\n0\r\nT: 1\r\n\r\nREST"
    for step in range(1, len(whole)):
        body, content, behind = Body(None, chunked=True), b"", b""
        for start in range(0, len(whole), step):
            if body.ended:
                behind += whole[start : start + step]
                continue
            pieces, behind = body.feed(whole[start : start + step])
            content += b"".join(pieces)
        assert (content, behind, body.ended) == (b"abcd0123456789", b"REST", True)
    with pytest.raises(FramingError):
        Body(None, chunked=True).feed(b"3\r\nabcd\r\n")
    with pytest.raises(FramingError):
        Body(None, chunked=True).feed(b"0\r\n" + b"x: y\r\n" * HEAD_BYTES_MAX)
    # A step for each chunk, not one for each byte behind it.
    pieces, _ = Body(None, chunked=True).feed(b"1\r\na\r\n" * 200_000)
    assert len(pieces) == 200_000
    assert Head.parse(b"GET /a b HTTP/1.1\r\nX: 1\r\nx: 2\r\n\r\n").get("x") == "2"

"""What comes out of the relay is, byte for byte, what a client of the server itself gets."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from edgetop.core.errors import EdgetopError
from edgetop.io.relay import HEAD_BYTES_MAX, Body, FramingError, Head, Relay, Upstream
from tests.support.eventually import eventually
from tests.support.loopback_server import LoopbackServer, Step, chunk, document, head, loopback_server, reset, stream
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


def post(path: str, body: bytes, *, headers: str = "", host: str = "somewhere:1") -> bytes:
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
    server.answers["POST /api/chat"] = document({})
    with relay_to(server.url) as relay, ExitStack() as idle:
        for _ in range(3):
            idle.enter_context(socket.create_connection(("127.0.0.1", relay.port), timeout=30))
        assert exchanged(relay.port, b"").startswith(b"HTTP/1.1 503")
        idle.close()
        asked = post("/api/chat", b"{}")
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


def test_requests_that_are_kept_have_a_limit_together_and_make_room_when_read(
    server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgetop.io.relay.WAITING_BYTES_MAX", 2**20)
    server.answers["POST /api/chat"] = document({})
    large = b"x" * (700 * 2**10)
    with relay_to(server.url) as relay:
        for _ in range(3):
            assert exchanged(relay.port, post("/api/chat", large)).endswith(b"{}")
        assert [len(request.body) for request in server.requests] == [len(large)] * 3
        exchanges = list(dict.fromkeys(each.exchange for each in relay.seen))
        assert [relay.take_body(each) for each in exchanges] == [large, b"", b""]
        assert exchanged(relay.port, post("/api/chat", large)).endswith(b"{}")
        assert relay.take_body(relay.seen[-1].exchange) == large


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
    assert Head.parse(b"GET /a b HTTP/1.1\r\nX: 1\r\nx: 2\r\n\r\n").get("x") == "2"

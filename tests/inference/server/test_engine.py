"""Every way in which a server can fail ends in one clear line, and what was said until then is kept."""

from __future__ import annotations

import gzip
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from edgetop.core.records import ModelLoaded, Tokens, TurnFinished
from edgetop.inference.protocol import LoadFailed, Perplexity, ScoreFailed, Waiting
from edgetop.inference.server.address import KEY_VARIABLE
from edgetop.inference.server.connection import LINE_BYTES_MAX
from tests.inference.server.conftest import Asking
from tests.support import server_replies
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
from tests.support.server_replies import CHAT, as_llama_server

BEGINNING = server_replies.LLAMA_CHAT[:4]
"""Two tokens, `Bonjour`, and no end."""


@pytest.fixture
def asked(wire: LoopbackServer, asking: Callable[..., Asking]) -> Asking:
    """A model of llama-server, loaded."""
    as_llama_server(wire)
    loaded = asking()
    assert isinstance(loaded.load(), ModelLoaded)
    return loaded


def one_line(text: str) -> bool:
    return text.isprintable() and "Traceback" not in text


def check_kept(asked: Asking, finished: TurnFinished) -> None:
    """What came before the failure is there, counted."""
    assert asked.text() == "Bonjour"
    assert (finished.stop_reason, finished.generated_tokens, finished.prompt_tokens) == ("failed", 2, 42)
    assert one_line(finished.error)


def test_nobody_listens(asking: Callable[..., Asking]) -> None:
    with closing(socket.socket()) as unused:
        unused.bind(("127.0.0.1", 0))
        failed = asking(url=f"http://127.0.0.1:{unused.getsockname()[1]}").load()
    assert isinstance(failed, LoadFailed)
    assert "nobody listens there" in failed.message
    assert failed.hint


def test_there_is_no_such_host(asking: Callable[..., Asking]) -> None:
    failed = asking(url="http://no-such-host.invalid:8080").load()
    assert isinstance(failed, LoadFailed)
    assert "Cannot reach" in failed.message


def test_what_listens_speaks_something_else(wire: LoopbackServer, asking: Callable[..., Asking]) -> None:
    wire.answers |= {f"GET {path}": [b"SSH-2.0-OpenSSH_9.2\r\n"] for path in ("/props", "/api/version", "/v1/models")}
    failed = asking().load()
    assert isinstance(failed, LoadFailed)
    assert "does not speak HTTP" in failed.message


@pytest.mark.parametrize(
    ("end", "told"),
    [
        ([reset], "broke off"),
        ([], "broke off"),
        ([b"0\r\n\r\n"], "without saying that it is complete"),
        ([chunk(b'data: {"error":{"code":500,"message":"out of memory"}}\n\n')], "out of memory"),
        ([chunk(b'event: error\ndata: {"error":"the model crashed"}\n\n')], "the model crashed"),
        ([chunk(b"data: {not json}\n\n" * 100)], "cannot be read: {not json}"),
        ([chunk(b"data: " + b"[" * 5000 + b"\n\n"), b"0\r\n\r\n"], "without saying that it is complete"),
        ([chunk(b"data: \xff\xfe\x00\n\n"), b"0\r\n\r\n"], "without saying that it is complete"),
        ([chunk(b"\xff\n" * 2**15)] * 160, "does not end, and says nothing"),
        ([chunk(b'data: {"choices":[],"x":"%065536d"}\n\n' % 0)] * 140, "does not end, and says nothing"),
        ([chunk(b'data: {"prompt_progress":{"total":9,"cache":0,"processed":5},"x":"%065536d"}\n\n' % 0)] * 140,
         "does not end, and says nothing"),
        ([chunk(b'data: {"detail":"engine died"}\n\n')], "engine died"),
        ([chunk(b'error: {"code":500,"message":"old form"}\n\n')], "old form"),
        ([chunk(b'event: error\ndata: {"message":"worker died"}\n\n')], "worker died"),
        ([b"zz\r\n"], "broke off"),
        ([chunk(b"x" * 2**16)] * (LINE_BYTES_MAX // 2**16 + 1), "a line of more than 4 MiB"),
        ([chunk(b"data: " + b"x" * 2**16 + b"\n")] * (LINE_BYTES_MAX // 2**16 + 1), "an event of more than 4 MiB"),
    ],
    ids=[
        "killed", "gone", "ended early", "error", "error event", "not JSON", "deep", "not UTF-8", "nonsense", "empty",
        "one progress",
        "detail", "error line", "error message", "bad chunk", "endless line", "endless event",
    ],
)  # fmt: skip
def test_an_answer_that_breaks_in_the_middle_is_kept(
    end: list[Step], told: str, wire: LoopbackServer, asked: Asking
) -> None:
    wire.answers[CHAT] = [*stream(*BEGINNING, end=False), *end]
    finished = asked.ask()
    check_kept(asked, finished)
    assert told in finished.error


@pytest.mark.parametrize(
    "skipped",
    [
        pytest.param([without_end(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)], id="interim answers"),
        pytest.param([without_end(b"HTTP/1.1 100 Continue\r\n\r\n", 0.01)], id="slow interim answers"),
        pytest.param([b"HTTP/1.1 200 OK\r\nX: ", without_end(b"x", 0.01)], id="slow head"),
        pytest.param([*stream(*BEGINNING, end=False), b"0\r\n", without_end(b"X: y\r\n", 0.01)], id="trailers"),
    ],
)
def test_what_http_skips_is_silence_however_much_comes(
    skipped: list[Step], wire: LoopbackServer, asking: Callable[..., Asking]
) -> None:
    as_llama_server(wire)
    asked = asking(timeout_s=1.0)
    asked.load()
    wire.answers[CHAT] = skipped
    assert "No data from" in asked.ask().error


@pytest.mark.parametrize("path", ["GET /props", "GET /v1/models"])
def test_a_document_has_a_time_however_steadily_it_drips(
    path: str, wire: LoopbackServer, asking: Callable[..., Asking], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgetop.inference.server.connection.DOCUMENT_S", 0.2)
    as_llama_server(wire)
    wire.answers[path] = [b"HTTP/1.1 200 OK\r\n\r\n", without_end(b" ", 0.01)]
    failed = asking(timeout_s=1.0).load()
    assert isinstance(failed, LoadFailed)
    assert "took longer than 1.2 s" in failed.message


def test_a_server_that_falls_silent_is_given_up(wire: LoopbackServer, asking: Callable[..., Asking]) -> None:
    as_llama_server(wire)
    asked = asking(timeout_s=1.0)
    asked.load()
    wire.answers[CHAT] = [*stream(*BEGINNING, end=False), wire.hang]
    finished = asked.ask()
    check_kept(asked, finished)
    assert "No data from the server at" in finished.error
    assert "--server-timeout" in finished.error
    assert wire.hung_up.wait(60)


def test_a_stop_hangs_up_and_keeps_what_was_said(wire: LoopbackServer, asked: Asking) -> None:
    wire.answers[CHAT] = [*stream(*BEGINNING, end=False), wire.hang]
    turn = threading.Thread(target=asked.ask)
    turn.start()
    eventually(lambda: asked.of(Tokens), "the answer has begun")
    asked.request_stop()
    turn.join(60)
    assert wire.hung_up.wait(60), "the server is told by the connection's end"
    (finished,) = asked.of(TurnFinished)
    assert (finished.stop_reason, finished.error) == ("cancelled", "")
    assert asked.text() == "Bonjour"


def test_a_stop_is_heard_before_the_server_has_answered_at_all(wire: LoopbackServer, asked: Asking) -> None:
    wire.answers[CHAT] = [wire.hang]
    turn = threading.Thread(target=asked.ask)
    turn.start()
    eventually(lambda: CHAT in wire.asked, "the question was sent")
    asked.request_stop()
    turn.join(60)
    (finished,) = asked.of(TurnFinished)
    assert (finished.stop_reason, finished.generated_tokens) == ("cancelled", 0)


def test_an_endless_answer_ends_with_the_mark_of_its_end(wire: LoopbackServer, asked: Asking) -> None:
    wire.answers[CHAT] = [*stream(*server_replies.LLAMA_CHAT, end=False), wire.hang]
    assert asked.ask().stop_reason == "end_of_generation"


def test_an_answer_that_never_begins_for_loading_is_given_up(
    wire: LoopbackServer, asking: Callable[..., Asking]
) -> None:
    as_llama_server(wire)
    asked = asking(loading_s=0.0)
    asked.load()
    wire.answers[CHAT] = document({"error": {"message": "Loading model"}}, "503 Busy")
    assert "not ready (503): Loading model." in asked.ask().error


WHOLE = b"".join(server_replies.LLAMA_CHAT)


@pytest.mark.parametrize(
    "pieces",
    [
        [WHOLE[at : at + 1] for at in range(len(WHOLE))],
        [WHOLE.replace(b"\n", b"\r\n")],
        [WHOLE.replace(b"\n", b"\r")],
        [b": ping\n\n" + event + b":\n\n" for event in server_replies.LLAMA_CHAT],
        [b"event: message\nid: 7\nretry: 3\n" + event for event in server_replies.LLAMA_CHAT],
        [b"\xef\xbb\xbf" + WHOLE],
        [b": " + b"x" * 2**20 + b"\n\n" + WHOLE],
        [WHOLE.replace(b"data: ", b"data:")],
        [WHOLE.rstrip(b"\n")],
    ],
    ids=["byte by byte", "CR LF", "CR", "pings", "other fields", "BOM", "long comment", "no space", "no last line"],
)
def test_the_ways_to_write_a_stream_make_no_difference(
    pieces: list[bytes], wire: LoopbackServer, asked: Asking
) -> None:
    wire.answers[CHAT] = stream(*pieces)
    finished = asked.ask()
    assert (asked.text(), finished.error) == ("Bonjour", "")
    assert (finished.generated_tokens, finished.stop_reason) == (2, "end_of_generation")


def test_a_stream_of_any_length_told_or_not_is_read(wire: LoopbackServer, asked: Asking) -> None:
    for answer in (
        [head(media="text/event-stream", Content_Length=str(len(WHOLE))), WHOLE],
        [head(media="text/event-stream"), WHOLE],
    ):
        wire.answers[CHAT] = [*answer, _end]
        assert (asked.ask().error, asked.text()) == ("", "Bonjour")
    wire.answers[CHAT] = [
        head(media="text/event-stream", Content_Length=str(len(WHOLE) + 9)),
        *server_replies.LLAMA_CHAT[:4],
        _end,
    ]
    check_kept(asked, asked.ask())


def _end(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_RDWR)


def test_half_a_character_is_no_reason_to_give_up(wire: LoopbackServer, asked: Asking) -> None:
    half = server_replies.LLAMA_CHAT[2].replace(b"Bon", b"B\xc3")
    wire.answers[CHAT] = stream(*server_replies.LLAMA_CHAT[:2], half, *server_replies.LLAMA_CHAT[3:])
    assert asked.ask().error == ""
    assert asked.text() == "B\ufffdjour"


def test_a_packed_answer_is_refused_in_words(wire: LoopbackServer, asked: Asking) -> None:
    packed = gzip.compress(WHOLE, mtime=0)
    wire.answers[CHAT] = [
        head(media="text/event-stream", Content_Encoding="gzip", Content_Length=str(len(packed))),
        packed,
    ]
    finished = asked.ask()
    assert "compressed its answer (gzip)" in finished.error
    assert one_line(finished.error)
    assert "accept-encoding" not in wire.last(CHAT).headers or wire.last(CHAT).headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("status", "body"),
    [("200 OK", gzip.compress(b"{}", mtime=0)), ("200 OK", bytes(range(256)) * 8), ("502 Bad", b"\0" * 99)],
)
def test_binary_in_place_of_a_document_is_refused_in_words(
    status: str, body: bytes, wire: LoopbackServer, asking: Callable[..., Asking]
) -> None:
    wire.answers |= {path: document(body, status) for path in ("GET /props", "GET /api/version", "GET /v1/models")}
    failed = asking().load()
    assert isinstance(failed, LoadFailed)
    assert one_line(failed.message)


def test_a_huge_chunk_is_given_up_within_bounds(wire: LoopbackServer, asked: Asking) -> None:
    wire.answers[CHAT] = [*stream(*BEGINNING, end=False), b"7fffffff\r\n", *[b"x" * 2**20] * 5, wire.hang]
    finished = asked.ask()
    check_kept(asked, finished)
    assert "more than 4 MiB" in finished.error


def test_a_slow_server_is_borne_as_long_as_it_goes_on(wire: LoopbackServer, asking: Callable[..., Asking]) -> None:
    as_llama_server(wire)
    asked = asking(timeout_s=1.0)
    asked.load()
    slow = threading.Event()

    def wait(_: socket.socket) -> None:
        slow.wait(0.3)

    wire.answers[CHAT] = stream(*(step for event in server_replies.LLAMA_CHAT for step in (event, wait)))
    assert (asked.ask().error, asked.text()) == ("", "Bonjour")


@pytest.mark.parametrize(
    ("status", "headers", "body", "told"),
    [
        ("401 Unauthorized", {}, {"error": {"message": "Invalid key"}}, "needs a key (401): Invalid key."),
        ("403 Forbidden", {}, {}, "needs a key (403)."),
        ("404 Not Found", {}, {"error": 'model "x" not found'}, 'does not have it (404): model "x" not found.'),
        ("429 Too Many Requests", {"Retry_After": "7"}, {"error": {"message": "busy"}}, "Try again in 7 s."),
        ("429 Too Many Requests", {"Retry_After": "soon\x1b[2J"}, {}, "Try again later."),
        ("503 Service Unavailable", {"Retry_After": "9"}, {"message": "full"}, "(503): full. Try again in 9 s."),
        ("500 Internal Server Error", {}, {"detail": "boom"}, "with an error (500): boom."),
        ("422 Unprocessable", {}, {"detail": [{"msg": "maximum context length is 4096 tokens"}]}, "does not fit"),
        ("418 Teapot", {}, b"<html>\x1b]0;owned\x07</html>", "with an error (418): <html>␛]0;owned␇</html>."),
    ],
)  # fmt: skip
def test_what_a_status_means_is_said(
    status: str, headers: dict[str, str], body: object, told: str, *, wire: LoopbackServer, asked: Asking
) -> None:
    wire.answers[CHAT] = document(body, status, **headers)
    finished = asked.ask()
    assert told in finished.error
    assert one_line(finished.error)


def test_a_redirect_is_told_and_not_followed(wire: LoopbackServer, asked: Asking) -> None:
    with loopback_server() as other:
        location = f"{other.url}/v1/chat/completions"
        wire.answers[CHAT] = document({}, "307 Temporary Redirect", Location=location)
        assert f"redirects to {location}" in asked.ask().error
        assert other.asked == []


def test_a_page_in_place_of_a_stream_is_no_answer(wire: LoopbackServer, asked: Asking) -> None:
    wire.answers[CHAT] = document(b"<html>sign in</html>", media="text/html; charset=utf-8")
    assert "with text/html, not with a stream" in asked.ask().error


def test_a_server_that_still_loads_is_waited_for(wire: LoopbackServer, asking: Callable[..., Asking]) -> None:
    as_llama_server(wire)
    props = wire.answers["GET /props"]
    answers: Iterator[list[Step]] = iter(
        [document({"error": {"message": "Loading model", "code": 503}}, "503 Busy")] * 3
    )
    wire.answers["GET /props"] = _Changing(lambda: next(answers, list(props)))
    assert isinstance(asking().load(), ModelLoaded)
    assert wire.asked.count("GET /props") >= 4


def test_a_server_that_was_started_anew_is_waited_for_in_the_middle_of_a_conversation(
    wire: LoopbackServer, asked: Asking
) -> None:
    loading = document({"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}}, "503 Busy")
    answers: Iterator[list[Step]] = iter([loading, loading])
    wire.answers[CHAT] = _Changing(lambda: next(answers, stream(*server_replies.LLAMA_CHAT)))
    finished = asked.ask()
    assert (finished.stop_reason, asked.text(), wire.asked.count(CHAT)) == ("end_of_generation", "Bonjour", 3)
    assert len(asked.of(Waiting)) == 1, "said once"


def test_a_stop_is_heard_while_a_server_loads(wire: LoopbackServer, asked: Asking) -> None:
    wire.answers[CHAT] = document({"error": {"message": "Loading model"}}, "503 Busy")
    turn = threading.Thread(target=asked.ask)
    turn.start()
    eventually(lambda: asked.of(Waiting), "it is waited for")
    asked.request_stop()
    turn.join(60)
    assert [finished.stop_reason for finished in asked.of(TurnFinished)] == ["cancelled"]


def test_a_server_that_never_gets_ready_is_given_up(wire: LoopbackServer, asking: Callable[..., Asking]) -> None:
    wire.answers["GET /props"] = document({"error": {"message": "Loading model", "code": 503}}, "503 Busy")
    failed = asking(loading_s=0.6).load()
    assert isinstance(failed, LoadFailed)
    assert "still loads its model after 0.6 s" in failed.message


class _Changing(list[Step]):
    """An answer that is another one each time."""

    def __init__(self, answer: Callable[[], list[Step]]) -> None:
        super().__init__()
        self._answer = answer

    def __iter__(self) -> Iterator[Step]:
        return iter(self._answer())


def test_hostile_text_stays_text(wire: LoopbackServer, asked: Asking) -> None:
    said = "\x1b[2J\u202eevil \ud83d half"
    event = json.dumps({"choices": [{"delta": {"content": said}, "finish_reason": "stop"}]}).encode()
    wire.answers[CHAT] = stream(b"data: " + event + b"\n\ndata: [DONE]\n\n")
    assert asked.ask().stop_reason == "end_of_generation"
    assert asked.text() == "\x1b[2J\u202eevil ? half"


def test_a_hostile_model_name_is_shown_in_one_line(wire: LoopbackServer, asking: Callable[..., Asking]) -> None:
    wire.answers["GET /v1/models"] = document({"data": [{"id": "a\n\x1b[31mb"}, {"id": "c"}]})
    failed = asking().load()
    assert isinstance(failed, LoadFailed)
    assert one_line(failed.hint)


def test_the_key_is_sent_and_nowhere_else(
    wire: LoopbackServer, asking: Callable[..., Asking], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    as_llama_server(wire)
    monkeypatch.setenv(KEY_VARIABLE, "secret-of-variable")
    by_variable = asking()
    loaded = by_variable.load()
    assert wire.last("GET /props").headers["authorization"] == "Bearer secret-of-variable"
    file = tmp_path / "key"
    file.write_text("secret-of-file\n")
    by_file = asking(key_file=str(file))
    by_file.load()
    by_file.ask()
    assert wire.last(CHAT).headers["authorization"] == "Bearer secret-of-file"
    assert "secret" not in repr([loaded, by_variable.reports, by_file.reports])


@pytest.mark.parametrize("content", [b"two\nlines", b"bell\x07", "schlüssel".encode(), b"x" * 9000])
def test_a_key_that_is_none_is_refused_without_being_shown(
    content: bytes, asking: Callable[..., Asking], wire: LoopbackServer, tmp_path: Path
) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    failed = asking(key_file=str(file)).load()
    assert isinstance(failed, LoadFailed)
    assert "holds no key" in failed.message
    assert wire.asked == []


def test_proxies_of_the_environment_are_not_used(
    wire: LoopbackServer, asking: Callable[..., Asking], monkeypatch: pytest.MonkeyPatch
) -> None:
    as_llama_server(wire)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert isinstance(asking().load(), ModelLoaded)


def test_only_known_paths_of_the_one_address_are_asked(wire: LoopbackServer, asking: Callable[..., Asking]) -> None:
    as_llama_server(wire)
    asked = asking(url=f"{wire.url}/v1/")
    asked.load()
    asked.ask()
    assert set(wire.asked) == {"GET /props", "GET /v1/models", CHAT}


def test_scores_say_that_a_server_tells_no_likelihoods(asked: Asking) -> None:
    asked.reports.clear()
    asked.engine.score(Perplexity(text="x"), asked.stop, asked.reports.append)
    (failed,) = asked.reports
    assert isinstance(failed, ScoreFailed)
    assert "no likelihoods" in failed.message


def test_a_head_without_end_is_bounded(wire: LoopbackServer, asked: Asking) -> None:
    wire.answers[CHAT] = [head()[:-2], *[b"X-Filler: " + b"x" * 60000 + b"\r\n"] * 200]
    assert "does not speak HTTP" in asked.ask().error

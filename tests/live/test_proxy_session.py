"""What a proxy records of the traffic of the real clients, and that it is in nobody's way."""

from __future__ import annotations

import gzip
import json
import re
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edgetop.core.records import RequestServed
from edgetop.inference.server.address import Address
from edgetop.live.live_session import WatchOptions
from edgetop.live.proxy_session import ProxySession
from edgetop.session.file_io import load_file, validate
from edgetop.session.store import Store
from tests.io.test_relay import exchanged, post
from tests.support.eventually import eventually
from tests.support.isolated_home import IsolatedHome
from tests.support.llama_cpp_servers import llama_server
from tests.support.loopback_server import LoopbackServer, Step, document, head, loopback_server, stream
from tests.support.server_replies import CHAT, LLAMA_TOO_LONG, OLLAMA_CHAT, as_llama_server, as_ollama

openai: Any = pytest.importorskip("openai")
ollama: Any = pytest.importorskip("ollama")

PICTURE = "data:image/png;base64," + "iVBORw0KGgo" * 50_000
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with loopback_server() as running:
        yield running


@contextmanager
def proxied(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, keeps_text: bool = False
) -> Iterator[tuple[ProxySession, list[RequestServed]]]:
    monkeypatch.setattr("edgetop.live.live_session.lower_priority", lambda: None)
    seen: list[RequestServed] = []
    options = WatchOptions(servers={Address.parse(url): ""}, sysroot=tmp_path, text_recorded=keeps_text)
    proxy = ProxySession(options, Store(tmp_path), lambda _text: None, listen=("127.0.0.1", 0), on_request=seen.append)
    try:
        yield proxy, seen
    finally:
        proxy.close()


def seen_by(proxy: ProxySession, seen: list[RequestServed]) -> RequestServed:
    """The next record."""

    def pumped() -> RequestServed | None:
        proxy.pump()
        return seen.pop(0) if seen else None

    return eventually(pumped, "the request is recorded")


def asked_openai(url: str, **fields: object) -> list[object]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0) as client:
        chunks = client.chat.completions.create(model="m", stream=True, **fields)
        return [chunk.model_dump() for chunk in chunks]


def test_the_openai_client(server: LoopbackServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_llama_server(server)
    messages = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": PICTURE}}]}]
    with proxied(server.url, tmp_path, monkeypatch) as (proxy, seen):
        direct = asked_openai(server.url, messages=messages, tools=TOOLS)
        by_hand = server.last(CHAT)
        assert asked_openai(proxy.url, messages=messages, tools=TOOLS) == direct
        assert server.last(CHAT) == by_hand
        record = seen_by(proxy, seen)
        assert (record.client, record.model, record.path) == ("127.0.0.1 OpenAI", "m", "/v1/chat/completions")
        assert (record.status, record.outcome, record.error) == (200, "complete", "")
        assert (record.prompt_tokens, record.generated_tokens, record.counted) == (42, 3, True)
        assert record.first_token_us is not None
        assert record.chunks == 2
        assert record.prompt is record.reply is None


def test_its_errors(server: LoopbackServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.answers[CHAT] = document(LLAMA_TOO_LONG, "400 Bad Request")
    with proxied(server.url, tmp_path, monkeypatch) as (proxy, seen):
        with pytest.raises(openai.BadRequestError, match="exceeds the available context"):
            asked_openai(proxy.url, messages=[])
        record = seen_by(proxy, seen)
        assert record.status == 400
        assert "exceeds the available context" in record.error


def test_the_ollama_client(server: LoopbackServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_ollama(server)
    messages = [{"role": "user", "content": "Hi"}]
    with proxied(server.url, tmp_path, monkeypatch, keeps_text=True) as (proxy, seen):

        def asked(url: str) -> list[object]:
            return [part.model_dump() for part in ollama.Client(url).chat("gemma2:2b", messages, stream=True)]

        assert asked(proxy.url) == asked(server.url)
        record = seen_by(proxy, seen)
        assert (record.client, record.model) == ("127.0.0.1 ollama-python", "gemma2:2b")
        assert (record.prompt_tokens, record.generated_tokens, record.prefill_us) == (10, 17, 246847)
        assert (record.prompt, record.reply) == ("user: Hi", "Hello!")
        assert [model.model for model in ollama.Client(proxy.url).list().models]


def test_the_ollama_client_with_tools_pictures_errors_and_what_it_breaks_off(
    server: LoopbackServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_ollama(server)
    picture = b"\x89PNG" + bytes(range(256)) * 4000
    messages = [{"role": "user", "content": "What is this?", "images": [picture]}]
    with proxied(server.url, tmp_path, monkeypatch) as (proxy, seen):
        for url in (server.url, proxy.url):
            list(ollama.Client(url).chat("m", messages, tools=TOOLS, stream=True))
        direct, through = (each for each in server.requests if each.line == "POST /api/chat")
        assert through == direct
        assert seen_by(proxy, seen).outcome == "complete"
        server.answers["POST /api/chat"] = document({"error": "model 'm' not found"}, "404 Not Found")
        with pytest.raises(ollama.ResponseError, match="not found"):
            ollama.Client(proxy.url).chat("m", messages)
        record = seen_by(proxy, seen)
        assert record.status == 404
        assert "not found" in record.error
        server.answers["POST /api/chat"] = stream(
            b'{"message":{"role":"assistant","content":"a"},"done":false}\n', server.hang, end=False
        )
        parts = ollama.Client(proxy.url).chat("m", messages, stream=True)
        assert next(parts).message.content == "a"
        parts.close()
        assert server.hung_up.wait(30)
        record = seen_by(proxy, seen)
        assert (record.outcome, record.generated_tokens, record.counted) == ("client left", 1, False)


def test_packed_answers_and_answers_that_are_nonsense(
    server: LoopbackServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = gzip.compress(OLLAMA_CHAT)
    answers: dict[str, Sequence[Step]] = {
        "/api/chat": [head(Content_Encoding="gzip", Content_Length=str(len(packed))) + packed],
        "/1/chat/completions": stream(b"data: {\xff\n\ndata: [[[[\n\n" * 300),
        "/2/chat/completions": [head(Content_Encoding="br"), b"..."],
        "/3/chat/completions": document({"choices": [{"message": {"content": "x" * 100}}], "usage": {"x": 1e999}}),
    }
    server.answers = {f"POST {path}": answer for path, answer in answers.items()}
    with proxied(server.url, tmp_path, monkeypatch) as (proxy, seen):
        records = []
        for path in answers:
            exchanged(proxy.relay.port, post(path, b"[" * 10_000))
            records.append(seen_by(proxy, seen))
    assert [record.generated_tokens for record in records] == [17, None, None, 1]
    assert [record.counted for record in records] == [True, True, True, False]
    assert all(record.error for record in records[1:3])


RESPONSES = [
    b'data: {"type":"response.created","response":{"model":"m1","usage":null}}\n\n',
    b'data: {"type":"response.output_text.delta","delta":"Hel"}\n\n',
    b'data: {"type":"response.output_text.delta","delta":"lo"}\n\n',
    (
        b'data: {"type":"response.completed","response":{"model":"m1","usage":{"input_tokens":9,"output_tokens":3,'
        b'"input_tokens_details":{"cached_tokens":4}}}}\n\n'
    ),
]
MESSAGES = [
    (
        b'event: message_start\ndata: {"type":"message_start","message":{"model":"m2","usage":{"input_tokens":5,'
        b'"cache_read_input_tokens":4,"output_tokens":0}}}\n\n'
    ),
    b'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"Hel"}}\n\n',
    b'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"lo"}}\n\n',
    b'data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":3}}\n\n',
    b'data: {"type":"message_stop"}\n\n',
]
NATIVE = [
    b'data: {"content":"Hel","stop":false}\n\n',
    b'data: {"content":"lo","stop":false}\n\n',
    (
        b'data: {"content":"","stop":true,"model":"m3","timings":{"cache_n":4,"prompt_n":5,"prompt_ms":1.5,'
        b'"predicted_n":3,"predicted_ms":3.0}}\n\n'
    ),
]


def test_other_ways_to_ask_for_text_and_for_vectors(
    server: LoopbackServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers = {
        "POST /v1/responses": stream(*RESPONSES),
        "POST /v1/messages": stream(*MESSAGES),
        "POST /completion": stream(*NATIVE),
        "POST /v1/embeddings": document({"data": [{"embedding": [0.5] * 9}], "usage": {"prompt_tokens": 9}}),
        "POST /api/embed": document({"model": "m5", "embeddings": [[0.5]], "prompt_eval_count": 9}),
        "POST /api/show": document({}),
    }
    with proxied(server.url, tmp_path, monkeypatch, keeps_text=True) as (proxy, seen):
        records = []
        for path, asked in {
            "/v1/responses": {"model": "x", "input": "Hi", "instructions": "Be kind."},
            "/v1/messages": {"model": "x", "messages": [{"role": "user", "content": "Hi"}]},
            "/completion": {"prompt": "Hi"},
            "/v1/embeddings": {"model": "m4", "input": ["Hi"]},
        }.items():
            exchanged(proxy.relay.port, post(path, json.dumps(asked).encode()))
            records.append(seen_by(proxy, seen))
        for path in ("/api/show", "/api/embed"):
            exchanged(proxy.relay.port, post(path, b'{"model":"m5","input":"Hi"}'))
        assert seen_by(proxy, seen).path == "/api/embed"
    assert [record.model for record in records] == ["m1", "m2", "m3", "m4"]
    assert [record.prompt_tokens for record in records] == [9] * 4
    assert [record.cached_tokens for record in records[:3]] == [4] * 3
    assert [(record.generated_tokens, record.chunks, record.counted) for record in records[:3]] == [(3, 2, True)] * 3
    assert [record.reply for record in records] == ["Hello"] * 3 + [""]
    assert (records[3].generated_tokens, records[3].error) == (None, "")


def test_what_unpacks_to_more_than_anybody_reads(
    server: LoopbackServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgetop.live.proxy_session.READ_BYTES_MAX", 2**20)
    packed = gzip.compress(b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n' * 500_000)
    server.answers[CHAT] = [head(Content_Encoding="gzip", Content_Length=str(len(packed))) + packed]
    with proxied(server.url, tmp_path, monkeypatch) as (proxy, seen):
        assert exchanged(proxy.relay.port, post("/v1/chat/completions", b"{}")).endswith(packed)
        record = seen_by(proxy, seen)
    assert not record.counted
    assert (record.generated_tokens or 0) < 100_000


def test_a_prompt_that_is_deep_or_odd_ends_nothing(
    server: LoopbackServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers[CHAT] = [b"HTTP/1.1 " + b"9" * 5000 + b" OK\r\nContent-Length: 0\r\n\r\n"]
    deep = b'{"messages":[{"role":"user","content":' + b"[" * 900 + b"]" * 900 + b'}],"input":{"a":1},"tools":7}'
    with proxied(server.url, tmp_path, monkeypatch, keeps_text=True) as (proxy, seen):
        exchanged(proxy.relay.port, post("/v1/chat/completions", deep))
        assert seen_by(proxy, seen).status is None


def test_a_server_elsewhere_has_no_energy_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with proxied("http://192.0.2.1:8080", tmp_path, monkeypatch) as (proxy, _seen):
        assert "the server is on 192.0.2.1:8080" in str(proxy.session.events[-1].data["no_energy"])


def started(home: IsolatedHome, url: str, *more: str) -> tuple[subprocess.Popen[str], int]:
    command = home.command("proxy", "--server", url, "--listen", "0", *more)
    process = subprocess.Popen(
        command, env=home.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=home.folder
    )
    assert process.stderr is not None
    port = re.search(r"http://127\.0\.0\.1:(\d+)", process.stderr.readline())
    assert port
    return process, int(port[1])


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "ended"])
def test_a_proxy_that_is_gone_leaves_nobody_waiting(
    server: LoopbackServer, tmp_path: Path, how: signal.Signals
) -> None:
    home = IsolatedHome(tmp_path)

    def kill(_connection: object) -> None:
        process.send_signal(how)

    server.answers["POST /api/chat"] = stream(b"{}\n", kill, server.hang, end=False)
    process, port = started(home, server.url)
    assert exchanged(port, post("/api/chat", b"{}")).removesuffix(b"RESET")[-5:] in {b"{}\n\r\n", b""}
    assert server.hung_up.wait(30)
    process.communicate()


def test_a_real_llama_server_through_the_command(small_model: Path, tmp_path: Path) -> None:
    home = IsolatedHome(tmp_path)
    with llama_server(small_model, n_parallel=2) as (url, _pid):
        process, port = started(home, url, "--json")
        messages = [{"role": "user", "content": "Count to five."}]
        chunks = asked_openai(
            f"http://127.0.0.1:{port}", messages=messages, max_tokens=12, stream_options={"include_usage": True}
        )
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    usage = chunks[-1]["usage"]  # type: ignore[index]
    request, summary = (json.loads(line) for line in out.splitlines())
    assert (request["prompt_tokens"], request["generated_tokens"]) == (
        usage["prompt_tokens"],
        usage["completion_tokens"],
    )
    assert request["gap_p50_ms"] > 0
    assert summary["clients"][0]["requests"] == 1
    (path,) = home.session_paths
    assert validate(path) == [], err
    assert [each.generated_tokens for each in load_file(path).requests] == [usage["completion_tokens"]]
    shown = home.run("sessions", "show", str(path)).stdout
    assert "127.0.0.1 OpenAI" in shown

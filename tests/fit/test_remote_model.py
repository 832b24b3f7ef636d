from __future__ import annotations

import http.client
import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks import refresh_models
from edgetop.core.errors import ModelError
from edgetop.fit.model_facts import ModelFacts, published_models
from edgetop.fit.remote_model import WINDOW_BYTES, Link, RemoteFile, fetch_facts
from edgetop.io.http import Credential, InterruptibleSocket, Timeouts, get, is_loopback
from tests.fit.range_server import CHUNK_BYTES, Handler, RangeServer, range_server
from tests.support.gguf_architectures import llama
from tests.support.gguf_files import (
    ARRAY,
    STRING,
    U32,
    array,
    gguf,
    model_bytes,
    pair,
    tensor,
    text,
    u32,
    write_split,
)
from tests.support.requirements import need_demo_model

QUICK = Timeouts(connect_s=20, idle_s=20, total_s=60)
TOKEN = "hf_secret"
LARGE = gguf(
    [
        pair("k", ARRAY, array(STRING, [text("x" * 100)] * 40_000)),
        pair("general.architecture", STRING, text("llama")),
        *(pair(f"llama.{key}", U32, u32(1)) for key in ("block_count", "context_length", "embedding_length")),
    ],
    [tensor("blk.0.weight", [2**20, 4], 0, 0)],
    16 * 2**20,
)
"""A header of 4.3 MB before 16 MiB of weights."""
LARGE_HEADER_BYTES = len(LARGE) - 16 * 2**20


@pytest.fixture
def server() -> Iterator[RangeServer]:
    with range_server() as served:
        yield served


def fetch(source: str, timeouts: Timeouts = QUICK, **environment: str) -> ModelFacts:
    return fetch_facts(source, environment=environment, timeouts=timeouts)


def refusal(source: str, timeouts: Timeouts = QUICK, **environment: str) -> ModelError:
    with pytest.raises(ModelError) as refused:
        fetch(source, timeouts, **environment)
    assert refused.value.what
    assert refused.value.hint
    assert "\n" not in refused.value.what + refused.value.hint
    return refused.value


@pytest.mark.parametrize("ranges", [True, False])
def test_a_remote_model_is_described_as_a_local_one(server: RangeServer, ranges: bool) -> None:
    server.ranges = ranges
    server.files["/tiny.gguf"] = data = model_bytes("mixtral")
    told = fetch(f"{server.url}/tiny.gguf")
    assert (told.parameters, told.size_bytes, told.n_expert_used) == (452_544, len(data), 2)
    assert told.source == told.files[0] == f"{server.url}/tiny.gguf"


def test_only_the_bytes_of_the_header_are_asked_for(server: RangeServer) -> None:
    server.files["/large.gguf"] = LARGE
    told = fetch(f"{server.url}/large.gguf")
    assert (told.tensor_bytes, told.size_bytes) == (16 * 2**20, len(LARGE))
    asked = [headers["range"] for _, headers in server.requests]
    assert asked == ["bytes=0-1048575", "bytes=1048576-2097151", "bytes=2097152-4194303", "bytes=4194304-8388607"]
    assert server.sent_bytes == 8 * WINDOW_BYTES < 2 * LARGE_HEADER_BYTES


def test_a_server_without_ranges_is_left_when_the_header_is_whole(server: RangeServer) -> None:
    server.ranges = False
    server.files["/large.gguf"] = LARGE
    fetch(f"{server.url}/large.gguf")
    assert server.done.acquire(timeout=60)
    assert len(server.requests) == 1
    assert server.sent_bytes + CHUNK_BYTES >= 8 * WINDOW_BYTES
    assert server.sent_bytes < len(LARGE), "the rest must not have been taken"


def test_a_window_is_never_asked_for_twice(server: RangeServer) -> None:
    server.files["/large.gguf"] = LARGE
    with RemoteFile(f"{server.url}/large.gguf", Link(QUICK)) as file:
        assert file.beginning(10) == LARGE[:10]
        assert file.beginning(1000) == LARGE[:1000]
        assert file.beginning(5) == LARGE[:5]
        assert file.size_bytes == len(LARGE)
    assert [headers["range"] for _, headers in server.requests] == ["bytes=0-9", "bytes=10-999"]


def test_a_size_of_thousands_of_digits_is_none(server: RangeServer) -> None:
    server.ranges, server.total = False, "9" * 6000
    server.files["/tiny.gguf"] = data = model_bytes("llama")
    assert fetch(f"{server.url}/tiny.gguf").size_bytes == len(data)


def test_a_size_that_is_not_told_is_taken_from_the_header(server: RangeServer) -> None:
    server.total = "*"
    server.files["/large.gguf"] = LARGE
    for server.ranges in (True, False):
        assert fetch(f"{server.url}/large.gguf").size_bytes == len(LARGE)


def test_a_split_model_is_read_from_any_part(server: RangeServer, tmp_path: Path) -> None:
    parts = write_split(tmp_path, "qwen2moe", 3)
    server.files = {f"/models/{part.name}": part.read_bytes() for part in parts}
    urls = tuple(f"{server.url}/models/{part.name}" for part in parts)
    told = fetch(urls[1])
    assert (told.parameters, told.files) == (289_856, urls)
    assert told.size_bytes == sum(part.stat().st_size for part in parts)
    assert len(server.requests) == 3
    del server.files[f"/models/{parts[2].name}"]
    assert f"there is no file {urls[2]} (404)" in refusal(urls[0]).what


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "the file is empty"),
        (b"<html>Please log in</html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (model_bytes()[:-100], "truncated: tensor"),
        (model_bytes()[:3000], "truncated"),
        (model_bytes(metadata={"llama.block_count": 0}), "block_count is 0"),
    ],
)
@pytest.mark.parametrize("ranges", [True, False])
def test_a_remote_file_that_is_no_model_is_told(server: RangeServer, content: bytes, what: str, ranges: bool) -> None:
    server.ranges = ranges
    server.files["/bad.gguf"] = content
    told = refusal(f"{server.url}/bad.gguf")
    assert what in told.what
    assert "(at byte " in told.what


@pytest.mark.parametrize(
    ("status", "headers", "what", "hint"),
    [
        (401, {}, "may not be read without permission (401)", "HF_TOKEN"),
        (403, {}, "may not be read without permission (403)", "HF_TOKEN"),
        (404, {}, "there is no file", "check the address"),
        (429, {"Retry_After": "30"}, "refuses more requests (429)", "wait 30 s"),
        (429, {"Retry_After": "soon\x1b[2J"}, "refuses more requests (429)", "try again later"),
        (503, {}, "failed (503)", "try again later"),
        (204, {}, "answers with status 204", "check the address"),
        (302, {}, "answers with status 302", "check the address"),
    ],
)
def test_a_refusal_of_the_server_is_told(
    server: RangeServer, status: int, headers: dict[str, str], what: str, hint: str
) -> None:
    server.faults["/m.gguf"] = lambda handler: handler.status(status, **headers)
    told = refusal(f"{server.url}/m.gguf?signature=secret")
    assert what in told.what
    assert hint in told.hint
    assert "secret" not in told.what + told.hint


def ranged(value: str, body: bytes = b"GGUF", claimed: int | None = None, **headers: str) -> Callable[[Handler], None]:
    def answer(handler: Handler) -> None:
        handler.send_response(206)
        handler.send_header("Content-Range", value)
        handler.send_header("Content-Length", str(len(body) if claimed is None else claimed))
        for name, text_of in headers.items():
            handler.send_header(name.replace("_", "-"), text_of)
        handler.end_headers()
        handler.body(body)

    return answer


@pytest.mark.parametrize("value", [
    "", "bytes 5-9/100", "bytes 0-3/3", "bytes 0-3/100", "bytes 3-0/100", "bytes 0-99999999/*", "bytes */100",
    "bytes 0-3/-1", f"bytes 0-{'9' * 30}/{'9' * 31}", "lines 0-3/4",
])  # fmt: skip
def test_a_server_that_lies_about_its_range_is_not_believed(server: RangeServer, value: str) -> None:
    server.faults["/m.gguf"] = ranged(value)
    assert "another range than requested" in refusal(f"{server.url}/m.gguf").what


def test_a_size_that_is_a_lie_is_found_out(server: RangeServer) -> None:
    server.files["/m.gguf"] = model_bytes()
    server.total = str(2**62)
    assert "another range" in refusal(f"{server.url}/m.gguf").what
    server.ranges = False
    assert "broke off" in refusal(f"{server.url}/m.gguf").what


def test_an_answer_that_breaks_off_is_told(server: RangeServer) -> None:
    def answer(handler: Handler) -> None:
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes 0-999999/{2**30}")
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        handler.body(model_bytes()[:1000])

    server.faults["/m.gguf"] = answer
    assert "another range" in refusal(f"{server.url}/m.gguf").what, "fewer bytes than asked for, and not the end"
    server.faults["/m.gguf"] = ranged(f"bytes 0-{WINDOW_BYTES - 1}/{2**30}", b"GGUF", claimed=WINDOW_BYTES)
    assert "broke off" in refusal(f"{server.url}/m.gguf").what


def test_a_file_that_changes_while_it_is_read_is_told(server: RangeServer) -> None:
    tags = iter("abcdefgh")

    def answer(handler: Handler) -> None:
        first, last = (int(number) for number in handler.headers["Range"].removeprefix("bytes=").split("-"))
        ranged(f"bytes {first}-{last}/{len(LARGE)}", LARGE[first : last + 1], ETag=next(tags))(handler)

    server.faults["/m.gguf"] = answer
    assert "changed while it was read" in refusal(f"{server.url}/m.gguf").what


def test_a_compressed_answer_is_refused(server: RangeServer) -> None:
    server.faults["/m.gguf"] = ranged("bytes 0-3/4", Content_Encoding="gzip")
    assert "is compressed" in refusal(f"{server.url}/m.gguf").what


def test_a_server_that_hangs_is_left(server: RangeServer) -> None:
    def answer(handler: Handler) -> None:
        server.held.wait(600)

    server.faults["/m.gguf"] = answer
    told = refusal(f"{server.url}/m.gguf", Timeouts(idle_s=0.2))
    assert "no data" in told.what


def test_a_server_that_drips_is_left(server: RangeServer) -> None:
    def answer(handler: Handler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while not server.held.wait(0.05):
            handler.wfile.write(b"X-Wait: a little longer\r\n")

    server.faults["/m.gguf"] = answer
    # http.client gives up at a hundred headers; which of the two comes first depends on the machine.
    told = refusal(f"{server.url}/m.gguf", Timeouts(total_s=0.5))
    assert "did not come within 0.5 s" in told.what or "does not speak HTTP" in told.what


def test_a_body_that_drips_is_left(server: RangeServer) -> None:
    def answer(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(2**40))
        handler.end_headers()
        while not server.held.wait(0.02):
            handler.wfile.write(b"G")

    server.faults["/m.gguf"] = answer
    told = refusal(f"{server.url}/m.gguf", Timeouts(total_s=0.5))
    assert "did not come within 0.5 s" in told.what
    assert "download the model" in told.hint


def test_each_piece_of_a_slow_body_has_a_time_of_its_own(server: RangeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, begin = threading.Semaphore(0), InterruptibleSocket.begin_part
    body = model_bytes("llama")

    def counted(channel: InterruptibleSocket) -> None:
        begun.release()
        begin(channel)

    def answer(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        for start in range(0, len(body), 4096):
            assert begun.acquire(timeout=20)
            handler.wfile.write(body[start : start + 4096])

    monkeypatch.setattr(InterruptibleSocket, "begin_part", counted)
    server.faults["/m.gguf"] = answer
    assert fetch_facts(f"{server.url}/m.gguf", environment={}, timeouts=QUICK).architecture == "llama"


def test_the_files_of_a_model_have_one_time_together(server: RangeServer, tmp_path: Path) -> None:
    parts = write_split(tmp_path, "llama", 3)
    server.files = {f"/{part.name}": part.read_bytes() for part in parts}
    url = f"{server.url}/{parts[0].name}"
    link = Link(Timeouts(total_s=60.0))
    first = link.timeouts.total_s
    assert 0 < link.timeouts.total_s <= first <= 60.0, "what is left for the next request"
    told = refusal(url, Timeouts(total_s=0.0))
    assert "did not come within 0 s" in told.what
    reported: list[tuple[int, float]] = []
    fetch_facts(url, environment={}, timeouts=QUICK, report=lambda *each: reported.append(each))
    sizes = [received for received, _ in reported]
    assert sizes == sorted(sizes)
    assert sizes[-1] == sum(map(len, server.files.values()))
    assert all(elapsed_s >= 0 for _, elapsed_s in reported)


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 999999 x\r\n\r\n", b"HTTP/1.1 200\r\nA" * 9])
def test_an_answer_that_is_no_http_is_told(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        told = refusal(f"http://127.0.0.1:{listener.getsockname()[1]}/m.gguf")
        thread.join()
    assert any(words in told.what for words in ("does not speak HTTP", "closed the connection", "the file is empty"))


def test_a_server_that_is_not_there_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert "nobody listens there" in refusal(f"http://127.0.0.1:{port}/m.gguf").what


@pytest.mark.parametrize("url", [
    "https://", "https:///m.gguf", "http://host:99999/m.gguf", "http://[::1/m.gguf", "http://host/a b.gguf",
    "http://host/\r\nX: y", "http://user:secret@host/m.gguf",
])  # fmt: skip
def test_an_address_that_cannot_be_meant_is_refused(url: str) -> None:
    told = refusal(url)
    assert "secret" not in told.what


def redirect(place: str) -> Callable[[Handler], None]:
    return lambda handler: handler.status(302, Location=place)


def test_redirects_are_followed_a_few_times(server: RangeServer) -> None:
    server.files["/m.gguf"] = model_bytes()
    server.faults["/0"] = redirect("m.gguf")
    for number in range(1, 8):
        server.faults[f"/{number}"] = redirect(f"{server.url}/{number - 1}")
    assert fetch(f"{server.url}/3").parameters == 107_464
    assert "redirects more than 5 times" in refusal(f"{server.url}/7").what


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://127.0.0.1/m", "http://[", "gopher:x", "http://a b/"])
def test_a_redirect_leads_to_a_web_server_or_nowhere(server: RangeServer, place: str) -> None:
    server.faults["/m.gguf"] = redirect(place)
    assert "is no address of a file" in refusal(f"{server.url}/m.gguf").what


def hub(server: RangeServer, *names: str, repo: str = "owner/model") -> None:
    listing = {"id": repo, "siblings": [{"rfilename": name} for name in names]}
    server.files[f"/api/models/{repo}"] = json.dumps(listing).encode()


def test_a_model_on_the_hub_is_found_by_its_quantization(server: RangeServer) -> None:
    hub(server, "README.md", "m-Q4_0.gguf", "m-Q8_0.gguf", "mmproj-Q8_0.gguf")
    server.files["/owner/model/resolve/main/m-Q8_0.gguf"] = model_bytes(weights="q8_0")
    told = fetch("hf:owner/model:Q8_0", HF_ENDPOINT=server.url)
    assert (told.source, told.file_type) == ("hf:owner/model:Q8_0", "Q8_0")
    assert told.files == (f"{server.url}/owner/model/resolve/main/m-Q8_0.gguf",)
    missing = refusal("hf:owner/model:Q2_K", HF_ENDPOINT=server.url)
    assert "no quantization Q2_K" in missing.what
    assert "m-Q4_0.gguf" in missing.hint


def test_the_table_of_good_models_is_refreshed_from_a_hub(
    server: RangeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "models.csv"
    heading, *rows = refresh_models.TABLE.read_text().splitlines()
    of = {row.partition(",")[0]: row for row in rows}
    table.write_text("\n".join([heading, of["SmolLM2-135M-Instruct"], of["Qwen3-0.6B"]]) + "\n")
    monkeypatch.setattr(refresh_models, "TABLE", table)
    monkeypatch.setattr(refresh_models, "published_models", lambda: published_models(table))
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    repository = "bartowski/SmolLM2-135M-Instruct-GGUF"
    hub(server, "m-Q4_K_M.gguf", "m-Q8_0.gguf", repo=repository)
    model = need_demo_model().read_bytes()
    server.files[f"/{repository}/resolve/main/m-Q4_K_M.gguf"] = model
    server.files[f"/{repository}/resolve/main/m-Q8_0.gguf"] = model_bytes(weights="q8_0")
    before = table.read_text()

    monkeypatch.setattr("sys.argv", ["refresh_models"])
    refresh_models.main()
    told = capsys.readouterr().out
    assert f"SmolLM2-135M-Instruct Q4_K_M: {len(model)} bytes" in told
    assert "SmolLM2-135M-Instruct Q8_0: llama, 2 layers of 64: not as listed" in told
    assert "Qwen3-0.6B Q8_0: " in told, "what is gone is told"
    assert table.read_text() == before

    monkeypatch.setattr("sys.argv", ["refresh_models", "--write"])
    refresh_models.main()
    smol, qwen = published_models.__wrapped__(table)
    assert dict(smol.stated) == {"Q4_K_M": len(model)}
    assert not qwen.stated
    assert all(each.source and each.date for each in published_models())


def test_all_parts_of_a_model_on_the_hub_are_read(server: RangeServer, tmp_path: Path) -> None:
    parts = write_split(tmp_path, "olmoe", 2, stem="m-Q4_K_M")
    hub(server, *(f"sub dir/{part.name}" for part in parts))
    server.files |= {f"/owner/model/resolve/main/sub%20dir/{part.name}": part.read_bytes() for part in parts}
    assert fetch("hf:owner/model", HF_ENDPOINT=server.url).parameters == 460_992
    hub(server, parts[0].name)
    assert "has 1 of the 2 parts" in refusal("hf:owner/model", HF_ENDPOINT=server.url).what


def test_a_model_of_more_parts_than_any_is_not_asked_for_one_by_one(server: RangeServer) -> None:
    hub(server, *(f"m-{number:05}-of-01001.gguf" for number in range(1, 1002)))
    server.files["/owner/model/resolve/main/m-00001-of-01001.gguf"] = model_bytes()
    assert "has 1001 parts, more than any model" in refusal("hf:owner/model", HF_ENDPOINT=server.url).what
    assert len(server.requests) <= 3


def test_the_token_goes_to_the_hub_and_to_no_other_server(server: RangeServer) -> None:
    with range_server() as storage:
        storage.files["/stored.gguf"] = model_bytes()
        hub(server, "m.gguf")
        place = f"{storage.url}/stored.gguf?signature=1"
        server.faults["/owner/model/resolve/main/m.gguf"] = redirect(place)
        told = fetch("hf:owner/model", HF_ENDPOINT=f"{server.url}/", HF_TOKEN=TOKEN)
        assert told.parameters == 107_464
        assert [headers.get("authorization") for _, headers in server.requests] == [f"Bearer {TOKEN}"] * 2
        assert [headers.get("authorization") for _, headers in storage.requests] == [None]
        assert storage.paths() == ["/stored.gguf?signature=1"]


def test_without_a_token_none_is_sent(server: RangeServer) -> None:
    hub(server, "m.gguf")
    server.files["/owner/model/resolve/main/m.gguf"] = model_bytes()
    fetch("hf:owner/model", HF_ENDPOINT=server.url)
    assert not any("authorization" in headers for _, headers in server.requests)


def test_a_token_for_another_address_stays_here(server: RangeServer) -> None:
    server.files["/m.gguf"] = b"x"
    for owner in ("https://127.0.0.1", server.url.replace("127.0.0.1", "localhost"), "http://127.0.0.1:1"):
        get(f"{server.url}/m.gguf", headers={}, credential=Credential(owner, "secret"), timeouts=QUICK).close()
    assert not any("authorization" in headers for _, headers in server.requests)


@pytest.mark.parametrize(("listing", "what"), [
    (b"not json", "does not list a repository"),
    (b'{"siblings": 3}', "does not list a repository"),
    (b"{}", "has no GGUF file"),
    (b'{"siblings": [{"rfilename": "README.md"}]}', "has no GGUF file"),
])  # fmt: skip
def test_a_listing_that_names_no_model_is_told(server: RangeServer, listing: bytes, what: str) -> None:
    server.files["/api/models/owner/model"] = listing
    assert what in refusal("hf:owner/model", HF_ENDPOINT=server.url).what


def test_a_repository_that_is_hidden_or_not_there_is_told(server: RangeServer) -> None:
    told = refusal("hf:owner/none", HF_ENDPOINT=server.url)
    assert "no repository owner/none" in told.what
    assert "HF_TOKEN" in told.hint
    assert "does not name a repository" in refusal("hf:owner").what
    assert (
        "HF_TOKEN holds no token"
        in refusal("hf:owner/model", HF_ENDPOINT=server.url, HF_TOKEN=f"{TOKEN}\n{TOKEN}").what
    )


def test_the_proxy_of_the_environment_is_used_but_not_for_loopback(
    server: RangeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["/m.gguf"] = model_bytes()
    server.files["http://models.invalid/m.gguf"] = model_bytes()
    proxy = server.url.replace("http://", "http://me:pass@")
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    fetch(f"{server.url}/m.gguf")
    assert fetch("http://models.invalid/m.gguf").parameters == 107_464
    assert server.paths() == ["/m.gguf", "http://models.invalid/m.gguf"]
    assert [headers.get("proxy-authorization") for _, headers in server.requests] == [None, "Basic bWU6cGFzcw=="]
    monkeypatch.setenv("http_proxy", "socks5://127.0.0.1:1")
    assert "only http://HOST:PORT is supported" in refusal("http://models.invalid/m.gguf").hint


def test_https_is_verified_and_never_left_for_http(
    server: RangeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["/m.gguf"] = model_bytes()
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
         "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with range_server("localhost") as secure:
        secure.wrap(context)
        secure.files["/m.gguf"] = model_bytes()
        secure.faults["/away"] = redirect(f"{server.url}/m.gguf")
        url = secure.url.replace("http://", "https://")
        assert "certificate is not trusted" in refusal(f"{url}/m.gguf").what
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert fetch(f"{url}/m.gguf").parameters == 107_464
        assert "redirects from https to http" in refusal(f"{url}/away").what
    assert server.requests == []


def test_what_is_this_machine() -> None:
    assert all(is_loopback(host) for host in ("localhost", "127.0.0.1", "127.9.9.9", "::1", "a.localhost"))
    assert not any(is_loopback(host) for host in ("example.com", "10.0.0.1", "localhost.example.com", "::2"))


def test_nothing_is_left_open_when_a_server_is_left(server: RangeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[http.client.HTTPConnection] = []
    connect = http.client.HTTPConnection.connect

    def recorded(connection: http.client.HTTPConnection) -> None:
        opened.append(connection)
        connect(connection)

    monkeypatch.setattr(http.client.HTTPConnection, "connect", recorded)
    server.ranges = False
    server.files["/m.gguf"] = model_bytes()
    server.faults["/away"] = redirect("/m.gguf")
    fetch(f"{server.url}/away")
    refusal(f"{server.url}/none")
    assert len(opened) == 3
    assert all(connection.sock is None for connection in opened)


def test_a_model_needs_no_name_of_its_own(server: RangeServer) -> None:
    server.files["/some/m-Q8_0.gguf"] = model_bytes(llama(), without=("general.name",))
    assert fetch(f"{server.url}/some/m-Q8_0.gguf?download=true").name == "m-Q8_0"

"""Servers and processes found, looked at, lost and found again; round by round, without waiting."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from edgetop.core.records import Event, Record
from edgetop.inference.server.address import Address
from edgetop.live.server_monitor import SCAN_EVERY, ServerMonitor
from edgetop.live.server_request import PROBE_TOKENS
from edgetop.session.session import Session
from edgetop.session.watch import watch_figures
from tests.support.eventually import eventually
from tests.support.fake_processes import MODEL_PATH, FakeProcesses
from tests.support.hostile_text import acts_on_a_terminal
from tests.support.loopback_server import LoopbackServer, Step, document, loopback_server, stream
from tests.support.recorded_sessions import STARTED
from tests.support.server_replies import CHAT, OLLAMA_PS, as_llama_server, as_ollama
from tests.support.server_usage import PROPS, llama_metrics, llama_slots, serve_usage

S = 1_000_000


class Watched:
    """A watch of a made up machine, on a clock that goes on by a second a round, and the session it gives."""

    def __init__(self, proc: FakeProcesses, *given: str, key: str = "") -> None:
        self.proc = proc
        proc.now_us = STARTED.t_us
        self.session = Session()
        self.session.apply(replace(STARTED, kind="watch"))
        self.watch = ServerMonitor(proc.host, {Address.parse(url): key for url in given})
        self.records: list[Record] = []

    def round(self, count: int = 1) -> None:
        for _ in range(count):
            self.proc.now_us += S
            self.watch.round()
            for record in self.watch.drain():
                self.records.append(record)
                self.session.apply(record)

    @property
    def events(self) -> list[str]:
        return [record.kind for record in self.records if isinstance(record, Event)]

    @property
    def generated(self) -> int | None:
        return watch_figures(self.session, self.session.end_us).generated_tokens


@pytest.fixture
def proc(tmp_path: Path) -> FakeProcesses:
    return FakeProcesses(tmp_path)


@pytest.fixture
def wire() -> Iterator[LoopbackServer]:
    with loopback_server() as server:
        yield server


def port_of(wire: LoopbackServer) -> int:
    return Address.parse(wire.url).port


def test_a_server_of_this_machine_is_found_and_counted(proc: FakeProcesses, wire: LoopbackServer) -> None:
    proc.process(10, "llama-server", "-m", MODEL_PATH, ports=(port_of(wire),), mapped=MODEL_PATH)
    serve_usage(wire, metrics=llama_metrics(100), slots=llama_slots(None))
    watched = Watched(proc)
    watched.round(2)
    serve_usage(wire, metrics=llama_metrics(100, running=1), slots=llama_slots(40))
    watched.round()
    serve_usage(wire, metrics=llama_metrics(160), slots=llama_slots(None))
    watched.round()
    assert watched.generated == 60
    service = watched.session.services[1]
    assert (service.kind, service.pid, service.counts) == ("llama-server", 10, "all")
    assert service.models == ("SmolLM2-135M-Instruct.Q4_1.gguf",)
    (row,) = watched.watch.rows
    assert (row.state, row.address, row.threads) == ("answers", wire.url, 7)
    assert watched.session.channels().count("server.1.generated_tokens") == 1
    stamps_us, counts = watched.session.window("server.1.generated_tokens", 0, watched.session.end_us)
    assert row.tokens_per_s == pytest.approx(60e6 / (stamps_us[-1] - stamps_us[0])), "not of the last round alone"
    assert counts[-1] - counts[0] == 60
    assert not [event for event in watched.session.events if event.kind == "record_refused"]
    assert "secret" not in repr(watched.records)


def test_the_sum_is_over_all_servers_and_one_that_counts_nothing_is_told(
    proc: FakeProcesses, wire: LoopbackServer
) -> None:
    with loopback_server() as ollama, loopback_server() as second:
        proc.process(10, "llama-server", "-m", MODEL_PATH, ports=(port_of(wire),))
        proc.process(11, "llama-server", "-m", MODEL_PATH, ports=(port_of(second),))
        proc.process(12, "ollama", "serve", ports=(port_of(ollama),))
        ollama.answers["GET /api/version"] = document({"version": "0.12.3"})
        ollama.answers["GET /api/ps"] = document(OLLAMA_PS)
        serve_usage(wire, metrics=llama_metrics(100), slots=llama_slots(None))
        serve_usage(second, metrics=llama_metrics(7), slots=llama_slots(None))
        watched = Watched(proc)
        watched.round()
        serve_usage(wire, metrics=llama_metrics(130), slots=llama_slots(None))
        serve_usage(second, metrics=llama_metrics(9, running=1), slots=llama_slots(5))
        watched.round()
    assert watched.generated == 30 + 2 + 5
    assert watched.session.services[3].counts == "nothing"
    assert [row.kind for row in watched.watch.rows] == ["llama-server", "llama-server", "ollama"]


def test_a_server_that_is_given_is_the_process_that_listens_there(proc: FakeProcesses, wire: LoopbackServer) -> None:
    proc.process(10, "python3", "app.py", ports=(port_of(wire),), mapped=MODEL_PATH)
    serve_usage(wire, metrics=llama_metrics(100), slots=llama_slots(None))
    watched = Watched(proc, wire.url)
    watched.round()
    (row,) = watched.watch.rows
    assert (row.pid, row.kind) == (10, "llama-server")
    assert row.resident_bytes is not None


def test_only_a_server_that_was_given_gets_the_key(proc: FakeProcesses, wire: LoopbackServer) -> None:
    with loopback_server() as found:
        proc.process(10, "llama-server", ports=(port_of(found),))
        for server in (wire, found):
            serve_usage(server, metrics=llama_metrics(1), slots=llama_slots(None))
        Watched(proc, wire.url, key="k1").round()
        assert {request.headers.get("authorization") for request in found.requests} == {None}
    assert {request.headers.get("authorization") for request in wire.requests} == {"Bearer k1"}


def test_what_listens_without_being_a_known_server_is_never_asked(proc: FakeProcesses, wire: LoopbackServer) -> None:
    proc.process(10, "notebook", ports=(port_of(wire),), mapped=MODEL_PATH)
    proc.process(11, "rpc-server", ports=(50052,))
    watched = Watched(proc)
    watched.round(SCAN_EVERY + 1)
    assert wire.requests == []
    assert [row.state for row in watched.watch.rows] == [None, None]


def test_a_server_that_is_started_anew_leaves_a_hole_and_counts_on(proc: FakeProcesses) -> None:
    with loopback_server() as first:
        port = port_of(first)
        proc.process(10, "llama-server", "-m", MODEL_PATH, ports=(port,))
        serve_usage(first, metrics=llama_metrics(100), slots=llama_slots(None))
        watched = Watched(proc)
        watched.round()
        serve_usage(first, metrics=llama_metrics(150), slots=llama_slots(None))
        watched.round()
    watched.round()
    assert watched.watch.rows[0].state == "down"
    assert "server_down" in watched.events
    figures = watch_figures(watched.session, watched.session.end_us)
    assert (figures.generated_tokens, figures.left_out_s) == (50, 1.0)
    assert "ended" in figures.left_out


def test_a_gpu_computes_for_nobody_who_has_none_open(proc: FakeProcesses) -> None:
    watched = Watched(proc)
    uses = [watched.watch.uses_gpu]
    proc.process(10, "llama-cli", "-m", MODEL_PATH, mapped=MODEL_PATH)
    watched.round(SCAN_EVERY)
    uses.append(watched.watch.uses_gpu)
    (proc.root / "10" / "fd" / "9").symlink_to("/dev/nvidia0")
    watched.round(SCAN_EVERY)
    uses.append(watched.watch.uses_gpu)
    proc.gone(10)
    watched.round(SCAN_EVERY)
    uses.append(watched.watch.uses_gpu)
    # A program that does not tell what it does may compute at any time.
    assert uses == [False, False, True, False]


def test_a_server_that_waits_with_a_model_on_the_gpu_lets_it_be_asked_seldom(
    proc: FakeProcesses, wire: LoopbackServer
) -> None:
    serve_usage(wire, metrics=llama_metrics(100), slots=llama_slots(None))
    proc.process(20, "llama-server", "-m", MODEL_PATH, mapped=MODEL_PATH, ports=(port_of(wire),))
    (proc.root / "20" / "fd" / "9").symlink_to("/dev/nvidia0")
    watched = Watched(proc)
    watched.round(3)
    waiting = watched.watch.uses_gpu
    serve_usage(wire, metrics=llama_metrics(120), slots=llama_slots(None))
    watched.round()
    assert (waiting, watched.watch.uses_gpu) == (None, True)


def test_a_process_that_is_no_server_is_followed_until_it_ends(proc: FakeProcesses) -> None:
    proc.process(10, "llama-cli", "-m", MODEL_PATH, mapped=MODEL_PATH)
    watched = Watched(proc)
    watched.round(2)
    assert watched.session.services[1].kind == "llama-cli"
    assert watched.watch.pids == (10,)
    proc.gone(10)
    watched.round(SCAN_EVERY)
    assert watched.watch.rows == ()
    assert watched.events == ["service_ended"]
    proc.process(11, "llama-cli", "-m", MODEL_PATH, mapped=MODEL_PATH)
    watched.round(SCAN_EVERY)
    assert list(watched.session.services) == [1, 2], "a number is not given twice"


def test_a_server_elsewhere_is_shown_but_its_tokens_are_not_this_machines(
    proc: FakeProcesses, wire: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgetop.inference.server.address.Address.is_loopback", False)
    monkeypatch.setattr("edgetop.live.server_monitor._is_own", lambda _host: False)
    serve_usage(wire, metrics=llama_metrics(100), slots=llama_slots(None))
    watched = Watched(proc, wire.url)
    watched.round(2)
    assert watched.generated is None
    missing = watched.session.services[1].no_count
    assert missing is not None
    assert "--power-stream" in missing.hint
    assert watched.watch.rows[0].state == "answers"


def test_without_any_model_process_nothing_is_recorded_of_services(proc: FakeProcesses) -> None:
    watched = Watched(proc)
    watched.round(2)
    assert watched.session.services == {}
    assert watched.generated is None


def test_ollama_is_counted_by_the_llama_server_that_answers_for_it(proc: FakeProcesses, wire: LoopbackServer) -> None:
    with loopback_server() as ollama:
        proc.process(12, "ollama", "serve", ports=(port_of(ollama),))
        proc.process(13, "/usr/lib/ollama/llama-server", "-m", MODEL_PATH, parent=12, ports=(port_of(wire),))
        ollama.answers["GET /api/version"] = document({"version": "0.33.3"})
        ollama.answers["GET /api/ps"] = document(OLLAMA_PS)
        serve_usage(wire, metrics=None, slots=llama_slots(None))
        watched = Watched(proc)
        watched.round()
        serve_usage(wire, metrics=None, slots=llama_slots(30))
        watched.round()
        (row,) = watched.watch.rows
        assert (row.kind, row.models, watched.generated) == ("ollama", ("mistral:latest",), 30)
        assert watched.session.services[1].counts == "running"
        missing = watched.session.services[1].no_count
        assert missing is not None
        assert missing.hint == "set LLAMA_ARG_ENDPOINT_METRICS=1 in Ollama's environment"


def test_with_the_metrics_of_its_child_ollama_is_counted_exactly(proc: FakeProcesses, wire: LoopbackServer) -> None:
    with loopback_server() as ollama:
        proc.process(12, "ollama", "serve", ports=(port_of(ollama),))
        proc.process(13, "/usr/lib/ollama/llama-server", parent=12, ports=(port_of(wire),))
        ollama.answers["GET /api/version"] = document({"version": "0.33.3"})
        ollama.answers["GET /api/ps"] = document(OLLAMA_PS)
        serve_usage(wire, metrics=llama_metrics(100), slots=llama_slots(None))
        watched = Watched(proc)
        watched.round(2)
        serve_usage(wire, metrics=llama_metrics(177), slots=llama_slots(None))
        watched.round()
        assert (watched.generated, watched.session.services[1].counts) == (77, "all")


def test_the_children_of_a_router_are_no_servers_of_their_own(proc: FakeProcesses, wire: LoopbackServer) -> None:
    proc.process(10, "llama-server", ports=(port_of(wire),))
    proc.process(11, "llama-server", "-m", MODEL_PATH, "--port", "5555", parent=10, ports=(5555,))
    serve_usage(wire, metrics=llama_metrics(1), slots=llama_slots(None))
    watched = Watched(proc)
    watched.round()
    (row,) = watched.watch.rows
    assert (row.pid, row.threads) == (10, 14)


@pytest.mark.parametrize("way", ["flag", "joined", "variable", "file", "file in its folder"])
def test_a_server_of_ones_own_is_asked_with_the_key_that_it_was_started_with(
    way: str, proc: FakeProcesses, wire: LoopbackServer, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("# of ours\n\nhush-hush\nother\n")
    arguments = {
        "flag": ("--api-key", "hush-hush"), "joined": ("--api-key=hush-hush,other",), "variable": (),
        "file": ("--api-key-file", str(tmp_path / "key")), "file in its folder": ("--api-key-file", "key"),
    }[way]  # fmt: skip
    proc.process(10, "llama-server", *arguments, ports=(port_of(wire),), uid=os.geteuid())
    (proc.root / "10" / "cwd").symlink_to(tmp_path)
    (proc.root / "10" / "environ").write_text("A=1\0LLAMA_API_KEY=hush-hush\0" if way == "variable" else "A=1\0")
    proc.process(11, "llama-server", "--api-key", "of-another", ports=(), uid=4711)
    serve_usage(wire, metrics=llama_metrics(1), slots=llama_slots(None))
    watched = Watched(proc)
    watched.round()
    assert wire.requests[-1].headers["authorization"] == "Bearer hush-hush"
    assert "hush" not in repr((watched.records, watched.watch.rows))


def test_a_server_of_ones_own_is_asked_behind_its_prefix_and_by_tls(proc: FakeProcesses, wire: LoopbackServer) -> None:
    proc.process(10, "llama-server", "--api-prefix", "/llm/", ports=(port_of(wire),), uid=os.geteuid())
    proc.process(11, "llama-server", "--ssl-cert-file", "a.pem", ports=(5555,), uid=os.geteuid())
    wire.answers["GET /llm/props"] = document(PROPS)
    watched = Watched(proc)
    watched.round()
    prefixed, secret = watched.watch.rows
    assert (prefixed.state, prefixed.address) == ("answers", f"{wire.url}/llm")
    assert secret.address == "https://127.0.0.1:5555"


def test_the_key_of_another_users_server_is_not_taken(proc: FakeProcesses, wire: LoopbackServer) -> None:
    proc.process(10, "llama-server", "--api-key", "theirs", ports=(port_of(wire),), uid=os.geteuid() + 1)
    wire.answers["GET /props"] = document({"error": {"message": "Invalid API Key"}}, "401 Unauthorized")
    watched = Watched(proc)
    watched.round()
    assert all("authorization" not in request.headers for request in wire.requests)
    (row,) = watched.watch.rows
    assert row.state == "needs_key"


def test_each_server_gets_its_own_key_and_no_other(proc: FakeProcesses, wire: LoopbackServer) -> None:
    with loopback_server() as other:
        for each in (wire, other):
            serve_usage(each, metrics=llama_metrics(1), slots=llama_slots(None))
        watch = ServerMonitor(proc.host, {Address.parse(wire.url): "one", Address.parse(other.url): ""})
        watch.round()
        assert wire.requests[-1].headers["authorization"] == "Bearer one"
        assert all("authorization" not in request.headers for request in other.requests)


def test_a_python_process_that_maps_a_model_and_listens_is_asked(proc: FakeProcesses, wire: LoopbackServer) -> None:
    proc.process(10, "python3", "my_server.py", ports=(port_of(wire),), mapped=MODEL_PATH)
    proc.process(11, "python3", "notebook.py", mapped=MODEL_PATH)
    serve_usage(wire, metrics=llama_metrics(5), slots=llama_slots(None))
    watched = Watched(proc)
    watched.round()
    first, second = watched.watch.rows
    assert (first.kind, first.state, second.address) == ("llama-server", "answers", "")


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (("/opt/llama", "serve", "-hf", "a/b"), "llama-server"),
        (("/usr/local/bin/com.docker.llama-server", "--port", "9"), "llama-server"),
        (("ik_llama-server",), "llama-server"),
        (("python3", "/usr/bin/sglang", "serve", "--model-path", "x"), "sglang"),
        (("sglang", "serve", "x"), "sglang"),
        (("mistralrs", "serve", "-m", "x"), "mistral.rs"),
        (("lemonade-server", "serve"), "lemonade"),
    ],
)
def test_servers_are_known_by_their_command_lines(arguments: tuple[str, ...], kind: str, proc: FakeProcesses) -> None:
    proc.process(10, *arguments)
    assert [process.kind for process in proc.found().values()] == [kind]


def until_probed(watched: Watched) -> str:
    """Rounds until the probe has been answered; what is told of it."""

    def is_over() -> bool:
        watched.round()
        return not watched.watch.is_probing

    eventually(is_over, "the probe is over")
    watched.round()
    told = [each.text for each in watched.records if isinstance(each, Event) and each.kind == "server_probed"]
    return told[-1]


def test_a_server_is_asked_for_a_few_tokens_only_on_request(proc: FakeProcesses, wire: LoopbackServer) -> None:
    serve_usage(wire, metrics=llama_metrics(0), slots=llama_slots(None))
    as_llama_server(wire)
    watched = Watched(proc, wire.url)
    watched.round(3)
    assert not [line for line in wire.asked if line.startswith("POST")], "watching alone costs no token"
    watched.watch.probe()
    told = until_probed(watched)
    assert re.search(r"probe: first token after [\d.]+ m?s, 2\.68 tok/s, 3 tokens", told)
    assert wire.last(CHAT).document["max_tokens"] == PROBE_TOKENS
    (row,) = watched.watch.rows
    assert row.probe is not None
    assert row.probe.tokens_per_s == pytest.approx(2.681640949729959, rel=0.2)
    watched.round(3)
    assert wire.asked.count(CHAT) == 1


def test_a_probe_loads_no_model_and_wakes_no_server(proc: FakeProcesses, wire: LoopbackServer) -> None:
    as_ollama(wire)
    wire.answers["GET /api/ps"] = document({"models": []})
    with loopback_server() as sleeping:
        serve_usage(sleeping, metrics=llama_metrics(0), slots=llama_slots(None))
        sleeping.answers["GET /props"] = document(PROPS | {"is_sleeping": True})
        watched = Watched(proc, wire.url, sleeping.url)
        watched.round(2)
        watched.watch.probe()
        until_probed(watched)
        loaded_none, asleep = (row.probe for row in watched.watch.rows)
        assert not [line for line in (*wire.asked, *sleeping.asked) if line.startswith("POST")]
    assert loaded_none is not None
    assert "has no model loaded" in loaded_none.words
    assert asleep is not None
    assert asleep.words == "not probed: it sleeps, and a probe would wake it"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (document({"error": {"message": "\x1b[31mno"}}, "500 Internal Server Error"), "answered with an error (500)"),
        (stream(b"data: [DONE]\n\n"), "without any text"),
        (stream(b'data: {"choices":[{"delta":{"content":"Bon"}}]}\n\n'), "it ended before it was complete"),
    ],
)
def test_a_probe_that_comes_to_nothing_says_why(
    answer: list[Step], words: str, proc: FakeProcesses, wire: LoopbackServer
) -> None:
    serve_usage(wire, metrics=llama_metrics(0), slots=llama_slots(None))
    as_llama_server(wire)
    wire.answers[CHAT] = answer
    watched = Watched(proc, wire.url)
    watched.round()
    watched.watch.probe()
    told = until_probed(watched)
    assert words in told
    assert not acts_on_a_terminal(told)


def test_a_server_that_ends_answers_when_it_is_asked_for_its_models_is_not(
    proc: FakeProcesses, wire: LoopbackServer
) -> None:
    """As llama_cpp.server 0.3.36 does: a look at them cuts off the answer of somebody else."""
    model = {"id": MODEL_PATH, "object": "model", "owned_by": "me", "permissions": []}
    wire.answers["GET /v1/models"] = document({"object": "list", "data": [model]})
    page = "<!DOCTYPE html><title>\N{LLAMA} llama.cpp Python API - Swagger UI</title>".encode()
    wire.answers["GET /docs"] = document(page, media="text/html")
    proc.process(10, "python3", "-m", "llama_cpp.server", "--model", MODEL_PATH, ports=(port_of(wire),))
    for given in ((), (wire.url,)):
        watched = Watched(proc, *given)
        watched.round(3)
        (row,) = watched.watch.rows
        assert (row.kind, row.models) == ("llama_cpp.server", (MODEL_PATH.rpartition("/")[2],)), "of its command line"
        assert (row.state, watched.session.services[1].counts) == ("answers", "nothing")
        watched.watch.probe()
        assert "would end the answer" in until_probed(watched)
    assert "GET /v1/models" not in wire.asked
    assert CHAT not in wire.asked

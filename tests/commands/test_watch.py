"""`edgetop watch` without a terminal."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgetop.session.file_io import load_file
from tests.commands.machine import JETSON, Machine
from tests.support.loopback_server import LoopbackServer, loopback_server
from tests.support.server_replies import CHAT, as_llama_server
from tests.support.server_usage import llama_metrics, llama_slots, serve_usage


@pytest.fixture
def wire() -> Iterator[LoopbackServer]:
    with loopback_server() as server:
        serve_usage(server, metrics=llama_metrics(120, running=1), slots=llama_slots(42))
        yield server


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Machine:
    monkeypatch.setattr("edgetop.live.live_session.lower_priority", lambda: None)
    machine = Machine(tmp_path, monkeypatch, capsys)
    machine.plant(JETSON)
    return machine


def test_json_is_a_reading_a_line_and_a_summary_at_the_end(
    board: Machine, wire: LoopbackServer, tmp_path: Path
) -> None:
    output = tmp_path / "watched.json"
    ran = board.run("watch", "--json", "--seconds", "0.3", "--server", wire.url, "-o", str(output))
    assert ran.code == 0, ran.stderr
    *readings, summary = map(json.loads, ran.stdout.splitlines())
    assert {reading["type"] for reading in readings} == {"reading"}
    (service,) = readings[0]["services"]
    assert (service["kind"], service["requests_running"], service["generated_tokens"]) == ("llama-server", 1, 162)
    assert summary["type"] == "summary"
    assert summary["services"][0]["counts"] == "all"
    assert summary["watch"]["generated_tokens"] == 0, "what was generated before is not counted"
    file = load_file(output)
    assert (file.kind, file.services[0].address) == ("watch", wire.url)
    assert "secret" not in ran.stdout


def test_text_is_a_line_a_second_and_tables_at_the_end(board: Machine, wire: LoopbackServer) -> None:
    ran = board.run("watch", "--seconds", "0.3", "--server", wire.url, "--no-record")
    assert ran.code == 0, ran.stderr
    assert "1 model process" in ran.stdout
    assert "1 running" in ran.stdout
    assert "SmolLM2-135M-Instruct.Q4_1.gguf" in ran.stdout
    assert "energy      n/a: " in ran.stdout
    assert "session:" not in ran.stderr
    assert not list((board.root.parent / "data").rglob("*.json"))


def test_a_recorded_watch_is_listed_and_shown(board: Machine, wire: LoopbackServer) -> None:
    assert board.run("watch", "--seconds", "0.3", "--server", wire.url, "-q").stderr == ""
    assert "watch: llama-server" in board.run("sessions", "list").stdout
    shown = board.run("sessions", "show", "1").stdout
    assert wire.url in shown
    assert "generated" in shown
    assert board.run("sessions", "validate", "1").code == 0
    replayed = board.run("replay", "1", "--json").json()
    assert replayed[0]["snapshot"]["watch"]["figures"]["generated_tokens"] == 0
    assert board.run("compare", "1", "1").code == 0


def test_without_a_model_process_it_says_what_it_looks_for(board: Machine) -> None:
    ran = board.run("watch", "--seconds", "0")
    assert ran.code == 0, ran.stderr
    assert "No model process was found" in ran.stdout
    assert ".gguf" in ran.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--seconds", "soon"), "--seconds: "),
        (("--seconds", "-1"), "--seconds: "),
        (("--server", "http://user:pw@host"), "not the address of a server"),
        (("--server", "not an address"), "not the address of a server"),
    ],
)
def test_wrong_usage_is_told_in_two_lines(board: Machine, arguments: tuple[str, ...], said: str) -> None:
    ran = board.run("watch", *arguments)
    assert ran.code == 2
    assert said in ran.stderr
    assert "pw" not in ran.stdout


def test_a_probe_is_made_on_request_and_waited_for(board: Machine, wire: LoopbackServer) -> None:
    as_llama_server(wire)
    ran = board.run("watch", "--json", "--seconds", "0", "--probe", "--server", wire.url, "--no-record")
    assert ran.code == 0, ran.stderr
    *_, last, summary = map(json.loads, ran.stdout.splitlines())
    assert wire.asked.count(CHAT) == 1
    assert summary["type"] == "summary"
    probe = last["services"][0]["probe"]
    assert (probe["tokens"], probe["trouble"]) == (3, None)
    told = board.run("watch", "--seconds", "0", "--probe", "--server", wire.url, "--no-record").stdout
    assert re.search(r"^1 probe: first token after [\d.]+ m?s, 2\.68 tok/s, 3 tokens$", told, re.MULTILINE)
    refused = board.run("watch", "pi1", "--probe")
    assert (refused.code, refused.stdout) == (2, "")

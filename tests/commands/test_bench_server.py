"""`edgetop bench --server`: what a kind of server can be measured with, and what it decides by itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.commands.machine import Machine
from tests.support import server_replies
from tests.support.loopback_server import LoopbackServer, document, loopback_server, stream
from tests.support.server_replies import CHAT, as_llama_server, as_lm_studio, as_ollama

QUICK = ("-r", "2", "--power", "none", "-o", "json")


@pytest.fixture
def wire() -> Iterator[LoopbackServer]:
    with loopback_server() as server:
        yield server


@pytest.fixture
def llama_server(wire: LoopbackServer) -> LoopbackServer:
    as_llama_server(wire)
    wire.answers["POST /completion"] = stream(*server_replies.LLAMA_COMPLETION)
    return wire


def test_tests_of_tokens_are_done_by_a_llama_server(machine: Machine, llama_server: LoopbackServer) -> None:
    ran = machine.run("bench", "--server", llama_server.url, "-p", "3", "-n", "2", "--pg", "3,2", "--no-warmup", *QUICK)
    assert ran.code == 0, ran.stderr
    # The recorded answer has three tokens, so that a test of the prompt alone, which draws one, does not come about.
    # They may arrive at one moment, and then there is no rate of the reply alone.
    rows = {row["test"]: row for row in ran.json()}
    assert rows.keys() <= {"pp3+tg2", "tg2"}
    row = rows["pp3+tg2"]
    assert (row["server"], row["stamps"], row["backends"]) == (llama_server.url, "arrival", "")
    assert (len(row["samples_ts"]), row["setting"]) == (2, "SmolLM2-135M-Instruct.Q4_1")
    told = "round 1: it could not do pp3: The server generated 3 tokens instead of 1."
    assert told in row["problems"]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("-t", "1,2"), "how many threads"),
        (("--threads-batch", "2"), "how many threads"),
        (("--kv-type", "q8_0"), "KV cache"),
        (("--gpu-layers", "3"), "offloads"),
        (("--batch", "64"), "computes together"),
        (("--ubatch", "64"), "computes together"),
        (("--quant", "Q8_0"), "levels cannot be made"),
        (("--study",), "levels cannot be made"),
        (("--quality",), "tells no likelihoods"),
    ],
)
def test_what_a_server_decides_by_itself_is_refused(
    arguments: tuple[str, ...], why: str, machine: Machine, llama_server: LoopbackServer
) -> None:
    ran = machine.run("bench", "--server", llama_server.url, *arguments, *QUICK)
    assert ran.code == 2
    assert why in ran.stderr
    assert len(ran.stderr.splitlines()) == 2
    assert "POST /completion" not in llama_server.asked


def test_ollama_lets_threads_be_chosen_and_no_depth(machine: Machine, wire: LoopbackServer) -> None:
    as_ollama(wire)
    assert machine.run("bench", "--server", wire.url, "-d", "64", *QUICK).code == 2
    ran = machine.run("bench", "--server", wire.url, "-t", "1,2", "--dry-run", *QUICK)
    assert ran.code == 0, ran.stderr


def test_a_server_of_conversations_is_measured_with_prompts(machine: Machine, wire: LoopbackServer) -> None:
    as_lm_studio(wire)
    ran = machine.run("bench", "--server", wire.url, "--max-tokens", "4", *QUICK)
    assert "LM Studio: it takes conversations only" in ran.stderr
    # A warm-up, and twice the seven questions of five prompts.
    assert wire.asked.count(CHAT) == 1 + 2 * 7
    assert wire.last(CHAT).document["max_tokens"] == 4


def test_a_model_that_is_not_there_is_named_with_those_that_are(machine: Machine, llama_server: LoopbackServer) -> None:
    ran = machine.run("bench", "--server", llama_server.url, "-m", "no-such", *QUICK)
    assert ran.code == 3
    assert "no-such" in ran.stderr
    assert "SmolLM2" in ran.stderr


def test_a_server_that_is_not_there_ends_before_anything_is_measured(machine: Machine) -> None:
    ran = machine.run("bench", "--server", "http://127.0.0.1:1", *QUICK)
    assert ran.code == 3
    assert "nobody listens there" in ran.stderr


@pytest.mark.parametrize("server", ["", "http://127.0.0.1:1"])
def test_a_benchmark_goes_on_with_its_own_server_only(
    server: str, machine: Machine, llama_server: LoopbackServer
) -> None:
    machine.run("bench", "--server", llama_server.url, "-p", "0", "-n", "2", "--no-warmup", *QUICK)
    ran = machine.run("bench", "--resume", *(("--server", server) if server else ()), *QUICK)
    assert ran.code == 2
    assert f"of the server at {llama_server.url}" in ran.stderr


CONCURRENT = ("-p", "8", "-n", "4", "-r", "2", "--power", "none")


def test_several_clients_ask_at_once(
    machine: Machine, llama_server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgetop.live.live_session.lower_priority", lambda: None)
    monkeypatch.setattr("edgetop.bench.concurrency.REST_S", 0.0)
    ran = machine.run("bench", "--server", llama_server.url, "--concurrency", "2,1,2", *CONCURRENT)
    assert ran.code == 0, ran.stderr
    lines = ran.stdout.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["1", "2"]
    assert any(line.startswith("knee: ") for line in lines)
    assert "energy: power was switched off with --power none" in lines
    # A warm-up, then two of each client.
    assert llama_server.asked.count(CHAT) == 1 + 2 + 4
    asked = [request.document for request in llama_server.requests if request.line == CHAT]
    assert len({str(each["messages"]) for each in asked}) == len(asked), "nothing is kept of an earlier one"
    assert all((each["max_tokens"], each["ignore_eos"], each["cache_prompt"]) == (4, True, False) for each in asked)

    (file,) = (machine.root.parent / "data/sessions").glob("*.json")
    shown = machine.run("sessions", "show", str(file), "--json").json()
    assert [(each["at_once"], each["requests"], each["failed"]) for each in shown["levels"]] == [(1, 2, 0), (2, 4, 0)]
    assert "knee" in machine.run("sessions", "show", str(file)).stdout


def test_requests_that_a_server_does_not_take_are_told(
    machine: Machine, llama_server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgetop.live.live_session.lower_priority", lambda: None)
    llama_server.answers[CHAT] = document({"error": {"message": "busy"}}, "429 Too Many")
    ran = machine.run("bench", "--server", llama_server.url, "--concurrency", "2", *CONCURRENT)
    assert ran.code == 3
    assert "takes no more requests now (429): busy" in ran.stderr


@pytest.mark.parametrize(
    "arguments", [("-d", "64"), ("--prompts",), ("-p", "1,2"), ("-t", "2"), ("-o", "sql"), ("--soak", "1m")]
)
def test_what_says_nothing_with_several_clients_is_refused(
    arguments: tuple[str, ...], machine: Machine, llama_server: LoopbackServer
) -> None:
    ran = machine.run("bench", "--server", llama_server.url, "--concurrency", "1,2", *arguments)
    assert ran.code == 2
    assert "leave the other options out" in ran.stderr
    assert not llama_server.asked
    assert machine.run("bench", "--concurrency", "1", "-m", "x").code == 2


def test_a_server_is_not_tuned(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGETOP_SERVER", "http://127.0.0.1:1")
    ran = machine.run("tune", "--power", "none")
    assert ran.code == 2
    assert "not ours to change" in ran.stderr


def test_a_run_that_the_server_leaves_is_told(machine: Machine, llama_server: LoopbackServer) -> None:
    llama_server.answers["POST /completion"] = document({"error": {"message": "busy"}}, "429 Too Many", Retry_After="7")
    ran = machine.run("bench", "--server", llama_server.url, "-p", "3", "-n", "2", "--no-warmup", *QUICK)
    assert ran.code == 1
    assert ran.stdout.strip() == "[]"

"""`--rpc` as a person uses it, with real servers where llama.cpp was built with RPC."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.isolated_home import IsolatedHome
from tests.support.llama_cpp_servers import rpc_server


def test_a_split_model_is_recorded_with_its_layers_and_warned_of_once(home: IsolatedHome, small_model: Path) -> None:
    with rpc_server() as (first, _), rpc_server() as (second, _):
        run = home.run(
            *("run", "-m", str(small_model), "--rpc", f"{first},{second}", "-n", "4", "--temp", "0"),
            *("--power", "none", "-p", "Say hi.", "-p", "Again."),
        )
        assert run.returncode == 0, run.stderr
        file = home.only_session()
    assert run.stderr.count("SECURITY.md") == 1
    shares = file.loads[0].memory.layers
    assert [share.server for share in shares] == [first, second]
    assert f"layers 0 to {shares[0].last} on {first}" in run.stderr
    assert file.loads[0].settings.rpc_servers == (first, second)
    assert file.predictions == ()
    assert [turn.figures.generated_tokens for turn in file.turns] == [4, 4]


def test_bench_holds_a_split_model_against_a_local_one(home: IsolatedHome, small_model: Path) -> None:
    with rpc_server() as (first, _), rpc_server() as (second, _):
        hosts = f"{first},{second}"
        run = home.run(
            *("bench", "-m", str(small_model), "--rpc", hosts, "--rpc", "none", "-p", "8", "-n", "4", "-r", "1"),
            *("--power", "none", "-o", "json"),
        )
    assert run.returncode == 0, run.stderr
    rows = json.loads(run.stdout)
    assert [(row["setting"].partition(" ")[2], row["test"]) for row in rows] == [
        (f"rpc {hosts}", "pp8"), (f"rpc {hosts}", "tg4"), ("rpc none", "pp8"), ("rpc none", "tg4"),
    ]  # fmt: skip
    assert [row["backends"] for row in rows] == ["RPC0,RPC1", "RPC0,RPC1", "CPU", "CPU"]
    assert home.run("bench", "-m", str(small_model), "--rpc", "no port").returncode == 2


def test_doctor_says_whether_there_is_rpc(home: IsolatedHome) -> None:
    run = home.run("doctor", "--power", "none")
    rpc = next(line for line in run.stdout.splitlines() if line.split()[:1] == ["RPC"])
    there = json.loads(home.run("doctor", "--json", "--power", "none").stdout)["engine"]["info"]["rpc"]
    assert ("yes: --rpc HOST:PORT" in rpc) == there
    assert ("-DGGML_RPC=ON" in rpc) != there


def test_a_server_that_is_not_there_ends_in_two_lines(home: IsolatedHome, small_model: Path) -> None:
    run = home.run("run", "-m", str(small_model), "--rpc", "127.0.0.1:1", "-p", "Hi", "--power", "none")
    assert run.returncode == 3
    what, hint = run.stderr.splitlines()[-2:]
    assert "127.0.0.1:1 cannot be reached" in what or "built without RPC" in what
    assert "--rpc" in hint

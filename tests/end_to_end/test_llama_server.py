"""edgetop with a real llama-server: without a screen, and on one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from edgetop.io import http as io_http
from tests.support.isolated_home import IsolatedHome, reply_of
from tests.support.llama_cpp_servers import llama_server
from tests.support.tmux import Tmux

KEY = "open-sesame-4711"


def test_a_turn_is_recorded_as_one_of_that_server(home: IsolatedHome, small_model: Path) -> None:
    with llama_server(small_model) as (url, pid):
        run = home.run(
            *("run", "--json", "--server", url, "-n", "24", "--temp", "0", "--power", "none"),
            *("-p", "Write a long story about the sea and all who live in it."),
        )
    assert run.returncode == 0, run.stderr
    printed = json.loads(run.stdout)
    file = home.only_session()
    (load,), (turn,) = file.loads, file.turns
    assert (load.engine.name, load.engine.server, load.engine.stamps) == ("llama-server", url, "arrival")
    assert load.model.name == small_model.stem
    assert turn.figures.generated_tokens == 24
    assert turn.figures.decode_tokens_per_s is not None
    assert turn.figures.prefill_tokens_per_s is not None
    assert turn.tokens.counted
    assert printed["turns"][0]["reply"] == reply_of(turn)
    assert printed["engine"]["server"] == url

    engine = next(series for series in file.series if series.source.name == "engine")
    resident = [value for value in engine.values["engine.rss"] if value is not None]
    assert resident, f"the server's process is {pid}"
    assert max(resident) > 90e6, "the model of 98 MB is in the server's memory, not in ours"
    home.everyone_gone()


def test_a_key_is_asked_for_sent_and_kept_secret(home: IsolatedHome, small_model: Path) -> None:
    with llama_server(small_model, api_keys=[KEY]) as (url, _):
        without = home.run("run", "--server", url, "-p", "Hi")
        assert without.returncode == 3
        assert "needs a key (401)" in without.stderr
        assert "EDGETOP_SERVER_KEY" in without.stderr

        home.environment["EDGETOP_SERVER_KEY"] = KEY
        run = home.run("run", "--server", url, "-p", "Hi", "-n", "3", "-v", "--power", "none")
        assert run.returncode == 0, run.stderr
        doctor = home.run("doctor", "--server", url, "--json", "--power", "none")
    written = b"".join(path.read_bytes() for path in home.folder.rglob("*") if path.is_file())
    assert home.session_paths
    assert KEY.encode() not in written
    assert KEY not in run.stdout + run.stderr + doctor.stdout + doctor.stderr
    assert json.loads(doctor.stdout)["server"]["kind"] == "llama-server"


def test_the_models_of_a_server_are_listed(home: IsolatedHome, small_model: Path) -> None:
    with llama_server(small_model) as (url, _):
        run = home.run("models", "--server", url, "--json")
    assert run.returncode == 0, run.stderr
    (model,) = json.loads(run.stdout)
    assert (model["name"], model["kind"], model["parameters"]) == (str(small_model), "llama-server", 134515008)


def test_a_server_that_is_not_there_ends_in_two_lines(home: IsolatedHome) -> None:
    run = home.run("run", "--server", "http://127.0.0.1:1", "-p", "Hi")
    assert run.returncode == 3
    assert run.stderr.splitlines()[-2:] == [
        "edgetop: Cannot reach the server at http://127.0.0.1:1: nobody listens there.",
        "         Start the server, or check the port.",
    ]


@pytest.mark.parametrize(("columns", "rows"), [(120, 36), (80, 24), (40, 12)])
def test_the_screen_chats_with_a_server_and_outlives_it(
    columns: int, rows: int, home: IsolatedHome, small_model: Path, open_tmux: Callable[..., Tmux]
) -> None:
    with llama_server(small_model) as (url, _):
        command = home.command("--server", url, "-n", "8", "--temp", "0", "--power", "none")
        window = open_tmux(command, columns=columns, rows=rows)
        window.sees("loaded in")
        window.type("Say hi.")
        window.sees(r" 8 tok ·")
    window.type("Again.")
    window.sees("nobody")
    window.press("F10")
    assert window.exit_code() == 0
    first, second = home.only_session().turns
    assert first.figures.generated_tokens == 8
    assert second.end is not None
    assert second.end.stop_reason == "failed"


def test_a_watched_server_is_probed_by_a_key(
    home: IsolatedHome, small_model: Path, open_tmux: Callable[..., Tmux]
) -> None:
    with llama_server(small_model, threads=1) as (url, _):
        window = open_tmux(home.command("watch", "--server", url, "--power", "none"))
        window.sees("idle")
        window.press("p")
        window.sees(r"probe: first token after .* tok/s, 16 tokens")
        window.press("F10")
        assert window.exit_code() == 0
    (session,) = (path.read_text("utf-8") for path in home.session_paths)
    assert "server_probed" in session


def test_a_prompt_longer_than_its_context_ends_with_1_both_numbers_and_what_to_do(
    home: IsolatedHome, small_model: Path
) -> None:
    with llama_server(small_model, n_ctx=256) as (url, _):
        run = home.run("run", "--json", "--server", url, "-p", " ".join(map(str, range(400))), "--power", "none")
    assert run.returncode == 1, run.stderr
    (turn,) = json.loads(run.stdout)["turns"]
    assert turn["stop_reason"] == "context_full"
    assert re.search(r"request \(\d{4} tokens\) exceeds the available context size \(256 tokens\)", turn["error"])
    assert turn["error"].endswith("Clear it, or start the server with a longer context.")


def test_clients_at_once_of_a_real_server_count_as_it_does(home: IsolatedHome, small_model: Path) -> None:
    with llama_server(small_model, n_parallel=2, threads=1) as (url, _):
        bench = home.run(
            *("bench", "--server", url, "--concurrency", "1,2", "-p", "8", "-n", "4", "-r", "2"),
            *("--power", "none", "--json"),
        )
        assert bench.returncode == 0, bench.stderr
        answer = io_http.send("GET", f"{url}/metrics", where="it", headers={}, timeouts=io_http.Timeouts())
        counted = re.search(r"llamacpp:tokens_predicted_total (\d+)", answer.read_all(2**20).decode())
    levels = json.loads(bench.stdout)
    assert [(each["at_once"], each["requests"], each["failed"]) for each in levels] == [(1, 2, 0), (2, 4, 0)]
    assert [each["generated_tokens"] for each in levels] == [8, 16]
    assert counted is not None
    assert int(counted[1]) == 4 + 8 + 16, "the warm-up among them"
    assert all(each["tokens_per_s"] and each["first_token_p95_s"] and each["gap_p95_ms"] for each in levels)
    ran = home.run("sessions", "validate", str(home.session_paths[0]))
    assert ran.returncode == 0, ran.stdout


def test_a_benchmark_of_a_server_is_kept_compared_replayed_and_reported(home: IsolatedHome, small_model: Path) -> None:
    with llama_server(small_model) as (url, _):
        bench = home.run(
            *("bench", "--server", url, "-p", "32", "-n", "8", "-d", "0,32", "-r", "2", "--power", "none", "-o", "json")
        )
    assert bench.returncode == 0, bench.stderr
    rows = {row["test"]: row for row in json.loads(bench.stdout)}
    assert set(rows) == {"pp32", "tg8", "pp32@d32", "tg8@d32"}
    assert all(len(row["samples_ts"]) == 2 and row["avg_ts"] > 0 for row in rows.values())
    (path,) = home.session_paths
    pp = next(turn for turn in home.only_session().turns if turn.task == "pp32")
    assert pp.end is not None
    assert pp.end.perf is not None
    assert pp.end.perf.prefill_tokens == pp.figures.prompt_tokens == 32
    assert pp.figures.prefill_tokens_per_s == pytest.approx(32 / pp.end.perf.prefill_ms * 1000, rel=0.05)
    for verb in (("sessions", "validate"), ("compare", str(path)), ("report", "-o", str(home.folder / "report.html"))):
        ran = home.run(*verb, str(path))
        assert ran.returncode == 0, (verb, ran.stdout, ran.stderr)
    for words in ("replay", "sessions show"):
        ran = home.run(*words.split(), str(path))
        assert ran.returncode == 0, (words, ran.stderr)
        assert "SmolLM2-135M-Instruct" in ran.stdout
        assert "None" not in ran.stdout, "what the server did not tell is left out"

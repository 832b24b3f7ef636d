"""A real llama-server in use by others, watched: what they receive is what is counted, at the energy that it took."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from math import isnan
from pathlib import Path

import pytest

from edgetop.core import sources
from edgetop.inference.server.address import Address
from edgetop.live.live_session import WatchOptions, WatchSession
from edgetop.session.file_io import load, validate
from edgetop.session.session import Session
from edgetop.session.store import Store
from edgetop.session.watch import watch_figures
from tests.support.eventually import eventually
from tests.support.llama_cpp_servers import llama_server
from tests.support.loopback_server import loopback_server
from tests.support.server_usage import llama_metrics, llama_slots, serve_usage
from tests.support.virtual_board import ProcessBoard, process_board

LOOK_S = 0.1
WORDS = ("sea", "sand", "ice")
ROUNDS_MAX = 20


def ask(url: str, prompt: str, tokens: int) -> int:
    """Ask as anybody would, and count what is received."""
    body = {"messages": [{"role": "user", "content": prompt}], "max_tokens": tokens, "temperature": 0}
    request = urllib.request.Request(  # noqa: S310 - the test's own server
        f"{url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=300) as answer:  # noqa: S310 - the same
        return int(json.loads(answer.read())["usage"]["completion_tokens"])


def counted_j(session: Session, board: ProcessBoard) -> float:
    """What the board truly took in the time that counts: between looks that both know their count."""
    stamps_us, counts = session.window(sources.SERVED_TOKENS, 0, session.end_us)
    known = [(t_us, not isnan(count)) for t_us, count in zip(stamps_us, counts, strict=True)]
    start_us = session.start_us
    return sum(
        board.truth.energy_j(start_us + begin_us, start_us + end_us)
        for (begin_us, first), (end_us, last) in pairwise(known)
        if first and last
    )


def is_well_known(watch: WatchSession) -> bool:
    """Whether its energy has an interval far from being too wide to be told."""
    energy = watch_figures(watch.session, watch.now_us()).energy
    return energy is not None and energy.gross_j.high - energy.gross_j.low < energy.gross_j.value / 2


@pytest.mark.parametrize("kind", ["rapl", "ina3221"])
def test_tokens_and_energy_of_other_users_are_counted(
    small_model: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgetop.live.live_session.lower_priority", lambda: None)
    with llama_server(small_model, n_parallel=2) as (url, pid), process_board(tmp_path / "root", kind, pid) as board:
        watch = WatchSession(
            WatchOptions(servers={Address.parse(url): ""}, sysroot=tmp_path / "root"),
            Store(tmp_path / "sessions"),
            lambda _text: None,
        )

        def generated() -> int | None:
            watch.pump()
            return watch_figures(watch.session, watch.now_us()).generated_tokens

        def has_counted(tokens: int) -> bool:
            return generated() == tokens

        try:
            eventually(lambda: generated() == 0 and watch.has_searched, "the server is looked at")
            received = 0
            # A sensor that sees moments only needs the longer, the more the load changed.
            for _ in range(ROUNDS_MAX):
                with ThreadPoolExecutor(2) as users:
                    asked = [users.submit(ask, url, f"Tell a story about {word}.", 60) for word in WORDS]
                    while not all(each.done() for each in asked):
                        watch.pump()
                        time.sleep(LOOK_S)
                    received += sum(each.result() for each in asked)
                eventually(partial(has_counted, received), "all tokens are counted", told=lambda: f"{generated()}")
                if is_well_known(watch):
                    break
        finally:
            path = watch.close()
    assert path is not None
    assert validate(path) == []
    session = load(path)
    figures = watch_figures(session, session.end_us)
    assert figures.generated_tokens == received
    assert session.services[1].pid == pid
    energy = figures.energy
    assert energy is not None, figures.energy_missing
    truth_j, found = counted_j(session, board), energy.gross_j
    # Twice the interval: a run whose timing nobody chose must not fail one time in twenty.
    assert abs(found.value - truth_j) <= found.high - found.low
    assert energy.j_per_token.low < energy.j_per_token.value < energy.j_per_token.high


def test_a_signal_ends_the_watch_and_saves_it(tmp_path: Path) -> None:
    with loopback_server() as wire:
        serve_usage(wire, metrics=llama_metrics(120, running=1), slots=llama_slots(42))
        environment = {**os.environ, "EDGETOP_DATA_DIR": str(tmp_path / "data"), "XDG_CONFIG_HOME": str(tmp_path)}
        output = tmp_path / "watched.json"
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "edgetop", "watch", "--json", "--server", wire.url),
                *("--sysroot", str(tmp_path / "root"), "-o", str(output)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        assert first["type"] == "reading"
        assert first["services"][0]["slots"][1]["generated"] == 42
        process.send_signal(signal.SIGTERM)
        told = process.stdout.read().splitlines()
        assert process.wait() == 0
    summary = json.loads(told[-1])
    assert (summary["type"], summary["path"]) == ("summary", str(output))
    assert validate(output) == []
    assert "secret" not in output.read_text()

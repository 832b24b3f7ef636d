"""What the proxy costs: what a chunk waits longer, and how much slower the model decodes behind it.

    python -m benchmarks.proxy [--clients 100] [--screen]
    python -m benchmarks.proxy --decode [--answers 20] [--tokens 200] [--threads 1 2] [--only "watch, screen" ...]

Chunks: streams with and without the proxy, by turns. The server stamps each chunk as it sends it, the client as it has
it; what a chunk was under way without the proxy is taken off pair by pair. One machine, one clock.

Decoding: a llama-server answers the same question directly and through the proxy, by turns. While it is asked directly
the proxy is stopped, as if it were not there. The speed is what the server itself says; each answer through the proxy
is set against the mean of the two beside it. In the place of the proxy also stand `edgetop watch` with and without
alerts, and a watch of other hosts, which are simulated as in `benchmarks.fleet`.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from benchmarks import run_benchmark
from benchmarks.fleet import simulated_hosts
from edgetop.io import json
from tests.support.isolated_home import IsolatedHome
from tests.support.llama_cpp_servers import llama_server
from tests.support.monitor_pulses import mean_interval, median_interval, waited_s
from tests.support.requirements import need_demo_model
from tests.support.sshd import unused_port
from tests.support.timed_terminal import Terminal

CHUNKS, PAUSE_S, PAIRS = 60, 0.005, 11
LATE_US = 1000
BODY = b'{"stream":true}'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"


def serve(listener: socket.socket, pause_s: float) -> None:
    """Answer each request by stamped events, so far apart."""
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_answer, args=(connection, pause_s), daemon=True).start()


def _answer(connection: socket.socket, pause_s: float) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with connection:
        asked = connection.recv(65536)
        if not asked.startswith(b"POST"):
            return  # the proxy's own questions
        while not asked.endswith(BODY):
            asked += connection.recv(65536)
        connection.sendall(HEAD)
        for _ in range(CHUNKS):
            time.sleep(pause_s)
            event = b'data: {"choices":[{"delta":{"content":"%020d"}}]}\n\n' % time.monotonic_ns()
            connection.sendall(b"%x\r\n%s\r\n" % (len(event), event))
        connection.sendall(b"0\r\n\r\n")


def delays_us(port: int) -> list[float]:
    """How long each chunk of one stream was under way."""
    found: list[float] = []
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
        )
        while data := connection.recv(65536):
            now_ns = time.monotonic_ns()
            found += [(now_ns - int(part[:20])) / 1000 for part in data.split(b'"content":"')[1:]]
    return found


def processor_ticks(pid: int) -> int:
    """Processor time that a process has used."""
    return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))


QUESTION = {
    "messages": [{"role": "user", "content": "Write a long story about a lighthouse keeper and the sea."}],
    "stream": True, "temperature": 0, "ignore_eos": True, "cache_prompt": False,
}  # fmt: skip
QUIET_S = 0.2


class Answer(NamedTuple):
    """What a server did for one question."""

    tokens_per_s: float
    """As it says itself."""
    waited_share: float
    """Seconds in a second that its threads waited for a core."""


def ask(port: int, server: int, tokens: int) -> Answer:
    """Ask at a port; `server` is the process that answers."""
    body = json.encode({**QUESTION, "max_tokens": tokens})
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    answer = b""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        begin_s, before_s = time.monotonic(), waited_s(server)
        connection.sendall(head % len(body) + body)
        while data := connection.recv(65536):
            answer += data
    share = (waited_s(server) - before_s) / (time.monotonic() - begin_s)
    found = re.search(rb'"predicted_per_second":([0-9.]+)', answer)
    if found is None:
        raise SystemExit(f"no answer: {answer[-300:]!r}")
    return Answer(float(found[1]), share)


def decode_cost(name: str, threads: int, answers: int, tokens: int) -> str:
    """A line of the table of what decodes behind the proxy, or beside a watch."""
    model = need_demo_model()
    with llama_server(model, threads=threads) as (url, server), tempfile.TemporaryDirectory() as folder:
        home = IsolatedHome(Path(folder))
        direct = int(url.rpartition(":")[2])
        through = unused_port() if name.startswith("proxy") else direct
        arguments = [*_COMMANDS[name], *_listen(through, direct)]
        if name in _HOSTS:
            home.environment["PATH"] = simulated_hosts(Path(folder), "edgetop")
        else:
            arguments += ["--server", url]
        terminal = Terminal(home.command(*arguments), home.environment)
        with ThreadPoolExecutor(1) as pool:

            def asked(port: int) -> Answer:
                future = pool.submit(ask, port, server, tokens)
                while not future.done():
                    terminal.drain(QUIET_S)
                return future.result()

            terminal.until(lambda: list(home.data.glob("sessions/*.journal")))
            terminal.drain(3.0)
            found = []
            for number in range(2 * answers + 1):
                is_through = number % 2 == 1
                os.kill(terminal.pid, signal.SIGCONT if is_through else signal.SIGSTOP)
                terminal.drain(QUIET_S)
                found.append(asked(through if is_through else direct))
            os.kill(terminal.pid, signal.SIGCONT)
        os.kill(terminal.pid, signal.SIGTERM)
        terminal.close()
    ratios, waits = [], []
    for before, within, after in zip(found[::2], found[1::2], found[2::2], strict=False):
        ratios.append(2 * within.tokens_per_s / (before.tokens_per_s + after.tokens_per_s))
        waits.append(1000 * (within.waited_share - (before.waited_share + after.waited_share) / 2))
    ratio, wait = median_interval(ratios), mean_interval(waits)
    speed = statistics.median(each.tokens_per_s for each in found[::2])
    return (
        f"| {name} | {threads} | {speed:.1f} | {ratio.middle:.4f} ({ratio.low:.4f} to {ratio.high:.4f}) "
        f"| {wait.middle:.1f} ({wait.low:.1f} to {wait.high:.1f}) | {len(ratios)} |"
    )


_ALERT = ("--alert", "energy.j_per_token > 1e6 for 60s", "--alert", "memory_used_bytes > 1e15")
_HOST_ALERT = ("--alert", "host.pi0.temperature_cpu > 1e6 for 60s")
_HOSTS: dict[str, Sequence[str]] = {
    "watch of 3 hosts, screen": ("watch", *(f"pi{number}" for number in range(3))),
    "watch of 30 hosts, screen, an alert": ("watch", *(f"pi{number}" for number in range(30)), *_HOST_ALERT),
}
_COMMANDS: dict[str, Sequence[str]] = {
    "proxy, lines": ("proxy", "--plain"),
    "proxy, screen": ("proxy",),
    "watch, screen": ("watch",),
    "watch, screen, two alerts": ("watch", *_ALERT),
    **_HOSTS,
}


def _listen(through: int, direct: int) -> Sequence[str]:
    return () if through == direct else ("--listen", f"127.0.0.1:{through}")


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--screen", action="store_true", help="the proxy shows its screen")
    parser.add_argument("--decode", action="store_true", help="what a model loses behind it")
    parser.add_argument("--answers", type=int, default=20, help="through the proxy")
    parser.add_argument("--tokens", type=int, default=200, help="of an answer")
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({1, os.cpu_count() or 1}))
    parser.add_argument("--only", nargs="+", choices=list(_COMMANDS), default=list(_COMMANDS))
    chosen = parser.parse_args()
    if not chosen.decode:
        return chunk_delays(chosen.clients, screen=chosen.screen)
    print(
        "| beside the server | threads | tokens/s | with / without | waits, ms/s | pairs |\n|---|---|---|---|---|---|"
    )
    for threads in chosen.threads:
        for name in chosen.only:
            print(decode_cost(name, threads, chosen.answers, chosen.tokens), flush=True)
    return 0


def chunk_delays(clients: int, *, screen: bool) -> int:
    """Measure what a chunk waits longer, and print it."""
    pause_s = PAUSE_S * max(1, clients / 5)  # a thousand chunks a second at most
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    threading.Thread(target=serve, args=(listener, pause_s), daemon=True).start()
    direct, port = listener.getsockname()[1], unused_port()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(clients) as pool:
        home = IsolatedHome(Path(folder))
        command = home.command("proxy", "--server", f"http://127.0.0.1:{direct}", *_listen(port, direct), "--no-record")
        terminal = Terminal([*command, *(() if screen else ("--plain",))], home.environment)
        terminal.until_seen("127.0.0.1")
        terminal.drain(3.0)
        added, late, plain, before = [], [], [], processor_ticks(terminal.pid)
        for _ in range(PAIRS if clients == 1 else 3):
            pair = []
            for each in (direct, port):
                streams = [pool.submit(delays_us, each) for _ in range(clients)]
                while not all(stream.done() for stream in streams):
                    terminal.drain(0.05)
                pair.append(sorted(delay for stream in streams for delay in stream.result()))
            plain.append(statistics.median(pair[0]))
            added.append(statistics.median(pair[1]) - plain[-1])
            late += [delay - plain[-1] > LATE_US for delay in pair[1]]
        ticks = processor_ticks(terminal.pid) - before
        os.kill(terminal.pid, signal.SIGTERM)
        terminal.close()
    chunks = CHUNKS * clients * len(added)
    print(
        f"{clients} clients, {len(added)} pairs of {CHUNKS} chunks; without the proxy {statistics.median(plain):.0f} us"
    )
    print(f"added: median {statistics.median(added):.0f} us, {min(added):.0f} to {max(added):.0f} us")
    print(f"chunks that waited 1 ms longer, or more: {100 * statistics.fmean(late):.1f} %")
    print(f"processor time of the proxy: {ticks * 1e6 / os.sysconf('SC_CLK_TCK') / chunks:.0f} us a chunk")
    return 0


if __name__ == "__main__":
    run_benchmark(main)

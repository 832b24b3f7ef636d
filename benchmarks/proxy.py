"""What the proxy adds to each chunk: streams with and without it, by turns.

    python -m benchmarks.proxy [--clients 100]

The server stamps each chunk as it sends it, the client as it has it; what a chunk was under way without the proxy is
taken off pair by pair. One machine, one clock.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks import run_benchmark

CHUNKS, PAUSE_S, PAIRS = 60, 0.005, 11
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


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=1)
    clients: int = parser.parse_args().clients
    pause_s = PAUSE_S * max(1, clients / 5)  # a thousand chunks a second at most
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    threading.Thread(target=serve, args=(listener, pause_s), daemon=True).start()
    direct = listener.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(clients) as pool:
        command = [sys.executable, "-m", "edgetop", "proxy", "--server", f"http://127.0.0.1:{direct}", "--listen", "0"]
        environment = {**os.environ, "EDGETOP_DATA_DIR": folder}
        with subprocess.Popen(
            [*command, "--no-record"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as proxy:
            assert proxy.stderr is not None  # noqa: S101 - a pipe was asked for
            port = int(proxy.stderr.readline().split(" for ")[0].rpartition(":")[2])
            time.sleep(3)
            added, plain, before = [], [], processor_ticks(proxy.pid)
            for _ in range(PAIRS if clients == 1 else 3):
                pair = []
                for each in (direct, port):
                    streams = list(pool.map(delays_us, [each] * clients))
                    pair.append(statistics.median(delay for stream in streams for delay in stream))
                plain.append(pair[0])
                added.append(pair[1] - pair[0])
            ticks = processor_ticks(proxy.pid) - before
            proxy.send_signal(signal.SIGTERM)
    chunks = CHUNKS * clients * len(added)
    print(
        f"{clients} clients, {len(added)} pairs of {CHUNKS} chunks; without the proxy {statistics.median(plain):.0f} us"
    )
    print(f"added: median {statistics.median(added):.0f} us, {min(added):.0f} to {max(added):.0f} us")
    print(f"processor time of the proxy: {ticks * 1e6 / os.sysconf('SC_CLK_TCK') / chunks:.0f} us a chunk")
    return 0


if __name__ == "__main__":
    run_benchmark(main)

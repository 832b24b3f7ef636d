"""Servers from outside that answer as they should not: each is asked by edgetop, and what it sent is kept or explained.

    python -m benchmarks.server_cases FOLDER [--only NAME] [--seconds 40]

FOLDER has `fake.py` (the first part of a path is the scenario), `ollama_fake.py`, `router.py` and `slow.py`, which take
a port. Of each scenario the raw bytes are read too: all words `w0 w1 ...` in them must be in the reply that edgetop
recorded. A fault is a trace, a death by a signal, a hang, a word that was lost, and a failure without a reason.
`watch` looks at the router and at the slow ones, and must call none of them dead.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks import run_benchmark

_REPOSITORY = Path(__file__).resolve().parents[1]
OLLAMA = ("plain", "many", "none", "e404", "e500", "e401", "think", "reload", "errmid", "abort", "tool", "long",
          "longload", "old", "length")  # fmt: skip
OTHERS = ("escname", "longname", "manymodels", "nomodels", "modelsnull", "modelsbare", "modelsdict", "modelshtml",
          "models404", "models401", "load3")  # fmt: skip
"""Scenarios of the list of models, and one that still loads."""
UNLISTED = {"nomodels", "modelsnull", "models404"}
LOADING = {"s503"}
"""It loads its model for ever."""
SLOW_S = (0.5, 1.5, 3.0)
IDLE_S = 3
"""After so long without a byte edgetop gives a server up here."""
DEAD = {"down", "silent"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", metavar="NAME")
    parser.add_argument("--seconds", type=float, default=40.0, help="after which a run is a hang")
    given = parser.parse_args()
    text = (given.folder / "fake.py").read_text("utf-8")
    chats = [
        *re.findall(r"^@scn\s+async def (\w+)", text, re.MULTILINE),
        *re.findall(r'^ "(s\w+)":', text, re.MULTILINE),
    ]
    faults, asked = [], 0
    with tempfile.TemporaryDirectory() as home:
        for program, names in (("fake.py", (*chats, *OTHERS)), ("ollama_fake.py", OLLAMA)):
            with started(given.folder / program) as port:
                for name in names:
                    if given.only in {None, name}:
                        asked += 1
                        faults += told(f"{program} {name}", chat(port, name, home, given.seconds))
        watched = [("router.py", ()), *(("slow.py", (str(each),)) for each in SLOW_S)]
        for program, arguments in watched:
            if given.only in {None, program}:
                asked += 1
                with started(given.folder / program, *arguments) as port:
                    faults += told(" ".join((program, *arguments)), watch(port, home))
    print(f"{asked} cases, {len(faults)} faults")
    for fault in faults:
        print(f"  {fault}")
    return 1 if faults else 0


def told(name: str, result: tuple[str, list[str]]) -> list[str]:
    """Print a line, and name its faults."""
    what, faults = result
    print(f"{name}: {what}{'  FAULT: ' + '; '.join(faults) if faults else ''}", flush=True)
    return [f"{name}: {fault}" for fault in faults]


def chat(port: int, name: str, home: str, hang_s: float) -> tuple[str, list[str]]:
    """Ask once; what came of it, and faults."""
    url = f"http://127.0.0.1:{port}/{name}"
    words = sorted(set(re.findall(rb"\bw\d+\b", raw(port, name))), key=lambda word: int(word[1:]))
    asked = ["run", "--json", "-q", "--server", url, "--power", "none", "--server-timeout", str(IDLE_S), "-p", "hi"]
    # A server that lists no model can be asked for one by its name.
    run = edgetop([*asked, "--model", "tiny"] if name in UNLISTED else asked, home, hang_s)
    if run is None:
        return ("waits for the model", []) if name in LOADING else ("", ["it hangs"])
    faults = ["a trace"] if "Traceback" in run.stderr else []
    faults += [f"died by signal {-run.returncode}"] if run.returncode < 0 else []
    faults += ["escape sequences reach the terminal"] if "\x1b" in run.stderr else []
    turn: dict[str, object] = {}
    with suppress(ValueError):
        turn = (json.loads(run.stdout).get("turns") or [{}])[0]
    reply = str(turn.get("reply") or "")
    lost = [word.decode() for word in words if not re.search(rf"\b{word.decode()}\b", reply)]
    faults += [f"lost {' '.join(lost[:5])}"] if lost else []
    reason = str(turn.get("error") or run.stderr.strip().partition("\n")[0])
    faults += ["no reason"] if run.returncode and not reason else []
    figures = f"{turn.get('generated_tokens')} tokens, {turn.get('stop_reason')}" if turn else "no turn"
    return f"exit {run.returncode}, {len(words)} words, {figures}; {reason}".rstrip("; ")[:160], faults


def raw(port: int, name: str) -> bytes:
    """What the server sends to the request of a chat, as far as it comes; of a compressed answer nothing."""
    path = "/api/chat" if name in OLLAMA and name != "plain" else "/v1/chat/completions"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=IDLE_S)
    data = b""
    with suppress(OSError, http.client.HTTPException):
        connection.request("POST", f"/{name}{path}", json.dumps({"model": "smol:latest", "messages": []}))
        answer = connection.getresponse()
        # Such a list of models is no server that anybody could ask.
        while answer.status == 200 and (piece := answer.read1(65536)):
            data += piece
    connection.close()
    return b"" if name in {"e401", "e404", "e500", "none", "modelshtml", "models401", "manymodels", "gz"} else data


def watch(port: int, home: str) -> tuple[str, list[str]]:
    """Look on for some seconds; the states that the last table tells."""
    url = f"http://127.0.0.1:{port}"
    run = edgetop(["watch", "--server", url, "--seconds", "8", "--json", "--power", "none"], home, 60)
    if run is None:
        return "", ["it hangs"]
    states = set()
    for line in run.stdout.splitlines():
        states |= {row.get("state") for row in json.loads(line).get("services", ()) if row.get("address") == url}
    faults = ["a trace"] if "Traceback" in run.stderr else []
    faults += ["a healthy server is called dead"] if states & DEAD else []
    faults += ["nothing is told of it"] if not states else []
    return f"exit {run.returncode}, {', '.join(sorted(map(str, states)))}", faults


def edgetop(arguments: Sequence[str], home: str, hang_s: float) -> subprocess.CompletedProcess[str] | None:
    """Run it; `None` where it hangs."""
    environment = {**os.environ, "HOME": home, "EDGETOP_DATA_DIR": home, "PYTHONPATH": str(_REPOSITORY)}
    command = [sys.executable, "-m", "edgetop", *arguments]
    try:
        return subprocess.run(
            command, check=False, capture_output=True, text=True, errors="replace", timeout=hang_s, env=environment
        )
    except subprocess.TimeoutExpired:
        return None


@contextmanager
def started(program: Path, *arguments: str) -> Iterator[int]:
    """Its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    command = [sys.executable, program.name, str(port), *arguments]
    process = subprocess.Popen(command, cwd=program.parent, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with socket.socket() as tried:
            while tried.connect_ex(("127.0.0.1", port)):
                if process.poll() is not None:
                    raise SystemExit(f"{program} does not start")
                time.sleep(0.05)
        yield port
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    run_benchmark(main)

"""How edgetop bears what strangers make, from the input to what a verb says of it.

    python -m benchmarks.hostile_inputs [--only gguf,session,journal,toml,meter,stream,hub] [--seconds 600] [--seed N]

Good inputs are damaged at random and handed to the program's own command line. A finding is an unhandled or "internal"
error, output that acts on a terminal, more than 2 s of processor time or 300 MiB more memory for one input; each is
printed with its command line, and its input is left in build/findings. Prints one JSON object for each kind of input
with its seed, and exits with 1 where anything was found.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path

from benchmarks import run_benchmark
from edgetop import cli
from edgetop.session.journal import Journal
from edgetop.settings.config_file import config_template
from edgetop.telemetry.host import Host
from edgetop.telemetry.power_feed import Connection
from edgetop.telemetry.power_stream import HostSource, StreamSource
from edgetop.telemetry.source import SourceLost
from tests.session.mutation import mutants
from tests.support import mutated_streams, server_replies
from tests.support.hostile_text import acts_on_a_terminal
from tests.support.loopback_server import LoopbackServer, document, head, loopback_server
from tests.support.mutated_gguf import good_headers, mutated
from tests.support.recorded_sessions import HEAD, event, turn
from tests.support.shipped_sessions import FOLDER

CPU_S, GROWTH_MIB = 2.0, 300.0
FINDINGS = Path("build/findings")

Arguments = Sequence[str]
Input = tuple[bytes, list[Arguments]]
"""What was damaged, and the command lines that meet it."""

_TOKENS = (
    b"\x00", b"\xff", b"[" * 5000, b"]", b"{", b'"', b"9" * 5000, b"-1", b"NaN", b"1e999", b"\x1b]52;c;eA==\x07",
    b"\n" * 999, "\u202e\u2028\x9b\U000e0041".encode(), b"../" * 40, b"a." * 5000, b"=", b"\\ud800",
    b"18446744073709551616",
)  # fmt: skip


def damaged(chance: random.Random, data: bytes) -> bytes:
    """Bytes changed, left out, doubled, cut off, or something odd put between."""
    made = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5))):
        at = chance.randrange(len(made) + 1)
        match chance.randrange(5):
            case 0:
                made[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                del made[at : at + chance.choice((1, 4, 100))]
            case 2:
                made[at:at] = made[at : at + chance.choice((1, 8, 400))] * chance.choice((1, 50))
            case 3:
                made[at:at] = chance.choice(_TOKENS)
            case 4 if chance.random() < 0.3:
                del made[at:]
    return bytes(made)


def ggufs(chance: random.Random, folder: Path) -> Iterator[Input]:
    headers = good_headers()
    file = folder / "model.gguf"
    while True:
        data = mutated(chance, headers)
        file.write_bytes(data)
        more = chance.choice(([], ["--kv-type", "q8_0"], ["--device", "pi5:8gb"], ["--json"], ["-v"]))
        yield data, [["check", str(file), *more]]


def sessions(chance: random.Random, folder: Path) -> Iterator[Input]:
    good = [path.read_bytes() for path in sorted(FOLDER.glob("*.json"))]
    file, other = folder / "session.json", folder / "good.json"
    other.write_bytes(good[0])
    verbs: list[Arguments] = [
        ["sessions", "show"], ["sessions", "show", "--json"], ["sessions", "validate"], ["replay", "--at", "1"],
        ["replay", "--at", "end", "--json"], ["sessions", "recompute", "--dry-run"], ["compare", "--md", str(other)],
        ["compare", "--json", str(other)], ["sessions", "export", "-o", str(folder / "out")],
        ["report", "-o", str(folder / "out.html"), "--force"],
    ]  # fmt: skip
    for data in mutants(good, sys.maxsize, chance.randrange(2**32)):
        file.write_bytes(data)
        yield data, [[*verb, str(file)] for verb in chance.sample(verbs, 3)]


def journals(chance: random.Random, folder: Path) -> Iterator[Input]:
    whole = folder / "whole.journal"
    journal = Journal(whole)
    for record in (*HEAD, *turn(), event("throttled", 3)):
        journal.append(record)
    journal.close()
    data = whole.read_bytes()
    store = folder / "data" / "sessions"
    store.mkdir(parents=True, exist_ok=True)
    while True:
        for path in store.iterdir():
            path.unlink()
        made = damaged(chance, data)
        (store / "a.journal").write_bytes(made)
        yield made, [["sessions", "recover", "--json"], ["sessions", "list"]]


def toml(chance: random.Random, folder: Path) -> Iterator[Input]:
    template = config_template().replace("\n#", "\n").encode()
    file = folder / "config.toml"
    while True:
        data = damaged(chance, chance.choice((template, b'[general]\nascii = true\n[keys.replay]\nquit = "q"\n')))
        file.write_bytes(data)
        yield data, [["config", "--config", str(file)], ["sessions", "list", "--config", str(file)]]


METERS = (
    b"# edgetop-power/1 kind=power unit=W scope=wall update=1.0\n5\n6\n{\"w\": 5, \"t\": 1782936360.25}\n",
    b"# edgetop-power/1 kind=energy unit=J scope=wall update=0.1 host=pi2 clock=monotonic\n%s"
    % b'{"n": 1, "m": 1.5, "age": 0.0, "j": 1}\npong 1 2.5\n{"n": 2, "m": 1.6, "age": 0.0, "j": 2}\n',
    b"12.5\n13\n",
)  # fmt: skip


class _Feed:
    """A meter that says this and ends."""

    name = "meter"

    def __init__(self, chance: random.Random, data: bytes) -> None:
        self._pieces = [data[at : at + 700] for at in range(0, len(data), 700)] * chance.choice((1, 1, 400))

    def start(self) -> None:
        """Say it from now on."""

    def receive(self, timeout_s: float) -> bytes | None:
        del timeout_s
        return self._pieces.pop(0) if self._pieces else None

    def send(self, line: str) -> bool:
        del line
        return True

    def why_ended(self) -> str:
        return "it ended"

    def close(self) -> None:
        """Say nothing more."""


def read_meter(chance: random.Random, data: bytes) -> None:
    """Read a meter's text as a meter of this machine and as a host."""
    host = Host()
    for kind in ("stream", "host"):
        connection = Connection(_Feed(chance, data), host.clock)
        with contextlib.suppress(SourceLost):
            source = StreamSource(connection, host) if kind == "stream" else HostSource(connection, "pi2", host)
            for _ in range(20):
                source.read_stamped()


def streams(chance: random.Random, folder: Path, wire: LoopbackServer) -> Iterator[Input]:
    del folder
    while True:
        data = mutated_streams.mutated(chance)
        wire.answers = {
            "GET /props": document(server_replies.LLAMA_PROPS),
            "GET /v1/models": document(server_replies.LLAMA_MODELS),
            "POST /v1/chat/completions": [head(media="text/event-stream"), data],
        }
        yield (
            data,
            [["run", "--server", wire.url, "--server-timeout", "1", "-p", "hi", *chance.choice(([], ["--json"]))]],
        )


def hubs(chance: random.Random, folder: Path, wire: LoopbackServer) -> Iterator[Input]:
    del folder
    listing = json.dumps({"id": "o/r", "sha": "a" * 40, "siblings": [{"rfilename": "m-q4_0.gguf"}]}).encode()
    os.environ["HF_ENDPOINT"] = wire.url
    header = good_headers()[0]
    while True:
        data = damaged(chance, listing)
        answer = damaged(chance, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data)) + data
        wire.answers = {f"GET /api/models/o/r{more}": [answer] for more in ("", "?blobs=true", "/tree/main")}
        wire.answers[f"GET /o/r/resolve/{'a' * 40}/m-q4_0.gguf"] = [damaged(chance, head()) + header]
        yield answer, [["check", "hf:o/r"]]


def is_harmless(text: str) -> bool:
    """Whether text may be written to a terminal."""
    return not acts_on_a_terminal(text.replace("\n", "").replace("\t", ""))


def carry_out(arguments: Arguments) -> str:
    """Run a command line; returns what is wrong with what it did, or nothing."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main(arguments)
        except BaseException as error:  # noqa: BLE001 - that is what is looked for
            return f"raised {type(error).__name__}: {error}"
    said, told = (stream.buffer.getvalue().decode("utf-8", "replace") for stream in (out, err))
    if "internal error" in told or "Traceback" in told:
        return told[:300]
    return "" if is_harmless(said) and is_harmless(told) else "what it prints acts on a terminal"


def spent() -> tuple[float, int]:
    """Seconds of processor time and KiB of memory, those of processes that have ended included."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in both), sum(each.ru_maxrss for each in both)


def fuzz(kind: str, inputs: Iterator[Input], chance: random.Random, seconds: float) -> tuple[dict[str, object], int]:
    """Go on with inputs of a kind for so long; gives the figures and the number of findings."""
    slowest_s = grown_mib = 0.0
    found: dict[str, int] = {}
    end_s = time.monotonic() + seconds
    for number in count():
        if time.monotonic() > end_s:
            break
        data, command_lines = next(inputs)
        for arguments in command_lines:
            began_s, before_kib = spent()
            problem = ""
            if arguments:
                problem = carry_out(arguments)
            else:
                try:
                    read_meter(chance, data)
                except Exception as error:  # noqa: BLE001 - that is what is looked for
                    problem = f"raised {type(error).__name__}: {error}"
            now_s, now_kib = spent()
            took_s, more_mib = now_s - began_s, (now_kib - before_kib) / 1024
            slowest_s, grown_mib = max(slowest_s, took_s), max(grown_mib, more_mib)
            if not problem and (took_s > CPU_S or more_mib > GROWTH_MIB):
                problem = f"took {took_s:.1f} s and {more_mib:.0f} MiB"
            if problem:
                found[problem[:80]] = found.get(problem[:80], 0) + 1
                if found[problem[:80]] == 1:
                    FINDINGS.mkdir(parents=True, exist_ok=True)
                    kept = FINDINGS / f"{kind}-{number}"
                    kept.write_bytes(data)
                    print(f"{kept}: edgetop {' '.join(arguments)}: {problem}", flush=True)
    figures: dict[str, object] = {
        "kind": kind, "inputs": number, "slowest_s": round(slowest_s, 2), "grown_mib": round(grown_mib, 1),
        "found": found,
    }  # fmt: skip
    return figures, sum(found.values())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="gguf,session,journal,toml,meter,stream,hub")
    parser.add_argument("--seconds", type=float, default=600.0, help="for each kind of input")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    wanted = parser.parse_args()
    sources: dict[str, Callable[[random.Random, Path], Iterator[Input]]] = {
        "gguf": ggufs, "session": sessions, "journal": journals, "toml": toml,
        "meter": lambda chance, _folder: ((damaged(chance, chance.choice(METERS)), [[]]) for _ in count()),
    }  # fmt: skip
    findings = 0
    with tempfile.TemporaryDirectory() as made, loopback_server() as wire:
        folder = Path(made)
        sources["stream"] = lambda chance, folder: streams(chance, folder, wire)
        sources["hub"] = lambda chance, folder: hubs(chance, folder, wire)
        os.environ |= {
            "EDGETOP_DATA_DIR": str(folder / "data"), "XDG_CONFIG_HOME": str(folder / "config"),
            "XDG_STATE_HOME": str(folder / "state"), "XDG_CACHE_HOME": str(folder / "cache"), "TERM": "dumb",
        }  # fmt: skip
        for kind in wanted.only.split(","):
            chance = random.Random(wanted.seed)  # noqa: S311 - to be repeated
            figures, found = fuzz(kind, sources[kind](chance, folder), chance, wanted.seconds)
            print(json.dumps({"seed": wanted.seed, **figures}), flush=True)
            findings += found
    return 1 if findings else 0


if __name__ == "__main__":
    run_benchmark(main)

"""Advice at a real llama-server, followed and measured: whether each promise was inside its band.

    python -m benchmarks.advice MODEL.gguf [--rounds N] [--only "KV type"]

A llama-server (the `xllamacpp` wheel's) is started so that one thing could be better, and asked; what `doctor --server`
says of it is followed, and the server with the change is asked the same, both in turn. A promised rate is held against
the ratio of the servers' own rates, promised joules against the true energy of a virtual board that follows each
server's processor time, promised memory against what their processes have resident. Where others keep the machine busy
no rate is promised that rests on a prediction, and none is measured.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import NamedTuple

import psutil

from benchmarks import run_benchmark
from edgetop.core.clock import monotonic_us
from edgetop.core.engine_settings import EnginePerf, EngineSettings, ModelInfo, SamplingSettings
from edgetop.core.format import format_bytes
from edgetop.core.quantity import Interval
from edgetop.core.sources import Unavailable
from edgetop.inference.protocol import ChatMessage, Generate
from edgetop.inference.server.address import Address
from edgetop.inference.server.backend import UNKNOWN, LoadedModel, detect
from edgetop.inference.server.connection import ServerClient
from edgetop.io.files import data_folder
from edgetop.live.advice import Finding, advise, observe
from edgetop.live.this_machine import own_run_target
from edgetop.telemetry.host import Host
from tests.support.llama_cpp_servers import llama_server
from tests.support.virtual_board import ProcessBoard, process_board

Q8_0 = 8
"""ggml's number of the type."""


ALONE, ALONE_TOLD = {"threads": 1}, {"LLAMA_ARG_THREADS": "1"}
"""Threads that wait for each other stand still where others want the processors."""


class Question(NamedTuple):
    """What is asked, in words of about a token each, and how long the answer is to be."""

    words: int
    tokens: int
    turns: int = 1
    """So often, each time with all that went before."""


STORY, SHORT, LONG = Question(8, 64), Question(8, 8), Question(600, 8)
FULL, TALK = Question(1990, 4), Question(120, 16, turns=3)


class Case(NamedTuple):
    """What is wrong, as the server is started and as its environment tells it; the cure; and what shows both."""

    finding: str
    started: Mapping[str, object]
    told: Mapping[str, str]
    cured: Mapping[str, object]
    asked: Question = SHORT


CASES = (
    Case("threads", {"threads": 8}, {"LLAMA_ARG_THREADS": "8"},
         {"threads": psutil.cpu_count(logical=False) or 1}, STORY),
    Case("batch", {"n_ctx": 2048, "n_ubatch": 8}, {"LLAMA_ARG_UBATCH": "8"}, {"n_ctx": 2048}, LONG),
    Case("prompt cache", {"n_ctx": 1024, "cache_prompt": False}, {"LLAMA_ARG_CACHE_PROMPT": "0"},
         {"n_ctx": 1024}, TALK),
    Case("KV type", {"n_ctx": 8192}, {}, {"n_ctx": 8192, "cache_type_k": Q8_0, "cache_type_v": Q8_0}),
    Case("context", {"n_ctx": 8192}, {}, {"n_ctx": 512}),
    Case("flash attention", {"n_ctx": 2048, "flash_attn_type": 0}, {"LLAMA_ARG_FLASH_ATTN": "off"},
         {"n_ctx": 2048, "flash_attn_type": 1}, FULL),
)  # fmt: skip


class Measured(NamedTuple):
    """Of one question."""

    tokens_per_s: float
    j_per_token: float


class Running(NamedTuple):
    """A server that is asked, and the board that follows it."""

    address: Address
    pid: int
    board: ProcessBoard

    def answer(self, question: Question) -> list[EnginePerf]:
        """What the server says of each turn."""
        client = ServerClient(self.address, idle_s=1200.0, stopped=lambda: False)
        backend = detect(client)
        (offer,) = backend.offers(client)
        model = LoadedModel(name=offer.name, info=ModelInfo(path=offer.name, name="it"), settings=UNKNOWN)
        sampling = SamplingSettings(temperature=0.0, seed=1, max_tokens=question.tokens)
        told = []
        for turn in range(1, question.turns + 1):
            text = "Go on with this story: " + "the sea is deep and wide and " * (turn * question.words // 7)
            asked = Generate(turn=turn, messages=(ChatMessage(role="user", content=text),), sampling=sampling)
            request = backend.chat_request(asked, model, EngineSettings())
            # Whether it keeps prompts is its own choice here, but where each round is to read all of one again.
            body = {name: value for name, value in request.body.items() if name != "cache_prompt"}
            body |= {"ignore_eos": True, **({} if question.turns > 1 else {"cache_prompt": False})}
            with client.request("POST", request.path, body, is_reply=True) as answer:
                client.raise_for_status(answer)
                told.append([delta.perf for _, delta in backend.chat_stream().deltas(answer) if delta.perf][-1])
        return told

    def forget(self) -> None:
        """Let it answer something else, so that it has nothing of the last question in its slot."""
        self.answer(SHORT)

    def measure(self, question: Question, of: str) -> Measured:
        """Tokens a second by the server's own clock, of what a finding promises, and joules of all of it for each."""
        begin_us = monotonic_us()
        told = self.answer(question)
        end_us = monotonic_us()
        self.forget()
        joules = self.board.truth.energy_j(begin_us, end_us)
        read_ms, answered_ms = (sum(getattr(perf, name) for perf in told) for name in ("prefill_ms", "decode_ms"))
        tokens = sum(perf.prefill_tokens if of == "prompt tok/s" else perf.decode_tokens for perf in told)
        took_ms = {"prompt tok/s": read_ms, "tok/s": answered_ms}.get(of, answered_ms + read_ms)
        return Measured(1000 * tokens / took_ms, joules / tokens)


def resident_bytes(pid: int) -> int:
    """What a process has in memory, the model's mapped file left out."""
    memory = psutil.Process(pid).memory_info()
    return int(memory.rss - memory.shared)


def held(case: Case, model: Path, rounds: int) -> Iterator[str]:
    """A line for each finding of the case."""
    with ExitStack() as stack:
        before = _start(stack, model, {**ALONE, **case.started}, {**ALONE_TOLD, **case.told})
        before.answer(case.asked)
        host = Host()
        observed = observe(before.address, "", host)
        if isinstance(observed, Unavailable):
            yield f"{case.finding}: {observed.reason}"
            return
        place = own_run_target(host, data_folder(), probe="once", report=lambda what, _hint: print(what))
        found = {each.name: each for each in advise(observed, place, "")}
        finding = found.get(case.finding)
        if finding is None:
            yield f"{case.finding}: not advised; {'; '.join(each.what for each in found.values()) or 'nothing is'}"
            return
        after = _start(stack, model, {**ALONE, **case.cured}, {})
        after.answer(case.asked)
        pairs = [
            (before.measure(case.asked, finding.rate), after.measure(case.asked, finding.rate))
            for _ in range(rounds if finding.speed else 0)
        ]
        yield f"{case.finding}: {finding.change}"
        for name, promised, ratios in (
            (finding.rate, finding.speed, [now.tokens_per_s / was.tokens_per_s for was, now in pairs]),
            ("J/token", finding.joules, [now.j_per_token / was.j_per_token for was, now in pairs]),
        ):
            if promised is not None:
                yield _verdict(name, promised, median(ratios))
        yield from _memory(finding, resident_bytes(before.pid) - resident_bytes(after.pid))


def _verdict(name: str, promised: Interval, measured: float) -> str:
    inside = "inside" if promised.low <= measured <= promised.high else "OUTSIDE"
    band = f"x{promised.value:.2f} ({promised.low:.2f} to {promised.high:.2f})"
    return f"  {name} promised {band}, measured x{measured:.2f}: {inside}"


def _memory(finding: Finding, freed_bytes: int) -> Iterator[str]:
    if finding.saves_bytes:
        off = freed_bytes / finding.saves_bytes - 1
        yield (
            f"  memory promised {format_bytes(finding.saves_bytes)}, freed {format_bytes(freed_bytes)} ({off:+.0%}): "
            f"{'inside' if abs(off) <= 0.1 else 'OUTSIDE'} 10 %"
        )


def _start(stack: ExitStack, model: Path, settings: Mapping[str, object], told: Mapping[str, str]) -> Running:
    url, pid = stack.enter_context(llama_server(model, told=told, **settings))
    root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    return Running(Address.parse(url), pid, stack.enter_context(process_board(root, "rapl", pid)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=[case.finding for case in CASES], action="append")
    given = parser.parse_args()
    lines = []
    for case in CASES:
        if given.only and case.finding not in given.only:
            continue
        for line in held(case, given.model.absolute(), given.rounds):
            print(line, flush=True)
            lines.append(line)
    text = "\n".join(lines)
    print(f"{len(re.findall('inside', text))} promises held, {len(re.findall('OUTSIDE', text))} did not")


if __name__ == "__main__":
    run_benchmark(main)

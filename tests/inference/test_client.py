from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from edgetop.core.clock import monotonic_us
from edgetop.core.engine_settings import EngineSettings, SamplingSettings
from edgetop.core.records import ModelLoaded, Prefill, Tokens, TurnFinished
from edgetop.inference.client import EngineProcess
from edgetop.inference.protocol import ChatMessage, Generate, Hello, Load, LoadFailed, LoadProgress, Report
from edgetop.inference.scripted import InjectedFault, Reply, Script
from tests.support.engine_worker import DEADLINE_S, EngineWorker

Scripted = Callable[..., EngineWorker]
LONG = "word " * 2000
SLOW = Script(replies=(Reply(text=LONG),), tokens_per_s=50.0)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_turn_comes_in_order_from_hello_to_its_end(scripted: Scripted) -> None:
    talk = scripted(Script(replies=(Reply(text="Grüße, 😀!"),)))
    assert isinstance(talk.reports[0], Hello)
    assert talk.reports[0].pid == talk.engine.pid
    assert [report.fraction for report in talk.reports if isinstance(report, LoadProgress)][-1] == 1.0
    finished = talk.ask("Hello", turn=4)
    kinds = [type(report) for report in talk.reports]
    assert kinds == sorted(kinds, key=[Prefill, Tokens, TurnFinished].index)
    assert talk.text == "Grüße, 😀!"
    assert (finished.turn, finished.stop_reason) == (4, "end_of_generation")
    assert finished.generated_tokens == len(talk.stamps)
    assert talk.stamps == sorted(talk.stamps)
    assert not talk.engine.busy


def test_a_lone_surrogate_in_a_reply_arrives_as_replacement_characters(scripted: Scripted) -> None:
    talk = scripted(Script(replies=(Reply(text="a@b"),)))
    path = next(Path(argument[len("scripted:") :]) for argument in _arguments(talk) if argument.startswith("scripted:"))
    path.write_text(path.read_text().replace("a@b", "a\\ud800b"))
    again = EngineWorker(EngineProcess.start(engine=f"scripted:{path}"))
    again.load(path)
    again.ask("Hello")
    again.engine.close()
    assert again.text.replace("\ufffd", "") == "ab"
    assert "\ufffd" in again.text


def _arguments(talk: EngineWorker) -> list[str]:
    return psutil.Process(talk.engine.pid).cmdline()


def test_a_stop_ends_its_turn_and_not_the_next_one(scripted: Scripted) -> None:
    talk = scripted(SLOW)
    talk.say("Go on", turn=1)
    talk.until(Tokens)
    talk.engine.stop()
    assert talk.until(TurnFinished).stop_reason == "cancelled"
    talk.engine.stop()
    assert talk.ask("Again", turn=2, max_tokens=3).stop_reason == "max_tokens"


def test_a_stop_right_after_sending_is_not_lost_and_spares_what_is_sent_after_it(scripted: Scripted) -> None:
    talk = scripted(SLOW)
    talk.say("One", turn=1)
    talk.engine.stop()
    question = (ChatMessage("user", "Two"),)
    talk.engine.send(Generate(turn=2, messages=question, sampling=SamplingSettings(max_tokens=2)))
    second = talk.until(TurnFinished, having=lambda finished: finished.turn == 2)
    first = next(report for report in talk.reports if isinstance(report, TurnFinished))
    assert (first.turn, first.stop_reason) == (1, "cancelled")
    assert second.stop_reason == "max_tokens"


def test_a_load_can_be_cancelled(scripted: Scripted) -> None:
    talk = scripted(Script(load_s=60.0), load=False)
    talk.engine.send(Load(path="model.gguf", settings=EngineSettings()))
    talk.until(LoadProgress)
    talk.engine.stop()
    assert talk.until(LoadFailed).reason == "cancelled"


def test_a_relative_path_means_the_same_file_for_the_worker(scripted: Scripted) -> None:
    talk = scripted(Script(), load=False)
    talk.engine.send(Load(path="model.gguf", settings=EngineSettings()))
    assert talk.until(ModelLoaded).model.path == str(Path.cwd() / "model.gguf")


CRASH = InjectedFault(kind="segfault", unless_extra_bufts_off=True)


def test_a_crash_in_the_first_decode_is_known_as_such(scripted: Scripted) -> None:
    talk = scripted(Script(replies=(Reply(text="x", fault=CRASH),)))
    talk.say("Hello")
    death = talk.death()
    assert death.what == "The engine crashed in its first decode (SIGSEGV)."
    assert death.crashed_in_first_decode
    assert death.hint


def test_without_extra_buffers_the_same_script_answers(scripted: Scripted) -> None:
    script = Script(replies=(Reply(text="fine", fault=CRASH),))
    talk = scripted(script, EngineSettings(use_extra_bufts=False))
    assert talk.ask("Hello").stop_reason == "end_of_generation"


def test_a_crash_later_on_is_not_blamed_on_the_first_decode(scripted: Scripted) -> None:
    crash = InjectedFault(kind="segfault", at_token=5)
    talk = scripted(Script(replies=(Reply(text="A first answer."), Reply(text=LONG, fault=crash))))
    talk.ask("Hello")
    talk.say("Again", turn=1)
    death = talk.death()
    assert death.phase == "generating"
    assert not death.crashed_in_first_decode
    assert len(talk.stamps) == 5


def test_the_last_words_of_an_abort_are_told_in_one_harmless_line(scripted: Scripted) -> None:
    words = "/build/llama.cpp/src/llama-model.cpp:1328: GGML_ASSERT(n_layer > 0) failed \x1b[2J"
    talk = scripted(Script(load_accident=InjectedFault(kind="abort", last_words=words)), load=False)
    talk.engine.send(Load(path="model.gguf", settings=EngineSettings()))
    death = talk.death()
    assert death.phase == "loading"
    assert death.what.startswith(
        "The engine aborted while it loaded the model: llama-model.cpp:1328: GGML_ASSERT(n_layer > 0) failed"
    )
    assert "\x1b" not in death.what + "".join(death.last_words)


def test_a_kill_from_outside_is_told(scripted: Scripted) -> None:
    talk = scripted(SLOW)
    talk.say("Hello")
    talk.until(Tokens)
    os.kill(talk.engine.pid, signal.SIGKILL)
    death = talk.death()
    assert death.signal_name == "SIGKILL"
    assert "killed" in death.what
    assert not death.crashed_in_first_decode


def test_an_error_of_our_own_is_told_by_its_last_line(scripted: Scripted) -> None:
    fault = InjectedFault(kind="error", last_words="it went wrong")
    talk = scripted(Script(replies=(Reply(text="x", fault=fault),)))
    talk.say("Hello")
    death = talk.death()
    assert death.exit_code == 1
    assert death.what.endswith("RuntimeError: it went wrong")


def test_a_stuck_worker_can_be_killed_and_says_so(scripted: Scripted) -> None:
    talk = scripted(Script(replies=(Reply(text=LONG, fault=InjectedFault(kind="hang", at_token=3)),)))
    talk.say("Hello")
    talk.until(Tokens)
    talk.engine.stop()
    talk.engine.kill()
    assert talk.death().signal_name == "SIGKILL"


def test_sending_to_a_dead_worker_is_harmless(scripted: Scripted) -> None:
    talk = scripted(Script())
    os.kill(talk.engine.pid, signal.SIGKILL)
    death = talk.death()
    talk.say("Hello")
    talk.engine.stop()
    assert talk.engine.receive() == []
    assert talk.engine.death() == death
    assert death.phase == "idle"


def test_a_worker_that_cannot_start_says_why(tmp_path: Path, start: Callable[..., EngineWorker]) -> None:
    talk = start(f"scripted:{tmp_path / 'nothing.json'}")
    death = talk.death()
    assert death.phase == "starting"
    assert "FileNotFoundError" in death.what


def test_a_slow_reader_does_not_make_the_worker_wait(scripted: Scripted) -> None:
    # Far more than the socket holds: without a backlog of its own the worker would stand still in the middle.
    talk = scripted(Script(replies=(Reply(text="x" * 400_000),), tokens_per_s=1e9))
    talk.say("Hello")
    talk.until(Tokens)
    worker = psutil.Process(talk.engine.pid)
    wait_until(lambda: worker.status() == psutil.STATUS_SLEEPING)
    read_us = monotonic_us()
    finished = talk.until(TurnFinished)
    assert finished.t_us < read_us
    assert len(talk.text) == 400_000


def test_close_ends_a_worker_in_the_middle_of_an_answer_and_is_no_death(scripted: Scripted) -> None:
    talk = scripted(SLOW)
    talk.say("Hello")
    talk.until(Tokens)
    pid = talk.engine.pid
    talk.engine.close()
    assert not psutil.pid_exists(pid)
    assert talk.engine.death() is None


def test_a_worker_is_not_interrupted_by_the_terminal(scripted: Scripted) -> None:
    talk = scripted(SLOW)
    talk.say("Hello", max_tokens=10)
    talk.until(Tokens)
    assert os.getpgid(talk.engine.pid) == talk.engine.pid
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        os.kill(talk.engine.pid, number)
    assert talk.until(TurnFinished).stop_reason == "max_tokens"


@pytest.mark.parametrize("busy", [False, True])
def test_a_worker_does_not_outlive_its_parent(tmp_path: Path, busy: bool) -> None:
    script = tmp_path / "script.json"
    hang = '{"replies": [{"text": "x", "fault": {"kind": "hang"}}]}'
    script.write_text(hang)
    parent_code = f"""
import sys, time
from tests.support.engine_worker import EngineWorker
from edgetop.inference.client import EngineProcess
talk = EngineWorker(EngineProcess.start(engine={f"scripted:{script}"!r}))
talk.load("model.gguf")
if {busy}:
    talk.say("Hello")
print(talk.engine.pid, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", parent_code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    wait_until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)


async def test_reports_come_through_an_event_loop(scripted: Scripted) -> None:
    talk = scripted(Script())
    loop = asyncio.get_running_loop()
    finished: asyncio.Future[TurnFinished] = loop.create_future()

    def on_readable() -> None:
        reports: list[Report] = talk.engine.receive()
        ends = [report for report in reports if isinstance(report, TurnFinished)]
        if ends and not finished.done():
            finished.set_result(ends[0])

    loop.add_reader(talk.engine.fileno(), on_readable)
    talk.say("Hello", turn=9)
    assert (await asyncio.wait_for(finished, DEADLINE_S)).turn == 9
    loop.remove_reader(talk.engine.fileno())


def test_the_screens_process_imports_neither_engine_nor_templates() -> None:
    code = (
        "import sys, edgetop.inference.client; print([m for m in ('llama_cpp', 'jinja2', 'numpy') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"

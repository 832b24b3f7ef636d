from __future__ import annotations

import subprocess
import sys
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import psutil
import pytest
from msgspec.structs import replace

from edgetop.core.engine_settings import EngineSettings, SamplingSettings
from edgetop.core.records import TurnStarted
from edgetop.inference.protocol import LoadFailed, Report
from edgetop.inference.scripted import InjectedFault, Reply, Script
from edgetop.io.json import encode_record
from edgetop.live.chat_session import LiveOptions, LiveSession, Recovery
from edgetop.live.conversation import Notice
from edgetop.session.file_io import load, load_file, validate
from edgetop.session.store import Store
from edgetop.session.turn import Turn
from tests.live.conftest import MODEL
from tests.support.eventually import eventually
from tests.support.fake_sysfs import meminfo, plant
from tests.support.gguf_files import write_sparse_model
from tests.support.recorded_sessions import HEAD, journal_lines, turn

SECRET_QUESTION, SECRET_ANSWER = "Where is the treasure?", "Below the old oak tree."


class Life:
    """A live session below an empty `/sys` and `/proc`, and what it says."""

    def __init__(self, options: LiveOptions, folder: Path) -> None:
        self.heard: list[Report | Notice] = []
        self.store = Store(folder)
        self.live = LiveSession(options, self.store, self.heard.append)
        self.worker = psutil.Process(self.live.conversation.engine.pid)

    @property
    def notices(self) -> list[str]:
        return [each.text for each in self.heard if isinstance(each, Notice)]

    def load(self) -> None:
        self.live.conversation.load(MODEL, self.live.options.engine)
        self.reach_ready()

    def ask(self, prompt: str) -> None:
        self.live.conversation.submit(prompt)
        self.reach_ready()

    def reach_ready(self) -> None:
        self.until(lambda: self.live.conversation.phase == "ready", "the model waits for a prompt")

    def until(self, condition: Callable[[], bool], what: str) -> None:
        def look() -> bool:
            self.live.pump(wait_s=0.02)
            self.live.check()
            return condition()

        eventually(look, what, told=lambda: f"{self.live.conversation.phase}: {self.heard[-10:]}")


@pytest.fixture
def begin(
    tmp_path: Path, script_file: Callable[[Script], str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Life]]:
    """Begins live sessions that are closed after the test."""
    # The priority of this process would stay low for all tests that follow.
    monkeypatch.setattr("edgetop.live.chat_session.lower_priority", lambda: None)
    begun: list[Life] = []

    def start(script: Script | None = None, folder: Path | None = None, **options: object) -> Life:
        sysroot = tmp_path / "root"
        sysroot.mkdir(exist_ok=True)
        chosen = replace(LiveOptions(sysroot=sysroot, engine_name=script_file(script or Script())), **options)
        begun.append(Life(chosen, folder or tmp_path / "sessions"))
        return begun[-1]

    yield start
    for life in begun:
        life.live.conversation.kill()
        life.live.close()


def test_model_and_question_are_in_the_journal_before_the_first_word(
    begin: Callable[..., Life], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgetop.session.journal.FLUSH_S", 3600.0)
    life = begin()

    def recorded() -> set[str]:
        (journal,) = life.store.folder.glob("*.journal")
        return {msgspec.json.decode(line)["type"] for line in journal_lines(journal).splitlines()}

    life.load()
    assert {"session", "model"} <= recorded()
    life.live.conversation.submit("Hello")
    assert "turn" in recorded()


def test_a_session_is_saved_and_the_worker_ended(begin: Callable[..., Life]) -> None:
    life = begin()
    life.load()
    life.ask("Well?")
    figures = life.live.snapshot().turn
    assert figures is not None
    path = life.live.close()
    assert path is not None
    assert validate(path) == []
    (turn,) = load_file(path).turns
    assert turn.prompt == "Well?"
    assert turn.figures.decode_tokens_per_s == figures.figures.decode_tokens_per_s
    assert list(life.store.folder.iterdir()) == [path]
    eventually(lambda: not life.worker.is_running(), "the worker has ended")


def test_without_text_neither_prompt_nor_reply_reaches_the_disk(begin: Callable[..., Life]) -> None:
    life = begin(Script(replies=(Reply(text=SECRET_ANSWER),)), text_recorded=False, system="Speak of no oak.")
    life.load()
    life.ask(SECRET_QUESTION)
    assert life.live.conversation.history.messages[-1].content == SECRET_ANSWER, "the conversation itself knows"
    (journal,) = life.store.folder.glob("*.journal")
    eventually(lambda: b'"turn_end"' in journal_lines(journal), "the turn is in the journal")
    written = journal_lines(journal)
    path = life.live.close()
    assert path is not None
    written += path.read_bytes()
    for word in (b"treasure", b"oak", b"Below"):
        assert word not in written
    assert validate(path) == []
    (turn,) = load_file(path).turns
    assert turn.prompt is None
    assert turn.figures.generated_tokens == len(turn.tokens.dt_us) > 1


def test_nothing_is_written_for_who_wants_no_recording(begin: Callable[..., Life]) -> None:
    life = begin(record=False)
    life.load()
    life.ask("Well?")
    assert life.live.close() is None
    assert not life.store.folder.exists()


def test_a_session_goes_where_the_person_says(begin: Callable[..., Life], tmp_path: Path) -> None:
    output = tmp_path / "mine.json"
    life = begin(output=output)
    life.load()
    life.ask("Well?")
    assert life.live.close() == output
    assert validate(output) == []


def test_a_folder_that_cannot_be_written_is_told_once_and_recording_resumes(
    begin: Callable[..., Life], tmp_path: Path
) -> None:
    folder = tmp_path / "blocked" / "sessions"
    folder.parent.write_text("a file where a folder should be")
    life = begin(folder=folder)
    life.load()
    life.until(lambda: any("cannot be recorded" in each for each in life.notices), "the trouble is told")
    life.ask("Does the chat go on?")
    for _ in range(5):
        life.live.check()
    assert len(life.notices) == 1

    folder.parent.unlink()
    life.until(lambda: any("Recording goes on" in each for each in life.notices), "recording resumes")
    path = life.live.close()
    assert path is not None
    assert path.parent == folder
    assert validate(path) == []
    file = load_file(path)
    assert [turn.prompt for turn in file.turns] == ["Does the chat go on?"]
    kinds = [event.kind for event in file.events]
    assert kinds.index("recording_paused") < kinds.index("recording_resumed")


def test_the_next_session_restores_one_that_was_cut_off(begin: Callable[..., Life]) -> None:
    first = begin()
    first.load()
    first.ask("Well?")
    (journal,) = first.store.folder.glob("*.journal")
    eventually(lambda: b'"turn_end"' in journal_lines(journal), "the turn is in the journal")
    # What a dead edgetop leaves: the same lines, and nobody who holds the lock.
    left = journal.with_name("20260101-000000-scripted-0123456789ab.journal")
    left.write_bytes(journal.read_bytes())

    second = begin()
    second.until(lambda: bool(second.notices), "the person is told")
    assert [left.stem in notice for notice in second.notices] == [True]
    assert validate(left.with_suffix(".json")) == []
    assert journal.exists(), "that of a living edgetop is left alone"


def test_a_death_leaves_a_session_that_can_be_saved(begin: Callable[..., Life]) -> None:
    life = begin(Script(replies=(Reply(text="one two three four", fault=InjectedFault(kind="kill", at_token=3)),)))
    life.load()
    life.live.conversation.submit("Count.")
    life.until(lambda: life.live.conversation.phase == "dead", "the engine is dead")
    path = life.live.close()
    assert path is not None
    assert validate(path) == []
    (turn,) = load_file(path).turns
    assert turn.figures.stop_reason == "engine_died"
    assert "".join(span.text for span in turn.reply) == "one two thre"


def test_a_chat_in_which_nothing_was_asked_leaves_no_session(begin: Callable[..., Life], tmp_path: Path) -> None:
    life = begin()
    life.load()
    assert list(life.store.folder.iterdir())
    assert life.live.close() is None
    assert not [path for path in life.store.folder.iterdir() if path.suffix in {".json", ".jsonl"}]
    wanted = begin(output=tmp_path / "wanted.json")
    wanted.load()
    assert wanted.live.close() == tmp_path / "wanted.json"


def test_what_is_waited_for_is_told_with_the_time_that_is_left(begin: Callable[..., Life]) -> None:
    conversation = begin().live.conversation
    conversation.load(MODEL, conversation._settings)
    conversation._loading, conversation.load_fraction = ("phi.gguf", 2 * 2**30, conversation._clock() - 10_000_000), 0.5
    assert conversation.doing.startswith("loading phi.gguf 1.00 GiB of 2.00 GiB, 102 MiB/s, 10 s left")
    turn = Turn(TurnStarted(t_us=0, turn=1, prompt="", system=None, sampling=SamplingSettings()))
    turn.prefill_t_us, turn.prefill_done, turn.to_evaluate = array("q", [0, 25_000_000]), array("q", [0, 512]), 1958
    conversation.phase, conversation._current = "answering", turn
    assert conversation.doing == "reading the prompt 512/1958, 71 s left"
    turn.prefill_done[-1] = 1958
    assert conversation.doing == ""
    conversation.phase = "ready"
    assert conversation.doing == ""


def test_what_cannot_run_even_when_paged_is_refused_and_the_model_that_is_loaded_stays(
    begin: Callable[..., Life], tmp_path: Path
) -> None:
    plant(tmp_path / "root", {"/proc/meminfo": meminfo(8_000_000, 7_000_000)})
    life = begin()
    life.load()
    for name, weights, reason in (
        ("repacked", "q4_0", "cannot be read again from the file, and there are 7.63 GiB of memory and 0 B of swap"),
        ("huge", "f16", "each token would read 5."),
    ):
        layers, n_embd = (80, 8192) if name == "repacked" else (200, 32_768)
        path = write_sparse_model(
            tmp_path / f"{name}.gguf", n_layer=layers, n_embd=n_embd, n_ff=4 * n_embd, weights=weights
        )
        life.live.conversation.load(path, life.live.options.engine)
        (refused,) = [each for each in life.heard if isinstance(each, LoadFailed) and name in each.message]
        assert "does not fit: not even with paging" in refused.message
        assert reason in refused.message
        assert "edgetop check" in refused.hint
        assert life.live.conversation.phase == "ready"
        now = life.live.snapshot()
        assert (now.phase, now.load is not None) == ("ready", True)
    life.ask("Well?")


def test_a_model_that_pages_begins_with_a_warning(begin: Callable[..., Life], tmp_path: Path) -> None:
    plant(tmp_path / "root", {"/proc/meminfo": meminfo(8_000_000, 7_000_000)})
    life = begin()
    path = write_sparse_model(tmp_path / "big.gguf", n_layer=40, n_embd=4096, n_ff=16_384)
    life.live.conversation.load(path, life.live.options.engine)
    (warning,) = [each for each in life.notices if "big.gguf" in each]
    assert "does not fit: " in warning
    assert "read from the disk again for each token" in warning
    life.reach_ready()


def test_a_context_without_room_is_refused_however_small_the_model_is(
    begin: Callable[..., Life], tmp_path: Path
) -> None:
    plant(tmp_path / "root", {"/proc/meminfo": meminfo(8_000_000, 7_000_000)})
    life = begin(engine=EngineSettings(n_ctx=2**20))
    path = write_sparse_model(tmp_path / "small.gguf", n_layer=40, n_embd=1024, n_ff=1024, weights="q4_0")
    life.live.conversation.load(path, life.live.options.engine)
    life.until(lambda: life.live.conversation.phase == "no_model", "the load is refused")
    assert any(isinstance(each, LoadFailed) and "not even with paging" in each.message for each in life.heard)


def test_what_a_dead_edgetop_left_is_saved_by_a_process_of_its_own(tmp_path: Path) -> None:
    assert Recovery(Store(tmp_path / "none")).results() == []
    journal = tmp_path / "20261012-140322-tiny-instruct-01234567.journal"
    journal.write_bytes(b"".join(encode_record(record) + b"\n" for record in [*HEAD, *turn()]))
    recovery = Recovery(Store(tmp_path))
    (recovered,) = eventually(recovery.results, "it is saved")
    assert recovered.path == journal.with_suffix(".json")
    assert len(load(recovered.path).turns) == 1
    assert not journal.exists()
    assert recovery.results() == []
    assert not recovery.words(), "it did not take long"


def test_a_recovery_that_takes_long_says_so_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = tmp_path / "20261012-140322-tiny-instruct-01234567.journal"
    journal.write_bytes(b"".join(encode_record(record) + b"\n" for record in [*HEAD, *turn()]))
    code = "import sys, edgetop.session.store as s; s.SAID_S = -1.0; s.print_recovered(s.Store(s.Path(sys.argv[1])))"
    monkeypatch.setattr(
        "edgetop.live.chat_session.start_module",
        lambda _module, *arguments, **options: subprocess.Popen([sys.executable, "-c", code, *arguments], **options),
    )
    recovery = Recovery(Store(tmp_path))
    words = eventually(recovery.words, "it says so")
    assert words.startswith("restoring sessions that were cut off: 1 of 1")
    assert not recovery.words()
    (recovered,) = eventually(recovery.results, "it is saved")
    assert recovered.path == journal.with_suffix(".json")

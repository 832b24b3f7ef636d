"""One prompt to every model of a folder, of an Ollama store and of a Hugging Face cache: what each of them ends with.

    python -m benchmarks.model_files FOLDER [--ollama STORE] [--hub CACHE] [--prompt TEXT]

Printed is a line a model: the exit code, the reasoning and the reply, or else why there is none. A trace of Python, a
signal, or no end within two minutes is a fault, and then the exit code is 1. For collections of odd files.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import run_benchmark
from edgetop.core.text import one_line
from edgetop.inference.model_stores import ScanLimits, ollama_models

TIMEOUT_S = 120.0
CHARACTERS = 150


def names(arguments: argparse.Namespace) -> Iterator[str]:
    """What `-m` is given."""
    yield from map(str, sorted(each for each in arguments.folder.rglob("*.gguf*") if each.is_file()))
    if arguments.ollama:
        yield from sorted(each.name for each in ollama_models({"OLLAMA_MODELS": arguments.ollama}, ScanLimits()))
    if arguments.hub:
        for folder in sorted(Path(arguments.hub).glob("models--*--*")):
            yield "hf:" + "/".join(folder.name.split("--")[1:])


def answer(name: str, prompt: str, environment: dict[str, str]) -> tuple[str, bool]:
    """A line on the model, and whether it is a fault."""
    command = [sys.executable, "-m", "edgetop", "run", "--json", "-m", name, "-p", prompt, "-n", "48", "--temp", "0"]
    try:
        run = subprocess.run(
            [*command, "--power", "none"], env=environment, capture_output=True, text=True, errors="replace",
            stdin=subprocess.DEVNULL, timeout=TIMEOUT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"no end within {TIMEOUT_S:g} s", True
    said = one_line(run.stderr.partition("edgetop: ")[2] or run.stderr)
    if run.returncode == 0:
        (turn,) = json.loads(run.stdout)["turns"]
        said = f"{turn['reasoning'] or ''!r} {turn['reply']!r}"
    fault = "Traceback" in run.stderr or not 0 <= run.returncode < 128
    return f"{run.returncode} {said[:CHARACTERS]}", fault


def main() -> int:
    """Ask each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--ollama", metavar="STORE")
    parser.add_argument("--hub", metavar="CACHE")
    parser.add_argument("--prompt", default="Hi")
    arguments = parser.parse_args()
    faults = 0
    with TemporaryDirectory() as home:
        chosen = {"OLLAMA_MODELS": arguments.ollama, "HF_HUB_CACHE": arguments.hub}
        environment = os.environ | {"HOME": home, "XDG_DATA_HOME": home, "XDG_STATE_HOME": home, "XDG_CACHE_HOME": home}
        environment |= {variable: str(Path(value).absolute()) for variable, value in chosen.items() if value}
        for name in names(arguments):
            line, fault = answer(name, arguments.prompt, environment)
            faults += fault
            print(f"{one_line(name[-44:]):44} {line}{'   FAULT' if fault else ''}", flush=True)
    print(f"{faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    run_benchmark(main)

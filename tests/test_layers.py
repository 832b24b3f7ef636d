"""What the import-linter contracts cannot see: what a running process has imported."""

from __future__ import annotations

import subprocess
import sys

import pytest


def imported_by(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint('\\n'.join(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(ran.stdout.split())


@pytest.mark.parametrize(
    ("statement", "kept_out"),
    [
        ("import edgetop.cli", {"argparse", "typing", "msgspec", "textual", "psutil"}),
        (
            "import edgetop.commands.verbs, edgetop.commands.command_line",
            {"msgspec", "textual", "psutil", "platformdirs"},
        ),
        ("import edgetop.commands.models", {"textual", "psutil", "llama_cpp", "numpy"}),
        ("import edgetop.commands.check", {"textual", "psutil", "llama_cpp", "numpy", "jinja2", "asyncio", "socket"}),
        ("import edgetop.live.chat_session", {"textual", "rich", "llama_cpp", "numpy", "jinja2", "huggingface_hub"}),
        ("import edgetop.tui.app", {"llama_cpp", "numpy", "jinja2", "huggingface_hub"}),
        ("import edgetop.inference.worker", {"textual", "rich", "numpy"}),
    ],
)
def test_a_module_brings_nothing_heavy_with_it(statement: str, kept_out: set[str]) -> None:
    assert not imported_by(statement) & kept_out


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_help_and_version_import_neither_msgspec_nor_a_verb_s_module(flag: str) -> None:
    modules = imported_by(
        "import contextlib, io, edgetop.cli\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        f"    edgetop.cli.main(['{flag}'])"
    )
    assert not modules & {"msgspec", "textual", "edgetop.commands.chat", "platformdirs"}

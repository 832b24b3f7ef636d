from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from docs import make_settings
from edgetop.commands.man import manual_page
from edgetop.commands.output import ExitCode
from edgetop.commands.verbs import VERBS
from edgetop.live.chat_commands import SLASH_COMMANDS
from edgetop.settings import options
from edgetop.settings.resolve import is_of_file

ROOT = Path(__file__).resolve().parents[2]


def plain(page: str) -> str:
    """What roff would print of the page, as far as words are concerned."""
    unescaped = page.replace("\\-", "-").replace("\\(dq", '"').replace("\\(aq", "'").replace("\\(ti", "~")
    return re.sub(r"\\f[BP]", "", unescaped)


def test_the_page_tells_of_everything_there_is() -> None:
    page = plain(manual_page())
    for option in options.OPTIONS:
        for flag in option.flags:
            assert re.search(rf"^\.B .*{re.escape(flag)}\b", page, re.MULTILINE), flag
        assert option.env in page or not is_of_file(option)
        assert option.help[1:30].partition("`")[0] in page
    for name in VERBS:
        assert f'.SS "edgetop {name}"' in page
    for command in SLASH_COMMANDS:
        assert f".B /{command.name}" in page
    for word in ("--fail-if LIMIT", "tag SESSION +NAME|-NAME ...", "EDGETOP_SERVER_KEY", "130"):
        assert word in page


@pytest.mark.skipif(shutil.which("groff") is None, reason="there is no groff")
def test_groff_has_nothing_to_say_against_it() -> None:
    ran = subprocess.run(
        ["groff", "-man", "-ww", "-Tutf8"], input=manual_page().encode(), capture_output=True, check=True,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )  # fmt: skip
    assert ran.stderr == b""
    shown = re.sub("\x1b\\[[0-9;]*m|.\b", "", ran.stdout.decode())
    assert "--threads N" in shown
    assert "\\" not in shown


def test_no_line_of_text_is_taken_for_a_command_of_roff() -> None:
    known = {'.\\"', ".TH", ".SH", ".SS", ".TP", ".B", ".br", ".PP", ".RS", ".RE"}
    assert {line.split()[0] for line in manual_page().splitlines() if line.startswith((".", "'"))} <= known


def test_the_exit_codes_are_those_of_the_readme() -> None:
    told = dict(re.findall(r"^\| ([\d, ]+) \| (.*) \|$", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert {code for key in told for code in key.split(", ")} == {str(code.value) for code in ExitCode}


def test_the_files_made_from_the_tables_are_those_that_would_be_written_now() -> None:
    stale = [file.name for file, text in make_settings.written().items() if file.read_text("utf-8") != text]
    assert stale == [], "run python -m docs.make_settings"

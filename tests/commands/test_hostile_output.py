"""What a hostile session's texts become in every form that verbs print."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgetop.commands.output import ReplyWriter
from edgetop.core.text import MARKS_MAX
from tests.commands.machine import Machine
from tests.support.hostile_text import acts_on_a_terminal
from tests.support.shipped_sessions import FOLDER

ACTS = "\x1b]52;c;eA==\x07\x7f\x9b31m\x85\u202e\u2066\u2028\U000e0041\ufeff"
HOSTILE = f"{ACTS}<script>alert(1)</script>[a](javascript:b)|c\\|d"

FREE_TEXTS = {
    "hostname", "model", "cpu", "system", "kernel", "governor", "path", "name", "quantization", "repo", "server",
    "text", "version", "build", "reason", "hint", "grade_reason", "grade_hint", "energy_missing", "prompt", "notes",
    "error", "label", "system_info", "template_note",
}  # fmt: skip
"""Fields of a session file that hold what somebody else said."""


def poisoned(value: Any, mark: str, key: str = "") -> Any:
    """The same with hostile text, and `mark`, after every free text."""
    match value:
        case dict():
            kept = {"series", "energy"}
            return {name: each if name in kept else poisoned(each, mark, name) for name, each in value.items()}
        case list():
            return [poisoned(each, mark, key) for each in value]
        case str() if key in FREE_TEXTS:
            return f"{value}{HOSTILE}{mark}"
    return value


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Two hostile sessions."""
    made = []
    for number, path in enumerate(sorted(FOLDER.glob("*.json"))):
        made.append(tmp_path / f"hostile-{number}.json")
        document = poisoned(json.loads(path.read_bytes()), str(number))
        for turn in document["turns"]:
            turn["tokens"]["chars"][-1] += sum(len(span["text"]) for span in turn["reply"]) - sum(
                turn["tokens"]["chars"]
            )
        made[-1].write_text(json.dumps(document))
    return list(map(str, made))


FORMS = [
    ["sessions", "show"], ["sessions", "show", "--json"], ["sessions", "validate"], ["sessions", "validate", "--json"],
    ["replay", "--at", "3"], ["replay", "--at", "3", "--json"], ["sessions", "note"],
    ["sessions", "tag"], ["sessions", "tag", "--json"], ["sessions", "recompute", "--dry-run"],
    ["sessions", "recompute", "--dry-run", "--json"],
]  # fmt: skip
OF_BOTH = [["compare"], ["compare", "--ascii"], ["compare", "--json"], ["compare", "--csv"], ["compare", "--md"]]
OF_ALL = [["sessions", "list", *form] for form in ([], ["--json"], ["--csv"])]


def is_harmless(printed: str) -> bool:
    return all(line.replace("\t", "").isprintable() for line in printed.split("\n"))


def test_nothing_that_a_session_holds_acts_or_hides_in_any_form(
    machine: Machine, files: list[str], tmp_path: Path
) -> None:
    first, second = files
    machine.run("sessions", "import", first, second)
    store = tmp_path / "data" / "sessions"
    for file in files:
        (store / Path(file).name).write_bytes(Path(file).read_bytes())
    for form in [*([*form, first] for form in FORMS), *([*form, first, second] for form in OF_BOTH), *OF_ALL]:
        ran = machine.run(*form)
        assert ran.code in {0, 1}, form
        assert "internal error" not in ran.stderr
        assert ran.stdout, (form, ran.stderr)
        assert is_harmless(ran.stdout), (form, [line for line in ran.stdout.split("\n") if not line.isprintable()][:3])
        assert is_harmless(ran.stderr), form
        if "--json" in form:
            assert json.loads(ran.stdout), form


def test_exported_tables_and_documents_are_harmless_to_show(machine: Machine, files: list[str], tmp_path: Path) -> None:
    for form in ("csv", "json"):
        assert machine.run("sessions", "export", files[0], "--to", form, "-o", str(tmp_path / f"out.{form}")).code == 0
    written = [path for path in tmp_path.iterdir() if path.name.startswith("out")]
    assert len(written) >= 2
    for path in written:
        for each in [path] if path.is_file() else path.iterdir():
            assert is_harmless(each.read_bytes().decode()), each


def test_markdown_makes_no_html_link_or_cell_of_a_name(machine: Machine, files: list[str]) -> None:
    printed = machine.run("compare", *files, "--md").stdout
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in printed
    assert "<" not in printed.replace("<U+", "")
    _conclusion, _, heading, _, *rows = printed.strip().split("\n")
    for row in rows:
        assert row.replace("\\\\", "").replace("\\|", "").count("|") == heading.count("|")
        assert "[a](" not in row.replace("\\[", "")


def test_marks_of_a_reply_count_together_however_it_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    write = ReplyWriter()
    for piece in ["a", *["\u0301"] * 1000, "b\u0301", "\x9b", "\r", "\nc", "\u200d", "\u200d"]:
        write(piece)
    shown = capsys.readouterr().out
    assert not acts_on_a_terminal(shown.replace("\n", ""))
    assert shown.startswith("a" + "\u0301" * MARKS_MAX + "<")
    assert "\u0301" * (MARKS_MAX + 1) not in shown
    assert "b\u0301<U+009B>␍\nc" in shown

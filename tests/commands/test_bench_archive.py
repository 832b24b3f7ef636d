"""Archives of benchmarks: written, run again, and what is wrong with one."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import zipfile
from pathlib import Path

import pytest

from tests.commands.machine import Machine, Ran

QUICK = ("-p", "32", "-n", "8", "-r", "2", "--power", "none")


@pytest.fixture
def machine(machine: Machine) -> Machine:
    machine.script(tokens_per_s=2000)
    return machine


def bench(machine: Machine, *arguments: str) -> Ran:
    return machine.run("bench", *arguments)


def rewritten(source: Path, target: Path, changed: dict[str, bytes], *, digests: bool) -> Path:
    """The archive with other contents, and with digests that agree or not."""
    with zipfile.ZipFile(source) as archive:
        files = {name: archive.read(name) for name in archive.namelist()} | changed
    if digests:
        sums = [f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in files.items() if name != "SHA256SUMS"]
        files["SHA256SUMS"] = "".join(sums).encode()
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return target


def test_an_archive_is_measured_again_and_held_against_itself(machine: Machine, tmp_path: Path) -> None:
    model = tmp_path / "models" / "a.gguf"
    model.parent.mkdir()
    model.write_bytes(b"any bytes")
    file = tmp_path / "first.zip"
    ran = bench(machine, "-m", str(model), *QUICK, "--archive", str(file), "-o", "json")
    assert ran.code == 0, ran.stderr
    assert "first.zip, 1 sessions" in ran.stderr
    with zipfile.ZipFile(file) as archive:
        names = set(archive.namelist())
        held = {name: archive.read(name) for name in names}
    assert {
        "plan.json",
        "runs.jsonl",
        "environment.json",
        "results.md",
        "table.csv",
        "table.tex",
        "SHA256SUMS",
    } <= names
    for line in held["SHA256SUMS"].decode().splitlines():
        digest, _, name = line.partition("  ")
        assert hashlib.sha256(held[name]).hexdigest() == digest
    assert str(tmp_path).encode() not in held["plan.json"] + held["runs.jsonl"], "no folder of this machine"
    assert held["results.md"].startswith(b"## Method")
    assert len(list(csv.DictReader(io.StringIO(held["table.csv"].decode())))) == 1
    assert json.loads(held["environment.json"])["models"] == {
        "a": json.loads(held["plan.json"])["settings"][0]["model"]["content"]
    }

    moved = tmp_path / "elsewhere.gguf"
    model.rename(moved)
    absent = bench(machine, "--rerun", str(file), "--power", "none")
    assert (absent.code, absent.stdout) == (2, "")
    assert "a.gguf is not on this machine" in absent.stderr
    again = bench(machine, "--rerun", str(file), "-m", str(moved), "--power", "none")
    assert again.code == 0, again.stderr
    said = [line for line in again.stdout.splitlines() if "in the archive" in line]
    assert [line.partition(":")[0] for line in said] == ["a, pp32", "a, tg8"]
    assert all((" tok/s, " in line and line.endswith("%).")) or line.endswith("noise).") for line in said)
    moved.write_bytes(b"other bytes")
    other = bench(machine, "--rerun", str(file), "-m", str(moved), "--power", "none")
    assert (other.code, "is not the file that was measured" in other.stderr) == (2, True)


def test_what_is_no_archive_or_was_changed_is_refused(machine: Machine, tmp_path: Path) -> None:
    file = tmp_path / "first.zip"
    assert bench(machine, "-m", "a.gguf", *QUICK, "--archive", str(file)).code == 0
    runs = {"runs.jsonl": b"{}\n"}
    escaping = {"sessions/../../out": b"x", "../out": b"x"}
    cases = {
        "changed": (rewritten(file, tmp_path / "changed.zip", runs, digests=False), "not what its digest says"),
        "wrong": (rewritten(file, tmp_path / "wrong.zip", runs, digests=True), "no archive of a benchmark"),
        "text": (tmp_path / "text.zip", "no archive of a benchmark"),
        "absent": (tmp_path / "absent.zip", "No such file"),
    }
    (tmp_path / "text.zip").write_text("no zip", "utf-8")
    whole = file.read_bytes()
    middle = whole.index(b"plan.json") + 40
    (tmp_path / "torn.zip").write_bytes(whole[:middle] + bytes(60) + whole[middle + 60 :])
    cases["torn"] = tmp_path / "torn.zip", "no archive of a benchmark"
    end = whole.rindex(b"PK\5\6")
    (tmp_path / "long.zip").write_bytes(whole[: end + 12] + b"\xff\xff\xff\x7f" + whole[end + 16 :])
    cases["long"] = tmp_path / "long.zip", "its list of contents is longer than 4 MiB"
    with zipfile.ZipFile(tmp_path / "packed.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("SHA256SUMS", b"")
    cases["packed"] = tmp_path / "packed.zip", "SHA256SUMS is packed in another way"
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("SHA256SUMS", bytes(65 * 2**20))
    cases["bomb"] = tmp_path / "bomb.zip", "SHA256SUMS is larger than 64 MiB"
    with zipfile.ZipFile(file) as archive:
        plan = json.loads(archive.read("plan.json"))
    for name, changed, said in (
        ("endless", {"repetitions": 10**9}, "more than 100000 measurements"),
        ("tokens", {"tests": [{"type": "tokens", "n_prompt": 2**62}]}, "a whole number beyond 2^53"),
        ("negative", {"tests": [{"type": "tokens", "n_gen": -5}]}, "a number of tokens that cannot be"),
    ):
        with_plan = {"plan.json": json.dumps({**plan, **changed}).encode()}
        cases[name] = rewritten(file, tmp_path / f"{name}.zip", with_plan, digests=True), said
    for name in ("/etc/passwd", "../a.gguf", "a\0.gguf", ""):
        plan["settings"][0]["model"] |= {"path": name, "content": "x"}
        with_plan = {"plan.json": json.dumps(plan).encode()}
        path = rewritten(file, tmp_path / f"named-{len(cases)}.zip", with_plan, digests=True)
        cases[name or "no name"] = path, "names no file of a model"
    cases["pipe"] = tmp_path / "pipe", "is no file"
    os.mkfifo(tmp_path / "pipe")
    for path, said in cases.values():
        ran = bench(machine, "--rerun", str(path))
        assert (ran.code, ran.stdout) == (2, ""), path
        assert said in ran.stderr
    before = set(tmp_path.rglob("out"))
    odd = bench(
        machine, "--rerun", str(rewritten(file, tmp_path / "odd.zip", escaping, digests=True)), "--power", "none"
    )
    assert odd.code == 0, odd.stderr
    assert set(tmp_path.rglob("out")) == before, "nothing is written beside its folder"
    nowhere = bench(machine, *QUICK, "--archive", "/nowhere/x.zip")
    assert (nowhere.code, "no such folder" in nowhere.stderr) == (2, True)

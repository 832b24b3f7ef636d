"""A result as a card: what it says, in each form, and what it leaves out."""

from __future__ import annotations

import shlex
import struct
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from msgspec.structs import replace

from edgetop.bench.plan import TokenTest
from edgetop.commands.command_line import given_flags, parser_of
from edgetop.core.figures import BY_NAME, J_PER_TOKEN
from edgetop.core.quantity import with_interval
from edgetop.report.card import FONT_PX, WIDTH_PX, repeating
from edgetop.session.file_io import encode_file, load_file
from edgetop.session.store import example_pair
from edgetop.settings.resolve import engine_settings, resolve, sampling_settings
from tests.commands.machine import Machine
from tests.support.bench_sessions import MadeSession
from tests.support.requirements import need_module

ROOT = Path(__file__).resolve().parents[2]
LLAMA_BENCH = ROOT / "tests/end_to_end/baseline/input/llama-bench.json"
HOSTILE = "a|b<script>&\x1b[31mc"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Machine:
    return Machine(tmp_path, monkeypatch, capsys)


def rows_of(text: str) -> dict[str, str]:
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return {cells[0]: cells[1] for cells in lines if len(cells) == 2}


def test_markdown_has_the_figures_of_the_session_and_what_follows_from_them(machine: Machine) -> None:
    path = example_pair()[0]
    told = machine.run("card", str(path)).stdout
    assert told.startswith("|  | SmolLM2-135M-Instruct Q4_1 on Virtual board")
    rows = rows_of(told)
    summary = load_file(path).summary
    assert summary.energy is not None
    known, decoding = summary.energy.j_per_token, summary.energy.decode_j_per_token
    assert known is not None
    assert decoding is not None
    assert rows[BY_NAME[J_PER_TOKEN].label] == f"{with_interval(known)} J"
    assert float(rows["tokens per joule"].split()[0]) == pytest.approx(1 / known.value, rel=0.01)
    assert float(rows["tokens per second per watt"].split()[0]) == pytest.approx(1 / decoding.value, rel=0.01)
    assert rows["power measured"].startswith("module, power.jetson, grade B")
    assert rows["model"].startswith("SmolLM2-135M-Instruct Q4_1, ")
    assert rows["settings"] == "1 thread, context 2048, KV f16/f16"


def test_the_command_repeats_a_chat_or_a_test_of_a_benchmark(machine: Machine, tmp_path: Path) -> None:
    file = load_file(example_pair()[0])
    one = tmp_path / "one.json"
    one.write_bytes(b"".join(encode_file(replace(file, turns=file.turns[:1]))))
    command = machine.run("card", str(one)).stdout.splitlines()[-1].strip()
    assert command.startswith(
        "edgetop run -m SmolLM2-135M-Instruct.Q4_1.gguf --ctx 2048 --threads 1 -n 1200 --seed 7 --temp 0 "
        "--repeat-penalty 1.1 -p 'Write a long story about a lighthouse keeper"
    )
    benched = MadeSession()
    benched.tokens(TokenTest(n_gen=40))
    of_bench = machine.run("card", str(benched.save(tmp_path / "benched.json"))).stdout
    assert of_bench.splitlines()[-1].strip().startswith("edgetop bench -m ")
    one.write_bytes(b"".join(encode_file(replace(file, text_recorded=False, turns=()))))
    assert machine.run("card", str(one)).stdout.splitlines()[-1].strip().endswith(" -p ...")


CHOSEN = (
    "--temp 0.2 --top-p 0.5 --top-k 7 --min-p 0 --repeat-penalty 1.25 --seed 3 -n 60 --stop 'a b' --stop END",
    "--template-arg enable_thinking=false --template-arg effort=low",
    "--ctx 1024 --threads 3 --threads-batch 2 --kv-type q8_0 --load-mode mlock --full-context shift --batch 128",
    "-ctk q8_0 --flash-attn on --rpc 10.0.0.2:50052,10.0.0.3 --template tool_use",
    "--temp 0.8 --kv-type f16 --load-mode auto",
)


@pytest.mark.parametrize("typed", CHOSEN)
def test_every_setting_that_differs_from_its_default_is_in_the_command(typed: str) -> None:
    file = load_file(example_pair()[0])
    settings = resolve(given_flags(parser_of("run").parse_args(shlex.split(typed))), {})
    engine = engine_settings(settings)
    loaded = replace(engine, n_threads=engine.n_threads or 1, n_ctx=engine.n_ctx or 4096)
    turn = replace(file.turns[0], sampling=sampling_settings(settings))
    load = replace(file.loads[0], settings=replace(loaded, n_batch=loaded.n_batch or 2048, n_ubatch=512))
    words = shlex.split(repeating(replace(file, turns=(turn,)), load))
    again = resolve(given_flags(parser_of("run").parse_args(words[2:])), {})
    assert replace(engine_settings(again), n_threads=1, n_ctx=1) == replace(engine, n_threads=1, n_ctx=1)
    assert sampling_settings(again) == sampling_settings(settings)
    defaults = {"--temp": "0.8", "--kv-type": "f16", "--load-mode": "auto"}
    assert not any(words[at + 1 : at + 2] == [defaults[word]] for at, word in enumerate(words) if word in defaults)


def test_what_is_missing_says_why(machine: Machine, tmp_path: Path) -> None:
    file = load_file(example_pair()[0])
    summary = replace(file.summary, energy=None, energy_missing="it has no sensor")
    turns = tuple(replace(turn, figures=replace(turn.figures, energy=None)) for turn in file.turns)
    path = tmp_path / "without.json"
    path.write_bytes(b"".join(encode_file(replace(file, summary=summary, turns=turns))))
    rows = rows_of(machine.run("card", str(path)).stdout)
    assert rows[BY_NAME[J_PER_TOKEN].label].startswith("n/a: ")
    assert rows["tokens per joule"] == "n/a"
    assert "power measured" not in rows


def test_names_from_outside_are_text_in_every_form(machine: Machine, tmp_path: Path) -> None:
    file = load_file(example_pair()[0])
    load = replace(file.loads[0], model=replace(file.loads[0].model, name=HOSTILE))
    path, drawn = tmp_path / "hostile.json", tmp_path / "card.svg"
    path.write_bytes(b"".join(encode_file(replace(file, loads=(load,)))))
    told = machine.run("card", str(path)).stdout
    assert "<script>" not in told
    assert "\x1b" not in told
    assert machine.run("card", str(path), "-o", str(drawn)).code == 0
    picture = ElementTree.parse(drawn)  # noqa: S314 - drawn by ourselves
    texts = [element.text or "" for element in picture.iter() if element.tag.endswith("text")]
    assert any("a|b<script>&" in text for text in texts)
    assert not any("\x1b" in text for text in texts)


def test_a_picture_is_as_wide_as_its_longest_line(machine: Machine, tmp_path: Path) -> None:
    file = load_file(example_pair()[0])
    name = "漢字" * 60
    load = replace(file.loads[0], model=replace(file.loads[0].model, name=name))
    path, drawn = tmp_path / "long.json", tmp_path / "card.svg"
    path.write_bytes(b"".join(encode_file(replace(file, loads=(load,)))))
    assert machine.run("card", str(path), "-o", str(drawn)).code == 0
    picture = ElementTree.parse(drawn)  # noqa: S314 - drawn by ourselves
    texts = [element for element in picture.iter() if element.tag.endswith("text")]
    joined = "".join(element.text or "" for element in texts)
    assert joined.count(name) == 2, "as title and as model, nothing is cut off"
    for element in texts:
        cells = sum(2 if character in name else 1 for character in element.text or "")
        assert int(element.attrib["x"]) + cells * FONT_PX * 0.6 <= WIDTH_PX


def test_a_name_as_long_as_a_book_makes_no_picture_as_long(machine: Machine, tmp_path: Path) -> None:
    file = load_file(example_pair()[0])
    load = replace(file.loads[0], model=replace(file.loads[0].model, name="x\uffff " * 50_000))
    path, drawn = tmp_path / "book.json", tmp_path / "book.svg"
    path.write_bytes(b"".join(encode_file(replace(file, loads=(load,)))))
    assert machine.run("card", str(path), "-o", str(drawn)).code == 0
    picture = ElementTree.parse(drawn)  # noqa: S314 - drawn by ourselves
    assert float(picture.getroot().attrib["height"]) < 3000


def test_a_card_can_be_written_to_a_device(machine: Machine) -> None:
    told = machine.run("card", str(example_pair()[0]), "-o", "/dev/null")
    assert told.code == 0, told.stderr


def test_results_of_llama_bench_have_cards_too(machine: Machine) -> None:
    told = machine.run("card", str(LLAMA_BENCH))
    assert told.code == 0, told.stderr
    assert "tok/s" in told.stdout
    assert "n/a" in rows_of(told.stdout)["tokens per joule"]


def test_a_bitmap_is_twice_as_large_as_the_picture(machine: Machine, tmp_path: Path) -> None:
    need_module("PIL", "pillow")
    svg, png = tmp_path / "card.svg", tmp_path / "card.png"
    session = str(example_pair()[0])
    assert machine.run("card", session, "-o", str(svg)).code == 0
    assert machine.run("card", session, "-o", str(png)).code == 0
    data = png.read_bytes()
    picture = ElementTree.parse(svg).getroot()  # noqa: S314 - drawn by ourselves
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", data[16:24]) == tuple(2 * int(picture.attrib[side]) for side in ("width", "height"))
    assert machine.run("card", session, "-o", str(png)).code == 2, "a file that is there stays"
    assert machine.run("card", session, "-o", str(png), "--force").code == 0


def test_without_pillow_it_says_what_to_do(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    told = machine.run("card", str(example_pair()[0]), "-o", str(tmp_path / "card.png"))
    assert told.code == 1
    assert "pip install 'edgetop[card]'; or use --svg" in told.stderr

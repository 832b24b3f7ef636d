"""`edgetop check` from the command line to the exit code, with predictors and a place that are written out by hand."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from edgetop.commands.check import run_target
from edgetop.core.energy.duty import Price
from edgetop.core.engine_settings import MemoryBreakdown
from edgetop.core.sources import Unavailable
from edgetop.fit.assessment import RunTarget
from edgetop.fit.machine import Power
from edgetop.fit.memory import largest_context, memory_need
from edgetop.fit.model_facts import ModelFacts, published_models
from edgetop.fit.speed import predict_energy, predict_speed
from tests.commands.machine import Machine, Ran
from tests.support.example_machine import GIB, MACHINE, by_hand, figure, llama_facts, need_of, place_of, without_speed
from tests.support.gguf_files import write_model
from tests.support.hostile_text import HOSTILE_REPLIES, acts_on_a_terminal

__all__ = ["by_hand"]
LISTED = {model.name: model for model in published_models()}
GOLDEN = Path(__file__).with_name("golden")
pytestmark = pytest.mark.usefixtures("by_hand")
POWERED = replace(MACHINE, power=Power(scope="board_input", decode_w={4: figure(8.0)}))
ROOMY = place_of(8 * GIB)


class Check:
    """The command beside some small models."""

    def __init__(self, machine: Machine, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.machine = machine
        self.folder = folder
        self.monkeypatch = monkeypatch
        self.at(ROOMY)

    def at(self, place: RunTarget) -> None:
        """Let the models run there."""
        self.monkeypatch.setattr("edgetop.commands.check.run_target", lambda *_: place)

    def model(self, name: str = "tiny", **keys: object) -> str:
        return str(write_model(self.folder / f"{name}.gguf", metadata=keys))  # type: ignore[arg-type]

    def run(self, *arguments: str) -> Ran:
        return self.machine.run("check", *arguments)


@pytest.fixture
def check(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    return Check(machine, tmp_path, monkeypatch)


def test_what_fits_exits_with_0_and_tells_all_there_is(check: Check) -> None:
    ran = check.run(check.model())
    assert ran.code == 0
    assert ran.stderr == ""
    labels = [line.split(" ")[0] for line in ran.stdout.splitlines() if not line.startswith(" ")]
    assert labels == [
        "verdict", "speed", "energy", "memory",  # the answer
        "better", "model", "machine", "memory", "speed", "energy", "basis",  # and why
        "run", "verify",
    ]  # fmt: skip


def test_what_is_no_model_exits_with_3_and_says_where_it_ends_to_be_one(check: Check, tmp_path: Path) -> None:
    file = tmp_path / "cut.gguf"
    file.write_bytes(Path(check.model()).read_bytes()[:60])
    ran = check.run(str(file))
    assert (ran.code, ran.stdout) == (3, "")
    assert "cut.gguf" in ran.stderr
    assert len(ran.stderr.splitlines()) == 2
    assert check.run(str(tmp_path / "absent.gguf")).code == 3


def test_what_does_not_fit_exits_with_4(check: Check) -> None:
    check.at(place_of(GIB // 8))
    ran = check.run(check.model())
    assert ran.code == 4
    assert "does not fit" in ran.stdout


def test_what_is_slower_than_asked_exits_with_5(check: Check) -> None:
    model = check.model()
    rate = check.run(model, "--json").json()[0]["speed"]["decode_tokens_per_s"]["value"]
    assert check.run(model, "--min-speed", str(rate * 1.01)).code == 5
    assert check.run(model, "--min-speed", str(rate * 0.99)).code == 0


def test_a_speed_that_is_asked_for_and_not_known_exits_with_1(check: Check) -> None:
    check.at(place_of(machine=without_speed()))
    assert check.run(check.model()).code == 0
    ran = check.run(check.model(), "--min-speed", "1")
    assert ran.code == 1
    assert "--min-speed" in ran.stderr


def test_of_several_the_worst_counts_and_the_others_are_still_told(check: Check, tmp_path: Path) -> None:
    model, broken = check.model(), tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF")
    ran = check.run(model, str(broken))
    assert ran.code == 3
    assert [line.split("  ")[0] for line in ran.stdout.splitlines()[1:]] == ["tiny", "broken"]
    assert "broken.gguf" in ran.stderr
    check.at(place_of(3 * GIB))
    assert check.run(model, "--ctx", "1k,32k").code == 4
    assert check.run(model, "--ctx", "1k,32k", "--min-speed", "1e9").code == 4


@pytest.mark.parametrize(
    "wrong",
    [
        ["--ctx", "4096,x"], ["--ctx", ""], ["--prompt-tokens", "0"], ["--answer-tokens", "many"],
        ["--min-speed", "nan"], ["--device", "abacus"], ["--power-mode", "15W"], ["--no-probe", "--force-probe"],
    ],
)  # fmt: skip
def test_what_cannot_be_meant_exits_with_2(check: Check, wrong: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgetop.commands.check.run_target", run_target)
    ran = check.run(check.model(), *wrong)
    assert (ran.code, ran.stdout) == (2, "")


def test_the_page_of_a_fixed_machine_is_as_in_the_picture(check: Check) -> None:
    """`EDGETOP_WRITE_PICTURES=1` writes it anew; look at what has changed before you keep it."""
    place = place_of(8 * GIB, machine=POWERED, threads=2)
    check.at(replace(place, price=Price(per_kwh=0.30, currency="EUR"), battery_j=180_000.0))
    check.monkeypatch.setattr("edgetop.commands.check.read_facts", lambda _path: llama_facts())
    told = check.run(check.model(), "--ctx", "2k").stdout
    picture = GOLDEN / "check-page.txt"
    if os.environ.get("EDGETOP_WRITE_PICTURES"):
        picture.write_text(told, encoding="utf-8")
    assert told == picture.read_text(encoding="utf-8")


def test_several_contexts_make_a_table_and_all_formats_hold_the_same_figures(check: Check) -> None:
    model = check.model()
    arguments = (model, "--ctx", "1k,2k,4k")
    table = check.run(*arguments).stdout.splitlines()
    objects = check.run(*arguments, "--json").json()
    rows = list(csv.DictReader(io.StringIO(check.run(*arguments, "--csv").stdout)))
    markdown = check.run(*arguments, "--md").stdout.splitlines()
    assert table[0].split()[:6] == ["MODEL", "QUANT", "SIZE", "CONTEXT", "MEMORY", "TOK/S"]
    assert len(table) == 4
    assert len(markdown) == 5
    assert [each["settings"]["n_ctx"] for each in objects] == [1024, 2048, 4096]
    assert [int(row["n_ctx"]) for row in rows] == [1024, 2048, 4096]
    for each, row in zip(objects, rows, strict=True):
        assert int(row["needed_bytes"]) == each["memory"]["total_bytes"]
        assert float(row["decode_tokens_per_s"]) == each["speed"]["decode_tokens_per_s"]["value"]
        assert row["fit"] == each["verdict"]["fit"]
        assert row["decode_j_per_token"] == ""
        assert each["energy"] is None
        assert "meter" in each["energy_missing"]
        assert each["verify"][:4] == ["edgetop", "bench", "-m", model]


def test_settings_of_the_command_line_reach_the_predictors(check: Check) -> None:
    ran = check.run(check.model(), "--threads", "2", "--kv-type", "q8_0", "--prompt-tokens", "1000", "--json")
    found = ran.json()[0]
    assert found["settings"]["n_threads"] == 2
    assert found["settings"]["type_k"] == "q8_0"
    assert found["prompt_tokens"] == 1000
    assert found["verify"][-4:] == ["-t", "2", "--kv-type", "q8_0"]


def test_a_model_is_found_by_its_name_too(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    check.model("phi3-q4")
    assert check.run("phi3-q4", "--model-dir", str(check.folder)).code == 0
    ran = check.run("phi3-q5", "--model-dir", str(check.folder))
    assert ran.code == 3
    assert "did you mean phi3-q4?" in ran.stderr


def test_llama_cpp_is_asked_where_the_formulas_have_no_answer(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    def dry_load(path: Path, _settings: object) -> MemoryBreakdown:
        asked.append(path)
        return MemoryBreakdown(weights_bytes=123_000_000, kv_bytes=1, compute_bytes=1)

    monkeypatch.setattr("edgetop.inference.llama.dry_load.dry_load", dry_load)
    model = check.model()
    assert check.run(model, "--json").json()[0]["memory"]["basis"] == "formula"
    assert not asked
    exact = check.run(model, "--exact", "--json").json()[0]["memory"]
    assert (exact["basis"], exact["weights_bytes"]) == ("llama.cpp", 123_000_000)

    monkeypatch.setattr(
        "edgetop.fit.assessment.memory_need",
        lambda facts, settings, *, allocated=None, features=None: (
            Unavailable("no formula is known") if allocated is None else need_of(facts, settings, allocated=allocated)
        ),
    )
    assert check.run(model, "--json").json()[0]["memory"]["basis"] == "llama.cpp"
    assert len(asked) == 2
    monkeypatch.setattr("edgetop.inference.llama.dry_load.dry_load", lambda *_: Unavailable("it crashed", "fix it"))
    ran = check.run(model)
    assert ran.code == 1
    assert "n/a: no formula is known" in ran.stdout


def test_a_model_on_another_machine_is_asked_for_its_header_only(check: Check) -> None:
    source = "hf:acme/tiny-GGUF:Q8_0"
    asked: list[str] = []

    def fetch(given: str, **_: object) -> ModelFacts:
        asked.append(given)
        return llama_facts(source=given)

    check.monkeypatch.setattr("edgetop.fit.remote_model.fetch_facts", fetch)
    ran = check.run(source, "--exact", "--json")
    assert ran.code == 4
    assert asked == [source]
    assert ran.json()[0]["verify"][:4] == ["edgetop", "bench", "-m", source]
    assert check.run(source, "--ctx", "1k,2k").stdout.splitlines()[1].startswith(source)


def test_a_better_model_beside_it_is_suggested(check: Check) -> None:
    check.at(place_of(2 * GIB))
    small, large = check.model("small"), check.model("large")
    facts = {large: llama_facts(source=large), small: llama_facts("Little", n_layer=2, n_embd=256, source=small)}
    check.monkeypatch.setattr("edgetop.commands.check.read_facts", lambda path: facts[str(path)])
    ran = check.run(large, "--ctx", "512")
    assert ran.code == 4
    assert f"Little Q8_0 [-m {small}]: fits instead of does not fit" in ran.stdout


def test_the_devices_of_the_table_are_listed_with_their_sources(check: Check) -> None:
    rows = check.run("--device", "list", "--json").json()
    assert {"pi5", "orin-nano-super"} <= {row["name"] for row in rows}
    assert all(row["sources"] for row in rows)


def test_another_power_mode_of_a_device_is_suggested_where_it_is_better(
    check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    for real in (memory_need, largest_context, predict_speed, predict_energy):
        monkeypatch.setattr(f"edgetop.fit.assessment.{real.__name__}", real)
    monkeypatch.setattr("edgetop.commands.check.run_target", run_target)
    ran = check.machine.run("check", check.model(), "--device", "orin-nano-super", "--power-mode", "7W", "--json")
    (found,) = ran.json()
    assert found["machine"]["power_mode"] == "7W"
    assert "power mode" in {suggestion["kind"] for suggestion in found["suggestions"]}


@pytest.mark.parametrize("flags", [(), ("--ctx", "1k,2k"), ("--json",), ("--csv",), ("--md", "--ctx", "1k,2k")])
def test_what_a_header_says_of_itself_stays_text(check: Check, flags: tuple[str, ...]) -> None:
    hostile = " ".join(HOSTILE_REPLIES).encode("utf-8", "replace").decode()
    model = check.model(**{"general.name": hostile, "general.license": hostile})
    ran = check.run(model, *flags)
    assert ran.code == 0
    assert not acts_on_a_terminal(ran.stdout.replace("\n", "")) or flags == ("--json",)
    assert "\x1b" not in ran.stdout


def test_a_process_of_its_own_answers_without_loading_or_measuring_anything(tmp_path: Path) -> None:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("EDGETOP_")},
        **{name: str(tmp_path / name) for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "HOME")},
    }
    model = write_model(tmp_path / "tiny.gguf")
    listed = (
        "import sys; from edgetop.cli import main; code = main(); print(*sys.modules, file=sys.stderr); sys.exit(code)"
    )
    command = [sys.executable, "-c", listed, "check", str(model), "--no-probe", "--json", "--min-speed", "1e9"]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert ran.returncode == 5, ran.stderr
    (found,) = json.loads(ran.stdout)
    assert found["verdict"]["fit"] == "fits"
    assert found["speed"]["decode_tokens_per_s"]["low"] < found["speed"]["decode_tokens_per_s"]["high"]
    heavy = {"textual", "psutil", "llama_cpp", "numpy", "jinja2", "asyncio", "edgetop.session.file_io", "pynvml"}
    heavy |= {"subprocess", *(["typing_extensions"] if sys.version_info >= (3, 11) else [])}
    assert not heavy & set(ran.stderr.split())
    assert not (tmp_path / "XDG_DATA_HOME").exists()


def at_the_table(check: Check) -> None:
    """With the real predictors, so that `--device` is what it is."""
    for real in (memory_need, largest_context, predict_speed, predict_energy):
        check.monkeypatch.setattr(f"edgetop.fit.assessment.{real.__name__}", real)
    check.monkeypatch.setattr("edgetop.commands.check.run_target", run_target)


def test_a_device_without_a_size_is_judged_by_each_that_was_sold(check: Check) -> None:
    at_the_table(check)
    check.monkeypatch.setattr("edgetop.commands.check.read_facts", lambda _: LISTED["Qwen3-8B"].facts("Q4_K_M"))
    told = check.run(check.model(), "--device", "pi5")
    assert told.stdout.splitlines()[0].startswith("verdict  16 and 8 GB: fits; 4 and 2 GB: no; too slow for reading")
    found = check.run(check.model(), "--device", "pi5", "--json").json()[0]
    assert [(each["memory_bytes"] >> 30, each["fit"]) for each in found["fit_by_memory"]] == [
        (16, "fits"), (8, "fits"), (4, "does not fit"), (2, "does not fit"),
    ]  # fmt: skip
    assert found["room"]["limit"] == "assumed of the device"
    assert "MemAvailable" not in told.stdout


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["pi5:4gb"], 4), (["raspberry pi 5 8gb"], 0), (["pi5", "--memory", "4G"], 4), (["pi5", "--memory", "8GB"], 0)],
)
def test_the_size_that_was_named_decides(check: Check, arguments: list[str], code: int) -> None:
    at_the_table(check)
    check.monkeypatch.setattr("edgetop.commands.check.read_facts", lambda _: LISTED["Qwen3-8B"].facts("Q4_K_M"))
    ran = check.run(check.model(), "--device", *arguments)
    assert ran.code == code
    assert "2 GB: no" not in ran.stdout


def test_a_card_is_judged_by_its_own_memory_and_its_note_is_shown(check: Check) -> None:
    at_the_table(check)
    check.monkeypatch.setattr("edgetop.commands.check.read_facts", lambda _: LISTED["Qwen3-14B"].facts("Q8_0"))
    ran = check.run(check.model(), "--device", "rtx 3070")
    assert ran.code == 4
    assert "no measurement of this device" in ran.stdout
    assert check.run(check.model(), "--device", "rtx 4090").code == 0


def test_a_prompt_that_the_context_does_not_hold_is_no_fit(check: Check) -> None:
    ran = check.run(check.model(), "--ctx", "2k", "--prompt-tokens", "100000")
    assert ran.code == 4
    assert "a prompt of 100000 tokens is longer than the context of 2048" in ran.stdout.splitlines()[0]
    check.monkeypatch.setattr(
        "edgetop.commands.check.read_facts", lambda _: LISTED["Llama-3.2-1B-Instruct"].facts("Q8_0")
    )
    grown = check.run(check.model(), "--prompt-tokens", "20000", "--json").json()[0]
    assert grown["settings"]["n_ctx"] == 20480  # where no context was asked for, it holds them


def test_what_llama_cpp_refuses_exits_with_3_and_says_which_type_it_takes(check: Check) -> None:
    at_the_table(check)
    check.monkeypatch.setattr("edgetop.commands.check.run_target", lambda *_: ROOMY)
    ran = check.run(check.model(), "--kv-type", "q8_0")  # heads of 16 numbers
    assert ran.code == 3
    assert ran.stdout.splitlines()[0].startswith("verdict  llama.cpp refuses a KV cache in q8_0")
    assert "--kv-type f16" in ran.stdout


def test_the_commands_run_and_verify_what_was_asked(check: Check) -> None:
    model = check.model()
    lines = check.run(
        model, "--cache-type-k", "q8_0", "--ctx", "2k", "--parallel", "4", "--flash-attn", "on"
    ).stdout.splitlines()
    commands = {line.split()[0]: line for line in lines[-2:]}
    assert f"llama-server -m {model} -c 8192 -t 4 -np 4 -ctk q8_0 -fa on" in commands["run"]
    assert "--cache-type-k q8_0 --cache-type-v f16 --flash-attn on" in commands["verify"]


def test_what_is_loaded_beside_takes_memory_too(check: Check, tmp_path: Path) -> None:
    model, eye = check.model(), str(write_model(tmp_path / "eye.gguf"))
    alone = check.run(model, "--json").json()[0]["memory"]
    beside = check.run(model, "--mmproj", eye, "--json").json()[0]["memory"]
    assert beside["beside_bytes"] > 0
    assert beside["total_bytes"] == alone["total_bytes"] + beside["beside_bytes"]


@pytest.mark.parametrize("purpose", ["chat", "speed", "energy"])
def test_without_a_model_the_best_to_choose_comes_first(check: Check, purpose: str) -> None:
    at_the_table(check)
    rows = check.machine.run("check", "--device", "pi5:8gb", "--for", purpose, "--json").json()
    assert len([row for row in rows if not row["here"]]) > 40
    fitting = [row for row in rows if row["fit"] == "fits" and not row["here"]]
    rates = [row["decode_tokens_per_s"]["value"] for row in fitting]
    joules = [row["decode_j_per_token"]["value"] for row in fitting]
    assert rows[0]["fit"] == "fits"
    assert rows[-1]["fit"] == "does not fit"
    if purpose == "speed":
        assert rates == sorted(rates, reverse=True)
    elif purpose == "energy":
        assert joules == sorted(joules)
    else:
        readable = [row for row in fitting if row["decode_tokens_per_s"]["value"] > 6.6]
        assert fitting[: len(readable)] == sorted(readable, key=lambda row: (-row["parameters"], -row["size_bytes"]))
    assert all(row["source"].startswith("hf:") for row in rows if not row["here"])
    assert all(row["size_is_computed"] for row in rows if not row["here"])
    assert all(row["described_by"].startswith("huggingface.co/") for row in rows if not row["here"])
    assert all(re.fullmatch(r"20\d\d-\d\d", row["published"]) for row in rows if not row["here"])
    as_csv = check.machine.run("check", "--device", "pi5:8gb", "--for", purpose, "--csv").stdout
    first = next(csv.DictReader(as_csv.splitlines()))
    assert float(first["decode_tokens_per_s_low"]) < float(first["decode_tokens_per_s"])


def test_a_use_of_the_device_is_told_in_joules_a_day_and_hours(check: Check) -> None:
    at_the_table(check)
    ran = check.machine.run(
        "check", check.model(), "--device", "pi5", "--requests-per-hour", "20", "--battery-wh", "50", "--json"
    )
    duty = ran.json()[0]["duty"]
    assert duty["kept_wh_per_day"]["value"] > 1.55 * 24 * 0.9
    assert duty["kept_battery_h"]["value"] == pytest.approx(50 * 24 / duty["kept_wh_per_day"]["value"], rel=0.01)
    assert duty["missing"]["unload_after_s"]["reason"].startswith("idle power is the same with and without")
    told = check.machine.run("check", check.model(), "--device", "pi5", "--requests-per-hour", "20").stdout
    assert "keep it loaded: idle power is the same with and without the model" in told


@pytest.mark.parametrize(
    ("device", "flags", "published"),
    [
        # Qwen3-30B-A3B Q4_K_M: github.com/AlexsJones/llmfit pull request 755; a 5800X with two channels of DDR4.
        ("rtx-2080", ("--n-cpu-moe", "36"), 36.7),
        ("rtx-3070", ("-ot", r"\.ffn_(up|down|gate)_exps\.=CPU"), 30.0),
    ],
)
def test_experts_on_the_cpu_of_an_unknown_computer_are_predicted_within_the_band(
    check: Check, device: str, flags: tuple[str, ...], published: float
) -> None:
    at_the_table(check)
    check.monkeypatch.setattr("edgetop.commands.check.read_facts", lambda _: LISTED["Qwen3-30B-A3B"].facts("Q4_K_M"))
    ran = check.machine.run("check", check.model(), "--device", device, *flags, "--json")
    decode = ran.json()[0]["speed"]["decode_tokens_per_s"]
    assert decode["low"] < published < decode["high"]
    assert decode["high"] < 4 * decode["low"], "the card itself was never measured"
    whole = check.machine.run("check", check.model(), "--device", device)
    assert "What stays in the computer's memory" not in whole.stdout


def test_one_flag_keeps_the_experts_of_every_layer_on_the_cpu(check: Check) -> None:
    at_the_table(check)
    check.monkeypatch.setattr("edgetop.commands.check.read_facts", lambda _: LISTED["Qwen3-30B-A3B"].facts("Q4_K_M"))
    ran = {
        flags: check.machine.run("check", check.model(), "--device", "rtx-3090", *flags, "--json").json()[0]
        for flags in ((), ("--cpu-moe",), ("--n-cpu-moe", "512"))
    }
    one, counted, whole = ran["--cpu-moe",], ran["--n-cpu-moe", "512"], ran[()]
    assert one["memory"] == counted["memory"]
    assert one["memory"]["gpu_bytes"] < 0.2 * whole["memory"]["gpu_bytes"]
    assert "--cpu-moe" in one["server_command"]
    assert one["verify"][-2:] == ["--n-cpu-moe", "512"]
    first = check.machine.run("check", check.model(), "--device", "rtx-3090", "--cpu-moe").stdout.splitlines()[3]
    assert re.fullmatch(
        r"memory   [\d.]+ GiB of 22.6 GiB with a context of 4096 tokens, 1\d.\d GiB in the .* memory", first
    )


@pytest.mark.parametrize(("device", "known"), [("m2-pro", True), ("rtx-3060", True), ("iris-xe", False)])
def test_ollama_leaves_the_integrated_graphics_of_pcs_alone(check: Check, device: str, known: bool) -> None:
    at_the_table(check)
    found = check.run(check.model(), "--device", device, "--json").json()[0]
    assert (found["ollama"] is not None) is known


def test_a_context_is_named_as_llama_cpp_names_it(check: Check) -> None:
    for flag in ("-c", "--ctx-size"):
        found = check.run(check.model(), flag, "1k,2k", "--json").json()
        assert [each["settings"]["n_ctx"] for each in found] == [1024, 2048]


def test_a_prediction_by_the_table_says_what_ollama_makes_of_it(check: Check) -> None:
    at_the_table(check)
    model = check.model()
    for device in ("pi5", "orin-nano-super"):
        found = check.machine.run("check", model, "--device", device, "--json").json()[0]
        ollama, decode = found["ollama"], found["speed"]["decode_tokens_per_s"]
        assert ollama["decode_tokens_per_s"]["value"] < decode["value"]
        assert ollama["decode_j_per_token"]["value"] > found["energy"]["decode_j_per_token"]["value"]
    assert "in Ollama, by published rows: " in check.machine.run("check", model, "--device", "pi5").stdout


def test_the_llama_server_that_is_named_uses_the_draft_model(check: Check) -> None:
    draft = str(write_model(check.folder / "draft.gguf"))
    (found,) = check.run(check.model(), "-md", draft, "--json").json()
    assert found["server_command"][-4:] == ["-md", draft, "--spec-type", "draft-simple"]


def test_a_layer_for_further_tokens_takes_memory_when_it_is_asked_for(check: Check) -> None:
    model = str(write_model(check.folder / "ahead.gguf", "deepseek2-ahead"))
    plain, asked = (check.run(model, *flags, "--json").json()[0] for flags in ((), ("--mtp",)))
    assert asked["memory"]["beside_bytes"] == asked["draft"]["more_bytes"] > plain["memory"]["beside_bytes"] == 0
    assert asked["server_command"][-2:] == ["--spec-type", "draft-mtp"]
    assert "this file has no layer for further tokens: --mtp does nothing" in check.run(check.model(), "--mtp").stdout

"""How well published speeds and energies are predicted from the device table.

    python -m benchmarks.published_figures FOLDER

FOLDER holds `edge_llm_measurements.csv`: one measurement a row with device, power mode, model, quantization, engine,
threads, tokens per second and joules per token. The figures in `devices.toml` were fitted to some rows (`FITTED`); the
error is reported on the others. The table is for llama.cpp. Ollama runs a version of it, sometimes an old one, and MLC
and vLLM compute in their own way: their rows are reported apart. Rows of accelerators that llama.cpp does not use, and
those whose source is doubtful, are left out; `--all` lists them with the reason.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from msgspec import Struct

from benchmarks import run_benchmark
from edgetop.core.engine_settings import EngineSettings
from edgetop.core.quantity import Interval
from edgetop.core.sources import Unavailable
from edgetop.fit.devices import DeviceTable, find_device, load_devices, machine_of, mode_of
from edgetop.fit.energy import predict_energy
from edgetop.fit.model_facts import ModelFacts
from edgetop.fit.speed import predict_speed
from tests.support.published_models import facts_of_published

DEVICES = {
    "Jetson Orin Nano Super 8GB": "orin-nano-super",
    "Jetson Orin Nano 8GB (original)": "orin-nano",
    "Jetson AGX Orin": "agx-orin",
    "Jetson AGX Thor": "agx-thor",
    "Raspberry Pi 5": "pi5",
    "Raspberry Pi 5 8GB": "pi5",
    "Raspberry Pi 5 16GB": "pi5",
    "Raspberry Pi 4 4GB": "pi4",
    "Mac mini M4 16GB": "m4",
    **{f"Apple M{number}{kind}": f"m{number}{kind.lower().replace(' ', '-')}" for number in (1, 2, 3, 4)
       for kind in ("", " Pro", " Max")},
}  # fmt: skip
ENGINES = {"llama.cpp": "llama.cpp", "llama-cpp-python": "llama.cpp", "Ollama": "Ollama", "MLC": "MLC", "vLLM": "vLLM"}
"""Engines by the beginning of their names in the table."""
FITTED = (
    *(f"smol-lc-{model}-Instruct-{mode}" for mode in ("15W", "25W", "MAXN_SUPER") for model in
      ("Llama-3.2-1B", "SmolLM2-360M")),
    *(f"smol-lc-{model}-Instruct-7W" for model in ("Llama-3.2-1B", "SmolLM2-360M", "SmolLM2-135M")),
    *(f"pi5-pmic-Llama-3.2-1B-{level}-t{threads}" for level in ("Q3_K_L", "Q4_K_M", "Q8_0") for threads in (1, 2, 4)),
    *(f"pi5-pmic-Gemma-3-1B-{level}-t1" for level in ("Q3_K_M", "Q4_K_M")),
    "apple-M1-7b", "apple-M2-7b", "apple-M1 Pro-7b", "apple-M1 Max-7b",
)  # fmt: skip
"""Rows that constants in `devices.toml` and `quant_speed.py` come from."""
THREADS = 4
"""Where a row does not say: all cores of the boards in question."""


class Row(Struct, frozen=True, kw_only=True):
    """A published measurement that can be held against a prediction."""

    name: str
    device: str
    power_mode: str | None
    engine: str
    facts: ModelFacts
    threads: int
    depth_tokens: int
    measured: float
    j_per_token: float | None
    fitted: bool


class Left(Struct, frozen=True):
    """A row that is left out."""

    name: str
    reason: str


class Outcome(Struct, frozen=True, kw_only=True):
    """A prediction beside what was published."""

    row: Row
    speed: Interval
    energy: Interval | None

    @property
    def error(self) -> float:
        """Relative, of the speed."""
        return self.speed.value / self.row.measured - 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--all", action="store_true", help="every row, and why rows are left out")
    arguments = parser.parse_args()
    table = load_devices()
    read = list(_rows(arguments.folder / "edge_llm_measurements.csv", table))
    outcomes = [_outcome(row, table) for row in read if isinstance(row, Row)]
    left = [row for row in read if isinstance(row, Left)]
    if arguments.all:
        for outcome in outcomes:
            row = outcome.row
            band = f"{outcome.speed.low:.1f} to {outcome.speed.high:.1f}"
            kind, predicted = "fitted" if row.fitted else "tested", outcome.speed.value
            print(
                f"{kind} {row.name:58}{row.measured:8.2f} predicted {predicted:8.2f} ({band:>16}) {outcome.error:+.0%}"
            )
        for each in left:
            print(f"left out: {each.name}: {each.reason}")
    tested = [outcome for outcome in outcomes if not outcome.row.fitted]
    _table("decode speed, rows that nothing was fitted to", tested)
    _table("decode speed, rows that the table was fitted to", [outcome for outcome in outcomes if outcome.row.fitted])
    _energy_table(tested)
    print(f"{len(outcomes)} rows used, {len(left)} left out (--all says why)")


def _rows(file: Path, table: DeviceTable) -> Iterator[Row | Left]:
    with file.open(newline="", encoding="utf-8") as opened:
        for cells in csv.DictReader(opened):
            yield _row(cells, table)


def _row(cells: dict[str, str], table: DeviceTable) -> Row | Left:
    name = cells["id"]
    device = DEVICES.get(cells["device"])
    if device is None:
        return Left(name, f"{cells['device']} is not in the device table")
    if cells["grade"].startswith("D") or name.startswith(("c2e-", "hus-", "tb-")):
        return Left(name, "speed includes the prompt, or the source contradicts all others")
    engine = next((ENGINES[each] for each in ENGINES if cells["engine"].startswith(each)), None)
    if engine is None:
        return Left(name, f"another engine: {cells['engine']}")
    try:
        measured = float(cells["decode_tok_s"])
    except ValueError:
        return Left(name, "no decode rate")
    facts = facts_of_published(
        cells["model"], cells["quant"], _number(cells["file_mb"]), mebibytes=name.startswith("smol")
    )
    if facts is None:
        return Left(name, f"nothing is known of the layers of {cells['model']}")
    mode = cells["power_mode"]
    return Row(
        name=name,
        device=device,
        power_mode=mode_of(table[device], mode.split("/")[0].rstrip("?")),
        engine=engine,
        facts=facts,
        threads=int(cells["threads"] or THREADS),
        depth_tokens=_depth(cells["prompt_tok"], cells["gen_tok"]),
        measured=measured,
        j_per_token=_number(cells["j_per_tok"]) if name.startswith(("smol-", "pi5-pmic-")) else None,
        fitted=name in FITTED,
    )


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _depth(prompt: str, generated: str) -> int:
    """The middle of the reply; llama-bench decodes its 128 tokens into an empty cache."""
    begin = int(prompt) if prompt.isdecimal() and (prompt, generated) != ("512", "128") else 0
    return begin + (int(generated) // 2 if generated.isdecimal() else 64)


def _outcome(row: Row, table: DeviceTable) -> Outcome:
    machine = machine_of(find_device(table, row.device), row.power_mode)
    speed = predict_speed(
        row.facts,
        machine,
        settings=EngineSettings(),
        threads=row.threads,
        depth_tokens=row.depth_tokens,
        prompt_tokens=0,
    )
    if isinstance(speed, Unavailable):
        raise SystemExit(f"{row.name}: {speed.reason}")
    energy = None
    if row.j_per_token is not None:
        found = predict_energy(
            row.facts, machine, speed, settings=EngineSettings(), threads=row.threads, depth_tokens=row.depth_tokens
        )
        energy = None if isinstance(found, Unavailable) else found.decode_j_per_token
    return Outcome(row=row, speed=speed.decode_tokens_per_s, energy=energy)


def _table(title: str, outcomes: list[Outcome]) -> None:
    print(f"\n{title}\n{'device and engine':44}{'rows':>5}{'median':>9}{'worst':>9}{'in band':>10}")
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(_group(outcome.row), []).append(outcome)
    for engine in dict.fromkeys(outcome.row.engine for outcome in outcomes):
        groups[f"all with {engine}"] = [each for each in outcomes if each.row.engine == engine]
    for group, members in groups.items():
        errors = [abs(each.error) for each in members]
        held = sum(each.speed.low <= each.row.measured <= each.speed.high for each in members)
        if errors:
            print(f"{group:44}{len(errors):5}{median(errors):9.1%}{max(errors):9.1%}{held / len(errors):10.0%}")


def _energy_table(outcomes: list[Outcome]) -> None:
    pairs = [
        (each.energy, each.row.j_per_token) for each in outcomes if each.energy is not None and each.row.j_per_token
    ]
    errors = [abs(energy.value / measured - 1) for energy, measured in pairs]
    held = sum(energy.low <= measured <= energy.high for energy, measured in pairs)
    if errors:
        print(
            f"\nenergy per decoded token, tested rows: {len(errors)}, median error {median(errors):.1%}, "
            f"worst {max(errors):.1%}, in band {held / len(errors):.0%}"
        )


def _group(row: Row) -> str:
    if row.device.startswith("m"):
        return "Apple M, llama.cpp"
    mode = f" {row.power_mode}" if row.power_mode not in {None, "default"} else ""
    return f"{row.device}{mode}, {row.engine}"


if __name__ == "__main__":
    run_benchmark(main)

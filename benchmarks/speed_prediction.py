"""How well decode speed on this machine is predicted.

    python -m benchmarks.speed_prediction MODEL.gguf FOLDER

Requantizes MODEL to six levels (into FOLDER, once), probes the machine as `edgetop check` does, and measures decoding
with llama.cpp, one and two threads, depths 0 and 4096, all of them in turn, round after round for SECONDS. What is
measured of a block is the lower quartile of its tokens' times, and of a case the median of its blocks: a neighbour that
takes a core for some milliseconds holds up single tokens. Three predictions are held against it:

formula       with the probe alone, taken before the measurements
calibrated    after a few runs: two of the quantizations in the even rounds, tested on the others in the odd ones;
              `earlier`: taught by all sittings in FILE but the one that is tested
own sessions  what the even rounds tell of the odd ones: of the same case, of the other depth, of the other threads

Other work on the machine spoils it: run it alone. `--save FILE` keeps the rounds and adds them to those of FILE.
"""

from __future__ import annotations

import argparse
import ctypes
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from statistics import median

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from benchmarks import run_benchmark
from edgetop.core.engine_settings import EngineSettings
from edgetop.core.quantity import Interval
from edgetop.core.records import DeviceInfo, PastRun
from edgetop.core.sources import Unavailable
from edgetop.fit.devices import this_machine
from edgetop.fit.learning import TimingSample, learn, run_of
from edgetop.fit.machine import Machine
from edgetop.fit.machine_profile import MachineProfile, measure_machine
from edgetop.fit.model_facts import ModelFacts, read_facts
from edgetop.fit.speed import predict_speed
from edgetop.inference.llama.library import Handle, Library, import_library

LEVELS = {"F16": 1, "Q8_0": 7, "Q4_K_M": 15, "Q4_1": 3, "Q4_0": 2, "Q2_K": 10}
"""llama.cpp's numbers of the file types."""
CALIBRATED_ON = ("Q8_0", "Q4_K_M")
THREADS = (1, 2)
DEPTHS = (0, 4096)
TOKENS = {0: 40, 4096: 12}
"""Decoded per block and depth."""
PIECE = 512
KEY = "this machine"


class Case(Struct, frozen=True):
    """One way to decode."""

    level: str
    threads: int
    depth: int


class Rounds(Struct, frozen=True, kw_only=True):
    """What was measured: the profile before, and seconds per token of each block in turn."""

    profile: MachineProfile
    cases: tuple[Case, ...]
    blocks_s: tuple[tuple[float, ...], ...]
    """By round, then by case."""


class Loaded:
    """One model with a context for each depth."""

    def __init__(self, library: Library, path: Path) -> None:
        self._library = library
        self._model: Handle = library.llama_model_load_from_file(
            str(path).encode(), library.llama_model_default_params()
        )
        self._contexts: dict[int, Handle] = {}
        for depth in DEPTHS:
            params = library.llama_context_default_params()
            params.n_ctx, params.n_batch, params.n_outputs_max = depth + 256, PIECE, 1
            params.n_threads = params.n_threads_batch = max(THREADS)
            self._contexts[depth] = library.llama_init_from_model(self._model, params)

    def fill(self, state: bytes | None) -> bytes:
        """Bring the deep context to its depth, by the state of another model with the same shape if there is one."""
        depth = max(DEPTHS)
        context = self._contexts[depth]
        if state is None:
            tokens = (self._library.llama_token * PIECE)(*range(1000, 1000 + PIECE))
            for _ in range(depth // PIECE):
                self._decode(context, self._library.llama_batch_get_one(tokens, PIECE))
            size_bytes = self._library.llama_state_seq_get_size(context, 0)
            buffer = (ctypes.c_uint8 * size_bytes)()
            self._library.llama_state_seq_get_data(context, buffer, size_bytes, 0)
            return bytes(buffer)
        copied = (ctypes.c_uint8 * len(state)).from_buffer_copy(state)
        if not self._library.llama_state_seq_set_data(context, copied, len(state), 0):
            raise SystemExit("the state of one model could not be given to the other")
        return state

    def block_s(self, threads: int, depth: int) -> float:
        """Seconds per token, the lower quartile; the cache is as before afterwards."""
        library, context = self._library, self._contexts[depth]
        library.llama_set_n_threads(context, threads, threads)
        token = (library.llama_token * 1)(1000)
        batch = library.llama_batch_get_one(token, 1)
        spans_s = []
        for step in range(TOKENS[depth] + 2):
            token[0] = 1000 + step
            begin_s = time.perf_counter()
            self._decode(context, batch)
            spans_s.append(time.perf_counter() - begin_s)
        library.llama_memory_seq_rm(library.llama_get_memory(context), 0, depth, -1)
        return sorted(spans_s[2:])[TOKENS[depth] // 4]

    def _decode(self, context: Handle, batch: object) -> None:
        if self._library.llama_decode(context, batch) != 0:
            raise SystemExit("llama_decode failed")
        self._library.llama_synchronize(context)


def main() -> None:
    arguments = _arguments()
    library = import_library()
    quiet = library.llama_log_callback(lambda *_: None)
    library.llama_log_set(quiet, None)
    library.llama_backend_init()
    paths = {level: _quantized(library, arguments.model, arguments.folder, level) for level in LEVELS}
    facts = {level: read_facts(path) for level, path in paths.items()}
    earlier: list[Rounds] = []
    if arguments.save is not None and arguments.save.exists():
        earlier = msgspec.json.decode(arguments.save.read_bytes(), type=list[Rounds])
    if arguments.seconds > 0:
        earlier.append(_measure(library, paths, arguments.seconds))
        if arguments.save is not None:
            arguments.save.write_bytes(msgspec.json.encode(earlier))
    for number, rounds in enumerate(earlier, 1):
        profile = rounds.profile
        rates = ", ".join(f"{rate / 1e9:.1f}" for rate in profile.bandwidth_bytes_per_s.values())
        print(f"sitting {number}: {len(rounds.blocks_s)} rounds; probe {rates} GB/s, core {profile.digits_per_s:.3g}/s")
    _report_formula(earlier, facts)
    _report_learned(earlier, facts)
    if len(earlier) > 1:
        _report_other_sittings(earlier, facts)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=90.0, help="0 only reports what was saved")
    parser.add_argument("--save", type=Path)
    return parser.parse_args()


def _quantized(library: Library, model: Path, folder: Path, level: str) -> Path:
    if read_facts(model).file_type == level:
        return model
    name = f"{model.name.removesuffix('.gguf').rsplit('.', 1)[0]}.{level}.gguf"
    path = folder / name
    if not path.exists():
        params = library.llama_model_quantize_default_params()
        params.ftype, params.allow_requantize = LEVELS[level], True
        part = path.with_suffix(".part")
        if library.llama_model_quantize(str(model).encode(), str(part).encode(), ctypes.byref(params)):
            raise SystemExit(f"{model} could not be quantized to {level}")
        part.replace(path)
    return path


def _measure(library: Library, paths: dict[str, Path], limit_s: float) -> Rounds:
    begin_s = time.monotonic()
    profile = measure_machine(KEY, max(THREADS))
    if isinstance(profile, Unavailable):
        raise SystemExit(profile.reason)
    loaded = {level: Loaded(library, path) for level, path in paths.items()}
    state: bytes | None = None
    for model in loaded.values():
        state = model.fill(state)
    cases = tuple(Case(level, threads, depth) for threads in THREADS for depth in DEPTHS for level in LEVELS)
    blocks_s: list[tuple[float, ...]] = []
    while time.monotonic() - begin_s < limit_s or len(blocks_s) < 2:
        blocks_s.append(tuple(loaded[case.level].block_s(case.threads, case.depth) for case in cases))
    return Rounds(profile=profile, cases=cases, blocks_s=tuple(blocks_s))


def _machine(profile: MachineProfile, runs: Sequence[TimingSample] = ()) -> Machine:
    device = DeviceInfo(hostname="", cores_physical=max(THREADS))
    return replace(this_machine(device, profile, {}), learned=learn(runs, profile.bandwidth_bytes_per_s), key=KEY)


def _predicted(
    facts: ModelFacts, case: Case, machine: Machine, past_runs: Sequence[PastRun] = ()
) -> tuple[Interval, str]:
    speed = predict_speed(
        facts, machine, settings=EngineSettings(), threads=case.threads, depth_tokens=case.depth, prompt_tokens=0,
        past_runs=past_runs,
    )  # fmt: skip
    if isinstance(speed, Unavailable):
        raise SystemExit(speed.reason)
    return speed.decode_tokens_per_s, speed.basis


def _rates(rounds: Rounds, which: slice) -> dict[Case, float]:
    columns = zip(*rounds.blocks_s[which], strict=True)
    return {case: 1 / median(column) for case, column in zip(rounds.cases, columns, strict=True)}


def _report_formula(sittings: Sequence[Rounds], facts: dict[str, ModelFacts]) -> None:
    print(f"\n{'case':24}{'measured':>10}{'formula':>10}{'band':>18}{'error':>9}  tokens/s, the last sitting")
    errors, held = [], []
    for rounds in sittings:
        machine = _machine(rounds.profile)
        for case, measured in _rates(rounds, slice(None)).items():
            figure, _ = _predicted(facts[case.level], case, machine)
            errors.append(abs(figure.value / measured - 1))
            held.append(figure.low <= measured <= figure.high)
            if rounds is sittings[-1]:
                name = f"{case.level} t{case.threads} d{case.depth}"
                band = f"{figure.low:.1f} to {figure.high:.1f}"
                print(f"{name:24}{measured:10.1f}{figure.value:10.1f}{band:>18}{figure.value / measured - 1:+9.1%}")
    _summary("formula", errors, held)


def _report_learned(sittings: Sequence[Rounds], facts: dict[str, ModelFacts]) -> None:
    for name, teach in (
        ("calibrated", _calibrated),
        ("own, same case", _repeated),
        ("own, other depth", _other_depth),
        ("own, other threads", _other_threads),
    ):
        errors, held = [], []
        for rounds in sittings:
            first, second = _rates(rounds, slice(0, None, 2)), _rates(rounds, slice(1, None, 2))
            for case, measured in second.items():
                figure = teach(first, case, facts, rounds.profile)
                if figure is not None:
                    errors.append(abs(figure.value / measured - 1))
                    held.append(figure.low <= measured <= figure.high)
        _summary(name, errors, held)


def _report_other_sittings(sittings: Sequence[Rounds], facts: dict[str, ModelFacts]) -> None:
    """Each sitting as the two quantizations in all other sittings, with their own probes, would have taught it."""
    errors, held = [], []
    for rounds in sittings:
        others = [other for other in sittings if other is not rounds]
        runs = [run for other in others for run in _runs(_rates(other, slice(None)), facts, other.profile)]
        for case, measured in _rates(rounds, slice(None)).items():
            if case.level not in CALIBRATED_ON:
                figure, _ = _predicted(facts[case.level], case, _machine(rounds.profile, runs))
                errors.append(abs(figure.value / measured - 1))
                held.append(figure.low <= measured <= figure.high)
    _summary("calibrated, earlier", errors, held)


def _calibrated(
    first: dict[Case, float], case: Case, facts: dict[str, ModelFacts], profile: MachineProfile
) -> Interval | None:
    if case.level in CALIBRATED_ON:
        return None
    return _predicted(facts[case.level], case, _machine(profile, _runs(first, facts, profile)))[0]


def _runs(rates: dict[Case, float], facts: dict[str, ModelFacts], profile: MachineProfile) -> list[TimingSample]:
    """What the quantizations that teach have taught."""
    machine = _machine(profile)
    runs = [
        run_of(
            facts[each.level], machine, EngineSettings(), threads=each.threads, depth_tokens=each.depth,
            decode_tokens_per_s=rate, measured_at=_now(),
        )
        for each, rate in rates.items()
        if each.level in CALIBRATED_ON
    ]  # fmt: skip
    return [run for run in runs if not isinstance(run, Unavailable)]


def _repeated(
    first: dict[Case, float], case: Case, facts: dict[str, ModelFacts], profile: MachineProfile
) -> Interval | None:
    """From the same case: how well it can be known at all beside what else goes on here."""
    return _from_one(case, first[case], case, facts, profile)


def _other_depth(
    first: dict[Case, float], case: Case, facts: dict[str, ModelFacts], profile: MachineProfile
) -> Interval | None:
    """From the same model with the same threads at the other depth."""
    known = Case(case.level, case.threads, next(depth for depth in DEPTHS if depth != case.depth))
    return _from_one(known, first[known], case, facts, profile)


def _other_threads(
    first: dict[Case, float], case: Case, facts: dict[str, ModelFacts], profile: MachineProfile
) -> Interval | None:
    """From the same model at the same depth with the other number of threads."""
    known = Case(case.level, next(count for count in THREADS if count != case.threads), case.depth)
    return _from_one(known, first[known], case, facts, profile)


def _from_one(known: Case, rate: float, case: Case, facts: dict[str, ModelFacts], profile: MachineProfile) -> Interval:
    model = facts[known.level]
    run = PastRun(
        session="", measured_at=_now(), machine_key=KEY, model_name=model.name, architecture=model.architecture,
        parameters=model.parameters, size_bytes=model.tensor_bytes, file_type=model.file_type,
        weight_bytes_per_token=model.weight_bytes_per_token, threads=known.threads, depth_tokens=known.depth,
        decode_tokens=1000, decode_tokens_per_s=rate,
    )  # fmt: skip
    return _predicted(facts[case.level], case, _machine(profile), [run])[0]


def _summary(name: str, errors: Sequence[float], held: Sequence[bool]) -> None:
    if errors:
        print(
            f"{name:20} median error {median(errors):6.1%}, worst {max(errors):6.1%}, "
            f"band holds {sum(held)} of {len(held)} ({sum(held) / len(held):.0%})"
        )


def _now() -> str:
    return datetime.now(timezone.utc).isoformat()


if __name__ == "__main__":
    run_benchmark(main)

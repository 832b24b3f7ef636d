"""Rows with llama-bench's names, as JSON, CSV, SQL and Markdown; an archive to be run again elsewhere.

The fields down to `stddev_ts`, `samples_ns` and `samples_ts` are those of llama.cpp's tools/llama-bench, in its order;
what edgetop does not set stands there with llama.cpp's default. Behind them are edgetop's figures under the names of
`edgetop.core.figures`. A figure that is not known is null.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import log
from pathlib import Path
from statistics import fmean, stdev
from typing import IO, Any, BinaryIO

import msgspec
from msgspec import Struct
from msgspec.structs import asdict, replace

from edgetop.bench.plan import ModelFile, Plan, TokenTest, engine_settings, require_possible
from edgetop.bench.results import MeanInterval, PlanResult, SettingResult, TestResult
from edgetop.bench.run_log import PLAN_BYTES_MAX, PLAN_FILE, RUNS_FILE, FinishedRun, RunLog
from edgetop.bench.soak import Soak
from edgetop.core.errors import UsageError
from edgetop.core.figures import OF_SETTING, OF_TEST, Figure, cell_of
from edgetop.core.format import NOT_AVAILABLE, format_bytes
from edgetop.core.quantity import Interval
from edgetop.core.statistics import Difference, welch_difference
from edgetop.core.text import csv_lines, markdown_table, one_line
from edgetop.io import json
from edgetop.io.files import replacement, write_atomically

TABLE = "edgetop_bench"

_FLASH_ATTENTION = {"auto": -1, "off": 0, "on": 1}
"""As llama.cpp's enum llama_flash_attn_type numbers them."""

_WITH_INTERVAL = tuple(figure for figure in OF_TEST if figure.kind in {"energy", "power"})

_LISTED = tuple(figure for figure in OF_TEST if figure.listed)


def rows_of(result: PlanResult) -> list[dict[str, Any]]:
    """One row for each setting and test; one without a test for a setting of which only the quality is known."""
    rows = []
    for setting in result.settings:
        rows += [_row(result, setting, test) for test in setting.tests]
        if setting.quality is not None and not setting.tests:
            rows.append(_row(result, setting, None))
    return rows


def _row(result: PlanResult, setting: SettingResult, test: TestResult | None) -> dict[str, Any]:
    return {
        **_configuration(result, setting),
        **_speed(setting, test),
        **_figures(setting, test),
        **_quality(setting),
        **_soak(setting.soak),
        **_circumstances(result, setting, test),
    }


def _configuration(result: PlanResult, setting: SettingResult) -> dict[str, Any]:
    """llama-bench's fields down to `fit_min_ctx`, in its order."""
    load, device = setting.load, result.device
    model = None if load is None else load.model
    chosen = None if load is None else load.settings
    requested = engine_settings(setting.setting, 0)
    names = [] if load is None else list(dict.fromkeys(name.split(":")[0] for name in load.engine.devices))
    backends = [name for name in names if name != "CPU"]
    return {
        "build_commit": "" if load is None else load.engine.commit,
        "build_number": 0,
        "cpu_info": "" if device is None else device.cpu,
        "gpu_info": "",
        "backends": "" if load is not None and load.engine.server else ",".join(backends) or "CPU",
        "model_filename": Path(setting.setting.model.path).name,
        "model_type": "" if model is None else f"{model.architecture} {model.quantization}".strip(),
        "model_size": None if model is None else model.size_bytes,
        "model_n_params": None if model is None else model.parameters,
        "n_batch": None if chosen is None else chosen.n_batch,
        "n_ubatch": None if chosen is None else chosen.n_ubatch,
        "n_threads": None if chosen is None else chosen.n_threads,
        "cpu_mask": f"0x{requested.cpu_mask or 0}",
        "cpu_strict": False,
        "poll": 50,
        "type_k": requested.type_k,
        "type_v": requested.type_v,
        "n_gpu_layers": None if chosen is None else chosen.n_gpu_layers,
        "n_cpu_moe": requested.n_cpu_moe or 0,
        "split_mode": "layer",
        "main_gpu": 0,
        "no_kv_offload": chosen is not None and not chosen.offload_kqv,
        "flash_attn": _FLASH_ATTENTION[(chosen.flash_attention if chosen is not None else None) or "auto"],
        "devices": "auto",
        "tensor_split": "0.00",
        "tensor_buft_overrides": ";".join(requested.override_tensor) or "none",
        "load_mode": "auto" if chosen is None else chosen.load_mode,
        "lazy_mode": "auto",
        "embeddings": False,
        "no_op_offload": 0,
        "no_host": False,
        "repack": chosen is None or chosen.use_extra_bufts,
        "fit_target": 0,
        "fit_min_ctx": 0,
    }


def _soak(soak: Soak | None) -> dict[str, Any]:
    """What a soak showed; `soak_minutes` is one object for each minute. CSV and SQL have all but these."""
    return {
        "soak_s": None if soak is None else soak.length_s,
        "first_minute_ts": None if soak is None else soak.first_tokens_per_s,
        "last_minute_ts": None if soak is None else soak.last_tokens_per_s,
        "soak_change_percent_low": None if soak is None or soak.change_percent is None else soak.change_percent[0],
        "soak_change_percent_high": None if soak is None or soak.change_percent is None else soak.change_percent[1],
        "steady_ts": None if soak is None or not soak.is_steady else soak.steady_tokens_per_s,
        "time_constant_s": None if soak is None else soak.time_constant_s,
        "first_minute_j_per_token": None if soak is None else soak.first_j_per_token,
        "last_minute_j_per_token": None if soak is None else soak.last_j_per_token,
        "soak_minutes": [] if soak is None else [asdict(each) for each in soak.minutes],
    }


def _speed(setting: SettingResult, test: TestResult | None) -> dict[str, Any]:
    """llama-bench's fields from `n_prompt` on, and what edgetop knows of the same.

    The deviations of a single repetition are 0, as there; `ts_low` and `ts_high` are null then.
    """
    shape = test.test if test is not None and isinstance(test.test, TokenTest) else None
    durations = [] if test is None else [each.duration_ns for each in test.repetitions]
    return {
        "n_prompt": 0 if shape is None else shape.n_prompt,
        "n_gen": 0 if shape is None else shape.n_gen,
        "n_depth": 0 if shape is None else shape.depth,
        "test_time": setting.measured_at,
        "avg_ns": round(fmean(durations)) if durations else None,
        "stddev_ns": round(stdev(durations)) if len(durations) > 1 else 0,
        "avg_ts": None if test is None else test.tokens_per_s.mean,
        "stddev_ts": 0.0 if test is None else test.tokens_per_s.deviation or 0.0,
        "samples_ns": durations,
        "samples_ts": [] if test is None else [each.tokens_per_s for each in test.repetitions],
        "test": "" if test is None else test.test.name,
        "setting": setting.setting.key,
        "ts_low": None if test is None else test.tokens_per_s.low,
        "ts_high": None if test is None else test.tokens_per_s.high,
        "ts_least_difference_percent": None if test is None else test.least_speed_percent,
        "energy_least_difference_percent": None if test is None else test.least_energy_percent,
    }


def _figures(setting: SettingResult, test: TestResult | None) -> dict[str, Any]:
    """The figures of the test and of the setting, those of energy with what they rest on."""

    def of_setting(*, energy: bool) -> dict[str, float | None]:
        return {
            figure.column: setting.figures.get(figure.name)
            for figure in OF_SETTING
            if figure.name.startswith("energy.") == energy
        }

    return {
        **{figure.column: None if test is None else _value(test.figures.get(figure.name)) for figure in OF_TEST},
        "energy_scope": setting.energy_scope,
        "energy_source": setting.energy_source or None,
        "energy_grade": setting.energy_grade,
        **of_setting(energy=True),
        "energy_missing": "" if test is None else test.energy_missing,
        **of_setting(energy=False),
    }


def _value(figure: MeanInterval | Interval | None) -> float | dict[str, float] | None:
    if isinstance(figure, Interval):
        return {"value": figure.value, "low": figure.low, "high": figure.high}
    return None if figure is None else figure.mean


def _quality(setting: SettingResult) -> dict[str, Any]:
    load, quality = setting.load, setting.quality
    divergence = None if quality is None else quality.kl_divergence
    accuracy = None if quality is None else quality.accuracy
    return {
        "bits_per_weight": None if load is None else load.model.bits_per_weight,
        "n_ctx": None if load is None else load.settings.n_ctx,
        "n_threads_batch": None if load is None else load.settings.n_threads_batch,
        "perplexity": None if quality is None else quality.perplexity.value,
        "kl_divergence": None if divergence is None else divergence.value,
        "top_agreement": None if quality is None else quality.top_agreement,
        "accuracy": None if accuracy is None else accuracy.value,
        "quality_reference": None if quality is None else quality.reference or None,
        "accuracy_sum": None if quality is None else quality.accuracy_sum,
        "accuracy_per_token": None if quality is None else quality.accuracy_per_token,
        "questions": None if quality is None else quality.questions,
        "questions_scoring": None if quality is None else quality.scoring or None,
    }


def _circumstances(result: PlanResult, setting: SettingResult, test: TestResult | None) -> dict[str, Any]:
    load, device = setting.load, result.device
    return {
        "temperature_begin_c": None if test is None else test.temperature_begin_c,
        "temperature_end_c": None if test is None else test.temperature_end_c,
        "flags": [] if test is None else list(test.flags),
        "problems": list(setting.problems),
        "engine": "" if load is None else load.engine.label,
        "server": "" if load is None else load.engine.server,
        "stamps": "" if load is None else load.engine.stamps,
        "device": "" if device is None else device.model or device.cpu,
        "power_mode": setting.setting.power_mode
        or setting.setting.governor
        or ("" if device is None else device.power_mode or device.governor),
        "sessions": [Path(path).name for path in setting.sessions],
    }


def as_json(rows: Sequence[Mapping[str, Any]]) -> str:
    """One array."""
    return json.encode(list(rows), indented=True).decode() + "\n"


def as_jsonl(rows: Iterable[Mapping[str, Any]]) -> str:
    """One object a line."""
    return "".join(json.encode(row).decode() + "\n" for row in rows)


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line a row below their names. Intervals become three columns; lists are left to JSON."""
    flat = [_flat(row) for row in rows]
    return csv_lines([flat[0], *(row.values() for row in flat)]) if flat else ""


def as_sql(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table of SQLite and its rows."""
    flat = [_flat(row) for row in rows]
    if not flat:
        return ""
    columns = ", ".join(f"{name} {_sql_type([row[name] for row in flat])}" for name in flat[0])
    names = ", ".join(flat[0])
    lines = [f"CREATE TABLE IF NOT EXISTS {TABLE} ({columns});"]
    for row in flat:
        values = ", ".join(map(_sql_value, row.values()))
        lines.append(f"INSERT INTO {TABLE} ({names}) VALUES ({values});")  # noqa: S608 - the values are quoted
    return "".join(f"{line}\n" for line in lines)


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    with_interval = {figure.column for figure in _WITH_INTERVAL}
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if name in with_interval:
            flat |= {
                f"{name}{suffix}": None if value is None else value[part]
                for suffix, part in (("", "value"), ("_low", "low"), ("_high", "high"))
            }
        elif name in {"flags", "problems"}:
            flat[name] = "; ".join(value)
        elif not isinstance(value, list):
            flat[name] = value
    return flat


def _sql_type(values: Sequence[object]) -> str:
    kinds = {type(value) for value in values if value is not None}
    if kinds and kinds <= {int, bool}:
        return "INTEGER"
    return "REAL" if kinds and kinds <= {int, float} else "TEXT"


def _sql_value(value: object) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, int | float):
        return repr(int(value) if isinstance(value, bool) else value)
    return "'" + one_line(str(value)).replace("'", "''") + "'"


def cells_of(row: Mapping[str, Any]) -> dict[str, str]:
    """A row as a person reads it, by heading."""
    return {
        "setting": row["setting"],
        "size": format_bytes(row["model_size"]),
        "bpw": NOT_AVAILABLE if row["bits_per_weight"] is None else f"{row['bits_per_weight']:.2f}",
        "threads": "" if row["n_threads"] is None else str(row["n_threads"]),
        "test": row["test"],
        "t/s": _rate(row),
        "shows": _shown(row),
        **{figure.heading_with_unit: _figure_cell(figure, row[figure.column]) for figure in _LISTED},
        "perplexity": "" if row["perplexity"] is None else f"{row['perplexity']:.2f}",
        "notes": "; ".join(row["flags"]),
    }


def as_cells(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Headings and rows of a table; columns that are empty in all rows are left out."""
    cells = [cells_of(row) for row in rows]
    headings = [heading for heading in (cells[0] if cells else ()) if any(row[heading] for row in cells)]
    return [headings, *([row[heading] for heading in headings] for row in cells)]


def as_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table as llama-bench prints it."""
    numeric = {"t/s", "size", *(figure.heading_with_unit for figure in _LISTED)}
    return markdown_table(as_cells(rows), numeric) if rows else ""


def _rate(row: Mapping[str, Any]) -> str:
    """Mean and standard deviation, as llama-bench shows them."""
    if row["avg_ts"] is None:
        return NOT_AVAILABLE
    mean = f"{row['avg_ts']:.2f}"
    return f"{mean} ± {row['stddev_ts']:.2f}" if len(row["samples_ts"]) > 1 else mean


def _shown(row: Mapping[str, Any]) -> str:
    """The smallest difference in speed that the repetitions could have shown."""
    least = row["ts_least_difference_percent"]
    return "" if least is None else f"≥ {least:.2g} %"


def _figure_cell(figure: Figure, value: Mapping[str, float] | float | None) -> str:
    """Energy that is missing is worth a word in each row; tests of tokens have no first token."""
    if isinstance(value, Mapping):
        return f"{value['value']:.3g} ± {(value['high'] - value['low']) / 2:.2g}"
    if value is None:
        return NOT_AVAILABLE if figure in _WITH_INTERVAL else ""
    return cell_of(figure, value)


DIGESTS_FILE = "SHA256SUMS"
ENVIRONMENT_FILE = "environment.json"
_SESSION = re.compile(r"sessions/\w[\w.+-]*")

LARGEST_BYTES = 2 * 2**30
"""Of all that is in an archive, unpacked."""

CONTENTS_BYTES_MAX, _END_BYTES = 4 * 2**20, 65_536 + 22
"""Of the list of what is in an archive; the second is how far before the end of a zip file that list's place stands."""


class Archive(Struct, frozen=True, kw_only=True):
    """What an archive holds; its sessions are unpacked, and `finished` names them there."""

    plan: Plan
    finished: tuple[FinishedRun, ...]


def write_archive(path: Path, benchmark: RunLog, result: PlanResult, texts: Mapping[str, str], version: str) -> int:
    """Write it, `texts` being further files; how many sessions it holds. Models are named by file, not by folder.

    A session that is gone is left out, with its run. Raises OSError.
    """
    content: dict[str, bytes | Path] = {}
    runs = []
    for number, run in enumerate(benchmark.finished, 1):
        session = Path(run.session)
        if run.session and session.is_file():
            name = f"sessions/{number:04}-{re.sub(r'[^A-Za-z0-9_.+-]', '_', session.name)}"
            content[name] = session
            runs.append(replace(run, session=name))
        elif run.outcome != "measured":
            runs.append(replace(run, session=""))
    plan = _with_models(benchmark.plan, lambda model: replace(model, path=Path(model.path).name))
    environment = {
        "edgetop": version,
        "python": platform.python_version(),
        "platform": sys.platform,
        "machine": platform.machine(),
        "engines": list(dict.fromkeys(each.load.engine.label for each in result.settings if each.load is not None)),
        "device": None if result.device is None else asdict(replace(result.device, hostname="")),
        "models": {model.label: model.content for model in _models(plan)},
    }
    files: dict[str, bytes | Path] = {
        PLAN_FILE: msgspec.json.encode(plan),
        RUNS_FILE: b"".join(msgspec.json.encode(run) + b"\n" for run in runs),
        ENVIRONMENT_FILE: json.encode(environment, indented=True),
        **{name: text.encode("utf-8", "replace") for name, text in texts.items()},
        **content,
    }
    sums = []
    with replacement(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, held in files.items():
            data = held.read_bytes() if isinstance(held, Path) else held
            sums.append(f"{hashlib.sha256(data).hexdigest()}  {name}\n")
            archive.writestr(name, data)
        archive.writestr(DIGESTS_FILE, "".join(sums))
    return len(content)


def read_archive(path: Path, folder: Path) -> Archive:
    """Unpack the sessions of an archive below `folder`. Raises UsageError for what is no archive, or was changed."""
    hint = "give a file that `edgetop bench --archive FILE` wrote"
    sessions: set[str] = set()
    try:
        with path.open("rb") as file, zipfile.ZipFile(_checked_zip(file)) as archive:
            if sum(each.file_size for each in archive.infolist()) > LARGEST_BYTES:
                raise UsageError(f"{path}: it is larger than 2 GiB", hint)
            sums = {
                name: digest
                for digest, _, name in (
                    line.partition("  ") for line in _small(archive, DIGESTS_FILE).decode().splitlines()
                )
            }
            held = {name: _small(archive, name) for name in (PLAN_FILE, RUNS_FILE)}
            digests = {name: hashlib.sha256(data).hexdigest() for name, data in held.items()}
            for name in filter(_SESSION.fullmatch, archive.namelist()):
                sessions.add(name)
                (folder / name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                digests[name] = _unpack(archive, name, folder / name)
            for name, digest in digests.items():
                if digest != sums.get(name):
                    raise UsageError(f"{path}: {name} is not what its digest says", "get the archive once more")
        plan = msgspec.json.decode(held[PLAN_FILE], type=Plan)
        require_possible(plan)
        runs = [msgspec.json.decode(line, type=FinishedRun) for line in held[RUNS_FILE].splitlines()]
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}", hint) from None
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError, NotImplementedError, RuntimeError) as error:
        raise UsageError(f"{path}: it is no archive of a benchmark ({one_line(str(error))[:200]})", hint) from None
    finished = [replace(run, session=str(folder / run.session)) if run.session in sessions else run for run in runs]
    return Archive(plan=plan, finished=tuple(finished))


def _checked_zip(file: BinaryIO) -> BinaryIO:
    """The file, if its list of contents is not longer than an archive's. Raises BadZipFile."""
    # Of all that is in a zip file that list alone is read whole before anything can be said of it.
    file.seek(0, os.SEEK_END)
    file.seek(max(0, file.tell() - _END_BYTES))
    end = file.read(_END_BYTES)
    at = end.rfind(b"PK\5\6")
    if at < 0 or len(end) < at + 16 or b"PK\6\7" in end:
        raise zipfile.BadZipFile("its list of contents is not found")
    if int.from_bytes(end[at + 12 : at + 16], "little") > CONTENTS_BYTES_MAX:
        raise zipfile.BadZipFile(f"its list of contents is longer than {CONTENTS_BYTES_MAX // 2**20} MiB")
    file.seek(0)
    return file


def _opened(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    """A file of an archive. Raises ValueError where it is packed so that unpacking may take any memory."""
    if archive.getinfo(name).compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise ValueError(f"{name} is packed in another way")
    return archive.open(name)


def _small(archive: zipfile.ZipFile, name: str) -> bytes:
    with _opened(archive, name) as file:
        data = file.read(PLAN_BYTES_MAX + 1)
    if len(data) > PLAN_BYTES_MAX:
        raise ValueError(f"{name} is larger than {PLAN_BYTES_MAX // 2**20} MiB")
    return data


def _unpack(archive: zipfile.ZipFile, name: str, target: Path) -> str:
    """Write a file of an archive, in pieces; the digest of what was written."""
    digest = hashlib.sha256()

    def pieces() -> Iterator[bytes]:
        with _opened(archive, name) as file:
            while piece := file.read(2**20):
                digest.update(piece)
                yield piece

    write_atomically(target, pieces())
    return digest.hexdigest()


def here(plan: Plan, find: Callable[[str], list[Path]], digest_of: Callable[[Path], str]) -> Plan:
    """The plan with the models of this machine: those that `find` gives for a file's name and that are the same file.

    Raises UsageError.
    """

    def located(model: ModelFile) -> ModelFile:
        if not model.content or plan.server:
            return model
        found = find(model.path)
        for path in found:
            if digest_of(path) == model.content:
                return replace(model, path=str(path))
        if found:
            raise UsageError(f"{found[0]} is not the file that was measured", f"get the {model.path} of the archive")
        raise UsageError(f"{model.path} is not on this machine", "name it with -m, or add its folder with --model-dir")

    return _with_models(plan, located)


def held_against(first: PlanResult, again: PlanResult) -> list[str]:
    """What was measured now against the archive, setting by setting and test by test."""
    before = {each.setting.key: each for each in first.settings}
    sentences = []
    for setting in again.settings:
        archived = before.get(setting.setting.key)
        for test in setting.tests:
            other = None if archived is None else archived.test(test.test.name)
            if other is None:
                continue
            parts = [_against("tok/s", test.tokens_per_s.mean, other.tokens_per_s.mean, _speed_difference(test, other))]
            ours, theirs = test.j_per_token, other.j_per_token
            if ours is not None and theirs is not None and min(ours.value, theirs.value) > 0:
                parts.append(_against("J/token", ours.value, theirs.value, _energy_difference(test, other)))
            sentences.append(f"{setting.setting.key}, {test.test.name}: {'; '.join(parts)}.")
    return sentences


def _against(unit: str, now: float, then: float, difference: Difference | None) -> str:
    text = f"{now:.4g} {unit}, {then:.4g} in the archive"
    if difference is None:
        return f"{text} (a single repetition tells no difference)"
    low, high = difference.interval()
    verdict = ", within noise" if low <= 0 <= high else ""
    return f"{text} ({low:+.1f} to {high:+.1f} %{verdict})"


def _speed_difference(test: TestResult, other: TestResult) -> Difference | None:
    if min(len(test.repetitions), len(other.repetitions)) < 2:
        return None
    ratio = test.tokens_per_s.mean / other.tokens_per_s.mean
    return welch_difference(log(ratio), test.speed_spread, other.speed_spread)


def _energy_difference(test: TestResult, other: TestResult) -> Difference | None:
    """By the random part alone: how far two meters differ, no repetition says."""
    ours, theirs, first, second = test.energy_spread, other.energy_spread, test.j_per_token, other.j_per_token
    if ours is None or theirs is None or first is None or second is None:
        return None
    return welch_difference(log(first.value / second.value), ours, theirs)


def _models(plan: Plan) -> list[ModelFile]:
    return list(dict.fromkeys(each.model for each in plan.settings))


def _with_models(plan: Plan, change: Callable[[ModelFile], ModelFile]) -> Plan:
    changed = {model: change(model) for model in _models(plan)}
    return replace(plan, settings=tuple(replace(each, model=changed[each.model]) for each in plan.settings))

"""From what a person asks for to a plan: models are found, and levels of them made."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import platformdirs
from msgspec.structs import replace

from edgetop.bench.plan import CoolDown, ModelFile, Plan, QualityPlan, settings_of, token_tests
from edgetop.bench.plan_file import Wishes
from edgetop.bench.texts import prompt_tests, reading_text
from edgetop.commands.bench_server import has_server, server_plan
from edgetop.commands.console import clear_progress, say, show_progress
from edgetop.commands.server_choice import has_own_engine
from edgetop.core.errors import UsageError
from edgetop.core.format import format_bytes
from edgetop.fit.model_file import read_facts
from edgetop.inference.catalog import resolve
from edgetop.inference.last_model import last_model
from edgetop.inference.quantization import LEVELS, content_key, level_path, make_level, size_of_level
from edgetop.settings import options
from edgetop.settings.resolve import Settings

UNQUANTIZED = frozenset({"F32", "F16", "BF16", "all F32"})
LARGEST_TEXT_BYTES = 16 * 2**20


def plan_of(wishes: Wishes, settings: Settings, *, quiet: bool = False, make: bool = True) -> Plan:
    """The plan; its levels are made unless `make` is false.

    Raises ModelError for a model that is not found, QuantizationError and UsageError.
    """
    server = ""
    if has_server(settings):
        wishes, found, server = server_plan(wishes, settings, quiet=quiet)
        models = _told_apart(found)
    else:
        models = _models(wishes, settings, quiet=quiet, make=make)
    cool_down = CoolDown()
    if wishes.idle_s is not None:
        cool_down = replace(cool_down, idle_s=wishes.idle_s)
    if wishes.cool_down_limit_s is not None:
        cool_down = replace(cool_down, limit_s=wishes.cool_down_limit_s)
    tests = token_tests(wishes.n_prompt, wishes.n_gen, wishes.n_depth, wishes.pairs)
    return Plan(
        name=wishes.name,
        settings=tuple(
            settings_of(
                models,
                threads=wishes.threads or (None,),
                threads_batch=wishes.threads_batch or (None,),
                kv_types=wishes.kv_type,
                gpu_layers=wishes.gpu_layers or (None,),
                batches=wishes.batch or (None,),
                ubatches=wishes.ubatch or (None,),
            )
        ),
        tests=(*tests, *(prompt_tests(wishes.max_tokens) if wishes.prompts else ())),
        repetitions=wishes.repetitions,
        order=wishes.order,
        warmup=wishes.warmup,
        cool_down=cool_down,
        quality=_quality(wishes.quality),
        seed=wishes.seed,
        server=server,
    )


def level_folder() -> Path:
    """Where levels that were made are kept: below the user's cache folder, or EDGETOP_CACHE_DIR."""
    chosen = os.environ.get("EDGETOP_CACHE_DIR", "")
    return (Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("edgetop")) / "levels"


def say_sizes(wishes: Wishes, settings: Settings) -> None:
    """Say how much the levels take that have to be made. Raises as `plan_of`."""
    if not has_own_engine(settings):
        return
    for path in _found(wishes, settings):
        for level in _levels(wishes):
            if level_path(path, level, level_folder()).is_file():
                continue
            show_progress(f"how large {level} of {path.name} will be")
            size_bytes = size_of_level(path, level)
            say(f"{level} of {path.name} is to be made: {format_bytes(size_bytes)}")


def _found(wishes: Wishes, settings: Settings) -> list[Path]:
    names: Sequence[str | None] = wishes.models or (None,)
    return [resolve(name, folders=settings[options.MODEL_DIR], last_used=last_model()) for name in names]


def _levels(wishes: Wishes) -> tuple[str, ...]:
    for level in wishes.quant:
        if level not in LEVELS:
            raise UsageError(f"{level!r} is no level that can be made", f"choose from {', '.join(LEVELS)}")
    return wishes.quant


def _models(wishes: Wishes, settings: Settings, *, quiet: bool, make: bool) -> list[ModelFile]:
    if settings[options.ENGINE] != "llama":
        return [_played_model(name) for name in wishes.models or ("scripted",)]
    levels, found = _levels(wishes), _found(wishes, settings)
    if not levels:
        return _told_apart([_model_file(path) for path in found])
    models = []
    for path in found:
        if not quiet:
            _say_requantized(path)
        for level in levels:
            target = level_path(path, level, level_folder())
            if make:
                _make(path, level, quiet=quiet)
            exists = target.is_file()
            models.append(_model_file(target) if exists else ModelFile(path=str(target), label=target.stem))
    return _told_apart(models)


def _make(path: Path, level: str, *, quiet: bool) -> None:
    if not quiet:
        show_progress(f"making {level} of {path.name}")
    made = make_level(path, level, level_folder())
    clear_progress()
    if made.made_now and not quiet:
        note = f"; {made.fallback_tensors} tensors got another type" if made.fallback_tensors else ""
        say(f"made {made.path.name}, {format_bytes(made.path.stat().st_size)}{note}")


def _say_requantized(path: Path) -> None:
    """What is quantized twice has lost twice, and no level of it can be better than itself."""
    file_type = read_facts(path).file_type
    if file_type not in UNQUANTIZED:
        say(
            f"{path.name} is {file_type} already: its levels carry that loss too, and stand for those made from the "
            "unquantized model in speed and energy, but not in quality"
        )


def _played_model(name: str) -> ModelFile:
    """A model of an engine that plays a script: any name."""
    path = Path(name)
    return ModelFile(path=name, label=path.stem, content=content_key(path) if path.is_file() else "")


def _model_file(path: Path) -> ModelFile:
    return ModelFile(path=str(path), label=path.stem, content=content_key(path))


def _told_apart(models: Sequence[ModelFile]) -> list[ModelFile]:
    """Files of the same name get a number behind it; the same file twice is one."""
    distinct = list({model.path: model for model in models}.values())
    seen: dict[str, int] = {}
    labelled = []
    for model in distinct:
        seen[model.label] = seen.get(model.label, 0) + 1
        number = seen[model.label]
        labelled.append(model if number == 1 else replace(model, label=f"{model.label} ({number})"))
    return labelled


def _quality(wish: bool | str) -> QualityPlan | None:
    if wish is False:
        return None
    if wish is True:
        return QualityPlan(text=reading_text())
    path = Path(str(wish)).expanduser()
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_TEXT_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}", "give a text file to --quality") from None
    if len(data) > LARGEST_TEXT_BYTES:
        raise UsageError(f"{path}: it is larger than 16 MiB", "a few pages of text are enough")
    return QualityPlan(text=data.decode("utf-8", "replace"), text_name=path.name)

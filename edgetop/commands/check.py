"""`edgetop check`: will a model fit, how fast, at what energy. It loads nothing, and informs; the load decides."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from msgspec.structs import replace

from edgetop.commands.check_output import Checked, exit_code, write_checked
from edgetop.commands.check_place import other_modes, place_of
from edgetop.commands.console import say, say_trouble
from edgetop.core.engine import EngineSettings
from edgetop.core.errors import ModelError, UsageError
from edgetop.core.records import Missing
from edgetop.fit.assessment import Assessment, Place, Talk, assess
from edgetop.fit.model_facts import ModelFacts
from edgetop.fit.model_file import models_in, read_facts
from edgetop.fit.suggestions import Choices
from edgetop.settings import options
from edgetop.settings.engine import engine_settings
from edgetop.settings.option import integer, real, token_count
from edgetop.settings.resolve import Settings

T = TypeVar("T")
BESIDE_MAX = 12
"""Models in the same folder whose headers are read to find one that does better."""
REMOTE = ("hf:", "https://", "http://")


def execute(arguments: argparse.Namespace, settings: Settings) -> int:
    """Print what was found and return the worst exit code of all models and contexts."""
    if arguments.history:
        from edgetop.commands.check_history import show_history  # noqa: PLC0415 - reads sessions; nothing else here does

        return show_history(settings, arguments.format)
    if arguments.device == "list":
        from edgetop.commands.check_devices import show_devices  # noqa: PLC0415 - the device table

        return show_devices(arguments.format)
    talk = Talk(
        prompt_tokens=_given("--prompt-tokens", arguments.prompt_tokens, integer(1)),
        answer_tokens=_given("--answer-tokens", arguments.answer_tokens, integer(1)),
    )
    speed = arguments.min_speed
    min_speed = None if speed is None else _given("--min-speed", speed, real(0, 1e9))
    wishes = _wishes(arguments.ctx, engine_settings(settings))
    place = place_of(arguments, settings)
    if arguments.screen:
        from edgetop.commands.check_screen import show_screen  # noqa: PLC0415 - with Textual

        return show_screen(arguments.models, wishes, talk, place, settings)
    checked = list(_check(arguments.models, wishes, talk, place, settings, exact=arguments.exact))
    modes = other_modes(arguments, settings)
    write_checked(
        checked,
        place,
        arguments.format,
        currency=settings[options.CURRENCY],
        choices=lambda assessment: Choices(modes=modes, others=_others(assessment, checked)),
    )
    for each in checked:
        if each.problem:
            say_trouble(f"{each.source}: {each.problem}", each.mend)
    if min_speed is not None and any(
        each.assessment is not None and each.assessment.decode is None for each in checked
    ):
        say("without a predicted speed nothing can be said of --min-speed")
    return max((exit_code(each, min_speed) for each in checked), key=_badness, default=0)


def _badness(code: int) -> int:
    """Too slow is better than not fitting, and that is better than nothing known of the model."""
    return (0, 5, 4, 1, 3).index(code)


def _check(
    models: Sequence[str],
    wishes: Sequence[EngineSettings],
    talk: Talk,
    place: Place,
    settings: Settings,
    *,
    exact: bool,
) -> Iterator[Checked]:
    """Raises ModelError for a single model that cannot be read; of several, those that can are checked."""
    names: Sequence[str | None] = models or [None]
    for name in names:
        try:
            facts = _facts(name, settings)
        except ModelError as error:
            if len(models) <= 1:
                raise
            yield Checked(source=str(name), problem=error.what, mend=error.mend)
            continue
        for wish in wishes:
            yield Checked(source=facts.source, assessment=_assess(facts, wish, talk, place, exact=exact))


def _others(assessment: Assessment, checked: Sequence[Checked]) -> tuple[ModelFacts, ...]:
    """The models that were named beside this one, and those that lie beside it; none where it needs no other."""
    if assessment.verdict.rank == (0, 0):
        return ()
    named = {each.assessment.facts.files[0]: each.assessment.facts for each in checked if each.assessment is not None}
    file = Path(assessment.facts.files[0])
    beside = [] if assessment.facts.source.startswith(REMOTE) else models_in(file.parent)
    for model in [each for each in beside if str(each) not in named][:BESIDE_MAX]:
        with suppress(ModelError):
            named[str(model)] = read_facts(model)
    return tuple(named.values())


def _facts(name: str | None, settings: Settings) -> ModelFacts:
    """The facts of a model by the name that a person gave; `None` is the one used last."""
    if name is not None and name.startswith(REMOTE):
        from edgetop.fit.remote_model import fetch_facts  # noqa: PLC0415 - with http

        return fetch_facts(name)
    if name is not None and Path(name).is_file():
        return read_facts(Path(name))
    from edgetop.inference.catalog import resolve  # noqa: PLC0415 - looks through folders
    from edgetop.inference.last_model import last_model  # noqa: PLC0415 - the same

    return read_facts(resolve(name, folders=settings[options.MODEL_DIR], last_used=last_model()))


def _assess(facts: ModelFacts, wish: EngineSettings, talk: Talk, place: Place, *, exact: bool) -> Assessment:
    """By the formulas; by llama.cpp where they have no answer or it is asked for."""
    assessment = assess(facts, wish, talk, place)
    if not (exact or isinstance(assessment.need, Missing)) or facts.source.startswith(REMOTE):
        return assessment
    from edgetop.inference.dry_load import dry_load  # noqa: PLC0415 - starts a process

    allocated = dry_load(Path(facts.files[0]), assessment.settings)
    if isinstance(allocated, Missing):
        if exact:
            say_trouble(f"llama.cpp does not say what it would allocate: {allocated.reason}", allocated.mend)
        return assessment
    return assess(facts, wish, talk, place, allocated=allocated)


def _wishes(contexts: str | None, wish: EngineSettings) -> list[EngineSettings]:
    if contexts is None:
        return [wish]
    return [replace(wish, n_ctx=_given("--ctx", text, token_count)) for text in contexts.split(",")]


def _given(flag: str, text: str, parse: Callable[[str], T]) -> T:
    try:
        return parse(text)
    except ValueError as error:
        raise UsageError(f"{flag}: {text!r} cannot be used", f"expected is {error}") from None

"""JSON Schema, validation, recomputed figures and changes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.clock import US_PER_S, seconds
from edgetop.core.energy.scopes import Headline
from edgetop.core.errors import EdgetopError
from edgetop.core.figures import FIGURES, Figure, Summary, TurnFigures
from edgetop.core.records import TOKENS_MAX
from edgetop.session.file import SessionFile, structure_problems, to_file, to_session
from edgetop.session.file_io import SessionFileError, load_file
from edgetop.session.meters import headline_of, meters_of

AUTOMATIC, NONE = "auto", "none"
"""Names of no source: the choice left to edgetop, and no power at all."""


class Change(Struct, frozen=True, kw_only=True):
    """A figure that was another one before."""

    place: str
    """Such as `summary.energy.gross_j` or `turn 2: decode_tokens_per_s`."""
    old: Any
    new: Any
    """As JSON has them: a number, a text, `null`, or a figure with its interval."""


def recomputed(file: SessionFile, power: str | None = None) -> SessionFile:
    """The file with all figures computed again; everything that was recorded stays as it is.

    `power` names another headline source, `auto` or `none`. Raises ValueError where the parts of the file do not fit
    together, EdgetopError when it has no source of that name.
    """
    session = to_session(file)
    chosen = file.power if power is None else None if power == AUTOMATIC else power
    if session.header is not None:
        session.header = replace(session.header, power=chosen)
    if power not in {None, AUTOMATIC, NONE}:
        headline = headline_of(session, meters_of(session))
        if not isinstance(headline, Headline):
            raise EdgetopError(headline.reason, headline.hint)
    computed = to_file(session)
    return replace(
        file,
        power=chosen,
        summary=computed.summary,
        turns=tuple(
            replace(turn, figures=again.figures) for turn, again in zip(file.turns, computed.turns, strict=True)
        ),
    )


def changes(old: SessionFile, new: SessionFile) -> list[Change]:
    """Which figures differ, in the order of the file."""
    was_chosen, is_chosen = old.power or AUTOMATIC, new.power or AUTOMATIC
    found = [] if was_chosen == is_chosen else [Change(place="power", old=was_chosen, new=is_chosen)]
    found += _differences("summary.", old.summary, new.summary)
    for was, now in zip(old.turns, new.turns, strict=True):
        found += _differences(f"turn {was.turn}: ", was.figures, now.figures)
    return found


def _differences(place: str, old: Summary | TurnFigures, new: Summary | TurnFigures) -> list[Change]:
    return _changed(place, msgspec.to_builtins(old), msgspec.to_builtins(new))


def _changed(place: str, old: dict[str, Any], new: dict[str, Any]) -> list[Change]:
    found = []
    for name in dict.fromkeys([*old, *new]):
        was, now = old.get(name), new.get(name)
        if was == now:
            continue
        if isinstance(was, dict) and isinstance(now, dict) and not {"low", "high"} <= was.keys() & now.keys():
            found += _changed(f"{place}{name}.", was, now)
        else:
            found.append(Change(place=f"{place}{name}", old=was, new=now))
    return found


SCHEMA_PATH: Final = Path(__file__).with_name("session.schema.json")
"""The schema as it is shipped; `python -m edgetop.session.file_check` writes it anew."""

PROBLEMS_SHOWN = 20

_BY_RULES = frozenset(figure.name.partition(".")[0] for figure in FIGURES if "rules" in figure.rests_on)
"""What rests on more than the stamps and readings of the file, or on rules that get better."""


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a session file, each figure with what it is."""
    generated = msgspec.json.schema(SessionFile)
    definitions = generated["$defs"]
    for subject, holder in (("watch", "WatchFigures"), ("turn", "TurnFigures"), ("session", "Summary")):
        for figure in FIGURES:
            if subject in figure.of:
                _described(definitions, holder, figure)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "edgetop session",
        **generated,
    }


def _described(definitions: dict[str, Any], holder: str, figure: Figure) -> None:
    """Put what a figure is into the schema of the struct that holds it."""
    *parts, name = figure.name.split(".")
    for part in parts:
        field = definitions[holder]["properties"][part]
        references = [each["$ref"] for each in (field, *field.get("anyOf", ())) if "$ref" in each]
        holder = references[0].rpartition("/")[2]
    unit = f" ({figure.unit})" if figure.unit else ""
    definitions[holder]["properties"][name]["description"] = f"{figure.label}{unit}: {figure.formula}"


def schema_text() -> str:
    """The schema as it is shipped."""
    return msgspec.json.format(msgspec.json.encode(schema(), order="sorted"), indent=2).decode() + "\n"


def validate(path: Path) -> list[str]:
    """What is wrong with a session file, a line for each, with the place in the file; empty if nothing is."""
    try:
        file = load_file(path)
    except SessionFileError as error:
        return [error.what]
    problems = list(islice(chain(structure_problems(file), _impossible(file)), PROBLEMS_SHOWN))
    if not problems:
        try:
            problems = _wrong_figures(file, to_file(to_session(file)))
        except ValueError as error:
            problems = [str(error)]
    return [f"{path}: {problem}" for problem in problems[:PROBLEMS_SHOWN]]


LONGEST_S: Final = 10 * 366 * 86_400
"""No session has been recorded for ten years."""


def _impossible(file: SessionFile) -> Iterator[str]:
    """What no recording says, though the parts of the file fit together."""
    if file.duration_us > LONGEST_S * US_PER_S:
        yield f"$.duration_us: {seconds(file.duration_us) / 86_400:.0f} days are no length of a session"
    for index, turn in enumerate(file.turns):
        end, prefill = turn.end, turn.prefill
        counts: dict[str, int | None] = {}
        if end is not None:
            names = ("prompt_tokens", "cached_tokens", "generated_tokens", "hidden_tokens", "context_used")
            counts = {f"end.{name}": getattr(end, name) for name in names}
            if (end.cached_tokens or 0) > (end.prompt_tokens or TOKENS_MAX):
                yield f"$.turns[{index}].end.cached_tokens: more than the prompt has"
            if end.hidden_tokens > end.generated_tokens:
                yield f"$.turns[{index}].end.hidden_tokens: more than were generated"
        if prefill is not None:
            counts |= {"prefill.total": prefill.total, "prefill.cached": prefill.cached}
            if max(prefill.done, default=0) > prefill.total:
                yield f"$.turns[{index}].prefill.done: more than there is to evaluate"
        for name, count in counts.items():
            if count is not None and count > TOKENS_MAX:
                yield f"$.turns[{index}].{name}: {count} tokens are more than any context holds"


def _wrong_figures(file: SessionFile, computed: SessionFile) -> list[str]:
    """Figures that are not what the stamps and readings of the file give."""
    found = _differences("$.summary.", file.summary, computed.summary)
    for index, (turn, again) in enumerate(zip(file.turns, computed.turns, strict=True)):
        found += _differences(f"$.turns[{index}].figures.", turn.figures, again.figures)
    return [
        f"{change.place}: it says {_short(change.old)}, but what was recorded gives {_short(change.new)}"
        for change in found
        if not _BY_RULES & set(change.place.split("."))
    ]


def _short(value: object) -> str:
    return msgspec.json.encode(value).decode()


if __name__ == "__main__":
    SCHEMA_PATH.write_text(schema_text(), encoding="utf-8")

"""The figures of a session file again, from the stamps and readings in it."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.energy.scope import Headline
from edgetop.core.errors import EdgetopError
from edgetop.core.figures import Summary, TurnFigures
from edgetop.session.conversion import to_file, to_session
from edgetop.session.file import SessionFile
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
            raise EdgetopError(headline.reason, headline.mend)
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

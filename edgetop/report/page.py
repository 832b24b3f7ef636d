"""The page: template, scripts, content security policy, sections.

Its content security policy names the two scripts by their hashes and forbids all addresses, so that nothing a session
holds could run or be fetched even if it came into the page unescaped. Every text goes through `literal` and through
Jinja's escaping; data for the scripts is JSON in which no character can end a script.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Sequence
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from msgspec import Struct
from msgspec.structs import replace

from edgetop import __version__
from edgetop.core.figures import COMPARED, turn_cells
from edgetop.core.text import literal
from edgetop.report.comparison_section import (
    cell_text,
    keys_of,
    names_of,
    reasons_of,
    row_facts,
    short_name,
    verdict_text,
)
from edgetop.report.plots import (
    Caption,
    Spec,
    energy_against_speed,
    energy_caption,
    plotly_script,
    session_caption,
    session_over_time,
    session_windows,
    speed_caption,
    speed_over_time,
)
from edgetop.report.session_section import (
    TURN_HEADINGS,
    Fact,
    Measurement,
    SourceText,
    absent_facts,
    energy_basis,
    events_of,
    facts_of,
    measurements_of,
    sources_of,
)
from edgetop.report.time_series import time_series
from edgetop.session.compare.result import Comparison
from edgetop.session.file import SessionFile
from edgetop.session.session import Session

NAMED_IN_TITLE = 3


class Recorded(Struct, frozen=True, kw_only=True):
    """A recorded session of the comparison."""

    file: SessionFile
    session: Session


class Plot(Struct, frozen=True, kw_only=True):
    """One plot, with the same in words and numbers for those who cannot see it."""

    id: str
    data: Markup
    """JSON for the script that draws it."""
    caption: Caption


class Section(Struct, frozen=True, kw_only=True):
    """What the report tells of one session."""

    key: str
    name: str
    file: SessionFile
    facts: dict[str, list[Fact]]
    plot: Plot
    measurements: list[Measurement]
    energy: list[Measurement]
    energy_basis: list[Fact]
    sources: list[SourceText]
    events: list[tuple[float, str]]


TEMPLATE_FUNCTIONS = {
    each.__name__: each for each in (absent_facts, cell_text, row_facts, short_name, turn_cells, verdict_text)
}


def report_page(comparison: Comparison, recorded: Sequence[Recorded | None], *, written_at: str) -> str:
    """The report of a comparison as HTML.

    `recorded` has one entry for each row, `None` for a result that is not a recorded session; `written_at` is the wall
    clock in words. Raises EdgetopError when plotly is not installed.
    """
    plotly = _script(plotly_script())
    own = _script(_file("report.js"))
    keys, names = keys_of(len(comparison.rows)), names_of(comparison)
    sections = list(_sections(keys, names, recorded))
    plots = list(_shared_plots(comparison, keys, names)) if len(comparison.rows) > 1 else []
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            policy=_policy(plotly, own),
            title=_title(names),
            written_at=written_at,
            version=__version__,
            css=Markup(_file("report.css")),  # noqa: S704 - a file of this package
            plotly=plotly,
            script=own,
            comparison=comparison,
            figures=[COMPARED[name] for name in comparison.figures],
            reasons=reasons_of(comparison, keys),
            recorded=recorded,
            plots=plots,
            sections=sections,
            keys=keys,
            names=names,
            turn_headings=TURN_HEADINGS,
            **TEMPLATE_FUNCTIONS,
        )
    )


def script_data(value: object) -> Markup:
    """A value as JSON that can stand in a script element: nothing in it ends the element or begins another one.

    Raises ValueError for a number that JSON has not.
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 - escaped above


def _sections(keys: Sequence[str], names: Sequence[str], recorded: Sequence[Recorded | None]) -> Iterator[Section]:
    sections = [_section(key, name, each) for key, name, each in zip(keys, names, recorded, strict=True) if each]
    for section in sections:
        yield replace(section, facts=_marked(section, sections))


def _section(key: str, name: str, recorded: Recorded) -> Section:
    file, summary = recorded.file, recorded.file.summary
    energy = summary.energy
    series = time_series(recorded.session)
    events = events_of(file)
    idle_w = energy.idle_w.value if energy is not None and energy.idle_w is not None else None
    spec = session_over_time(series, idle_w, events)
    caption = session_caption(f"{key} {name}: speed, power and memory over time", series, summary)
    return Section(
        key=key,
        name=name,
        file=file,
        facts=facts_of(file),
        plot=_plot(f"plot-{key}", spec, replace(caption, rows=session_windows(series))),
        measurements=list(measurements_of(summary, energy=False)),
        energy=[] if energy is None else list(measurements_of(summary, energy=True)),
        energy_basis=[] if energy is None else energy_basis(energy, file.series),
        sources=list(sources_of(file)),
        events=events,
    )


def _marked(section: Section, sections: Sequence[Section]) -> dict[str, list[Fact]]:
    """The section's facts, with a mark at those that are not the same in all sections."""
    everywhere = [
        {(subject, fact.name): fact.value for subject, facts in each.facts.items() for fact in facts}
        for each in sections
    ]
    return {
        subject: [
            fact
            if subject == "Session"
            else replace(fact, differs=len({each.get((subject, fact.name)) for each in everywhere}) > 1)
            for fact in facts
        ]
        for subject, facts in section.facts.items()
    }


def _shared_plots(comparison: Comparison, keys: Sequence[str], names: Sequence[str]) -> Iterator[Plot]:
    spec = energy_against_speed(comparison, keys, names)
    if spec is not None:
        yield _plot("plot-energy", spec, energy_caption(comparison, keys, names))
    spec = speed_over_time(comparison, keys, names)
    if spec is not None:
        yield _plot("plot-speed", spec, speed_caption(comparison, keys, names))


def _plot(name: str, spec: Spec, caption: Caption) -> Plot:
    return Plot(id=name, data=script_data(spec), caption=caption)


def _title(names: Sequence[str]) -> str:
    if len(names) > NAMED_IN_TITLE:
        return f"{names[0]} against {len(names) - 1} others"
    return " against ".join(names)


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("edgetop.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )


def _shown(value: Any) -> Any:  # noqa: ANN401 - whatever a template writes
    """Text of whoever made literal, before it is escaped."""
    return literal(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _policy(*scripts: Markup) -> str:
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    hashes = " ".join(f"'sha256-{digest}'" for digest in digests)
    # Plotly sets styles and makes pictures to download from data of its own.
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _script(source: str) -> Markup:
    """A script of ours or of plotly to stand in the page."""
    # Inside strings and patterns, the only places where it can stand, this means the same.
    return Markup(source.replace("</script", "<\\/script").replace("<!--", "<\\!--"))  # noqa: S704 - no foreign text


def _file(name: str) -> str:
    return resources.files("edgetop.report").joinpath(name).read_text("utf-8")

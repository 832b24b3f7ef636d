"""Verb report."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from msgspec.structs import replace

from edgetop.commands.inputs import given_duty, open_store
from edgetop.commands.output import print_status, require_free, write_data, write_file
from edgetop.core.energy.duty import Duty
from edgetop.core.figures import with_duty
from edgetop.core.format import format_bytes, format_time
from edgetop.report.page import Recorded, Study, report_page
from edgetop.session.compare.compare import compare
from edgetop.session.compare.reading import read_all
from edgetop.session.file_io import load, load_without_readings
from edgetop.settings.resolve import Settings

STDOUT = "-"
NAMES_IN_FILE_NAME = 3
NAME_CHARACTERS = 100


def execute(arguments: argparse.Namespace, settings: Settings) -> int:
    """Write the report and say where it is."""
    store = open_store(settings)
    paths = [store.find(text) for text in arguments.results]
    output = None if arguments.output == STDOUT else Path(arguments.output or default_name(paths))
    require_free(output, force=arguments.force)
    html = report_of(paths, given_duty(settings), interactive=arguments.interactive)
    if output is None:
        write_data(html)
        return 0
    write_file(output, html.encode())
    print_status(f"report: {output}, {format_bytes(output.stat().st_size)}")
    return 0


def report_of(
    paths: Sequence[Path], duty: Duty | None = None, *, interactive: bool = False, study: Study | None = None
) -> str:
    """The report of session files and bench results, held against the first of them; of a `study` its results first.

    Raises SessionFileError, and EdgetopError when it is to be `interactive` and plotly is not installed.
    """
    results = read_all(paths, duty)
    recorded = [_recorded(Path(result.origin), duty) if result.kind == "session" else None for result in results]
    written_at = format_time(datetime.now(timezone.utc).isoformat())
    return report_page(compare(results), recorded, written_at=written_at, interactive=interactive, study=study)


def default_name(paths: Sequence[Path]) -> str:
    """A name for the report in the working folder, made of the names of what it is of."""
    names = [re.sub(r"[^\w.-]+", "-", path.stem) for path in paths[:NAMES_IN_FILE_NAME]]
    more = len(paths) - len(names)
    stem = "-vs-".join(names) + (f"-and-{more}-more" if more else "")
    return f"edgetop-{stem[:NAME_CHARACTERS].rstrip('-.')}.html"


def _recorded(path: Path, duty: Duty | None) -> Recorded:
    session, file = load(path), load_without_readings(path)
    return Recorded(file=replace(file, summary=with_duty(file.summary, duty)), session=session)

"""Results of a benchmark as they are printed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from edgetop.bench.answers import Answers
from edgetop.bench.output import as_cells, as_csv, as_json, as_jsonl, as_markdown, as_sql
from edgetop.bench.results import PlanResult
from edgetop.bench.rows import rows_of
from edgetop.commands.console import say, write_data
from edgetop.commands.listing import table
from edgetop.core.errors import EdgetopError, UsageError
from edgetop.core.text import one_line
from edgetop.session.disk import write_atomically


def write_results(result: PlanResult, answers: Answers, form: str, *, quiet: bool) -> None:
    """Print results as data; what went wrong goes to stderr, and into the data of those forms that have room for it."""
    rows = rows_of(result)
    match form:
        case "json":
            write_data(as_json(rows))
        case "jsonl":
            write_data(as_jsonl(rows))
        case "csv":
            write_data(as_csv(rows))
        case "sql":
            write_data(as_sql(rows))
        case "md":
            write_data("\n".join([as_markdown(rows), "".join(f"- {one_line(each)}\n" for each in answers.sentences)]))
        case _:
            if rows:
                write_data(table(as_cells(rows)) + "\n")
            write_data("".join(f"{one_line(sentence)}\n" for sentence in answers.sentences))
    if not quiet or form == "table":
        for setting in result.settings:
            for problem in setting.problems:
                say(f"{setting.setting.key}: {problem}")


def require_plotting() -> None:
    """Whether reports can be written, known before hours are spent on measuring. Raises UsageError."""
    if find_spec("plotly") is None:
        raise UsageError(
            "a report needs plotly, which is not installed", "pip install 'edgetop[report]', or leave --report out"
        )


def write_report(result: PlanResult, output: Path) -> None:
    """Write the HTML report of a plan's sessions and say where it is. Raises EdgetopError."""
    from edgetop.commands.report import report_of  # noqa: PLC0415 - brings the plotting library

    sessions = [Path(path) for each in result.settings for path in each.sessions]
    if not sessions:
        return
    try:
        write_atomically(output, [report_of(sessions).encode("utf-8", "replace")])
    except OSError as error:
        raise EdgetopError(f"{output}: {error.strerror}", "name a file that can be written with --report") from None
    say(f"report: {output}")

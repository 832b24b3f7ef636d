"""What reports are made of in the tests: the shipped recordings, plain and with hostile text in every place."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from edgetop.core.records import EventEntry, LoadEntry
from edgetop.core.sources import Unavailable
from edgetop.report.page import Recorded, report_page
from edgetop.session.compare.compare import compare
from edgetop.session.compare.reading import session_result
from edgetop.session.file import ReplySpan, SeriesEntry, SessionFile, TurnEntry, to_session
from edgetop.session.file_io import load_file
from edgetop.session.session import MissingRun

FOLDER = Path(__file__).resolve().parents[2] / "sessions"
ONE, OTHER = "smollm2-135m-q4_1", "smollm2-135m-f16"
WRITTEN_AT = "2026-10-12 14:03 UTC"
HOSTILE = (
    "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked=2'>"
    '<!-- <a href="javascript:window.hacked=3">{{7*7}}</a> {% raw %} %{x} &lt;b&gt; &#60;script&#62;'
    "\u202eevil\u202c \x1b[31mred\x1b[0m \u2028 ]]> \\u003c ${7*7}"
)


def example(name: str = ONE) -> SessionFile:
    """A shipped recording."""
    return load_file(FOLDER / f"{name}.json")


def recorded(file: SessionFile) -> Recorded:
    """A file as the report takes it."""
    return Recorded(file=file, session=to_session(file))


def page_of(*files: SessionFile, interactive: bool = True) -> str:
    """The report of some files, called s0, s1 and so on."""
    results = [session_result(file, Path(f"/home/someone/secret/s{index}.json")) for index, file in enumerate(files)]
    recordings = [recorded(file) for file in files]
    return report_page(compare(results), recordings, written_at=WRITTEN_AT, interactive=interactive)


def hostile(file: SessionFile, text: str = HOSTILE) -> SessionFile:
    """The file with `text` wherever a stranger can write something."""
    return replace(
        file,
        id=text,
        started_at=text,
        edgetop_version=text,
        tags=(text,),
        notes=text,
        device=replace(
            file.device, hostname=text, model=text, cpu=text, system=text, governor=text, power_mode=text,
            virtualised=text,
        ),
        loads=tuple(_hostile_load(load, text) for load in file.loads),
        absent={text: Unavailable(text, text)},
        turns=tuple(_hostile_turn(turn, text) for turn in file.turns),
        events=tuple(EventEntry(t_us=at_us, kind=text, text=text) for at_us in (1_000_000, 9_000_000)),
        series=tuple(_hostile_series(entry, text) for entry in file.series),
    )  # fmt: skip


def _hostile_load(load: LoadEntry, text: str) -> LoadEntry:
    return replace(
        load,
        model=replace(
            load.model, path=text, name=text, architecture=text, quantization=text, template_note=text,
        ),
        engine=replace(load.engine, name=text, version=text, system_info=text, devices=(text,)),
        settings=replace(load.settings, template_name=text, template_args={text: text}),
    )  # fmt: skip


def _hostile_turn(turn: TurnEntry, text: str) -> TurnEntry:
    count = len(turn.tokens.dt_us)
    return replace(
        turn,
        prompt=text,
        system=text,
        reply=(ReplySpan(part="reasoning", tokens=1, text=text), ReplySpan(part="answer", tokens=count - 1, text="")),
        tokens=replace(turn.tokens, chars=[len(text), *[0] * (count - 1)]),
        end=None if turn.end is None else replace(turn.end, error=text),
    )


def _hostile_series(entry: SeriesEntry, text: str) -> SeriesEntry:
    channels = tuple(replace(channel, label=text) for channel in entry.source.channels)
    missing = {name: [MissingRun(run.start, run.count, text) for run in runs] for name, runs in entry.missing.items()}
    return replace(
        entry,
        source=replace(entry.source, driver=text, path=text, channels=channels),
        missing=missing,
    )

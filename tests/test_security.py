"""The limits that SECURITY.md promises are those of the code."""

from __future__ import annotations

import re
from inspect import signature
from math import inf
from pathlib import Path

import pytest

from edgetop.bench import output, plan, run_log
from edgetop.core import records
from edgetop.fit import assessment
from edgetop.inference import chat_template, model_stores, reply, template_process
from edgetop.inference.llama import engine
from edgetop.inference.server import address, backend, connection
from edgetop.io import files, http, hub, model_file, relay, ssh
from edgetop.live import fleet, proxy_session
from edgetop.session import file_io, journal, meter_log
from edgetop.telemetry import host, power_feed, power_stream, power_text

TEXT = (Path(__file__).resolve().parents[1] / "SECURITY.md").read_text("utf-8")
MIB, GIB, KIB = 2**20, 2**30, 2**10
HOUR_US = 3600 * 1_000_000
HEADER = power_text._NUMBERS
SCAN = signature(model_stores.ScanLimits).parameters

LIMITS: dict[str, list[str]] = {
    "a reply": [
        f"{records.REPLY_CHARACTERS_MAX // MIB} Mi characters, {records.REPLY_TOKENS_MAX // MIB} Mi tokens",
    ],
    "a reply that says nothing": [
        f"{backend.NONSENSE_BYTES_MAX // MIB} MiB, {backend.NONSENSE_US // HOUR_US} hours",
    ],
    "a reply's marks of reasoning, tokens that wait for those that follow": [
        f"{reply.MARKS_MOST}; {reply.WAITING_MOST}",
    ],
    "a document of a server": [f"{connection.DOCUMENT_BYTES_MAX // MIB} MiB", f"{connection.DOCUMENT_S:g} s more"],
    "the head of an answer, trailers, `100 Continue`": ["`--server-timeout`"],
    "a line or event of a stream": [f"{connection.LINE_BYTES_MAX // MIB} MiB"],
    "tokens of a prompt or answer": [f"2^{records.TOKENS_MAX.bit_length() - 1}"],
    "names from servers": [f"{connection.NAME_CHARACTERS} characters"],
    "a request to the proxy": [f"a head of {relay.HEAD_BYTES_MAX // KIB} KiB in {relay.HEAD_S:g} s"],
    "connections of the proxy": [f"{relay.CONNECTIONS_MAX}, of which", f"{relay.STALLED_S:g} s without a byte"],
    "what of the proxy's traffic waits to be read": [
        f"{relay.WAITING_BYTES_MAX // MIB} MiB of requests, {relay.WAITING_BYTES_MAX // MIB} MiB of answers",
        f"{proxy_session.READ_BYTES_MAX // MIB} MiB of one, unpacked",
    ],
    "a host of several": [
        f"a line of {ssh.LINE_BYTES // MIB} MiB, an answer of {ssh.ANSWER_BYTES // MIB} MiB",
        f"silence {fleet.SILENT_S:g} s",
    ],
    "what is copied of a host": [
        f"{host.FILES_MOST} files of {host.COPIED_FILE_BYTES // MIB} MiB, {host.COPIED_BYTES // MIB} MiB in all",
        f"{host.PROCESSES_MOST} processes of {host.SOCKETS_MOST} sockets",
    ],
    "a meter's line": [f"{power_feed.LINE_BYTES} bytes"],
    "a meter's header": [
        f"update and window {HEADER['window']:.0f} s, gain {HEADER['gain']:g}, offset {HEADER['offset']:.0f} W",
        f"max {HEADER['max']:g} W, lsb {HEADER['lsb']:g}",
    ],
    "a meter's time, a host's clock": [f"{power_text._CLOCK_AT_MOST_S:g} s"],
    "a meter's stream": [
        f"{power_feed.STREAM_BYTES_PER_S // KIB} KiB a second",
        f"{power_feed.TIMEOUT_S:g} s to begin ({power_stream.HOST_TIMEOUT_S:g} s of a host)",
    ],
    "a reading": [f"2^{records.LARGEST.bit_length() - 1}"],
    "a session file that another program laid out, a journal unpacked": [
        f"{file_io.LARGEST_FILE_BYTES // GIB} GiB; a journal {journal.PACKED_MOST} times its size more"
    ],
    "lines of a journal that are no records": [f"{journal.UNREADABLE_MOST}"],
    "a log of `attach-power`": [
        f"lines of {meter_log.LINE_CHARACTERS} characters, {meter_log.FIELDS_MOST} fields",
        f"stamps {meter_log.STAMP_MOST_S:g} s, readings 2^{int(meter_log.READING_MOST).bit_length() - 1}",
    ],
    "a file of questions": [f"{plan.QUESTIONS_BYTES_MAX // MIB} MiB, {plan.QUESTIONS_MAX} questions"],
    "an archive of a benchmark, a plan": [
        f"{output.LARGEST_BYTES // GIB} GiB unpacked, {output.CONTENTS_BYTES_MAX // MIB} MiB of contents",
        f"plan and runs {run_log.PLAN_BYTES_MAX // MIB} MiB, {plan.MEASUREMENTS_MOST} measurements",
    ],
    "TOML: settings, themes, plans, devices": [
        f"{files.TOML_BYTES_MAX // KIB} KiB", f"keys of {files.TOML_PARTS_MAX} parts",
    ],
    "a download": [
        f"{hub.SLOW_BYTES // KIB} KiB a minute", "five tries", f"silence {hub.DOWNLOAD_TIMEOUTS.idle_s:g} s",
        f"{hub.ROOM_KEPT_BYTES // GIB} GiB stays free",
    ],
    "names in a repository": [f"{hub.NAME_BYTES_MAX} bytes a part, {hub.PATH_BYTES_MAX} in all"],
    "models of other programs' stores": [
        f"{SCAN['entries'].default} entries and {SCAN['seconds'].default:g} s a place",
        f"names of {model_stores.NAME_MAX} characters, {model_stores.STOP_TEXTS_MAX} stop texts",
    ],
    "an assessment of a model": [f"{model_file.ASSESSMENT_S:g} s"],
    "a model that cannot run even when paged": [f"a minute a token at {assessment.PAGED_BYTES_MAX / 60e9:g} GB/s"],
    "parts of a split model that is only looked at": [f"{hub.PARTS_MAX}"],
    "a chat template": [
        f"{chat_template.TIME_S:g} s, {template_process.MEMORY_BYTES // MIB} MiB",
        f"{template_process.TEXT_CHARACTERS_MAX // MIB} Mi characters",
        f"{engine._TOKEN_CHARACTERS_MAX} characters for each token",
    ],
    "a prompt that cannot fit": ["the context's length"],
    "JSON that is printed": ["only printable Unicode"],
    "Markdown tables": ["no HTML, links or pictures"],
}  # fmt: skip
"""By the first cell of its row: what the second one says, by the constants that make it so."""

ROWS = dict(re.findall(r"^\| (.+?) \| (.+?) \|", TEXT.partition("## Limits")[2], re.MULTILINE))


def test_each_row_has_its_constants() -> None:
    assert [name for name in ROWS if name not in {"of", "---"}] == [*LIMITS]


@pytest.mark.parametrize("name", LIMITS)
def test_what_the_table_says_is_what_the_code_does(name: str) -> None:
    assert [said for said in LIMITS[name] if said not in ROWS[name]] == []


def test_words_for_numbers_mean_these() -> None:
    assert (hub.SLOW_S, hub.TRIES) == (60.0, 5)
    assert hub.DOWNLOAD_TIMEOUTS.total_s == inf
    assert (http.REDIRECTS_MAX, address.TIMEOUT_S) == (5, 300.0)

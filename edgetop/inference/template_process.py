"""Jinja in a limited child process.

`python -m edgetop.inference.template_process` reads `Render` frames from standard input and answers each with
`Rendered` or `NotRendered` on standard output. Jinja's sandbox prevents a template from reaching Python's objects but
bounds neither memory nor time; the kernel does that here.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox

from edgetop.inference.chat_template import Answer, NotRendered, Render, Rendered
from edgetop.inference.child_process import die_with_parent
from edgetop.inference.protocol import FrameReader, encode

_REASON_CHARACTERS = 200


class _GenerationTag(jinja2.ext.Extension):
    """`{% generation %}` marks what a model is trained on; for rendering it is its contents."""

    tags = {"generation"}

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own `tojson` escapes for HTML, which no model was trained on."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().astimezone().strftime(form)


@lru_cache(maxsize=4)
def _compiled(template: str) -> jinja2.Template:
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    functions: dict[str, Callable[..., Any]] = {"raise_exception": _raise_exception, "strftime_now": _strftime_now}
    environment.globals.update(functions)
    return environment.from_string(template)


def render(template: str, variables: dict[str, Any]) -> Answer:
    """Render, or give the reason why not; never raises."""
    try:
        text = _compiled(template).render(variables)
        text.encode()  # half a character cannot be sent
        return Rendered(text)
    except MemoryError:
        return NotRendered("it takes too much memory")
    except RecursionError:
        return NotRendered("it calls itself too often")
    except Exception as error:  # noqa: BLE001 - a template is a stranger's program: it can raise anything
        lines = str(error).encode("utf-8", "replace").decode().strip().splitlines()
        reason = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
        return NotRendered(reason[:_REASON_CHARACTERS])


MEMORY_BYTES = 512 * 2**20
"""Address space of the whole process: the interpreter and Jinja use about 100 MB."""

TEXT_CHARACTERS_MAX = 8 * 2**20
_STDIN, _STDOUT = 0, 1


def main() -> None:
    """Answer until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()
    with contextlib.suppress(ValueError, OSError):  # macOS does not limit address space
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    reader = FrameReader[Render](Render)
    while data := os.read(_STDIN, 65536):
        for request in reader.feed(data):
            # The default action of SIGALRM ends the process, whatever the template is at.
            signal.setitimer(signal.ITIMER_REAL, request.time_s)
            answer = render(request.template, request.variables)
            if isinstance(answer, Rendered) and len(answer.text) > TEXT_CHARACTERS_MAX:
                answer = NotRendered(f"it makes more than {TEXT_CHARACTERS_MAX} characters")
            frame = memoryview(encode(answer))
            signal.setitimer(signal.ITIMER_REAL, 0)
            while frame:
                frame = frame[os.write(_STDOUT, frame) :]


if __name__ == "__main__":
    main()

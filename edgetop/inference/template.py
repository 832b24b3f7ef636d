"""Rendering of a chat template as Hugging Face's `apply_chat_template` does it: same environment, same globals."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox

from edgetop.inference.template_messages import Answer, NotRendered, Rendered

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
    """Render, or say why not. Whatever a template does wrong is an answer here, never an exception."""
    try:
        return Rendered(_compiled(template).render(variables))
    except MemoryError:
        return NotRendered("it takes too much memory")
    except RecursionError:
        return NotRendered("it calls itself too often")
    except Exception as error:  # noqa: BLE001 - a template is a stranger's program: it can raise anything
        lines = str(error).strip().splitlines()
        reason = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
        return NotRendered(reason[:_REASON_CHARACTERS])

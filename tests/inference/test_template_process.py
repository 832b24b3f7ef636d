from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from edgetop.inference.chat_template import NotRendered, Rendered, TemplateError, TemplateRenderer
from edgetop.inference.template_process import render


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{% for m in messages %}\n  {% if m %}\n[{{ m }}]\n  {% endif %}\n{% endfor %}\n", "[a]\n[b]\n"),
        ("{% for m in messages %}{% if m == 'b' %}{% break %}{% endif %}{{ m }}{% endfor %}", "a"),
        ("{{ {'k': '<é>'} | tojson }}", '{"k": "<é>"}'),
        ("{{ [1, 2] | tojson(indent=1) }}", "[\n 1,\n 2\n]"),
        ("{% generation %}{{ messages[0] }}{% endgeneration %}!", "a!"),
        ("{% if tools %}T{% endif %}{{ nothing }}", ""),
    ],
)
def test_renders_as_hugging_face_does(template: str, text: str) -> None:
    assert render(template, {"messages": ["a", "b"], "tools": None}) == Rendered(text)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{% for %}", "TemplateSyntaxError"),
        ("{{ ''.__class__.__mro__ }}", "SecurityError"),
        ("{{ messages.append(1) }}", "SecurityError"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "calls itself"),
        ("{{ '\\ud83d' }}", "UnicodeEncodeError"),
        ("{{ raise_exception('half a \\ud83d') }}", "half a ?"),
    ],
)
def test_says_in_one_line_why_a_template_fails(template: str, reason: str) -> None:
    answer = render(template, {"messages": []})
    assert isinstance(answer, NotRendered)
    assert reason in answer.reason
    assert "\n" not in answer.reason
    assert answer.reason.encode()


def test_a_date_is_written_in_the_form_asked_for() -> None:
    answer = render("{{ strftime_now('%Y') }}", {})
    assert isinstance(answer, Rendered)
    assert answer.text.isdigit()


@pytest.fixture(scope="module")
def renderer() -> Iterator[TemplateRenderer]:
    renderer = TemplateRenderer(time_s=0.5)
    yield renderer
    renderer.close()


@pytest.mark.parametrize(
    "template",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% set ns = namespace(s='x' * 1000000) %}{% for a in range(99999) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
        "{{ 'x' * 100000000000 }}",
        "{{ 'x' * 100000000 }}",
        "{{ 9 ** (9 ** 9) }}",
    ],
    ids=["endless", "doubling", "huge", "long", "power"],
)
def test_a_template_that_takes_too_much_is_ended_and_the_next_one_works(
    renderer: TemplateRenderer, template: str
) -> None:
    with pytest.raises(TemplateError):
        renderer.render(template, {})
    assert renderer.render("{{ greeting }}", {"greeting": "hello"}) == "hello"


def test_variables_reach_the_template_process_unchanged(renderer: TemplateRenderer) -> None:
    said: dict[str, Any] = {"messages": [{"role": "user", "content": "😀\n\x1b[2J"}], "enable_thinking": False}
    template = "{{ messages[0].content }}{{ enable_thinking }}"
    assert renderer.render(template, said) == "😀\n\x1b[2JFalse"

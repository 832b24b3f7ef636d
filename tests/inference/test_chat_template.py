from __future__ import annotations

from typing import Any

import pytest

from edgetop.inference.chat_template import (
    ChatFormat,
    Rendered,
    SpecialTokens,
    TemplateArgs,
    TemplateError,
    TemplateLimitError,
    TemplateRenderer,
    TemplateStoppedError,
    choose_format,
)
from edgetop.inference.protocol import ChatMessage
from edgetop.inference.template_process import render as render_template

TOKENS = SpecialTokens(bos="<s>", eos="</s>", chatml=True)
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% if enable_thinking %}<think>{% endif %}{% endif %}"
)
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + TEMPLATE
SYSTEM, QUESTION = ChatMessage("system", "Be brief."), ChatMessage("user", "Hi")


def render(template: str, variables: dict[str, Any]) -> str:
    answer = render_template(template, variables)
    if isinstance(answer, Rendered):
        return answer.text
    raise TemplateError(answer.reason)


def choose(
    template: str | None,
    named: str | None = None,
    wanted_name: str | None = None,
    tokens: SpecialTokens = TOKENS,
    args: TemplateArgs | None = None,
) -> ChatFormat:
    return choose_format(
        template=template, named=named, wanted_name=wanted_name, tokens=tokens, args=args or {}, render=render
    )


def test_the_models_own_template_is_used_with_its_arguments() -> None:
    form = choose(TEMPLATE, args={"enable_thinking": True})
    assert (form.source, form.note) == ("model", "")
    assert form.prompt((SYSTEM, QUESTION)) == "<s>[system]Be brief.[user]Hi[assistant]<think>"


def test_a_named_template_is_used_when_asked_for() -> None:
    form = choose(TEMPLATE, named="N" + TEMPLATE, wanted_name="tool_use")
    assert form.source == "named"
    assert form.prompt((QUESTION,)).startswith("N<s>")


def test_a_name_the_model_lacks_is_told() -> None:
    form = choose(TEMPLATE, wanted_name="tool_use")
    assert form.source == "model"
    assert form.note == "The model has no template named tool_use."


def test_a_template_without_system_messages_gets_them_with_the_first_question() -> None:
    form = choose(NO_SYSTEM)
    assert form.source == "model"
    assert "no system message" in form.note
    assert form.prompt((SYSTEM, QUESTION)) == "<s>[user]Be brief.\nHi[assistant]"


PHI_3 = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ '<|user|>' + message['content'] "
    "+ '<|end|><|assistant|>' }}{% elif message['role'] == 'assistant' %}{{ message['content'] + '<|end|>' }}"
    "{% endif %}{% endfor %}"
)
SMOLVLM = (
    "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}: {% for line in message['content'] %}"
    "{% if line['type'] == 'text' %}{{ line['text'] }}{% endif %}{% endfor %}<end_of_utterance>{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
NEEDS_SYSTEM = (
    "{% if messages[0].role != 'system' %}{{ raise_exception('A system message is required') }}{% endif %}" + TEMPLATE
)


def test_a_template_that_leaves_the_system_message_out_without_a_word_is_found_by_rendering() -> None:
    form = choose(PHI_3)
    assert form.note == "The template has no system message: it is put before the first one of the user."
    assert form.prompt((SYSTEM, QUESTION)) == "<s><|user|>Be brief.\nHi<|end|><|assistant|>"
    assert form.prompt((QUESTION,)) == "<s><|user|>Hi<|end|><|assistant|>"


def test_a_template_that_takes_content_as_a_list_gets_one() -> None:
    form = choose(SMOLVLM)
    assert (form.source, form.note) == ("model", "The template takes content as a list.")
    assert form.prompt((SYSTEM, QUESTION)) == (
        "<|im_start|>System: Be brief.<end_of_utterance>User: Hi<end_of_utterance>Assistant:"
    )


def test_a_template_that_wants_a_system_message_gets_an_empty_one() -> None:
    form = choose(NEEDS_SYSTEM)
    assert "wants a system message" in form.note
    assert form.prompt((QUESTION,)) == "<s>[system][user]Hi[assistant]"
    assert form.prompt((SYSTEM, QUESTION)) == "<s>[system]Be brief.[user]Hi[assistant]"


def test_a_template_that_changes_the_case_works() -> None:
    form = choose("{% for m in messages %}{{ m.content | upper }}{% endfor %}")
    assert (form.source, form.note) == ("model", "")


def test_a_template_that_takes_too_long_is_not_tried_in_other_ways() -> None:
    asked: list[str] = []

    def slow(template: str, _variables: dict[str, Any]) -> str:
        asked.append(template)
        raise TemplateLimitError("it took longer than 2 s or more memory than it may")

    form = choose_format(template=TEMPLATE, named=None, wanted_name=None, tokens=TOKENS, args={}, render=slow)
    assert form.source == "fallback"
    assert "took longer than 2 s" in form.note
    assert len(asked) == 1


def test_a_template_can_be_stopped_while_it_renders() -> None:
    renderer = TemplateRenderer(time_s=600)
    renderer.stopped = lambda: True
    try:
        with pytest.raises(TemplateStoppedError):
            renderer.render("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", {})
        renderer.stopped = lambda: False
        assert renderer.render("again", {}) == "again"
    finally:
        renderer.close()


@pytest.mark.parametrize("broken", ["{% for %}", "{{ raise_exception('no') }}", "nothing of the message"])
def test_a_broken_template_is_replaced_and_the_reason_told(broken: str) -> None:
    form = choose(broken)
    assert form.source == "fallback"
    assert form.note.startswith("The model chat template does not work (")
    assert form.prompt((QUESTION,)) == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


def test_a_vocabulary_without_chatml_falls_back_on_plain_lines_that_end_at_the_next_question() -> None:
    form = choose("{% for %}", tokens=SpecialTokens(bos="", eos="", chatml=False))
    assert form.prompt((SYSTEM, QUESTION)) == "System: Be brief.\nUser: Hi\nAssistant:"
    assert form.stop == ("\nUser:",)


def test_a_model_without_a_template_continues_the_text() -> None:
    form = choose(None)
    assert form.source == "none"
    assert "no chat template" in form.note
    assert form.prompt((ChatMessage("user", "Once upon a time"),)) == "Once upon a time"


def test_a_reply_to_go_on_with_stands_at_the_end_of_the_prompt() -> None:
    begun = (QUESTION, ChatMessage("assistant", "Well, "))
    assert choose(TEMPLATE).prompt(begun, continue_reply=True) == "<s>[user]Hi[assistant]Well, "


def test_a_conversation_that_the_template_refuses_raises() -> None:
    template = "{% if messages | length > 2 %}{{ raise_exception('too many') }}{% endif %}" + TEMPLATE
    with pytest.raises(TemplateError, match="too many"):
        choose(template).prompt((QUESTION, QUESTION, QUESTION))

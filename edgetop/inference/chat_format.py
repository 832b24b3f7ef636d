"""How a conversation becomes the text of a prompt: the model's own template, a fallback, or none at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from edgetop.inference.protocol import ChatMessage
from edgetop.inference.template_renderer import TemplateError

TemplateArgs = dict[str, bool | int | float | str]
RenderTemplate = Callable[[str, dict[str, Any]], str]
"""`TemplateRenderer.render`."""
TemplateSource = Literal["model", "named", "fallback", "none"]


class SpecialTokens(Struct, frozen=True):
    """Names that templates write, and whether the vocabulary knows ChatML's."""

    bos: str
    eos: str
    chatml: bool


class ChatFormat(Struct, frozen=True, kw_only=True):
    """The form of a model's prompts, settled when it is loaded."""

    source: TemplateSource
    render: Callable[[tuple[ChatMessage, ...]], str]
    """The prompt that asks for the next reply. Raises TemplateError."""
    note: str = ""
    """Why it is not simply the model's own template, in one line."""
    stop: tuple[str, ...] = ()
    """Strings that end a reply besides the model's own tokens."""

    def prompt(self, messages: tuple[ChatMessage, ...], *, continue_reply: bool = False) -> str:
        """The prompt for a conversation; with `continue_reply` its last message is the beginning of the reply.

        Raises TemplateError.
        """
        if continue_reply and messages and messages[-1].role == "assistant":
            return self.render(messages[:-1]) + messages[-1].content
        return self.render(messages)


def choose_format(
    *,
    template: str | None,
    named: str | None,
    wanted_name: str | None,
    tokens: SpecialTokens,
    args: TemplateArgs,
    render: RenderTemplate,
) -> ChatFormat:
    """The best form that works; each candidate is tried out on a short conversation.

    `template` is the model's default template, `named` the text of the one that was asked for as `wanted_name`.
    """
    notes = []
    if wanted_name is not None and named is None:
        notes.append(f"the model has no template named {wanted_name}")
    candidates: list[tuple[TemplateSource, str]] = []
    if named is not None:
        candidates.append(("named", named))
    if template is not None:
        candidates.append(("model", template))
    for source, text in candidates:
        try:
            form = _from_template(source, text, tokens, args, render)
        except TemplateError as error:
            notes.append(f"the {source} chat template does not work ({error})")
        else:
            return replace(form, note=_sentence([*notes, form.note]))
    if not candidates:
        return ChatFormat(
            source="none",
            render=_completion,
            note=_sentence([*notes, "the model has no chat template: it continues the text as it stands"]),
        )
    if tokens.chatml:
        return ChatFormat(source="fallback", render=_chatml, note=_sentence([*notes, "ChatML is used"]))
    plain = _sentence([*notes, "plain lines of User and Assistant are used"])
    return ChatFormat(source="fallback", render=_plain, note=plain, stop=("\nUser:",))


def _from_template(
    source: TemplateSource, template: str, tokens: SpecialTokens, args: TemplateArgs, render: RenderTemplate
) -> ChatFormat:
    def with_template(messages: tuple[ChatMessage, ...]) -> str:
        said = [{"role": message.role, "content": message.content} for message in messages]
        variables = {"bos_token": tokens.bos, "eos_token": tokens.eos, "tools": None, **args}
        return render(template, {**variables, "messages": said, "add_generation_prompt": True})

    def without_system(messages: tuple[ChatMessage, ...]) -> str:
        return with_template(_system_in_first_message(messages))

    user = ChatMessage("user", "Hello")
    if "Hello" not in with_template((user,)):
        raise TemplateError("it leaves the message out")
    try:
        with_template((ChatMessage("system", "Be brief."), user))
    except TemplateError:
        note = "the template takes no system message: it is put before the first one of the user"
        return ChatFormat(source=source, render=without_system, note=note)
    return ChatFormat(source=source, render=with_template)


def _system_in_first_message(messages: tuple[ChatMessage, ...]) -> tuple[ChatMessage, ...]:
    if len(messages) < 2 or messages[0].role != "system":
        return messages
    merged = ChatMessage(messages[1].role, f"{messages[0].content}\n\n{messages[1].content}")
    return (merged, *messages[2:])


def _completion(messages: tuple[ChatMessage, ...]) -> str:
    return "\n".join(message.content for message in messages)


def _chatml(messages: tuple[ChatMessage, ...]) -> str:
    said = "".join(f"<|im_start|>{message.role}\n{message.content}<|im_end|>\n" for message in messages)
    return f"{said}<|im_start|>assistant\n"


def _plain(messages: tuple[ChatMessage, ...]) -> str:
    said = "".join(f"{message.role.capitalize()}: {message.content}\n" for message in messages)
    return f"{said}Assistant:"


def _sentence(notes: list[str]) -> str:
    text = "; ".join(note for note in notes if note)
    return f"{text[0].upper()}{text[1:]}." if text else ""

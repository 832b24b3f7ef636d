"""Chat templates, fallbacks, reasoning formats.

Three things happen on the way, each of which may have to wait for the tokens that follow: characters split between
tokens are put together, stop strings end the reply, and the marks around a reasoning part are taken out. A token is
given on, with its stamp, once its text is settled.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable
from typing import Any, Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from edgetop.inference import wire
from edgetop.inference.child_process import start_module
from edgetop.inference.protocol import ChatMessage


class Render(msgspec.Struct, frozen=True, kw_only=True):
    """Render a template with these variables."""

    template: str
    variables: dict[str, Any]
    time_s: float


class Rendered(msgspec.Struct, frozen=True, tag="rendered"):
    """The text that came out."""

    text: str


class NotRendered(msgspec.Struct, frozen=True, tag="not_rendered"):
    """Why no text came out, in one line."""

    reason: str


Answer = Rendered | NotRendered

TIME_S = 2.0
"""Time limit of one rendering."""


class TemplateError(Exception):
    """A template gave no text; the message is the reason, in one line."""


class TemplateRenderer:
    """Renders chat templates in a child process, which is started at once and again when a template has killed it."""

    def __init__(self, time_s: float = TIME_S) -> None:
        self._time_s = time_s
        self._process = _spawn()

    def render(self, template: str, variables: dict[str, Any]) -> str:
        """The text of a template. Raises TemplateError, also when it went beyond its memory or its time."""
        if self._process.poll() is not None:
            self._process = _spawn()
        answer = self._ask(Render(template=template, variables=variables, time_s=self._time_s))
        match answer:
            case Rendered():
                return answer.text
            case NotRendered():
                raise TemplateError(answer.reason)
            case None:
                raise TemplateError(f"it took longer than {self._time_s:g} s or more memory than it may")

    def close(self) -> None:
        """End the child process."""
        self._process.kill()
        self._bury()

    def _ask(self, request: Render) -> Answer | None:
        """The child's answer, or `None` when the template has killed it."""
        assert self._process.stdin is not None  # noqa: S101 - both are pipes, see _spawn
        assert self._process.stdout is not None  # noqa: S101
        reader = wire.FrameReader[Answer](Answer)
        try:
            self._process.stdin.write(wire.encode(request))
            self._process.stdin.flush()
            while data := os.read(self._process.stdout.fileno(), 65536):
                if answers := reader.feed(data):
                    return answers[0]
        except (BrokenPipeError, wire.StreamError):
            self._process.kill()
        self._bury()
        return None

    def _bury(self) -> None:
        """Wait for a child that is ending and close its pipes."""
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


def _spawn() -> subprocess.Popen[bytes]:
    return start_module(
        "edgetop.inference.template_process",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


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
    """The prompt for the next reply. Raises TemplateError."""
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

    `template` is the model's default template, `named` the text of the requested one, `wanted_name`.
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
        turns = [{"role": message.role, "content": message.content} for message in messages]
        variables = {"bos_token": tokens.bos, "eos_token": tokens.eos, "tools": None, **args}
        return render(template, {**variables, "messages": turns, "add_generation_prompt": True})

    def without_system(messages: tuple[ChatMessage, ...]) -> str:
        return with_template(_system_in_first_message(messages))

    user = ChatMessage("user", "Hello")
    if "Hello" not in with_template((user,)):
        raise TemplateError("it leaves the message out")
    try:
        with_template((ChatMessage("system", "Be brief."), user))
    except TemplateError:
        note = "the template has no system message: it is put before the first one of the user"
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
    turns = "".join(f"<|im_start|>{message.role}\n{message.content}<|im_end|>\n" for message in messages)
    return f"{turns}<|im_start|>assistant\n"


def _plain(messages: tuple[ChatMessage, ...]) -> str:
    turns = "".join(f"{message.role.capitalize()}: {message.content}\n" for message in messages)
    return f"{turns}Assistant:"


def _sentence(notes: list[str]) -> str:
    text = "; ".join(note for note in notes if note)
    return f"{text[0].upper()}{text[1:]}." if text else ""


class ReasoningTags(Struct, frozen=True):
    """How a family of models encloses its reasoning, at the very beginning of a reply."""

    begin: str
    end: str


REASONING_TAGS = (
    ReasoningTags("<think>", "</think>"),
    ReasoningTags("<thinking>", "</thinking>"),
    ReasoningTags("<thought>", "</thought>"),
    ReasoningTags("<reasoning>", "</reasoning>"),
    ReasoningTags("[THINK]", "[/THINK]"),
    ReasoningTags("<|START_THINKING|>", "<|END_THINKING|>"),
    ReasoningTags("<seed:think>", "</seed:think>"),
    ReasoningTags("<|channel|>analysis<|message|>", "<|start|>assistant<|channel|>final<|message|>"),
)


def opened_reasoning(prompt: str) -> ReasoningTags | None:
    """The marks whose begin ends the prompt: some templates open the reasoning part themselves."""
    end = prompt.rstrip()
    return next((marks for marks in REASONING_TAGS if end.endswith(marks.begin)), None)

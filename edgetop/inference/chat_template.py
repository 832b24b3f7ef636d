"""Chat templates, fallbacks, reasoning formats.

Three things happen on the way, each of which may have to wait for the tokens that follow: characters split between
tokens are put together, stop strings end the reply, and the marks around a reasoning part are taken out. A token is
given on, with its stamp, once its text is settled.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
from collections.abc import Callable
from typing import Any, Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.records import ReplyPart
from edgetop.inference.child_process import start_module
from edgetop.inference.protocol import ChatMessage, FrameReader, StreamError, encode


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

STOP_CHECK_S = 0.05
TIME_S = 2.0
"""Time limit of one rendering."""


class TemplateError(Exception):
    """A template gave no text; the message is the reason, in one line."""


class TemplateLimitError(TemplateError):
    """It took more time or memory than it may; it would again."""


class TemplateStoppedError(TemplateError):
    """The person stopped it."""


class TemplateRenderer:
    """Renders chat templates in a child process, which is started at once and again when a template has killed it."""

    def __init__(self, time_s: float = TIME_S) -> None:
        self._time_s = time_s
        self._process = _spawn()
        self.stopped: Callable[[], bool] = lambda: False
        """Whether the command that renders is to stop; asked while a template is at work."""

    def render(self, template: str, variables: dict[str, Any]) -> str:
        """The text of a template. Raises TemplateError, also when it went beyond memory or time, or is stopped."""
        if self._process.poll() is not None:
            self._process = _spawn()
        answer = self._ask(Render(template=template, variables=variables, time_s=self._time_s))
        match answer:
            case Rendered():
                return answer.text
            case NotRendered():
                raise TemplateError(answer.reason)
            case None:
                if self.stopped():
                    raise TemplateStoppedError("it was stopped")
                raise TemplateLimitError(f"it took longer than {self._time_s:g} s or more memory than it may")

    def close(self) -> None:
        """End the child process."""
        self._process.kill()
        self._wait_and_close()

    def _ask(self, request: Render) -> Answer | None:
        """The child's answer, or `None` when the template has killed it."""
        assert self._process.stdin is not None  # noqa: S101 - both are pipes, see _spawn
        assert self._process.stdout is not None  # noqa: S101
        reader = FrameReader[Answer](Answer)
        try:
            self._process.stdin.write(encode(request))
            self._process.stdin.flush()
            output = self._process.stdout.fileno()
            while self._waits_for(output) and (data := os.read(output, 65536)):
                if answers := reader.feed(data):
                    return answers[0]
        except (BrokenPipeError, StreamError):
            self._process.kill()
        self._wait_and_close()
        return None

    def _waits_for(self, output: int) -> bool:
        """Wait until there is something to read; False, and its end, when the person stops it."""
        while not select.select([output], [], [], STOP_CHECK_S)[0]:
            if self.stopped():
                self._process.kill()
                return False
        return True

    def _wait_and_close(self) -> None:
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
        except TemplateStoppedError:
            raise
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
    """The form by a template that is tried out: what it leaves out, or refuses, is found by rendering with it."""
    variables = {"bos_token": tokens.bos, "eos_token": tokens.eos, "tools": None, **args}
    user, system = ChatMessage("user", _HELLO), ChatMessage("system", _BE_BRIEF)
    reason = TemplateError("it leaves the message out")
    for as_list in (False, True):

        def with_template(messages: tuple[ChatMessage, ...], as_list: bool = as_list) -> str:
            turns = [
                {"role": each.role, "content": [{"type": "text", "text": each.content}] if as_list else each.content}
                for each in messages
            ]
            return render(template, {**variables, "messages": turns, "add_generation_prompt": True})

        taken = "the template takes content as a list" if as_list else ""
        try:
            if not _says(with_template((user,)), _HELLO):
                continue
        except (TemplateLimitError, TemplateStoppedError):
            raise
        except TemplateError as error:
            if _keeps(with_template, (system, user)):
                note = "the template wants a system message: an empty one is put where there is none"
                return ChatFormat(source=source, render=_with_system(with_template), note=_joined(taken, note))
            reason = error
            continue
        if _keeps(with_template, (system, user)):
            return ChatFormat(source=source, render=with_template, note=taken)
        note = "the template has no system message: it is put before the first one of the user"
        return ChatFormat(source=source, render=_without_system(with_template), note=_joined(taken, note))
    raise reason


_HELLO, _BE_BRIEF = "Hello", "Be brief."
_RenderMessages = Callable[[tuple[ChatMessage, ...]], str]


def _says(text: str, words: str) -> bool:
    return words.lower() in text.lower()  # a template may change the case


def _keeps(render: _RenderMessages, messages: tuple[ChatMessage, ...]) -> bool:
    """Whether all messages are in the prompt; some templates leave out a system message without a word."""
    try:
        text = render(messages)
    except (TemplateLimitError, TemplateStoppedError):
        raise
    except TemplateError:
        return False
    return all(_says(text, each.content) for each in messages)


def _joined(*notes: str) -> str:
    return "; ".join(filter(None, notes))


def _with_system(render: _RenderMessages) -> _RenderMessages:
    def rendered(messages: tuple[ChatMessage, ...]) -> str:
        has_one = bool(messages) and messages[0].role == "system"
        return render(messages if has_one else (ChatMessage("system", ""), *messages))

    return rendered


def _without_system(render: _RenderMessages) -> _RenderMessages:
    """With the system message before the first one of the user, a line between them, as llama.cpp does."""

    def rendered(messages: tuple[ChatMessage, ...]) -> str:
        if len(messages) > 1 and messages[0].role == "system":
            merged = ChatMessage(messages[1].role, f"{messages[0].content}\n{messages[1].content}")
            messages = (merged, *messages[2:])
        return render(messages)

    return rendered


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


Effect = Literal["reasoning", "answer", "removed"]


class ReplyFormat(Struct, frozen=True, kw_only=True):
    """The marks by which a family of models tells its reasoning from its answer, and what begins with each.

    By llama.cpp's tests/test-chat.cpp, by the models' templates and by reports of users.
    """

    marks: dict[str, Effect]
    structured: bool = False
    """The marks go through the whole reply; else they count at its beginning alone, and as control tokens."""
    opened_by: str | None = None
    """A prompt that ends so has begun the reasoning without a mark."""


def _tags(begin: str, end: str, **more: Effect) -> ReplyFormat:
    return ReplyFormat(marks={begin: "reasoning", end: "answer", **more})


REPLY_FORMATS = (
    ReplyFormat(  # the answers of Hunyuan and of Granite 3.3 have marks of their own
        marks={
            "<think>": "reasoning", "</think>": "answer", "<answer>": "removed", "</answer>": "removed",
            "<response>": "removed", "</response>": "removed",
        }
    ),
    _tags("<thinking>", "</thinking>"),
    _tags("<thought>", "</thought>"),
    _tags("<reasoning>", "</reasoning>"),
    _tags("<seed:think>", "</seed:think>"),
    _tags("<mm:think>", "</mm:think>"),
    _tags("[THINK]", "[/THINK]"),
    _tags("◁think▷", "◁/think▷"),
    _tags("<|inner_prefix|>", "<|inner_suffix|>"),
    _tags("<|begin_of_thought|>", "<|end_of_thought|>"),
    ReplyFormat(  # Granite 3.x
        marks={
            "Here is my thought process:": "reasoning", "Here's my thought process:": "reasoning",
            "Here is my response:": "answer", "Here's my response:": "answer",
        }
    ),
    ReplyFormat(  # Command R
        structured=True,
        marks={
            "<|START_THINKING|>": "reasoning", "<|END_THINKING|>": "answer", "<|START_RESPONSE|>": "answer",
            "<|END_RESPONSE|>": "removed", "<|START_TEXT|>": "removed", "<|END_TEXT|>": "removed",
        },
    ),
    ReplyFormat(  # gpt-oss; what it says in the commentary channel without a recipient is for the user
        structured=True,
        marks={
            "<|channel|>analysis<|message|>": "reasoning", "<|channel|>final<|message|>": "answer",
            "<|channel|>commentary<|message|>": "answer", "<|start|>assistant": "removed", "<|end|>": "removed",
            "<|return|>": "removed", "<|channel|>final <|constrain|>json<|message|>": "answer",
            "<|channel|>commentary to=assistant": "removed",
        },
    ),
    ReplyFormat(  # Gemma 4
        structured=True,
        marks={
            "<|channel>thought": "reasoning", "<|channel><|channel>thought": "reasoning", "<|channel>final": "answer",
            "<channel|>": "answer",
        },
    ),
    ReplyFormat(  # Kimi K3
        structured=True,
        marks={
            "<|open|>think<|sep|>": "reasoning", "<|close|>think<|sep|>": "answer",
            "<|open|>response<|sep|>": "answer", "<|close|>response<|sep|>": "removed",
            "<|close|>message<|sep|>": "removed",
        },
    ),
    ReplyFormat(  # Solar Open
        structured=True,
        marks={
            "<|think|>": "reasoning", "<|content|>": "answer", "<|begin|>assistant": "removed", "<|end|>": "removed",
        },
    ),
    ReplyFormat(  # Muse Glimmer
        structured=True,
        marks={
            "to=self<|message|>": "reasoning", "to=user<|message|>": "answer", "<|start|>assistant": "removed",
            "<|eom|>": "removed", "<|eot|>": "removed",
        },
    ),
    ReplyFormat(  # Apriel 1.6
        marks={"[BEGIN FINAL RESPONSE]": "answer"}, opened_by="Here are my reasoning steps:"
    ),
)  # fmt: skip


class ControlPiece(bytes):
    """The name of a control token, which is no text of the vocabulary."""


def opened_part(prompt: str) -> tuple[ReplyFormat, ReplyPart] | None:
    """The format and the part of the reply that the prompt ends in: some templates begin it themselves."""
    end = prompt.rstrip()
    for form in REPLY_FORMATS:
        if form.opened_by and end.endswith(form.opened_by):
            return form, "reasoning"
        for mark, effect in form.marks.items():
            if end.endswith(mark) and (effect == "reasoning" or (effect == "answer" and form.structured)):
                return form, effect
    return None

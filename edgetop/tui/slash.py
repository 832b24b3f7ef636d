"""Commands that are typed into the prompt behind a slash."""

from __future__ import annotations

from typing import NamedTuple


class SlashCommand(NamedTuple):
    """One command, what follows it, and what it does."""

    name: str
    argument: str
    does: str


COMMANDS: tuple[SlashCommand, ...] = (
    SlashCommand("help", "", "keys and commands"),
    SlashCommand("model", "[NAME]", "load another model in place of this one; without a name, choose"),
    SlashCommand("system", "[TEXT]", "show or set the system prompt; - removes it"),
    SlashCommand("set", "[NAME VALUE]", "show or set sampling: temperature, top_k, max_tokens, seed ..."),
    SlashCommand("clear", "", "forget the conversation; the session keeps what was recorded"),
    SlashCommand("retry", "", "answer the last prompt once more"),
    SlashCommand("edit", "", "change the last prompt and ask again in its place"),
    SlashCommand("undo", "", "take the last prompt and its answer back"),
    SlashCommand("continue", "", "go on with an answer that was stopped"),
    SlashCommand("reload", "", "start the engine again with the same model"),
    SlashCommand("load", "FILE", "put a file's text into the prompt"),
    SlashCommand("copy", "[N|code|all]", "copy the last answer, the Nth last, its last code, or all that was said"),
    SlashCommand("save", "FILE", "write the conversation to a file (Markdown); /save! writes over one"),
    SlashCommand("open", "[SESSION]", "go on with the conversation of a recorded session; without one, choose"),
    SlashCommand("stats", "", "the figures of this session"),
    SlashCommand("quit", "", "quit; the session is saved"),
)


def parse(text: str) -> tuple[str, str] | None:
    """Name and argument of a command; `None` for a prompt. A prompt may begin with two slashes to mean one."""
    if not text.startswith("/") or text.startswith("//"):
        return None
    name, *argument = text[1:].split(maxsplit=1) or [""]
    return name, "".join(argument).strip()


def completions(text: str) -> list[str]:
    """Commands that `text` may become."""
    if not text.startswith("/") or " " in text:
        return []
    return [f"/{command.name}" for command in COMMANDS if command.name.startswith(text[1:])]

"""Slash commands: parsing and completion, without Textual."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from edgetop.core.text import literal
from edgetop.io.files import FILE_SUFFIX
from edgetop.live.chat_commands import AUTO, PARSERS, SLASH_COMMANDS
from edgetop.live.chat_session import LiveSession
from edgetop.session.meters import choices_of


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
    return [f"/{command.name}" for command in SLASH_COMMANDS if command.name.startswith(text[1:])]


MODELS_WAIT_S = 0.2
"""How long the first Tab may wait for the models of the machine; a later Tab finds them."""

OFFERED_MAX = 200


class Completion:
    """Completes what is typed; models are searched for once, in a thread."""

    def __init__(self, live: LiveSession) -> None:
        self._live = live
        self._models: Future[list[str]] | None = None

    def __call__(self, text: str) -> Sequence[str]:
        """Texts that `text` may become, the likeliest first."""
        command = parse(text)
        if command is None or " " not in text or "\n" in text:
            return completions(text)
        name, begun = text[1:].split(" ", 1)
        return [f"/{name} {argument}" for argument in self._arguments(name, begun) if argument != begun][:OFFERED_MAX]

    def _arguments(self, name: str, begun: str) -> Sequence[str]:
        match name:
            case "set":
                return _settings(begun)
            case "model":
                return _containing(self._model_names(), begun)
            case "open":
                return _containing(self._session_names(), begun)
            case "load" | "save" | "save!":
                return _paths(begun)
            case "power" | "copy":
                names = ("code", "all") if name == "copy" else (AUTO, *choices_of(self._live.session))
                return [each for each in names if each.startswith(begun)]
        return ()

    def _model_names(self) -> Sequence[str]:
        if self._models is None:
            pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="edgetop-models")
            self._models = pool.submit(_find_models, self._live.options.model_folders)
            pool.shutdown(wait=False)
        try:
            return self._models.result(timeout=MODELS_WAIT_S)
        except TimeoutError:
            return ()

    def _session_names(self) -> Sequence[str]:
        folder = self._live.store.folder
        names = [path.name.removesuffix(FILE_SUFFIX) for path in folder.glob("[!.]*" + FILE_SUFFIX)]
        return sorted((name for name in names if literal(name) == name), reverse=True)


def _find_models(folders: Sequence[Path]) -> list[str]:
    from edgetop.inference.catalog import find_models, problem_of  # noqa: PLC0415 - only when asked for

    names = dict.fromkeys(model.name for model in find_models(folders) if not problem_of(model))
    return [name for name in names if literal(name) == name]


def _containing(names: Sequence[str], begun: str) -> Sequence[str]:
    """Names that begin with what was typed, and after them those that have it inside."""
    wanted = begun.casefold()
    having = [name for name in names if wanted in name.casefold()]
    return sorted(having, key=lambda name: not name.casefold().startswith(wanted))


def _settings(begun: str) -> Sequence[str]:
    name, blank, value = begun.partition(" ")
    if not blank:
        return [f"{each} " for each in PARSERS if each.startswith(name)]
    words = {"seed": "random", "max_tokens": "none"}
    return [f"{name} {words[name]}"] if name in words and words[name].startswith(value) else ()


def _paths(begun: str) -> Sequence[str]:
    """Files and folders that a path may become; hidden ones only after a dot."""
    head, tail = os.path.split(begun)
    found = []
    try:
        with os.scandir(Path(head or ".").expanduser()) as entries:
            for entry in entries:
                name = entry.name
                if (
                    name.startswith(tail)
                    and (tail.startswith(".") or not name.startswith("."))
                    and literal(name) == name
                ):
                    found.append(os.path.join(head, name) + ("/" if entry.is_dir() else ""))  # noqa: PTH118 - as typed
    except (OSError, RuntimeError, ValueError):
        return ()
    return sorted(found)

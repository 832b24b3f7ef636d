"""A benchmark of a server's models: what can be varied there, and what the server decides by itself."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from edgetop.bench.plan import ModelFile
from edgetop.bench.plan_file import Wishes
from edgetop.commands.console import say
from edgetop.commands.server_choice import server_choice
from edgetop.core.errors import ModelError, UsageError
from edgetop.inference.server.dialect import choose
from edgetop.inference.server.failure import ServerFailure
from edgetop.inference.server.survey import Survey, survey
from edgetop.settings import options
from edgetop.settings.resolve import Settings

TOKEN_TESTS = ("llama-server", "Ollama")
"""Kinds of servers that take a prompt of a set number of tokens and answer with a set number."""
_OLLAMA_TAKES = ("threads", "gpu_layers", "batch")
_WHY_NOT = {
    "quant": "levels cannot be made of a server's model",
    "threads": "the server decides how many threads it uses",
    "threads_batch": "the server decides how many threads it uses",
    "kv_type": "the server decides of which type its KV cache is",
    "gpu_layers": "the server decides how many layers it offloads",
    "batch": "the server decides how many tokens it computes together",
    "ubatch": "the server decides how many tokens it computes together",
    "quality": "a server tells no likelihoods, so that quality cannot be scored with it",
}


def server_plan(wishes: Wishes, settings: Settings, *, quiet: bool) -> tuple[Wishes, list[ModelFile], str]:
    """What can be measured of the wishes, the server's models and its address.

    Raises UsageError for what it decides by itself, and ModelError where it does not answer or lacks a model.
    """
    choice = server_choice(settings)
    assert choice is not None  # noqa: S101 - asked for by the caller
    found = survey(choice)
    if found.problem:
        raise ModelError(found.problem, found.mend)
    _refuse(wishes, found)
    if found.kind not in TOKEN_TESTS:
        if not (wishes.prompts or quiet):
            say(f"{found.kind}: it takes conversations only, so the built-in prompts are measured, not pp and tg tests")
        wishes = replace(wishes, n_prompt=(), n_gen=(), pairs=(), prompts=True)
    return wishes, _models(wishes.models, found), choice.url


def require_same_server(server: str, settings: Settings) -> None:
    """Raise UsageError where a benchmark that is to go on is of another server than the one that was named."""
    choice = server_choice(settings)
    named = "" if choice is None else choice.url
    if server == named:
        return
    if server:
        raise UsageError(f"this benchmark is of the server at {server}", f"go on with --server {server}")
    raise UsageError("this benchmark is of model files, not of a server", "go on without --server (EDGETOP_SERVER)")


def _refuse(wishes: Wishes, found: Survey) -> None:
    unset = Wishes()
    takes = _OLLAMA_TAKES if found.kind == "Ollama" else ()
    for name, why in _WHY_NOT.items():
        if name not in takes and getattr(wishes, name) != getattr(unset, name):
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(f"{flag}: {why}", "set it where the server is started, and leave it out here")
    if any(wishes.n_depth) and found.kind != "llama-server":
        raise UsageError(f"-d: {found.kind} does not say what of a prompt it kept", "leave it out")


def _models(names: Sequence[str], found: Survey) -> list[ModelFile]:
    models = []
    for name in names or (None,):
        try:
            offer = choose(list(found.offers), name)
        except ServerFailure as failure:
            raise ModelError(failure.what, failure.mend) from None
        label = offer.name.rpartition("/")[2].removesuffix(".gguf") or offer.name
        models.append(ModelFile(path=offer.name, label=label))
    return models


def has_server(settings: Settings) -> bool:
    """Whether a server is to be measured."""
    return settings[options.SERVER] is not None

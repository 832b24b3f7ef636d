"""Which command lines are those of programs that hold a language model, and what they say of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple


class Program(NamedTuple):
    """A program that holds a model, or serves those that do."""

    kind: str
    port: int | None = None
    """Where it serves HTTP unless told otherwise; `None` for one that is not asked."""


class _Rule(NamedTuple):
    pattern: re.Pattern[str]
    """Of the executable's name and its arguments, blanks between them."""
    program: Program


_RULES: Final = tuple(
    _Rule(re.compile(pattern), program)
    for pattern, program in (
        (r"llama-server\b", Program("llama-server", 8080)),
        (r"(\S*\.)?llamafiler?\b", Program("llamafile", 8080)),
        (r"ollama serve\b", Program("ollama", 11434)),
        (r"ollama runner\b|ollama_llama_server\b|ollama-llama-server\b", Program("ollama runner")),
        (r"koboldcpp\S*|python\S* \S*koboldcpp\.py\b", Program("koboldcpp", 5001)),
        (r"(LM Studio|lm-studio|LM-Studio|llmster)\b", Program("lm-studio", 1234)),
        (r"vllm serve\b|python\S* \S*/vllm serve\b|python\S* -m vllm\.entrypoints", Program("vllm", 8000)),
        (r"VLLM::", Program("vllm worker")),
        (r"python\S* -m llama_cpp\.server\b", Program("llama_cpp.server", 8000)),
        (r"(python\S* (-m |\S*/))?mlc_llm serve\b", Program("mlc_llm", 8000)),
        (r"python\S* -m sglang\.launch_server\b", Program("sglang", 30000)),
        (r"python\S* -m edgetop\.inference\.worker\b", Program("edgetop")),
        (r"(llama-(?!swap)[a-z0-9-]+|rpc-server|ggml-rpc-server)\b", Program("")),
    )
)
"""The first that fits counts; an empty kind is the executable's own name. Names and ports as in the programs' own
documentation."""
LOOKED_FOR: Final = (
    "llama-server and llama.cpp's other programs, llamafile, Ollama, koboldcpp, LM Studio, vLLM, SGLang, MLC, "
    "llama_cpp.server, and any process that has a .gguf file mapped"
)
"""The same for a person."""
_MODEL_FLAGS = frozenset({"-m", "--model", "--model-path", "-hf", "-hfr", "--hf-repo", "--hf"})
_MODEL_AFTER = frozenset({"serve"})
LOOKED_AT = 4096
"""Characters of a command line that are looked at."""


def program_of(arguments: Sequence[str]) -> Program | None:
    """The program of a command line; `None` for one that is not known to hold a model."""
    if not arguments or not arguments[0]:
        return None
    line = " ".join((_base(arguments[0]), *arguments[1:]))[:LOOKED_AT]
    for rule in _RULES:
        if rule.pattern.match(line):
            return rule.program if rule.program.kind else Program(_base(arguments[0]))
    return None


def model_of(arguments: Sequence[str]) -> str:
    """The model that a command line names; empty if it names none."""
    if arguments and _base(arguments[0]).startswith("python") and "-m" in arguments:
        # Here it names the module that is run.
        arguments = arguments[arguments.index("-m") + 1 :]
    for flag, value in pairwise(arguments):
        if flag in _MODEL_FLAGS or (flag in _MODEL_AFTER and not value.startswith("-")):
            return value
    for argument in arguments[1:]:
        name, _, value = argument.partition("=")
        if name in _MODEL_FLAGS and value:
            return value
    return next((argument for argument in arguments[1:] if argument.endswith(".gguf")), "")


def port_of(arguments: Sequence[str]) -> int | None:
    """The port that a command line names."""
    for flag, value in zip(arguments, (*arguments[1:], ""), strict=False):
        name, _, joined = flag.partition("=")
        text = joined or value
        if name == "--port" and text.isascii() and text.isdecimal() and 0 < int(text[:6]) < 2**16:
            return int(text)
    return None


def _base(path: str) -> str:
    return path.replace("\\", "/").rpartition("/")[2].removesuffix(".exe")

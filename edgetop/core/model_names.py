"""Hf: names, quantization labels, parts of split files."""

from __future__ import annotations

import re
from collections.abc import Sequence

from msgspec import Struct

from edgetop.core.errors import ModelError
from edgetop.core.text import one_line

PREFERRED = ("Q4_K_M", "Q4_0", "Q5_K_M", "Q4_1", "Q8_0")
"""Quantizations to choose from when none is named, best first for small machines."""

_NAMED = re.compile(r"hf:(?P<repo>[\w.-]+/[\w.-]+)(?::(?P<quantization>[\w.-]+))?")
_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$", re.IGNORECASE)


class HubModel(Struct, frozen=True):
    """A repository and, perhaps, one of its quantizations."""

    repo: str
    quantization: str | None


class SplitPart(Struct, frozen=True):
    """What the name of one file of a split model says: `stem-00002-of-00003.gguf`."""

    stem: str
    number: int
    count: int

    def named(self, number: int) -> str:
        """The name of another file of the same model."""
        return f"{self.stem}-{number:05}-of-{self.count:05}.gguf"


def parse(text: str) -> HubModel:
    """Read hf:owner/repo[:quant]. Raises ModelError."""
    match = _NAMED.fullmatch(text)
    if match is None:
        raise ModelError(f"{one_line(text)} does not name a repository", "write hf:owner/repo or hf:owner/repo:Q4_K_M")
    return HubModel(match["repo"], match["quantization"])


def part_of(file: str) -> SplitPart | None:
    """Read the name of a file of a split model; `None` for any other name."""
    match = _PART.search(file)
    return SplitPart(file[: match.start()], int(match[1]), int(match[2])) if match else None


def choose(files: Sequence[str], quantization: str | None) -> str | None:
    """Choose the GGUF file of the wanted quantization, of a split model its first part; `None` if there is none."""
    models = sorted(
        file for file in files if file.lower().endswith(".gguf") and "mmproj" not in file.lower() and _is_first(file)
    )
    for wanted in (quantization,) if quantization else PREFERRED:
        word = re.compile(rf"(?<![a-z0-9]){re.escape(wanted)}(?![a-z0-9_])", re.IGNORECASE)
        for file in models:
            if word.search(file):
                return file
    return models[0] if models and quantization is None else None


def parts(first: str, files: Sequence[str]) -> list[str]:
    """Name all files of a model of which `first` is the first."""
    part = part_of(first)
    if part is None:
        return [first]
    return sorted(
        file for file in files if (other := part_of(file)) and (other.stem, other.count) == (part.stem, part.count)
    )


def nothing_chosen(wanted: HubModel, files: Sequence[str]) -> ModelError:
    """What to say when `choose` finds nothing."""
    offered = sorted(file for file in files if file.lower().endswith(".gguf") and _is_first(file))
    if not offered:
        return ModelError(f"{wanted.repo} has no GGUF file", "look for a repository of the model with GGUF in its name")
    shown = ", ".join(one_line(file) for file in offered[:8])
    return ModelError(f"{wanted.repo} has no quantization {wanted.quantization}", f"it has {shown}")


def _is_first(file: str) -> bool:
    part = part_of(file)
    return part is None or part.number == 1

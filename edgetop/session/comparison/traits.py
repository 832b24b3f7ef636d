"""What results are told apart by, and how they are grouped and named after it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from edgetop.core.format import format_significant
from edgetop.session.comparison.comparison import Group, Trait
from edgetop.session.comparison.result import Kind, Result

KIND_NAMES: dict[Kind, str] = {"session": "edgetop", "llama-bench": "llama-bench", "ollama": "ollama"}
Read = Callable[[Result], str]


class _Named(NamedTuple):
    name: str
    read: Read
    """The value in words that can stand alone in a title; empty where it is not known."""


def _number(value: float | None, words: str) -> str:
    return "" if value is None else words.format(format_significant(value, 3) if value % 1 else f"{value:.0f}")


_TRAITS: tuple[_Named, ...] = (
    _Named("device", lambda result: result.device),
    _Named("host", lambda result: result.host),
    _Named("model", lambda result: result.model),
    _Named("quantization", lambda result: result.quantization),
    _Named("bits per weight", lambda result: _number(result.bits_per_weight, "{} bits")),
    _Named("power mode", lambda result: result.power_mode),
    _Named("threads", lambda result: _number(result.threads, "{} thr")),
    _Named("GPU layers", lambda result: _number(result.gpu_layers, "{} GPU layers")),
    _Named("KV types", lambda result: f"KV {result.kv_types}" if result.kv_types else ""),
    _Named("context", lambda result: _number(result.n_ctx, "ctx {}")),
    _Named("engine", lambda result: result.engine),
    _Named("measured by", lambda result: KIND_NAMES[result.kind]),
    _Named("test", lambda result: result.prompts if result.kind == "llama-bench" else ""),
    _Named("tags", lambda result: " ".join(result.tags)),
)
_SECONDARY = frozenset({"engine", "measured by", "tags"})
"""In titles only where others do not tell the results apart; flags tell of them too."""
_DETAILS = frozenset({"bits per weight", "host", "measured by"})
"""Of no interest where the traits before them tell the results apart as well."""


def traits_of(results: Sequence[Result]) -> tuple[list[Trait], list[Trait]]:
    """The traits that differ, with a value for each result, and those that are alike, with one.

    What some results do not tell is no difference by itself, and no likeness either.
    """
    differing: list[Trait] = []
    alike: list[Trait] = []
    for trait in _TRAITS:
        values = tuple(trait.read(result) for result in results)
        known = {value for value in values if value}
        if len(known) < 2:
            if all(values):
                alike.append(Trait(name=trait.name, values=values[:1]))
            continue
        before = [each.values for each in differing]
        if trait.name not in _DETAILS or _told_apart([*before, values]) > _told_apart(before):
            differing.append(Trait(name=trait.name, values=values))
    return differing, alike


def grouped(differing: Sequence[Trait], results: Sequence[Result]) -> tuple[list[Group], list[str]]:
    """Groups by the first trait that puts several results together and not all, and a title for each result.

    A title says what differs besides the group; where that does not tell results apart, secondary traits are added, and
    then their names.
    """
    group_by = next((trait for trait in differing if 1 < len(set(trait.values)) < len(results)), None)
    keys = [""] * len(results) if group_by is None else list(group_by.values)
    told = [trait for trait in differing if trait is not group_by]
    titles = _titles([trait for trait in told if trait.name not in _SECONDARY], results)
    for further in (_titles(told, results), [result.name for result in results]):
        counted = Counter(zip(keys, titles, strict=True))
        titles = [
            title if title and counted[key, title] == 1 else f"{title} {more.removeprefix(title).strip()}".strip()
            for key, title, more in zip(keys, titles, further, strict=True)
        ]
    groups = [
        Group(
            title=key or ("" if group_by is None else f"{group_by.name} not known"),
            rows=tuple(index for index, each in enumerate(keys) if each == key),
        )
        for key in dict.fromkeys(keys)
    ]
    return groups, titles


def _told_apart(columns: Sequence[Sequence[str]]) -> int:
    """How many results differ from each other by these values."""
    return len(set(zip(*columns, strict=True)))


def _titles(traits: Sequence[Trait], results: Sequence[Result]) -> list[str]:
    return [" ".join(trait.values[index] for trait in traits if trait.values[index]) for index in range(len(results))]

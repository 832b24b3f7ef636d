"""Models assessed one after the other; may become a part of `fit/assessment.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.engine_settings import EngineSettings
from edgetop.core.errors import EdgetopError
from edgetop.fit.assessment import Assessment, RunTarget, Workload, assess
from edgetop.fit.catalog import listed_models
from edgetop.fit.model_facts import ModelFacts
from edgetop.fit.model_file import read_facts
from edgetop.fit.suggestions import Choices, Suggestion, suggest

CONTEXTS = (4096, 32_768)
"""What a chat usually takes, and what long documents take."""


class Surveyed(Struct, frozen=True, kw_only=True):
    """One model with one context."""

    name: str
    """What `-m` takes."""
    path: Path
    assessment: Assessment | None
    """Without the longest context that fits, where it is one of many."""
    origin: str = ""
    """Where it was found, or that it could be downloaded."""
    problem: str = ""
    """Why there is no assessment."""


class Candidate(NamedTuple):
    """A model that was found."""

    name: str
    path: Path
    origin: str = ""
    problem: str = ""
    """Why it cannot be used."""


DOWNLOAD = "download"


class ModelAssessments:
    """Assesses models when it is iterated over, which takes some milliseconds each: not in a screen's own thread."""

    def __init__(
        self,
        models: Callable[[], Iterable[Candidate]],
        place: Callable[[], RunTarget],
        *,
        contexts: tuple[int, ...] | None = CONTEXTS,
        requested: EngineSettings | None = None,
        workload: Workload | None = None,
        with_catalog: bool = False,
    ) -> None:
        """`models` gives names and files, `place` where they would run; both are asked in the iterating thread.

        Without `contexts` each model has one row, with the context that a load would choose. `with_catalog` adds the
        models that could be downloaded.
        """
        self._with_catalog = with_catalog
        self._models = models
        self._find_target = place
        self._place: RunTarget | None = None
        self._contexts = contexts
        self._requested = requested or EngineSettings()
        self._workload = workload or Workload()
        self._read: dict[Path, ModelFacts] = {}

    @property
    def place(self) -> RunTarget:
        """Where the models would run."""
        if self._place is None:
            self._place = self._find_target()
        return self._place

    def __iter__(self) -> Iterator[Surveyed]:
        for candidate in self._models():
            yield from self._survey(candidate)
        for listed in listed_models() if self._with_catalog else ():
            for label in listed.quantizations:
                path = Path(listed.reference(label))
                assessment = self._assess(listed.facts(label), None)
                yield Surveyed(name=listed.name, path=path, assessment=assessment, origin=DOWNLOAD)

    def whole(self, surveyed: Surveyed) -> tuple[Assessment, tuple[Suggestion, ...]]:
        """One of them that has an assessment, with the longest context that fits and what would make it better.

        Raises ValueError for one without.
        """
        if surveyed.assessment is None:
            raise ValueError(surveyed.problem)
        known = surveyed.assessment
        assessment = assess(known.facts, known.requested, self._workload, self.place)
        return assessment, suggest(assessment, self.place, Choices(others=tuple(self._read.values())))

    def _survey(self, candidate: Candidate) -> Iterator[Surveyed]:
        name, path, origin, problem = candidate
        facts = None
        if not problem:
            try:
                facts = read_facts(path)
            except EdgetopError as error:
                problem = error.what
        if facts is None:
            yield Surveyed(name=name, path=path, assessment=None, origin=origin, problem=problem)
            return
        self._read[path] = facts
        for n_ctx in [None] if self._contexts is None else contexts_of(facts, self._contexts):
            yield Surveyed(name=name, path=path, assessment=self._assess(facts, n_ctx), origin=origin)

    def _assess(self, facts: ModelFacts, n_ctx: int | None) -> Assessment:
        requested = self._requested if n_ctx is None else replace(self._requested, n_ctx=n_ctx)
        return assess(facts, requested, self._workload, self.place, with_context=False)


def contexts_of(facts: ModelFacts, contexts: Iterable[int]) -> list[int]:
    """Those of the contexts that the model was trained for; in place of longer ones, its longest."""
    longest = facts.n_ctx_train or 2**31
    return sorted({min(n_ctx, longest) for n_ctx in contexts})

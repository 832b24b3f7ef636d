"""Models assessed one after the other; may become a part of `fit/assessment.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.engine_settings import EngineSettings
from edgetop.core.errors import EdgetopError
from edgetop.fit.assessment import Assessment, RunTarget, Workload, assess
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
    problem: str = ""
    """Why there is no assessment."""


class ModelAssessments:
    """Assesses models when it is iterated over, which takes some milliseconds each: not in a screen's own thread."""

    def __init__(
        self,
        models: Callable[[], Iterable[tuple[str, Path]]],
        place: Callable[[], RunTarget],
        *,
        contexts: tuple[int, ...] = CONTEXTS,
        requested: EngineSettings | None = None,
        workload: Workload | None = None,
    ) -> None:
        """`models` gives names and files, `place` where they would run; both are asked in the iterating thread."""
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
        for name, path in self._models():
            yield from self._survey(name, path)

    def suggestions(self, surveyed: Surveyed) -> tuple[Suggestion, ...]:
        """What would make one of them better, the other models that were read among it."""
        if surveyed.assessment is None:
            return ()
        return suggest(surveyed.assessment, self.place, Choices(others=tuple(self._read.values())))

    def _survey(self, name: str, path: Path) -> Iterator[Surveyed]:
        try:
            facts = read_facts(path)
        except EdgetopError as error:
            yield Surveyed(name=name, path=path, assessment=None, problem=error.what)
            return
        self._read[path] = facts
        for n_ctx in contexts_of(facts, self._contexts):
            assessment = assess(facts, replace(self._requested, n_ctx=n_ctx), self._workload, self.place)
            yield Surveyed(name=name, path=path, assessment=assessment)


def contexts_of(facts: ModelFacts, contexts: Iterable[int]) -> list[int]:
    """Those of the contexts that the model was trained for; in place of longer ones, its longest."""
    longest = facts.n_ctx_train or 2**31
    return sorted({min(n_ctx, longest) for n_ctx in contexts})

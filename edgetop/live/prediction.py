"""What is expected of a model that is being loaded, worked out beside the loading and recorded with the session.

Everything happens in a thread of the process that gives way to the model: reading the header takes some milliseconds,
the prediction as many. Nothing waits for it, and nothing is measured.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path

from edgetop.core.clock import Clock, monotonic_us
from edgetop.core.errors import EdgetopError
from edgetop.core.prediction import Prediction
from edgetop.core.records import ModelLoaded, Predicted
from edgetop.fit.model_facts import ModelFacts
from edgetop.fit.model_file import read_facts

Foresee = Callable[[ModelLoaded, ModelFacts], Prediction]


class Forecast:
    """Predicts each model that is loaded: its header is read while it loads, the rest follows its settings."""

    def __init__(self, executor: Executor, foresee: Foresee, clock: Clock = monotonic_us) -> None:
        """`foresee` is called in a thread of the executor."""
        self._executor = executor
        self._foresee = foresee
        self._clock = clock
        self._facts: tuple[Path, Future[ModelFacts]] | None = None
        self._pending: Future[Prediction] | None = None

    def begin(self, path: Path) -> None:
        """Note that a model is about to be loaded."""
        self._pending = None
        self._facts = (path, self._executor.submit(read_facts, path))

    def loaded(self, load: ModelLoaded) -> None:
        """Note that it has been, and with which settings."""
        path = Path(load.model.path)
        if self._facts is None or self._facts[0] != path:
            self.begin(path)
        assert self._facts is not None  # noqa: S101 - set by begin
        facts = self._facts[1]
        self._pending = self._executor.submit(lambda: self._foresee(load, facts.result()))

    @property
    def facts(self) -> ModelFacts | None:
        """Of the model that was loaded last; `None` where its header could not be read."""
        if self._facts is None or not self._facts[1].done() or self._facts[1].exception() is not None:
            return None
        return self._facts[1].result()

    def take(self) -> Predicted | None:
        """The prediction of the model that was loaded last, once, when it is there; never if there can be none."""
        pending = self._pending
        if pending is None or not pending.done():
            return None
        self._pending = None
        try:
            return Predicted(t_us=self._clock(), prediction=pending.result())
        except (EdgetopError, OSError, ValueError, ArithmeticError):
            return None  # a model that the engine has loaded is not given up because we cannot read it

"""Scores of quality at the end of a benchmark."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from edgetop.bench.plan import ModelFile
from edgetop.bench.quality import QualityError, QualityScorer
from edgetop.bench.run_log import FinishedRun, RunLog, quality_key
from edgetop.commands.console import clear_progress, say_trouble, show_progress
from edgetop.core.errors import ModelError
from edgetop.fit.model_file import read_facts
from edgetop.live.live_session import LiveOptions
from edgetop.session.store import Store


def score_quality(
    log: RunLog, store: Store, live: LiveOptions, *, quiet: bool, interrupted: Callable[[], bool]
) -> bool:
    """Score every model of a plan that asks for it; False when interrupted.

    The levels of one model are held against the most precise of them. All are scored or none: what the others are held
    against is kept only as long as this takes.
    """
    plan = log.plan
    if plan.quality is None:
        return True

    def tell(text: str) -> None:
        if not quiet:
            show_progress(f"quality: {text}")

    threads = max((each.threads for each in plan.settings if each.threads is not None), default=None)
    for family in families_of(log.unscored):
        scorer = QualityScorer(
            plan.quality, plan.identity, store, live, folder=log.path / "reference", tell=tell, interrupted=interrupted
        )
        try:
            if not _score_family(log, scorer, family, threads):
                return False
        finally:
            scorer.close()
            clear_progress()
    return True


def families_of(models: Sequence[ModelFile]) -> list[list[ModelFile]]:
    """The levels of each model together, the most precise, which is the largest file, first.

    They are known by their architecture, vocabulary and number of weights; what cannot be read is one family.
    """
    families: dict[tuple[object, ...], list[ModelFile]] = {}
    for model in models:
        try:
            facts = read_facts(Path(model.path))
            key: tuple[object, ...] = (facts.architecture, facts.n_vocab, facts.parameters)
        except ModelError:
            key = ()
        families.setdefault(key, []).append(model)
    return [sorted(family, key=_size_bytes, reverse=True) for family in families.values()]


def _score_family(log: RunLog, scorer: QualityScorer, family: Sequence[ModelFile], threads: int | None) -> bool:
    for model in family:
        key = quality_key(model)
        try:
            scored = scorer.score(model, threads=threads)
        except QualityError as error:
            clear_progress()
            say_trouble(f"quality of {model.label}: {error.what}", error.mend)
            log.add(FinishedRun(setting=key, round=1, outcome="failed", reason=error.what))
            continue
        if scored is None:
            return False
        _, path = scored
        log.add(FinishedRun(setting=key, round=1, outcome="measured", session=str(path or "")))
    return True


def _size_bytes(model: ModelFile) -> int:
    try:
        return Path(model.path).stat().st_size
    except OSError:
        return 0

"""Perplexity, KL divergence and accuracy of levels, family by family."""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from edgetop.bench.plan import QUESTIONS, ModelFile, QualityPlan, QuestionItem, prompt_of
from edgetop.bench.run_log import FinishedRun, RunLog, quality_key
from edgetop.core.clock import monotonic_us
from edgetop.core.engine_settings import EngineSettings
from edgetop.core.errors import EdgetopError, ModelError
from edgetop.core.records import BenchRun, Quality, Score, Scored
from edgetop.fit.model_facts import read_facts
from edgetop.inference.protocol import (
    ChoiceScore,
    ChoicesScored,
    Choose,
    LoadFailed,
    MultipleChoiceQuestion,
    Perplexity,
    Report,
    ScoreFailed,
    ScoreProgress,
    TextScored,
)
from edgetop.live.chat_session import IDLE_PHASES, LiveOptions, LiveSession
from edgetop.live.conversation import Notice
from edgetop.session.store import Store


class QualityError(EdgetopError):
    """A model that could not be scored."""


class QualityScorer:
    """Scores models one after the other; the first one that reads the same tokens is the reference of the others."""

    def __init__(
        self,
        plan: QualityPlan,
        identity: str,
        store: Store,
        live: LiveOptions,
        *,
        folder: Path,
        on_progress: Callable[[str, float], None],
        interrupted: Callable[[], bool],
    ) -> None:
        """`identity` is that of the whole plan.

        `on_progress` is called with what is going on and the share of the model that is done. `folder` is for the
        references' predictions alone: what an earlier edgetop has left there is deleted.
        """
        self._plan = plan
        self._identity = identity
        self._store = store
        self._live_options = live
        self._on_progress = on_progress
        self._doing, self._parts, self._part = "", 2 if plan.questions else 1, 0
        """What is going on, in how many parts a model is scored, and which one it is."""
        self._interrupted = interrupted
        self._folder = folder
        self.close()
        self._references: list[str] = []
        """Labels of models that others can be compared with."""
        self._result: Report | None = None
        self._failure = ""

    def close(self) -> None:
        """Delete the references' predictions, which take a hundred megabytes and more."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def score(self, model: ModelFile, *, threads: int | None = None) -> tuple[Quality, Path | None] | None:
        """The scores of a model, and the session that holds them; `None` when interrupted. Raises QualityError."""
        settings = EngineSettings(
            n_ctx=self._plan.n_ctx, n_batch=self._plan.n_ctx, n_outputs_max=self._plan.n_ctx // 2, n_threads=threads
        )
        bench = BenchRun(plan=self._identity, setting=quality_key(model), round=1)
        live = LiveSession(
            replace(self._live_options, engine=settings, bench=bench, record=True, output=None),
            self._store,
            self._on_event,
        )
        try:
            self._begin(f"loading {model.label}", 0)
            live.conversation.load(Path(model.path), settings)
            quality = self._scores(live, model) if self._wait(live) else None
            if quality is not None:
                live.recorder.record(Scored(t_us=monotonic_us(), quality=quality))
        finally:
            path = _closed(live)
        return None if quality is None else (quality, path)

    def _begin(self, doing: str, part: int) -> None:
        self._doing, self._part = doing, part
        self._on_progress(doing, part / self._parts)

    def _scores(self, live: LiveSession, model: ModelFile) -> Quality | None:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise QualityError(f"{self._folder}: {error.strerror or error}.", "Make room there.") from None
        self._begin(f"perplexity of {model.label}", 0)
        scored, reference = None, ""
        for number, reference in enumerate([*self._references, ""]):
            file = str(self._folder / str(number))
            live.conversation.score(
                Perplexity(
                    text=self._plan.text, chunks=self._plan.chunks, reference=file, write_reference=not reference
                )
            )
            scored = self._result if self._wait(live) else None
            if not isinstance(scored, ScoreFailed):
                break
        if not isinstance(scored, TextScored):
            return None
        chosen: Report | None = None
        items, asked = questions_of(self._plan)
        if self._plan.questions:
            self._begin(f"questions to {model.label}", 1)
            live.conversation.score(Choose(questions=asked, template=self._plan.template))
            chosen = self._result if self._wait(live) else None
            if not isinstance(chosen, ChoicesScored):
                return None
        self._references += [] if reference else [model.label]
        divergence = scored.divergence
        return Quality(
            text=self._plan.text_name,
            text_digest=hashlib.sha256(self._plan.text.encode("utf-8", "replace")).hexdigest(),
            n_ctx=self._plan.n_ctx,
            tokens=scored.tokens,
            perplexity=Score(value=scored.perplexity, error=scored.perplexity_error),
            reference=reference,
            kl_divergence=None if divergence is None else Score(value=divergence.kl_mean, error=divergence.kl_error),
            kl_p99=None if divergence is None else divergence.kl_p99,
            top_agreement=None if divergence is None else divergence.top_agreement,
            **(answers_of(self._plan, items, asked, chosen.scores) if isinstance(chosen, ChoicesScored) else {}),
        )

    def _wait(self, live: LiveSession) -> bool:
        """Until the engine is done; False when interrupted. Raises QualityError when it failed."""
        self._failure, self._result = "", None
        if not live.pump_until(IDLE_PHASES, ended=self._interrupted):
            return False
        if self._failure or live.conversation.phase != "ready":
            raise QualityError(self._failure or "The engine stopped.", "Leave --quality out, or choose another model.")
        return True

    def _on_event(self, event: Report | Notice) -> None:
        match event:
            case TextScored() | ChoicesScored():
                self._result = event
            case ScoreFailed() if event.wrong_reference:
                # It reads other tokens, such as with a beginning-of-sequence token: it may be like the next one.
                self._result = event
            case ScoreFailed() | LoadFailed():
                self._failure = f"{event.message} {event.hint}".strip()
            case Notice() if event.severity == "error":
                self._failure = self._failure or event.text
            case ScoreProgress():
                share = (self._part + event.fraction) / self._parts
                self._on_progress(f"{self._doing}, {event.fraction:.0%}", share)
            case _:
                return


def _closed(live: LiveSession) -> Path | None:
    """The session's file. Raises QualityError when it cannot be saved."""
    try:
        return live.close()
    except EdgetopError as error:
        raise QualityError(error.what, error.hint) from None


Questions = tuple[MultipleChoiceQuestion, ...]


def questions_of(plan: QualityPlan) -> tuple[tuple[QuestionItem, ...], Questions]:
    """The questions that are scored, and each as the model reads it, with the examples before it."""
    items = plan.asked or QUESTIONS
    examples = "".join(f"{prompt_of(each)}{each.choices[each.right]}\n\n" for each in items[: plan.shots])
    scored = items[plan.shots :]
    return scored, tuple(MultipleChoiceQuestion(examples + prompt_of(each), each.choices) for each in scored)


def answers_of(
    plan: QualityPlan, items: Sequence[QuestionItem], asked: Questions, scores: Sequence[ChoiceScore]
) -> dict[str, Any]:
    """Fields of Quality that say how the questions were answered.

    The built-in ones are weighed per byte; those of a file per character without the space before them, as `acc_norm`
    of EleutherAI's lm-evaluation-harness (lm_eval/api/task.py), since a long choice is less likely than a short one
    whatever it says. An answer to be matched is right if a greedy reply begins with it (`is_greedy` there).
    """
    weights: dict[str, Callable[[str, int], int]] = {
        "norm": (lambda choice, _: len(choice.strip()) or 1)
        if plan.asked
        else (lambda choice, _: len(choice.encode())),
        "sum": lambda _choice, _tokens: 1,
        "token": lambda _, tokens: tokens,
    }
    answers = {
        name: [_is_right(each, score, weigh) for each, score in zip(items, scores, strict=True)]
        for name, weigh in weights.items()
    }
    count, right = len(items), sum(answers["norm"])
    exact = sum(len(each.choices) == 1 for each in items)
    unit = "character (acc_norm)" if plan.asked else "byte"
    ways = [f"{count - exact} by log-likelihood per {unit}"] if exact < count else []
    ways += [f"{exact} by exact match of the greedy reply"] if exact else []
    share = right / count
    return {
        "questions": count,
        "accuracy": Score(value=share, error=math.sqrt(share * (1 - share) / count)),
        "questions_name": plan.asked_name,
        "questions_digest": hashlib.sha256(
            msgspec.json.encode([items, asked, *([True] if plan.template else [])])
        ).hexdigest(),
        "scoring": f"{' and '.join(ways)}, {plan.shots} examples before each, "
        f"{'in the' if plan.template else 'no'} chat template",
        "accuracy_sum": sum(answers["sum"]) / count,
        "accuracy_per_token": sum(answers["token"]) / count,
        "answers": "".join("01"[each] for each in answers["norm"]),
    }


def _is_right(item: QuestionItem, score: ChoiceScore, weigh: Callable[[str, int], int]) -> bool:
    if len(item.choices) == 1:
        return score.greedy == (True,)
    weighed = [
        likelihood / weigh(choice, tokens)
        for likelihood, choice, tokens in zip(score.log_likelihood, item.choices, score.tokens, strict=True)
    ]
    return max(range(len(weighed)), key=weighed.__getitem__) == item.right


def score_models(
    log: RunLog,
    store: Store,
    live: LiveOptions,
    *,
    on_score: Callable[[str, str, float], None],
    on_notice: Callable[[Notice], None],
    interrupted: Callable[[], bool],
) -> bool:
    """Score every model of a plan that asks for it; False when interrupted.

    `on_score` is told which of how many models it is, what is going on, and the share of all that is done. The levels
    of one model are held against the most precise of them. All are scored or none: what the others are held against is
    kept only as long as this takes.
    """
    plan, models, done = log.plan, log.unscored, 0
    if plan.quality is None:
        return True

    def on_progress(doing: str, share: float) -> None:
        on_score(f"{done + 1} of {len(models)}", doing, (done + share) / len(models))

    threads = max((each.threads for each in plan.settings if each.threads is not None), default=None)
    for family in families_of(models):
        scorer = QualityScorer(
            plan.quality,
            plan.identity,
            store,
            live,
            folder=log.path / "reference",
            on_progress=on_progress,
            interrupted=interrupted,
        )
        try:
            for model in family:
                ended = FinishedRun(setting=quality_key(model), round=1, outcome="measured")
                try:
                    scored = scorer.score(model, threads=threads)
                except QualityError as error:
                    text = f"quality of {model.label}: {error.what}"
                    on_notice(Notice(text=text, hint=error.hint, severity="error"))
                    log.add(replace(ended, outcome="failed", reason=error.what))
                else:
                    if scored is None:
                        return False
                    log.add(replace(ended, session=str(scored[1] or "")))
                done += 1
        finally:
            scorer.close()
    return True


def families_of(models: Sequence[ModelFile]) -> list[list[ModelFile]]:
    """The levels of each model together, the most precise, which is the largest file, first.

    They are known by their architecture, vocabulary and number of weights; what cannot be read is one family. Those of
    one family that read other tokens all the same, the scorer tells apart.
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


def _size_bytes(model: ModelFile) -> int:
    try:
        return Path(model.path).stat().st_size
    except OSError:
        return 0

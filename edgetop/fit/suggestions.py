"""What would help: changes to a run, and other models, assessed one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.engine_choices import KvType
from edgetop.core.engine_settings import EngineSettings
from edgetop.core.errors import EdgetopError, ModelError
from edgetop.core.format import plural
from edgetop.core.sources import Unavailable
from edgetop.fit.assessment import FITS, Assessment, RunTarget, Workload, assess, fits_at
from edgetop.fit.kv_cache import padded
from edgetop.fit.memory import fitting_kv_type, refusal
from edgetop.fit.model_facts import MIXES, ModelFacts, published_models, read_facts, requantized
from edgetop.io.log import log
from edgetop.io.model_file import Result, in_time

Kind = Literal["threads", "gpu layers", "power mode", "kv type", "context", "quantization", "model"]
"""From what costs least to give up to what costs most."""

KINDS: tuple[Kind, ...] = get_args(Kind)
COSTS_QUALITY: frozenset[Kind] = frozenset({"kv type", "context", "quantization", "model"})
SUGGESTIONS_MAX = 3
GAIN_MIN = 0.05
"""A gain below this is less than what predictions of the same model differ by."""

N_CTX_MIN = 512
THREADS_TRIED = 32
MODELS_TRIED = 12
TIGHT, DOES_NOT_FIT = FITS.index("tight"), FITS.index("does not fit")
QUANTIZATIONS = ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "Q3_K_M", "Q2_K")
"""Those that are tried, the largest first."""

BAD_QUANTIZATIONS = ("Q3_K_M", "Q2_K")
"""Answers suffer visibly; suggested only where nothing better fits."""


class Suggestion(Struct, frozen=True, kw_only=True):
    """One change and what would come of it."""

    kind: Kind
    flag: str
    """What to add to the command line; empty where it takes more than that."""
    words: str
    """The change, for a person."""
    after: Assessment


class Choices(Struct, frozen=True, kw_only=True):
    """What else there is."""

    modes: dict[str, RunTarget] = {}
    """The other power modes of the device, by name."""
    others: tuple[ModelFacts, ...] = ()
    """Further models that could be taken."""


def suggest(before: Assessment, place: RunTarget, choices: Choices | None = None) -> tuple[Suggestion, ...]:
    """The changes that help most, at most three, each of another kind.

    Where model and machine go well together nothing is suggested that would cost quality.
    """
    found: dict[Kind, Suggestion] = {}
    for tried in _tried(before, place, choices or Choices()):
        best = found.get(tried.kind)
        if _helps(before, tried) and (best is None or _order(tried) < _order(best)):
            found[tried.kind] = tried
    return tuple(sorted(found.values(), key=_order)[:SUGGESTIONS_MAX])


def _tried(before: Assessment, place: RunTarget, choices: Choices) -> Iterator[Suggestion]:
    yield from _threads(before, place)
    if place.machine.gpu is not None and before.settings.n_gpu_layers == 0:
        after = _ask(before, place, replace(before.requested, n_gpu_layers=None))
        yield Suggestion(kind="gpu layers", flag="", words="all layers on the GPU: leave --gpu-layers out", after=after)
    for name, other_place in choices.modes.items():
        after = assess(before.facts, before.requested, before.workload, other_place, with_context=False)
        yield Suggestion(kind="power mode", flag="", words=f"power mode {name}", after=after)
    if before.verdict.rank == (0, 0):
        return
    yield from _kv_types(before, place)
    yield from _contexts(before, place)
    yield from _quantizations(before, place)
    yield from _models(before, place, choices.others)


def _threads(before: Assessment, place: RunTarget) -> Iterator[Suggestion]:
    cores = min(max(place.threads, place.machine.cores or 0), THREADS_TRIED)
    for count in range(1, cores + 1):
        if count != before.settings.n_threads:
            requested = replace(before.requested, n_threads=count, n_threads_batch=count)
            after = assess(before.facts, requested, before.workload, place, memory_of=before)
            yield Suggestion(kind="threads", flag=f"--threads {count}", words=plural(count, "thread"), after=after)


def _kv_types(before: Assessment, place: RunTarget) -> Iterator[Suggestion]:
    """q8_0, with no known loss; a smaller type where only that would fit."""
    settings = before.settings
    whole = {"f32", "f16", "bf16", None}
    refused = before.verdict.fit == "refused"
    if refused and refusal(before.facts, replace(settings, type_k="f16", type_v="f16")) is not None:
        return
    if not refused and not {settings.type_k, settings.type_v} & whole:
        return
    kinds: list[KvType] = ["f16"] if refused else []
    if refusal(before.facts, replace(settings, type_k="q8_0", type_v="q8_0")) is None:
        kinds.append("q8_0")
    if before.verdict.fit == "does not fit":
        fitting = fitting_kv_type(before.facts, settings, fits_at(place), features=place.machine.features)
        kinds += [] if fitting is None or fitting in kinds else [fitting]
    for kind in kinds:
        after = _ask(before, place, replace(before.requested, type_k=kind, type_v=kind))
        yield Suggestion(kind="kv type", flag=f"--kv-type {kind}", words=f"KV cache in {kind}", after=after)


def _contexts(before: Assessment, place: RunTarget) -> Iterator[Suggestion]:
    if before.verdict.fit in {None, "fits"}:
        return
    workload, n_ctx = before.workload, before.settings.n_ctx or 0
    too_short = workload.prompt_tokens >= n_ctx
    n_ctx = padded(workload.prompt_tokens + workload.answer_tokens) if too_short else n_ctx // 2
    while n_ctx >= N_CTX_MIN:
        after = _ask(before, place, replace(before.requested, n_ctx=n_ctx))
        yield Suggestion(kind="context", flag=f"--ctx {n_ctx}", words=f"a context of {n_ctx} tokens", after=after)
        if too_short or after.verdict.fit == "fits":
            return
        n_ctx //= 2


def _quantizations(before: Assessment, place: RunTarget) -> Iterator[Suggestion]:
    facts, fitting = before.facts, before.verdict.fit != "does not fit"
    sizes = list(MIXES)
    for label in QUANTIZATIONS:
        if label in BAD_QUANTIZATIONS and fitting:
            continue
        if facts.file_type in MIXES and sizes.index(label) <= sizes.index(facts.file_type):
            continue  # not smaller
        made = requantized(facts, label)
        if made.tensor_bytes < facts.tensor_bytes * (1 - GAIN_MIN):
            after = assess(made, before.requested, before.workload, place, with_context=False)
            fitting = fitting or after.verdict.fit != "does not fit"
            yield Suggestion(kind="quantization", flag="", words=f"the same model in {label}", after=after)
            if after.verdict.rank == (0, 0):
                return  # a smaller one is no better


def _models(before: Assessment, place: RunTarget, others: Sequence[ModelFacts]) -> Iterator[Suggestion]:
    facts = before.facts
    smaller = [
        other
        for other in others
        if not other.is_projector and other.files != facts.files and other.tensor_bytes < facts.tensor_bytes
    ]
    related = sorted(smaller, key=lambda other: (other.architecture != facts.architecture, -other.tensor_bytes))
    for other in related[:MODELS_TRIED]:
        requested = replace(before.requested, n_ctx=before.settings.n_ctx)
        after = assess(other, requested, before.workload, place, with_context=False)
        label = f"{other.name} {other.file_type}".strip()
        yield Suggestion(kind="model", flag=f"-m {other.source}", words=label, after=after)


def _ask(before: Assessment, place: RunTarget, settings: EngineSettings) -> Assessment:
    return assess(before.facts, settings, before.workload, place, with_context=False)


def _helps(before: Assessment, tried: Suggestion) -> bool:
    was, now = before.verdict.rank, tried.after.verdict.rank
    # What does not fit is not helped by being quicker, nor by a change after which nobody knows whether it fits.
    not_known = tried.after.verdict.fit is None and before.verdict.fit is not None
    worse = now[0] > was[0] or (now[0] == was[0] and now[1] > was[1])
    if not_known or worse or now[0] == was[0] >= DOES_NOT_FIT:
        return False
    if now[0] < was[0] or now[1] < was[1]:
        return True
    if tried.kind in COSTS_QUALITY and was == (0, 0):
        return False
    quicker = _saved(_token_s(before), _token_s(tried.after))
    smaller = _saved(_needed_bytes(before), _needed_bytes(tried.after)) if was[0] == TIGHT else 0.0
    thriftier = _saved(_token_j(before), _token_j(tried.after))
    return quicker >= -GAIN_MIN and max(quicker, smaller, thriftier) >= GAIN_MIN


def _order(suggestion: Suggestion) -> tuple[tuple[int, int], int, int, float]:
    """The better verdict first, then what gives up least: changes of little cost, the larger context or model."""
    after = suggestion.after
    size = 0 if suggestion.kind not in COSTS_QUALITY else -(after.settings.n_ctx or 0) - after.facts.tensor_bytes
    return after.verdict.rank, KINDS.index(suggestion.kind), size, _token_s(after) or 0.0


def _saved(before: float | None, after: float | None) -> float:
    """The share that is saved, 0 where it is not known."""
    return 1 - after / before if before and after is not None else 0.0


def _needed_bytes(assessment: Assessment) -> float | None:
    return None if isinstance(assessment.need, Unavailable) else assessment.need.needed_bytes


def _token_s(assessment: Assessment) -> float | None:
    decode = assessment.decode
    return 1 / decode.value if decode is not None and decode.value > 0 else None


def _token_j(assessment: Assessment) -> float | None:
    return None if isinstance(assessment.energy, Unavailable) else assessment.energy.decode_j_per_token.value


CONTEXTS = (4096, 32_768)
"""What a chat usually takes, and what long documents take."""


class AssessedModel(Struct, frozen=True, kw_only=True):
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

    def __iter__(self) -> Iterator[AssessedModel]:
        for candidate in self._models():
            yield from self._assess_candidate(candidate)
        for listed in published_models() if self._with_catalog else ():
            for label in listed.quantizations:
                path = Path(listed.reference(label))
                assessment = self._assess(listed.facts(label), None)
                yield AssessedModel(name=listed.name, path=path, assessment=assessment, origin=DOWNLOAD)

    def whole(self, assessed: AssessedModel) -> tuple[Assessment, tuple[Suggestion, ...]]:
        """One of them that has an assessment, with the longest context that fits and what would make it better.

        Raises ModelError for one without, and for one of which nothing can be said.
        """
        if assessed.assessment is None:
            raise ModelError(assessed.problem)
        known = assessed.assessment

        def both() -> tuple[Assessment, tuple[Suggestion, ...]]:
            assessment = assess(known.facts, known.requested, self._workload, self.place)
            return assessment, suggest(assessment, self.place, Choices(others=tuple(self._read.values())))

        return _assessed(both)

    def _assess_candidate(self, candidate: Candidate) -> Iterator[AssessedModel]:
        name, path, origin, problem = candidate
        found: list[Assessment] = []
        if not problem:
            try:
                facts = _assessed(lambda: read_facts(path))
                contexts = [None] if self._contexts is None else contexts_of(facts, self._contexts)
                found = _assessed(lambda: [self._assess(facts, n_ctx) for n_ctx in contexts])
                self._read[path] = facts
            except EdgetopError as error:
                problem = error.what
        for assessment in found:
            yield AssessedModel(name=name, path=path, assessment=assessment, origin=origin)
        if not found:
            yield AssessedModel(name=name, path=path, assessment=None, origin=origin, problem=problem)

    def _assess(self, facts: ModelFacts, n_ctx: int | None) -> Assessment:
        requested = self._requested if n_ctx is None else replace(self._requested, n_ctx=n_ctx)
        return assess(facts, requested, self._workload, self.place, with_context=False)


def _assessed(work: Callable[[], Result]) -> Result:
    """What is found out of one model of many. Raises EdgetopError: what is wrong with one row ends no table."""
    try:
        return in_time(work)
    except (ArithmeticError, LookupError, TypeError, ValueError, RecursionError, MemoryError, OSError) as error:
        log("decisions", f"{type(error).__name__}: {error}")
        raise ModelError(f"nothing can be said of it: {type(error).__name__} in its assessment") from error


def contexts_of(facts: ModelFacts, contexts: Iterable[int]) -> list[int]:
    """Those of the contexts that the model was trained for; in place of longer ones, its longest."""
    longest = facts.n_ctx_train or 2**31
    return sorted({min(n_ctx, longest) for n_ctx in contexts})


class OfferedModel(NamedTuple):
    """A model that one may choose."""

    name: str
    source: str
    """What `-m` takes."""
    here: bool
    size_is_computed: bool
    assessment: Assessment
    described_by: str | None = None
    """Where its dimensions stand; `None` of a model that is here."""
    published: str | None = None
    """Year and month of its publication, of the same."""


def best_first(
    here: Iterable[Candidate], requested: EngineSettings, workload: Workload, place: RunTarget, purpose: str
) -> list[OfferedModel]:
    """The models of this machine and of the catalog, the best for a purpose first."""
    found = []
    for model in here:
        with suppress(ModelError):
            if not model.problem:
                facts = in_time(partial(read_facts, model.path))
                assessment = in_time(partial(assess, facts, requested, workload, place, with_context=False))
                found.append(OfferedModel(model.name, str(model.path), True, False, assessment))
    for listed in published_models():
        for label in listed.quantizations:
            assessment = assess(listed.facts(label), requested, workload, place, with_context=False)
            computed = label not in listed.stated
            reference = listed.reference(label)
            found.append(OfferedModel(listed.name, reference, False, computed, assessment, listed.source, listed.date))
    return sorted(found, key=lambda choice: _preference(choice.assessment, purpose))


def _preference(assessment: Assessment, purpose: str) -> tuple[float, ...]:
    """What fits first; then the largest that is comfortable to read, the fastest, or what takes the least energy."""
    fit, pace = assessment.verdict.rank
    decode = 0.0 if assessment.decode is None else assessment.decode.value
    if purpose == "chat":
        return fit, pace, -assessment.facts.parameters, -assessment.facts.tensor_bytes
    if purpose == "speed":
        return fit, -decode, assessment.facts.tensor_bytes
    energy = assessment.energy
    # Where no power is known, reading is what takes the energy.
    joules = float("inf") if isinstance(energy, Unavailable) else energy.decode_j_per_token.value
    return fit, joules, assessment.facts.weight_bytes_per_token

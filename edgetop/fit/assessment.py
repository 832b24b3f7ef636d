"""All predictions of a model here; fits, fast enough.

Adults read English non-fiction silently at 238 words a minute in the mean, most of them at 175 to 300 (Brysbaert 2019,
"How many words do we read per minute?", Journal of Memory and Language 109, 104047, a meta-analysis of 190 studies).
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.energy.duty import TOKENS, Duty, DutyBasis, DutyFigures, Price, duty_figures
from edgetop.core.engine_settings import KV_TYPE, EngineSettings, MemoryBreakdown, default_n_ctx
from edgetop.core.format import format_bytes
from edgetop.core.quantity import J_PER_WH, Interval, banded, cost, hours_left, sigma_of
from edgetop.core.records import PastRun, Prediction
from edgetop.core.sources import Unavailable
from edgetop.fit.compute_buffer import micro_batch
from edgetop.fit.kv_cache import kv_bytes, padded
from edgetop.fit.machine import Machine, Processor, compute_time, offloaded_share
from edgetop.fit.memory import LOGIT_BYTES, REFUSES, MemoryNeed, MemoryRoom, largest_context, memory_need
from edgetop.fit.model_facts import ModelFacts, draft_within
from edgetop.fit.speed import (
    EnergyPrediction,
    OllamaPrediction,
    SideBySide,
    SpeedPrediction,
    added_token_s,
    in_ollama,
    predict_energy,
    predict_speed,
    side_by_side,
)
from edgetop.io.model_file import draft_type

Pace = Literal["comfortable", "usable", "too slow for reading"]

WORDS_PER_MINUTE = 238.0
SLOW_SHARE = 175.0 / 238.0
FAST_SHARE = 300.0 / 238.0
"""Slow and fast readers, by the mean one."""

TOKENS_PER_WORD = 1.3
"""Of English text with the vocabularies in use, 30,000 tokens and more; other languages take more tokens per word."""


class Reader(Struct, frozen=True, kw_only=True):
    """Who reads along."""

    words_per_minute: float = WORDS_PER_MINUTE
    tokens_per_word: float = TOKENS_PER_WORD

    @property
    def tokens_per_s(self) -> float:
        """The rate at which tokens are read: 5.2 a second by default."""
        return self.words_per_minute / 60 * self.tokens_per_word


def pace_of(decode_tokens_per_s: float, reader: Reader) -> Pace:
    """How it is to read along: comfortable if even a fast reader never waits, too slow if a slow one does."""
    share = decode_tokens_per_s / reader.tokens_per_s
    if share >= FAST_SHARE:
        return "comfortable"
    return "usable" if share >= SLOW_SHARE else "too slow for reading"


Fit = Literal["fits", "tight", "does not fit", "refused"]

MARGIN_SHARE = 0.10
MARGIN_BYTES_MAX = 2**30
"""What llama.cpp itself leaves free on a device when it fits a model to it (--fit-target)."""

FITS: tuple[Fit, ...] = ("fits", "tight", "does not fit", "refused")
PACES: tuple[Pace, ...] = ("comfortable", "usable", "too slow for reading")
"""From good to bad."""


class Thresholds(Struct, frozen=True, kw_only=True):
    """Where one word of the verdict ends and the next one begins."""

    margin_share: float = MARGIN_SHARE
    """Share of the memory that should stay free, but never more than 1 GiB of it. With less, another program that is
    started pushes the weights out of memory, and each token waits for the disk."""
    reader: Reader = Reader()

    def margin_bytes(self, room: MemoryRoom) -> int:
        """What should stay free of this room."""
        return min(MARGIN_BYTES_MAX, round(self.margin_share * room.total_bytes))


class FitVerdict(Struct, frozen=True, kw_only=True):
    """A model with its settings on a machine, in words. `None` where there is nothing to judge by."""

    fit: Fit | None
    left_bytes: int | None
    """Room less need, negative where it does not fit."""
    pace: Pace | None
    pace_at_worst: Pace | None
    pace_at_best: Pace | None
    """By the ends of the predicted interval."""
    reason: str = ""
    """Why it is refused, or does not fit whatever memory there is; empty where the memory says it all."""
    paging: Literal["slow", "impossible"] | None = None
    """What comes of loading it where it does not fit; `None` where it fits or that is not known."""

    @property
    def words(self) -> str:
        """`fits, comfortable`; what is not known is said to be so."""
        return f"{self.fit or 'room not known'}, {self.pace or 'speed not known'}"

    @property
    def rank(self) -> tuple[int, int]:
        """Smaller is better; what is not known comes after what is good and before what is bad."""
        fit = 1 if self.fit is None else FITS.index(self.fit)
        return fit, 1 if self.pace is None else PACES.index(self.pace)


def judge(need: MemoryNeed | None, place: RunTarget, decode_tokens_per_s: Interval | None) -> FitVerdict:
    """The verdict on what is needed, what there is and how fast it would be."""
    fit, left_bytes = (None, None) if need is None else fit_of(need, place)
    speed, reader = decode_tokens_per_s, place.thresholds.reader
    return FitVerdict(
        fit=fit,
        left_bytes=left_bytes,
        pace=None if speed is None else pace_of(speed.value, reader),
        pace_at_worst=None if speed is None else pace_of(speed.low, reader),
        pace_at_best=None if speed is None else pace_of(speed.high, reader),
    )


def fit_of(need: MemoryNeed, place: RunTarget) -> tuple[Fit | None, int | None]:
    """The fit and what is left, in the tighter of main memory and GPU; of what is not known nothing is said."""
    on_gpu_bytes = need.gpu_bytes if place.gpu_room is not None else 0
    sides = [] if place.room is None else [(place.room, need.needed_bytes - on_gpu_bytes)]
    if place.gpu_room is not None and on_gpu_bytes:
        sides.append((place.gpu_room, on_gpu_bytes))
    judged: list[tuple[int, int]] = []
    for side, needed_bytes in sides:
        left_bytes = side.available_bytes - needed_bytes
        block_bytes = side.largest_block_bytes
        too_large = block_bytes is not None and need.gpu_block_bytes > block_bytes
        bad = 2 if left_bytes < 0 or too_large else 1 if left_bytes < place.thresholds.margin_bytes(side) else 0
        judged.append((-bad, left_bytes))
    if not judged:
        return None, None
    bad, left_bytes = min(judged)
    return FITS[-bad], left_bytes


PAGED_BYTES_MAX = 60 * 14_000_000_000
"""To read in one token at most: what the fastest disks there are, of PCIe 5.0 with 14 GB/s, read in a minute."""

NOT_PREDICTED = "not predicted"


class Workload(Struct, frozen=True, kw_only=True):
    """What the model is to do: a prompt of so many tokens and an answer of so many."""

    prompt_tokens: int = 512
    prompt_is_asked: bool = False
    """Whether somebody wants a prompt of that length, and not another one that the context holds."""
    answer_tokens: int = 256
    slots: int = 1
    """Conversations that are served side by side, each with a context of its own."""
    projector: str = ""
    """File of the vision or audio part that is loaded beside the model."""
    beside_bytes: int = 0
    """Memory that is taken beside the model: of that part, of a draft model with its cache."""
    draft: ModelFacts | None = None
    """A smaller model that proposes tokens."""
    mtp: bool = False
    """The model's own layer for further tokens is to propose them."""


class RunTarget(Struct, frozen=True, kw_only=True):
    """Where the model is to run, and by what it is judged there."""

    machine: Machine
    threads: int
    """For decoding, where the settings say nothing."""
    room: MemoryRoom | None
    """`None` where it is not known how much memory there is."""
    gpu_room: MemoryRoom | None = None
    """Of GPUs with memory of their own."""
    sizes: tuple[MemoryRoom, ...] = ()
    """Of a device that is sold with several sizes of memory and was named without one: all of them, the largest first,
    which is `room` or `gpu_room` too."""
    past_runs: tuple[PastRun, ...] = ()
    """Own runs on this machine."""
    thresholds: Thresholds = Thresholds()
    price: Price | None = None
    battery_j: float | None = None
    """What is left in the battery; `None` without one."""
    duty: Duty = Duty()
    """How the device is used: requests an hour and battery, where these are known."""

    def with_size(self, size: MemoryRoom) -> RunTarget:
        """With one of its sizes of memory."""
        return replace(self, room=size) if self.room is not None else replace(self, gpu_room=size)


DRAFTED = 3
"""Tokens that a draft model proposes in a step."""

ACCEPTED = 0.8
"""Of the proposed tokens that are looked at, those that the model would have said itself: 0.6 to 0.9 for models of one
family (Leviathan 2023, arXiv 2211.17192, table 3, at temperature 0)."""

DRAFT_SIGMA = 0.2
"""Of the ratio of two predictions for two models on one machine."""


class DraftPrediction(Struct, frozen=True, kw_only=True):
    """What a draft model brings, where each proposed token is accepted with the same probability (arXiv 2211.17192).

    A step takes the draft model's time for each token that it proposes, and the model's for reading its weights once
    and for computing all of these tokens.
    """

    proposed: int
    accepted_share: float
    """At which `decode_tokens_per_s` is."""
    decode_tokens_per_s: Interval
    break_even_share: float | None
    """With fewer accepted it is slower than without; `None` where it is slower even if all are."""
    within: bool = False
    """The model's own layer for further tokens (MTP) proposes, and no other model."""
    more_bytes: int = 0
    """Weights, cache and buffers that are taken for it, where it is the model's own layer."""


def with_draft(speed: SpeedPrediction, draft: SpeedPrediction, compute_s: float) -> DraftPrediction | None:
    """What a draft model of a speed of its own brings; `None` where computing several tokens cannot be predicted.

    `compute_s` is the arithmetic of one of the model's tokens.
    """
    if speed.prefill_tokens_per_s is None:
        return None
    alone = speed.decode_tokens_per_s
    together_s = 1 / alone.value + DRAFTED * added_token_s(speed.prefill_tokens_per_s, compute_s)
    step_s = DRAFTED / draft.decode_tokens_per_s.value + together_s

    def rate(accepted: float) -> float:
        return sum(accepted**count for count in range(DRAFTED + 1)) / step_s

    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if rate(middle) < alone.value else (low, middle)
    return DraftPrediction(
        proposed=DRAFTED,
        accepted_share=ACCEPTED,
        decode_tokens_per_s=banded(rate(ACCEPTED), sqrt(sigma_of(alone) ** 2 + DRAFT_SIGMA**2)),
        break_even_share=None if rate(1.0) < alone.value else high,
    )


class Assessment(Struct, frozen=True, kw_only=True):
    """What was found. A figure that cannot be had is `Unavailable`, or `None` where its basis is missing already."""

    facts: ModelFacts
    requested: EngineSettings
    """What was asked for."""
    settings: EngineSettings
    """The same with context, threads and layers on a GPU as they would be."""
    workload: Workload
    need: MemoryNeed | Unavailable
    room: MemoryRoom | None
    largest_context: int | None
    """The longest context that fits, at most the one it was trained for; `None` if not even the shortest does."""
    speed: SpeedPrediction | Unavailable
    energy: EnergyPrediction | Unavailable
    answer_s: Interval | None
    """From sending the prompt to the last token of the answer."""
    answer_j: Interval | None
    battery_hours: Interval | None
    """Decoding all the time."""
    price_per_million: Interval | None
    """Of a million tokens, prompts of this length included."""
    verdict: FitVerdict
    by_size: tuple[tuple[int, Fit], ...] = ()
    """Bytes of memory and the fit, for each size that the device is sold with where none was named."""
    duty: DutyFigures | None = None
    """What using the model takes; `None` where its energy cannot be predicted."""
    ollama: OllamaPrediction | None = None
    """The same in Ollama, where published rows say how it lies to llama.cpp."""
    draft: DraftPrediction | None = None
    """What the draft model of the workload brings, else the model's own layer for further tokens; `None` without."""
    side_by_side: SideBySide | None = None
    """Where several conversations were asked for."""

    @property
    def decode(self) -> Interval | None:
        """The decode rate, if it can be predicted."""
        return None if isinstance(self.speed, Unavailable) else self.speed.decode_tokens_per_s

    @property
    def verify_command(self) -> tuple[str, ...]:
        """The command that measures what was predicted, as arguments."""
        settings = self.settings
        parts = ["edgetop", "bench", "-m", self.facts.source, "-p", str(self.workload.prompt_tokens)]
        # Without depth the prefill is the predicted one, and behind the prompt the decoding is.
        parts += ["-n", str(self.workload.answer_tokens), "-d", f"0,{self.workload.prompt_tokens}"]
        parts += ["-t", str(settings.n_threads)]
        type_k, type_v = settings.type_k or KV_TYPE, settings.type_v or KV_TYPE
        if type_k == type_v:
            parts += ["--kv-type", type_k] if type_k != KV_TYPE else []
        else:
            parts += ["--cache-type-k", type_k, "--cache-type-v", type_v]
        if settings.flash_attention in {"on", "off"}:
            parts += ["--flash-attn", str(settings.flash_attention)]
        if self.requested.n_gpu_layers is not None:
            parts += ["--gpu-layers", str(self.requested.n_gpu_layers)]
        parts += [] if settings.n_cpu_moe is None else ["--n-cpu-moe", str(settings.n_cpu_moe)]
        parts += [word for override in settings.override_tensor for word in ("-ot", override)]
        parts += [] if settings.draft_model is None else ["-md", settings.draft_model, "--engine", "llama-server"]
        return tuple(parts)

    @property
    def server_command(self) -> tuple[str, ...]:
        """llama-server with these settings, as arguments."""
        settings, workload = self.settings, self.workload
        source = self.facts.source
        parts = ["llama-server", *(["-hf", source.removeprefix("hf:")] if source.startswith("hf:") else ["-m", source])]
        parts += ["-c", str((settings.n_ctx or 0) * workload.slots), "-t", str(settings.n_threads)]
        if workload.slots > 1:
            parts += ["-np", str(workload.slots)]
        chosen = (
            ("-ctk", settings.type_k, KV_TYPE),
            ("-ctv", settings.type_v, KV_TYPE),
            ("-fa", settings.flash_attention, "auto"),
        )
        parts += [word for flag, value, usual in chosen if value not in {None, usual} for word in (flag, str(value))]
        parts += ["-ngl", str(settings.n_gpu_layers)] if settings.n_gpu_layers else []
        parts += settings.expert_flags
        for override in settings.override_tensor:
            parts += ["-ot", override]
        kind = "draft-mtp" if workload.mtp and self.draft is not None else ""
        if settings.draft_model is not None:
            parts += ["-md", settings.draft_model]
            kind = draft_type(workload.draft.header) if workload.draft is not None else ""
        parts += ["--spec-type", kind] if kind else []
        return tuple([*parts, "--mmproj", workload.projector] if workload.projector else parts)


def assess(
    facts: ModelFacts,
    requested: EngineSettings,
    workload: Workload,
    place: RunTarget,
    *,
    allocated: MemoryBreakdown | None = None,
    memory_of: Assessment | None = None,
    with_context: bool = True,
) -> Assessment:
    """Predict memory, speed and energy and judge them. Nothing is read or measured here.

    Without `with_context` the longest context that fits is left open, which is most of the work. `memory_of` is an
    assessment that takes the same memory in the same room, which saves the work to find it out.
    """
    place = with_own_gpu(place)
    settings = resolved_settings(facts, requested, place, workload)
    if memory_of is not None:
        need, longest = memory_of.need, memory_of.largest_context
    else:
        slots = replace(settings, n_ctx=(settings.n_ctx or 0) * workload.slots) if workload.slots > 1 else settings
        beside_bytes = workload.beside_bytes + (mtp_bytes(facts, slots) if workload.mtp else 0)
        alone = memory_need(facts, slots, allocated=allocated, features=place.machine.features)
        need = alone if isinstance(alone, Unavailable) else _beside(alone, beside_bytes)
        known = place.room is not None or place.gpu_room is not None
        longest = None if not (known and with_context) or isinstance(need, Unavailable) else largest_context(
            facts, settings, lambda each: _fits(_beside(each, beside_bytes), place), features=place.machine.features
        )  # fmt: skip
    speed, energy = _figures(facts, settings, workload, place)
    decode = None if isinstance(speed, Unavailable) else speed.decode_tokens_per_s
    answer_s = _answer_s(speed, workload)
    answer_j = (
        None if isinstance(energy, Unavailable) else energy.answer_j(workload.prompt_tokens, workload.answer_tokens)
    )
    known_need = None if isinstance(need, Unavailable) else need
    return Assessment(
        facts=facts,
        requested=requested,
        settings=settings,
        workload=workload,
        need=need,
        room=place.room or place.gpu_room,
        largest_context=longest,
        speed=speed,
        energy=energy,
        answer_s=answer_s,
        answer_j=answer_j,
        battery_hours=_battery_hours(place.battery_j, energy, decode),
        price_per_million=(
            None
            if answer_j is None or place.price is None
            else cost(answer_j, place.price.per_kwh * TOKENS / workload.answer_tokens)
        ),
        verdict=_with_reason(_with_paging(judge(known_need, place, decode), need, place, facts, settings),
                             need, settings, workload),
        by_size=()
        if known_need is None
        else tuple((size.total_bytes, fit_of(known_need, place.with_size(size))[0] or "does not fit")
                   for size in place.sizes),
        duty=_duty(place, energy, answer_j, answer_s),
        ollama=None
        if isinstance(speed, Unavailable)
        else in_ollama(speed, energy, place.machine, on_gpu=offloaded_share(facts, place.machine, settings) > 0.5),
        draft=_draft(facts, speed, settings, workload, place),
        side_by_side=side_by_side(
            speed,
            compute_time(facts, place.machine, settings, threads=settings.n_threads or place.threads),
            workload.slots,
        ),
    )  # fmt: skip


def _beside(need: MemoryNeed, beside_bytes: int) -> MemoryNeed:
    """The need with what is loaded beside the model."""
    if not beside_bytes:
        return need
    return replace(need, beside_bytes=beside_bytes, gpu_bytes=need.gpu_bytes + beside_bytes * (need.gpu_bytes > 0))


def mtp_bytes(facts: ModelFacts, settings: EngineSettings) -> int:
    """What the model's own layers for further tokens take: their weights, and a cache and buffers of their own.

    llama.cpp gives them a context as it gives one to a draft model (pull request 22673); in so small a graph logits are
    the largest intermediate result. 0 for a model without such layers.
    """
    within = draft_within(facts)
    if within is None:
        return 0
    n_ctx = settings.n_ctx or default_n_ctx(facts.n_ctx_train)
    tokens = micro_batch(settings, n_ctx)
    cache = kv_bytes(
        within, n_ctx=n_ctx, type_k=settings.type_k or KV_TYPE, type_v=settings.type_v or KV_TYPE, n_ubatch=tokens
    )
    logits_bytes = LOGIT_BYTES * tokens * (facts.n_vocab or 0)
    return facts.not_loaded_bytes + logits_bytes + (0 if isinstance(cache, Unavailable) else cache)


def _fits(need: MemoryNeed, place: RunTarget) -> bool:
    return fit_of(need, place)[0] in {"fits", "tight"}


def fits_at(place: RunTarget) -> Callable[[MemoryNeed], bool]:
    """Whether a need fits there, tightly or not."""
    return lambda need: _fits(need, place)


def _with_reason(
    verdict: FitVerdict, need: MemoryNeed | Unavailable, settings: EngineSettings, workload: Workload
) -> FitVerdict:
    """The verdict with what memory does not say: that llama.cpp refuses, or that the prompt is too long."""
    if isinstance(need, Unavailable):
        return replace(verdict, fit="refused", reason=need.reason) if need.reason.startswith(REFUSES) else verdict
    n_ctx = settings.n_ctx or default_n_ctx(None)
    if workload.prompt_is_asked and workload.prompt_tokens >= n_ctx:
        reason = f"a prompt of {workload.prompt_tokens} tokens is longer than the context of {n_ctx}"
        return replace(verdict, fit="does not fit", reason=reason)
    return verdict


def _with_paging(
    verdict: FitVerdict, need: MemoryNeed | Unavailable, place: RunTarget, facts: ModelFacts, settings: EngineSettings
) -> FitVerdict:
    """The verdict with what comes of loading what does not fit in main memory, where its swap is known."""
    room = place.room
    if verdict.fit != "does not fit" or isinstance(need, Unavailable) or room is None or room.swap_bytes is None:
        return verdict
    mapped_bytes = 0 if settings.load_mode == "copy" else need.mapped_bytes
    on_gpu_bytes = need.gpu_bytes if place.gpu_room is not None else 0
    kept_bytes = need.total_bytes - on_gpu_bytes - mapped_bytes
    if kept_bytes > room.total_bytes + room.swap_bytes:
        reason = (
            f"not even with paging: {format_bytes(kept_bytes)} cannot be read again from the file, and there are "
            f"{format_bytes(room.total_bytes)} of memory and {format_bytes(room.swap_bytes)} of swap"
        )
        return replace(verdict, paging="impossible", reason=reason)
    free_bytes = max(0, room.available_bytes - kept_bytes)
    read_bytes = min(mapped_bytes, facts.weight_bytes_per_token) - free_bytes
    if read_bytes > PAGED_BYTES_MAX:
        reason = f"not even with paging: each token would read {format_bytes(read_bytes)} from the disk"
        return replace(verdict, paging="impossible", reason=reason)
    return replace(verdict, paging="slow")


def with_own_gpu(place: RunTarget) -> RunTarget:
    """With a GPU where own runs used one that neither the table nor NVML knows: they say how fast it is."""
    machine = place.machine
    used = any(run.gpu_layers and run.machine_key == machine.key for run in place.past_runs)
    if machine.gpu is not None or not used or not machine.key:
        return place
    return replace(place, machine=replace(machine, gpu=Processor(name="GPU", bandwidth_bytes_per_s={})))


NO_IDLE_CARD = Unavailable(
    "what the graphics card draws less without a model is not known", "measure it: edgetop run --idle 20"
)
NO_LOAD = Unavailable("the energy of a load cannot be predicted", "measure it: edgetop run --idle 20")


def _duty(
    place: RunTarget, energy: EnergyPrediction | Unavailable, answer_j: Interval | None, answer_s: Interval | None
) -> DutyFigures | None:
    """What using the model takes, by what is predicted of it.

    Main memory is refreshed whether a model is in it or not, so that it idles alike; what a graphics card with memory
    of its own draws less without one is not known.
    """
    if isinstance(energy, Unavailable):
        return None
    power = place.machine.power
    idle = None if power is None or power.idle_w is None or power.scope != energy.scope else power.idle_w
    idle_w = (
        Unavailable("what the device draws idle is not known", "measure it: edgetop run --idle 20")
        if idle is None
        else banded(idle, IDLE_SIGMA)
    )
    return duty_figures(
        DutyBasis(
            answer_j=answer_j or Unavailable("reading the prompt cannot be predicted"),
            answer_s=answer_s or Unavailable("reading the prompt cannot be predicted"),
            idle_w=idle_w,
            unloaded_w=idle_w if place.gpu_room is None else NO_IDLE_CARD,
            load_j=NO_LOAD,
            load_s=NO_LOAD,
            same_meter=False,
        ),
        place.duty,
    )


IDLE_SIGMA = 0.15
"""Idle boards differ by what hangs on them."""


def predict(facts: ModelFacts, settings: EngineSettings, workload: Workload, place: RunTarget) -> Prediction:
    """What is expected of a model that has been loaded with these settings, to be recorded beside what it does."""
    place = with_own_gpu(place)
    need = memory_need(facts, settings, features=place.machine.features)
    speed, energy = _figures(facts, settings, workload, place)
    depth_tokens = decode_depth(workload, settings)
    known = None if isinstance(speed, Unavailable) else speed
    return Prediction(
        memory_bytes=None if isinstance(need, Unavailable) else need.total_bytes,
        decode_tokens_per_s=None if known is None else known.decode_tokens_per_s,
        decode_s_per_position=_s_per_position(facts, settings, workload, place),
        prefill_tokens_per_s=None if known is None else known.prefill_tokens_per_s,
        first_token_s=None if known is None else known.first_token_s,
        decode_j_per_token=None if isinstance(energy, Unavailable) else energy.decode_j_per_token,
        depth_tokens=depth_tokens,
        prompt_tokens=workload.prompt_tokens,
        basis=NOT_PREDICTED if known is None else known.basis,
        limited_by="unknown" if known is None else known.limited_by,
        bytes_per_token=facts.weight_bytes_per_token,
        # Layers with a sliding window hold no more than the window, so this is the mean over the context.
        bytes_per_position=0
        if isinstance(need, Unavailable)
        else need.kv_bytes // (settings.n_ctx or default_n_ctx(None)),
        bandwidth_bytes_per_s=_bandwidth_bytes_per_s(place.machine, settings),
    )


def resolved_settings(
    facts: ModelFacts, requested: EngineSettings, place: RunTarget, workload: Workload | None = None
) -> EngineSettings:
    """The settings with the context, the threads and the layers on a GPU that a load there would choose.

    Where no context was asked for, it is made long enough for the workload, up to what the model was trained for.
    """
    n_ctx = requested.n_ctx or default_n_ctx(facts.n_ctx_train)
    if requested.n_ctx is None and workload is not None:
        wanted_ctx = padded(workload.prompt_tokens + workload.answer_tokens)
        n_ctx = max(n_ctx, min(wanted_ctx, facts.n_ctx_train or wanted_ctx))
    n_threads = requested.n_threads or place.threads
    every_layer = (facts.n_layer or 0) + 1  # the output matrix counts as one
    wanted = every_layer if requested.n_gpu_layers is None else requested.n_gpu_layers
    return replace(
        requested,
        n_ctx=n_ctx,
        n_threads=n_threads,
        n_threads_batch=requested.n_threads_batch or n_threads,
        n_gpu_layers=0 if place.machine.gpu is None else wanted,
    )


def decode_depth(workload: Workload, settings: EngineSettings) -> int:
    """Tokens in the KV cache in the middle of the answer."""
    return min(workload.prompt_tokens + workload.answer_tokens // 2, (settings.n_ctx or default_n_ctx(None)) - 1)


def _draft(
    facts: ModelFacts,
    speed: SpeedPrediction | Unavailable,
    settings: EngineSettings,
    workload: Workload,
    place: RunTarget,
) -> DraftPrediction | None:
    draft = workload.draft or draft_within(facts)
    if draft is None or isinstance(speed, Unavailable):
        return None
    if workload.draft is None:
        place = replace(place, past_runs=())  # those of the whole model say nothing of its last layer
    on_gpu = (draft.n_layer or 0) + 1 if settings.n_gpu_layers else 0  # all of its layers, however many it has
    alone = replace(settings, draft_model=None, n_gpu_layers=on_gpu)
    own = _speed(draft, alone, workload, place, decode_depth(workload, settings))
    compute_s = compute_time(facts, place.machine, settings, threads=settings.n_threads or place.threads)
    found = None if isinstance(own, Unavailable) else with_draft(speed, own, compute_s)
    if found is None or workload.draft is not None:
        return found
    return replace(found, within=True, more_bytes=mtp_bytes(facts, settings))


def _figures(
    facts: ModelFacts, settings: EngineSettings, workload: Workload, place: RunTarget
) -> tuple[SpeedPrediction | Unavailable, EnergyPrediction | Unavailable]:
    depth_tokens = decode_depth(workload, settings)
    speed = _speed(facts, settings, workload, place, depth_tokens)
    if isinstance(speed, Unavailable):
        return speed, speed
    energy = predict_energy(
        facts,
        place.machine,
        speed,
        settings=settings,
        threads=settings.n_threads or place.threads,
        depth_tokens=depth_tokens,
        past_runs=place.past_runs,
    )
    return speed, energy


def _speed(
    facts: ModelFacts, settings: EngineSettings, workload: Workload, place: RunTarget, depth_tokens: int
) -> SpeedPrediction | Unavailable:
    return predict_speed(
        facts,
        place.machine,
        settings=settings,
        threads=settings.n_threads or place.threads,
        depth_tokens=depth_tokens,
        prompt_tokens=workload.prompt_tokens,
        past_runs=place.past_runs,
    )


def _s_per_position(facts: ModelFacts, settings: EngineSettings, workload: Workload, place: RunTarget) -> float:
    """How much longer a token takes for each token more in the KV cache, from the ends of the context."""
    deep = (settings.n_ctx or default_n_ctx(None)) - 1
    ends = [_speed(facts, settings, workload, place, depth) for depth in (0, deep)]
    times_s = [1 / end.decode_tokens_per_s.value for end in ends if not isinstance(end, Unavailable)]
    return (times_s[1] - times_s[0]) / deep if len(times_s) == 2 and deep > 0 else 0.0


def _bandwidth_bytes_per_s(machine: Machine, settings: EngineSettings) -> float | None:
    """Of the memory that the weights lie in; `None` where they are shared out, or nothing is known of it."""
    on_gpu = machine.gpu is not None and settings.n_gpu_layers != 0
    processor, threads = (machine.gpu, 0) if on_gpu else (machine.cpu, settings.n_threads or 1)
    figure = None if processor is None else processor.bandwidth(threads)
    return None if figure is None else figure.value


def _answer_s(speed: SpeedPrediction | Unavailable, workload: Workload) -> Interval | None:
    """First token, then one gap for each further one. Both ends are taken as one: a slow machine is slow at both."""
    if isinstance(speed, Unavailable) or speed.first_token_s is None:
        return None
    first, decode, gaps = speed.first_token_s, speed.decode_tokens_per_s, max(0, workload.answer_tokens - 1)
    if decode.low <= 0:
        return None
    return Interval(
        value=first.value + gaps / decode.value,
        low=first.low + gaps / decode.high,
        high=first.high + gaps / decode.low,
        u_systematic=first.u_systematic + gaps * decode.u_systematic / decode.value**2,
        u_random=first.u_random + gaps * decode.u_random / decode.value**2,
    )


def _battery_hours(
    battery_j: float | None, energy: EnergyPrediction | Unavailable, decode: Interval | None
) -> Interval | None:
    if battery_j is None or isinstance(energy, Unavailable) or decode is None or decode.value <= 0:
        return None
    joules = energy.decode_j_per_token
    # The energy was made from the power and the speed, so the speed's error is in it and cancels out.
    sigma = sqrt(max(0.0, sigma_of(joules) ** 2 - sigma_of(decode) ** 2))
    return hours_left(battery_j / J_PER_WH, banded(joules.value * decode.value, sigma))

"""Everything there is to say of one model with one context on one machine, without loading it."""

from __future__ import annotations

from math import sqrt

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.energy.figure import J_PER_WH, Figure, cost, hours_left
from edgetop.core.energy.supply import TOKENS, Price
from edgetop.core.engine import EngineSettings, MemoryBreakdown, default_n_ctx
from edgetop.core.prediction import Prediction
from edgetop.core.records import Missing
from edgetop.fit.band import banded, sigma_of
from edgetop.fit.energy import EnergyPrediction, predict_energy
from edgetop.fit.experience import Experience
from edgetop.fit.machine import Machine
from edgetop.fit.memory import MemoryNeed, largest_context, memory_need
from edgetop.fit.memory_room import MemoryRoom
from edgetop.fit.model_facts import ModelFacts
from edgetop.fit.speed import SpeedPrediction, predict_speed
from edgetop.fit.verdict import Thresholds, Verdict, judge

NOT_PREDICTED = "not predicted"


class Talk(Struct, frozen=True, kw_only=True):
    """What the model is to do: a prompt of so many tokens and an answer of so many."""

    prompt_tokens: int = 512
    answer_tokens: int = 256


class Place(Struct, frozen=True, kw_only=True):
    """Where the model is to run, and by what it is judged there."""

    machine: Machine
    threads: int
    """For decoding, where the settings say nothing."""
    room: MemoryRoom | None
    """`None` where it is not known how much memory there is."""
    gpu_room: MemoryRoom | None = None
    """Of a GPU with memory of its own."""
    experience: tuple[Experience, ...] = ()
    """Own runs on this machine."""
    thresholds: Thresholds = Thresholds()
    price: Price | None = None
    battery_j: float | None = None
    """What is left in the battery; `None` without one."""


class Assessment(Struct, frozen=True, kw_only=True):
    """What was found. A figure that cannot be had is `Missing`, or `None` where its basis is missing already."""

    facts: ModelFacts
    wish: EngineSettings
    """What was asked for."""
    settings: EngineSettings
    """The same with context, threads and layers on a GPU as they would be."""
    talk: Talk
    need: MemoryNeed | Missing
    room: MemoryRoom | None
    largest_context: int | None
    """The longest context that fits, at most the one it was trained for; `None` if not even the shortest does."""
    speed: SpeedPrediction | Missing
    energy: EnergyPrediction | Missing
    answer_s: Figure | None
    """From sending the prompt to the last token of the answer."""
    answer_j: Figure | None
    battery_hours: Figure | None
    """Decoding all the time."""
    price_per_million: Figure | None
    """Of a million tokens, prompts of this length included."""
    verdict: Verdict

    @property
    def decode(self) -> Figure | None:
        """The decode rate, if it can be predicted."""
        return None if isinstance(self.speed, Missing) else self.speed.decode_tokens_per_s

    @property
    def verify_command(self) -> tuple[str, ...]:
        """The command that measures what was predicted, as arguments."""
        settings = self.settings
        parts = ["edgetop", "bench", "-m", self.facts.source, "-p", str(self.talk.prompt_tokens)]
        # Without depth the prefill is the predicted one, and behind the prompt the decoding is.
        parts += ["-n", str(self.talk.answer_tokens), "-d", f"0,{self.talk.prompt_tokens}"]
        parts += ["-t", str(settings.n_threads)]
        if settings.type_k != "f16":
            parts += ["--kv-type", settings.type_k]
        if self.wish.n_gpu_layers is not None:
            parts += ["--gpu-layers", str(self.wish.n_gpu_layers)]
        return tuple(parts)


def assess(
    facts: ModelFacts,
    wish: EngineSettings,
    talk: Talk,
    place: Place,
    *,
    allocated: MemoryBreakdown | None = None,
    memory_of: Assessment | None = None,
) -> Assessment:
    """Predict memory, speed and energy and judge them. Nothing is read or measured here.

    `memory_of` is an assessment that takes the same memory in the same room, which saves the work to find it out.
    """
    settings = settled(facts, wish, place)
    if memory_of is not None:
        need, longest = memory_of.need, memory_of.largest_context
    else:
        need = memory_need(facts, settings, allocated=allocated)
        longest = None if place.room is None else largest_context(facts, settings, place.room)
    speed, energy = _figures(facts, settings, talk, place)
    decode = None if isinstance(speed, Missing) else speed.decode_tokens_per_s
    answer_s = _answer_s(speed, talk)
    answer_j = None if isinstance(energy, Missing) else energy.answer_j(talk.prompt_tokens, talk.answer_tokens)
    return Assessment(
        facts=facts,
        wish=wish,
        settings=settings,
        talk=talk,
        need=need,
        room=place.room,
        largest_context=longest,
        speed=speed,
        energy=energy,
        answer_s=answer_s,
        answer_j=answer_j,
        battery_hours=_battery_hours(place.battery_j, energy, decode),
        price_per_million=(
            None
            if answer_j is None or place.price is None
            else cost(answer_j, place.price.per_kwh * TOKENS / talk.answer_tokens)
        ),
        verdict=judge(
            None if isinstance(need, Missing) else need, place.room, decode, place.thresholds, gpu_room=place.gpu_room
        ),
    )


def predict(facts: ModelFacts, settings: EngineSettings, talk: Talk, place: Place) -> Prediction:
    """What is expected of a model that has been loaded with these settings, to be recorded beside what it does."""
    need = memory_need(facts, settings)
    speed, energy = _figures(facts, settings, talk, place)
    depth_tokens = decode_depth(talk, settings)
    known = None if isinstance(speed, Missing) else speed
    return Prediction(
        memory_bytes=None if isinstance(need, Missing) else need.total_bytes,
        decode_tokens_per_s=None if known is None else known.decode_tokens_per_s,
        decode_s_per_position=_s_per_position(facts, settings, talk, place),
        prefill_tokens_per_s=None if known is None else known.prefill_tokens_per_s,
        first_token_s=None if known is None else known.first_token_s,
        decode_j_per_token=None if isinstance(energy, Missing) else energy.decode_j_per_token,
        depth_tokens=depth_tokens,
        prompt_tokens=talk.prompt_tokens,
        basis=NOT_PREDICTED if known is None else known.basis,
        limited_by="unknown" if known is None else known.limited_by,
        bytes_per_token=facts.weight_bytes_per_token,
        # Layers with a sliding window hold no more than the window, so this is the mean over the context.
        bytes_per_position=0 if isinstance(need, Missing) else need.kv_bytes // (settings.n_ctx or default_n_ctx(None)),
        bandwidth_bytes_per_s=_bandwidth_bytes_per_s(place.machine, settings),
    )


def settled(facts: ModelFacts, wish: EngineSettings, place: Place) -> EngineSettings:
    """The settings with the context, the threads and the layers on a GPU that a load there would choose."""
    n_threads = wish.n_threads or place.threads
    every_layer = (facts.n_layer or 0) + 1  # the output matrix counts as one
    wanted = every_layer if wish.n_gpu_layers is None else wish.n_gpu_layers
    return replace(
        wish,
        n_ctx=wish.n_ctx or default_n_ctx(facts.n_ctx_train),
        n_threads=n_threads,
        n_threads_batch=wish.n_threads_batch or n_threads,
        n_gpu_layers=0 if place.machine.gpu is None else wanted,
    )


def decode_depth(talk: Talk, settings: EngineSettings) -> int:
    """Tokens in the KV cache in the middle of the answer."""
    return min(talk.prompt_tokens + talk.answer_tokens // 2, (settings.n_ctx or default_n_ctx(None)) - 1)


def _figures(
    facts: ModelFacts, settings: EngineSettings, talk: Talk, place: Place
) -> tuple[SpeedPrediction | Missing, EnergyPrediction | Missing]:
    depth_tokens = decode_depth(talk, settings)
    speed = _speed(facts, settings, talk, place, depth_tokens)
    if isinstance(speed, Missing):
        return speed, speed
    energy = predict_energy(
        facts,
        place.machine,
        speed,
        settings=settings,
        threads=settings.n_threads or place.threads,
        depth_tokens=depth_tokens,
        experience=place.experience,
    )
    return speed, energy


def _speed(
    facts: ModelFacts, settings: EngineSettings, talk: Talk, place: Place, depth_tokens: int
) -> SpeedPrediction | Missing:
    return predict_speed(
        facts,
        place.machine,
        settings=settings,
        threads=settings.n_threads or place.threads,
        depth_tokens=depth_tokens,
        prompt_tokens=talk.prompt_tokens,
        experience=place.experience,
    )


def _s_per_position(facts: ModelFacts, settings: EngineSettings, talk: Talk, place: Place) -> float:
    """How much longer a token takes for each token more in the KV cache, from the ends of the context."""
    deep = (settings.n_ctx or default_n_ctx(None)) - 1
    ends = [_speed(facts, settings, talk, place, depth) for depth in (0, deep)]
    times_s = [1 / end.decode_tokens_per_s.value for end in ends if not isinstance(end, Missing)]
    return (times_s[1] - times_s[0]) / deep if len(times_s) == 2 and deep > 0 else 0.0


def _bandwidth_bytes_per_s(machine: Machine, settings: EngineSettings) -> float | None:
    """Of the memory that the weights lie in; `None` where they are shared out, or nothing is known of it."""
    on_gpu = machine.gpu is not None and settings.n_gpu_layers != 0
    processor, threads = (machine.gpu, 0) if on_gpu else (machine.cpu, settings.n_threads or 1)
    figure = None if processor is None else processor.bandwidth(threads)
    return None if figure is None else figure.value


def _answer_s(speed: SpeedPrediction | Missing, talk: Talk) -> Figure | None:
    """First token, then one gap for each further one. Both ends are taken as one: a slow machine is slow at both."""
    if isinstance(speed, Missing) or speed.first_token_s is None:
        return None
    first, decode, gaps = speed.first_token_s, speed.decode_tokens_per_s, max(0, talk.answer_tokens - 1)
    if decode.low <= 0:
        return None
    return Figure(
        value=first.value + gaps / decode.value,
        low=first.low + gaps / decode.high,
        high=first.high + gaps / decode.low,
        u_systematic=first.u_systematic + gaps * decode.u_systematic / decode.value**2,
        u_random=first.u_random + gaps * decode.u_random / decode.value**2,
    )


def _battery_hours(battery_j: float | None, energy: EnergyPrediction | Missing, decode: Figure | None) -> Figure | None:
    if battery_j is None or isinstance(energy, Missing) or decode is None or decode.value <= 0:
        return None
    joules = energy.decode_j_per_token
    # The energy was made from the power and the speed, so the speed's error is in it and cancels out.
    sigma = sqrt(max(0.0, sigma_of(joules) ** 2 - sigma_of(decode) ** 2))
    return hours_left(battery_j / J_PER_WH, banded(joules.value * decode.value, sigma))

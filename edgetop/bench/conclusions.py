"""What the results of a plan say: fastest, most efficient, trade-off, pace of reading, quality, cost."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from math import log
from statistics import fmean

from msgspec import Struct
from msgspec.structs import replace

from edgetop.bench.device_settings import GONE
from edgetop.bench.paper import Ownership, View, fronts, paper_rows, right_alone
from edgetop.bench.plan import Setting, Until, decode_test
from edgetop.bench.results import PlanResult, SettingResult, TestResult
from edgetop.bench.soak import Soak
from edgetop.core.energy.duty import TOKENS, Price
from edgetop.core.figures import LOAD, LOAD_J
from edgetop.core.format import format_bytes, format_duration, format_seconds, format_significant, plural
from edgetop.core.quantity import J_PER_WH, WH_PER_KWH
from edgetop.core.records import Quality
from edgetop.core.statistics import (
    CONFIDENCE,
    Difference,
    adjusted,
    mcnemar_p,
    welch_difference,
    wilson_interval,
)
from edgetop.fit.assessment import Reader, pace_of

REPETITIONS_MIN = 4
"""Below it Student's interval says more about the number of repetitions than about the device (judgement)."""


class Conclusions(Struct, frozen=True, kw_only=True):
    """Sentences, and the settings that they name by key."""

    test: str = ""
    """The test of decode speed that they rest on; empty if there is none."""
    fastest: str = ""
    most_efficient: str = ""
    best_trade_off: str = ""
    """Least S = (J/token) / (tokens/s), the throughput-energy trade-off of Abstreiter, Tarkoma and Morabito 2025."""
    pareto_front: tuple[str, ...] = ()
    """The fastest first; no other setting is both faster and takes less energy."""
    sentences: tuple[str, ...] = ()


def conclusions_of(
    result: PlanResult,
    *,
    reader: Reader | None = None,
    price: Price | None = None,
    ownership: Ownership | None = None,
) -> Conclusions:
    """What the results of a plan say."""
    name = _decode_test(result)
    rated = [(each, test) for each in result.settings if name and (test := each.test(name)) is not None]
    if not rated:
        return Conclusions(sentences=("No test of decode speed was measured.", *_quality(result.settings)))
    by_speed = sorted(rated, key=lambda pair: -pair[1].tokens_per_s.mean)
    by_energy = sorted((pair for pair in rated if _has_energy(pair[1])), key=lambda pair: _j_per_token(pair[1]))
    sentences = [_fastest(by_speed, name)]
    front_keys: tuple[str, ...] = ()
    trade_off = ""
    if by_energy:
        front_keys = tuple(
            each.setting.key for each, test in by_speed if _has_energy(test) and not _beaten(test, by_energy)
        )
        best = min(by_energy, key=lambda pair: _j_per_token(pair[1]) / pair[1].tokens_per_s.mean)
        trade_off = best[0].setting.key
        sentences += [_most_efficient(by_energy), *_trade_off(by_energy, trade_off, front_keys), *_threads(by_energy)]
    else:
        missing = next((test.energy_missing for _, test in rated if test.energy_missing), "it was not measured")
        sentences.append(f"Energy: n/a, {missing}.")
    sentences = [*_findings(rated), *sentences]
    sentences += _loads(result.settings)
    sentences += [_soaked(each.setting.key, each.soak) for each in result.settings if each.soak is not None]
    sentences += [*_resolution([test for _, test in rated]), *_unknown(rated, result.until), *_power_mode(result)]
    sentences += _reading(by_speed, reader or Reader())
    sentences += [*_quality(result.settings), *fronts(paper_rows(result, View()))]
    sentences += _cost(by_energy, price, ownership)
    return Conclusions(
        test=name,
        fastest=by_speed[0][0].setting.key,
        most_efficient=by_energy[0][0].setting.key if by_energy else "",
        best_trade_off=trade_off,
        pareto_front=front_keys,
        sentences=tuple(sentences),
    )


Rated = tuple[SettingResult, TestResult]


def _decode_test(result: PlanResult) -> str:
    found = decode_test(test.test for setting in result.settings for test in setting.tests)
    return "" if found is None else found.name


def _fastest(by_speed: Sequence[Rated], name: str) -> str:
    best, test = by_speed[0]
    equal = _indistinguishable(test, by_speed[1:], _speed_difference)
    text = f"Fastest ({name}): {best.setting.key} with {_rate(test)}."
    return f"{text} These repetitions do not distinguish it from: {_listed(equal)}." if equal else text


def _most_efficient(by_energy: Sequence[Rated]) -> str:
    best, test = by_energy[0]
    equal = _indistinguishable(test, by_energy[1:], _energy_difference)
    scope = "simulated power" if best.simulated else (best.energy_scope or "unknown scope").replace("_", " ")
    text = f"Most efficient: {best.setting.key} with {_joules(test)} J/token ({scope})."
    return f"{text} These repetitions do not distinguish it from: {_listed(equal)}." if equal else text


_AXES = {
    "threads": "threads", "power_mode": "power mode", "governor": "governor", "cpu_clock": "clock", "fan": "fan",
    "memory_clock": "memory clock",
}  # fmt: skip
"""What has a most, and what it is called."""


def _findings(rated: Sequence[Rated]) -> list[str]:
    """Where less of something beats the most of it, all else alike: what nobody would expect, so it is said first.

    Less is faster, or as fast within noise at less energy per token; at one chance of error for all comparisons of an
    axis together.
    """
    sentences = []
    for axis, name in _AXES.items():
        groups: dict[Setting, list[Rated]] = {}
        for each, test in rated:
            if getattr(each.setting, axis) is not None:
                groups.setdefault(replace(each.setting, **{axis: None}), []).append((each, test))
        pairs: dict[str, tuple[Rated, Rated]] = {}
        for group in groups.values():
            most = max(group, key=lambda pair: _amount(getattr(pair[0].setting, axis)))
            pairs |= {pair[0].setting.key: (pair, most) for pair in group if pair is not most}
        faster, frugal = (
            _certain({key: difference(less[1], most[1]) for key, (less, most) in pairs.items()})
            for difference in (_speed_difference, _energy_difference)
        )
        for key, (less, most) in pairs.items():
            few, many = (getattr(each[0].setting, axis) for each in (less, most))
            ratio = less[1].tokens_per_s.mean / most[1].tokens_per_s.mean
            spent = (
                _j_per_token(less[1]) / _j_per_token(most[1]) if _has_energy(less[1]) and _has_energy(most[1]) else 1
            )
            if (key in faster and ratio > 1) or (key not in faster and key in frugal and spent < 1):
                words = [f"{_percent(ratio - 1)} faster" if key in faster else "as fast, within noise"]
                if key in frugal:
                    words.append(f"{_percent(abs(1 - spent))} {'less' if spent < 1 else 'more'} energy per token")
                whose = replace(less[0].setting, **{axis: None}).key
                beat = f"{few} threads beat {many}" if axis == "threads" else f"{name} {few} beats {many}"
                sentences.append(f"{whose}: {beat}: {', '.join(words)}.")
    return sentences


def _amount(value: object) -> float:
    """How much a value of an axis is; what has no number, such as MAXN and performance, is the most but for a few."""
    text = str(value)[:100]
    number = re.findall(r"(\d+)\s*W", text) or re.findall(r"\d+(?:\.\d+)?", text)
    if not number:
        return 0.0 if text.casefold() in _LEAST else float("inf")
    return float(number[-1]) * (1e3 if "ghz" in text.casefold()[-3:] else 1.0)


_LEAST = {"powersave", "conservative", "low-power", "quiet", "cool"}


def _certain(differences: Mapping[str, Difference | None]) -> set[str]:
    """Those that are more than noise, at one chance of error for all of them together."""
    p_values = {key: each.p_value for key, each in differences.items() if each is not None}
    adjusted_p = adjusted(p_values, dict.fromkeys(p_values, 1.0))
    return {key for key in p_values if adjusted_p[key] < 1 - CONFIDENCE}


def _beaten(test: TestResult, others: Sequence[Rated]) -> bool:
    """Whether another is by the means no worse in speed and energy, and better in one of them beyond noise."""
    return any(
        other.tokens_per_s.mean >= test.tokens_per_s.mean
        and _j_per_token(other) <= _j_per_token(test)
        and _certain({"speed": _speed_difference(other, test), "energy": _energy_difference(other, test)})
        for _, other in others
        if other is not test
    )


def _trade_off(by_energy: Sequence[Rated], best: str, front_keys: Sequence[str]) -> list[str]:
    if len(by_energy) < 2:
        return []
    words = f"Best trade-off (least energy per token over speed): {best}."
    return [f"{words} Nothing beats these in both beyond noise: {', '.join(front_keys)}."]


def _loads(settings: Sequence[SettingResult]) -> list[str]:
    """What a load takes cold and warm, how cold was made, and from which medium."""
    warm = {replace(each.setting, page_cache=None): each for each in settings if each.setting.page_cache == "warm"}
    sentences = []
    for each in settings:
        seconds = each.figures.get(LOAD)
        if each.setting.page_cache != "cold" or seconds is None:
            continue
        setting = replace(each.setting, page_cache=None)
        text = f"{setting.key}: a load takes {format_seconds(seconds)}{_load_energy(each)} cold"
        other = warm.get(setting)
        if other is not None and (warm_s := other.figures.get(LOAD)) is not None:
            text += f" and {format_seconds(warm_s)}{_load_energy(other)} warm"
        ways = dict.fromkeys(cold.how for cold in each.cold)
        media = dict.fromkeys(filter(None, (cold.medium for cold in each.cold)))
        rates = [cold.bytes_per_s for cold in each.cold if cold.bytes_per_s is not None]
        words = [*ways, *media]
        if rates:
            words.append(f"read at {fmean(rates) / 1e6:.0f} MB/s")
        if any(cold.left is None or cold.left > GONE for cold in each.cold):
            words.append("of which a part stayed in memory, so that it was not cold")
        sentences.append(f"{text} ({', '.join(words)}).")
    return sentences


def _load_energy(each: SettingResult) -> str:
    joules = each.figures.get(LOAD_J)
    return "" if joules is None else f" and {format_significant(joules, 3)} J"


def _soaked(key: str, soak: Soak) -> str:
    """The first minute against the last, and where it settles."""
    text = f"{key} over {format_duration(soak.length_s)}: {soak.first_tokens_per_s:.3g} tok/s in the first minute, "
    text += f"{soak.last_tokens_per_s:.3g} in the last"
    if soak.first_j_per_token is not None and soak.last_j_per_token is not None:
        text += f" ({soak.first_j_per_token:.3g} and {soak.last_j_per_token:.3g} J/token)"
    heat = [each.temperature_c for each in soak.minutes if each.temperature_c is not None]
    clocks = [each.frequency_hz for each in soak.minutes if each.frequency_hz is not None]
    words = [f"{heat[0]:.0f} to {heat[-1]:.0f} °C"] if heat else []
    words += [f"{clocks[0] / 1e6:.0f} to {clocks[-1] / 1e6:.0f} MHz"] if clocks else []
    text += f", {', '.join(words)}" if words else ""
    if soak.change_percent is None:
        return f"{text}: too few repetitions a minute to tell a change."
    if soak.time_constant_s is None:
        low, high = soak.change_percent
        return f"{text}: no change that these repetitions show ({low:+.1f} to {high:+.1f} %)."
    begins = f" from {format_duration(soak.begins_s)} on" if soak.begins_s else ""
    constant = f"time constant {format_duration(soak.time_constant_s)}"
    if not soak.is_steady:
        return f"{text}: it has not settled ({constant}{begins}); soak it longer."
    return f"{text}: it settles at {soak.steady_tokens_per_s:.3g} tok/s ({constant}{begins})."


def _resolution(tests: Sequence[TestResult]) -> list[str]:
    """The smallest difference that the settings with the fewest or widest repetitions could have shown."""
    words = []
    for name, found in (
        ("tok/s", [test.least_speed_percent for test in tests]),
        ("J/token", [test.least_energy_percent for test in tests if _has_energy(test)]),
    ):
        if found and (known := [each for each in found if each is not None]) and len(known) == len(found):
            words.append(f"{format_significant(max(known), 2)} % in {name}")
    if not words:
        return ["A single repetition shows no difference between settings: repeat to tell them apart."]
    return [f"Two settings that differ by less than {' or '.join(words)} would look alike in these repetitions."]


def _unknown(rated: Sequence[Rated], until: Until | None) -> list[str]:
    """The settings of which less is known than was asked for."""
    if until is None:
        return []
    figure = "tok/s" if until.of == "speed" else "J/token"
    asked = f"{figure} to ± {until.percent:.6g} %"
    words = []
    for each, test in rated:
        known = test.half_width_percent(until.of)
        if known is None or known > until.percent:
            width = "unknown" if known is None else f"± {known:.1f} %"
            words.append(f"{each.setting.key} ({width} after {len(test.repetitions)} repetitions)")
    return [f"Not known as asked, {asked}: {', '.join(words)}."] if words else [f"Known as asked: {asked}."]


def _power_mode(result: PlanResult) -> list[str]:
    """The power mode, since the figures are different in another one."""
    chosen = any(each.setting.power_mode is not None for each in result.settings)
    mode = "" if result.device is None or chosen else result.device.power_mode
    return [f"All of this holds in power mode {mode}; measure again in the others."] if mode else []


def _threads(by_energy: Sequence[Rated]) -> list[str]:
    """Whether fewer threads take less energy than more of the same setting otherwise."""
    sentences = []
    models = dict.fromkeys(each.setting.model.label for each, _ in by_energy)
    for model in models:
        of_model = [pair for pair in by_energy if pair[0].setting.model.label == model]
        counts = {pair[0].setting.threads for pair in of_model}
        if len(counts) < 2 or len(of_model) != len(counts):
            continue
        frugal, quick = of_model[0], max(of_model, key=lambda pair: pair[1].tokens_per_s.mean)
        few, many = _threads_text(frugal), _threads_text(quick)
        as_quick = _indistinguishable(quick[1], [pair for pair in of_model if pair is not quick], _speed_difference)
        as_frugal = _indistinguishable(frugal[1], [pair for pair in of_model if pair is not frugal], _energy_difference)
        if few == many:
            noise = [words for words, equal in (("speed", as_quick), ("energy per token", as_frugal)) if equal]
            but = f"; within noise, others are as good in {' and '.join(noise)}" if noise else ""
            sentences.append(f"{model}: fastest and least energy per token with {many}{but}.")
            continue
        if frugal[0].setting.key in as_quick:
            slower = "is as fast, within noise"
        else:
            slower = f"comes {_percent(1 - frugal[1].tokens_per_s.mean / quick[1].tokens_per_s.mean)} slower"
        if quick[0].setting.key in as_frugal:
            spent = f"as much energy, within noise, as with {many}"
        else:
            spent = f"{_percent(1 - _j_per_token(frugal[1]) / _j_per_token(quick[1]))} less energy than with {many}"
        sentences.append(f"{model}: with {few} a token takes {spent}, and {slower}.")
    return sentences


def _threads_text(pair: Rated) -> str:
    count = pair[0].setting.threads
    return "the usual number of threads" if count is None else plural(count, "thread")


def _reading(by_speed: Sequence[Rated], reader: Reader) -> list[str]:
    paces: dict[str, list[str]] = {}
    for each, test in by_speed:
        paces.setdefault(pace_of(test.tokens_per_s.mean, reader), []).append(each.setting.key)
    if len(by_speed) > 1 and len(paces) == 1:
        return [f"Reading pace of every setting: {next(iter(paces))}."]
    return [f"Reading pace: {'; '.join(f'{pace}: {_listed(keys)}' for pace, keys in paces.items())}."]


def _quality(settings: Sequence[SettingResult]) -> list[str]:
    scored = {each.setting.model.label: each for each in settings if each.quality is not None}
    sentences = []
    for label, each in scored.items():
        quality, load = each.quality, each.load
        if quality is None:
            continue
        words = [f"perplexity {quality.perplexity.value:.2f} ± {2 * quality.perplexity.error:.2f}"]
        if quality.kl_divergence is not None and quality.top_agreement is not None:
            words.append(
                f"diverges from {quality.reference} by {quality.kl_divergence.value:.3f} nats, "
                f"agrees on {_percent(quality.top_agreement)} of tokens"
            )
        if quality.accuracy is not None:
            low, high = wilson_interval(round(quality.accuracy.value * quality.questions), quality.questions)
            asked = f"{quality.questions} questions{f' of {quality.questions_name}' * bool(quality.questions_name)}"
            words.append(f"{_percent(quality.accuracy.value)} ({_percent(low)} to {_percent(high)}) of {asked}")
        if load is not None and load.model.bits_per_weight and load.model.size_bytes:
            words.append(f"{load.model.bits_per_weight:.2f} bits per weight, {format_bytes(load.model.size_bytes)}")
        sentences.append(f"Quality of {label}: {', '.join(words)}.")
    ways = dict.fromkeys(each.quality.scoring for each in scored.values() if each.quality and each.quality.scoring)
    sentences += [f"How the questions were scored: {way}." for way in ways]
    return [*sentences, *_paired([(label, each.quality) for label, each in scored.items() if each.quality is not None])]


def _paired(scored: Sequence[tuple[str, Quality]]) -> list[str]:
    """Each model against the one with the most right answers, over the same questions."""
    if len(scored) < 2:
        return []
    best, first = max(scored, key=lambda pair: pair[1].answers.count("1"))
    sentences, alike, asked = [], {}, len(first.answers)
    for label, quality in scored:
        if label == best or not first.answers or quality.questions_digest != first.questions_digest:
            continue
        won, lost = right_alone(first, quality)
        p = mcnemar_p(won, lost)
        if p >= 1 - CONFIDENCE:
            alike[label] = p
            continue
        sentences.append(
            f"Of the same {asked} questions, {best} alone answers {won} right and {label} alone {lost}: a difference "
            f"(exact McNemar test, p = {p:.2g})."
        )
    if alike:
        test = f"exact McNemar test, p {'=' if len(alike) == 1 else 'at least'} {min(alike.values()):.2g}"
        sentences.append(f"The same {asked} questions show no difference from {best} in {_and(list(alike))} ({test}).")
    return sentences


def _cost(by_energy: Sequence[Rated], price: Price | None, ownership: Ownership | None) -> list[str]:
    """Cost per million tokens: the energy of the most efficient setting, and the device over its life."""
    if price is None or not by_energy:
        return []
    each, test = by_energy[0]
    energy = _j_per_token(test) * TOKENS / (J_PER_WH * WH_PER_KWH) * price.per_kwh
    text = f"A million tokens with {each.setting.key} cost {energy:.2f} {price.currency} for energy"
    if ownership is None:
        return [f"{text}."]
    device = ownership.per_million(test.tokens_per_s.mean)
    life = f"{ownership.life_years:g} years, generating {_percent(ownership.use_share)} of the time"
    bought = f"{ownership.device_price:g} {price.currency} over {life}"
    return [f"{text} and {device:.2f} {price.currency} for the device ({bought})."]


def _indistinguishable(
    best: TestResult, others: Sequence[Rated], difference: Callable[[TestResult, TestResult], Difference | None]
) -> list[str]:
    """Settings whose difference from the best one may be noise, at one chance of error for all of them together.

    Without repetitions no difference is known, so that none is left out.
    """
    p_values = {}
    for each, test in others:
        found = difference(best, test)
        p_values[each.setting.key] = 1.0 if found is None else found.p_value
    adjusted_p = adjusted(p_values, dict.fromkeys(p_values, 1.0))
    return [key for key in p_values if adjusted_p[key] >= 1 - CONFIDENCE]


def _speed_difference(first: TestResult, second: TestResult) -> Difference | None:
    if first.tokens_per_s.deviation is None or second.tokens_per_s.deviation is None:
        return None
    log_ratio = log(first.tokens_per_s.mean / second.tokens_per_s.mean)
    return welch_difference(log_ratio, first.speed_spread, second.speed_spread)


def _energy_difference(first: TestResult, second: TestResult) -> Difference | None:
    """By the random uncertainty alone: what the sensor has in common cancels."""
    ours, theirs = first.energy_spread, second.energy_spread
    if ours is None or theirs is None:
        return None
    return welch_difference(log(_j_per_token(first) / _j_per_token(second)), ours, theirs)


def _has_energy(test: TestResult) -> bool:
    return test.j_per_token is not None and test.j_per_token.value > 0


def _joules(test: TestResult) -> str:
    figure = test.j_per_token
    if figure is None:
        return "n/a"
    # A single repetition's interval is the sensor's; that of two or three is the reach of their scatter.
    if 1 < len(test.repetitions) < REPETITIONS_MIN:
        return f"{figure.value:.3g} ({len(test.repetitions)} repetitions)"
    return f"{figure.value:.3g} ({figure.low:.3g} to {figure.high:.3g})"


def _j_per_token(test: TestResult) -> float:
    return test.j_per_token.value if test.j_per_token is not None else float("inf")


def _rate(test: TestResult) -> str:
    speed = test.tokens_per_s
    if speed.low is None or speed.high is None:
        return f"{speed.mean:.1f} tok/s"
    if len(test.repetitions) < REPETITIONS_MIN:
        return f"{speed.mean:.1f} tok/s ({len(test.repetitions)} repetitions)"
    return f"{speed.mean:.1f} tok/s ({speed.low:.1f} to {speed.high:.1f})"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _and(keys: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(keys[:-1]), keys[-1])))


def _listed(keys: Sequence[str]) -> str:
    return ", ".join(keys) if len(keys) <= 4 else f"{', '.join(keys[:3])} and {len(keys) - 3} more"

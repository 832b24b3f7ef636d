"""A paper's results section: one table in Markdown, CSV and LaTeX, fronts of several models, the method.

Correct answers per joule and per watt are the metrics of *Intelligence per Watt* (arXiv 2511.07885); here an answer is
one of `Duty.answer_tokens` decoded tokens, and energy and power are those of the decode test, gross.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from msgspec import Struct

from edgetop.bench.plan import Plan, TokenTest, decode_test
from edgetop.bench.results import PlanResult, SettingResult, TestResult
from edgetop.core.energy.duty import TOKENS, Duty, Price
from edgetop.core.figures import FIRST_TOKEN, LOAD, LOAD_J, NET_J_PER_TOKEN
from edgetop.core.format import Column, format_bytes, format_duration, format_significant
from edgetop.core.quantity import J_PER_WH, WH_PER_KWH, Interval
from edgetop.core.records import Quality
from edgetop.core.statistics import CONFIDENCE, mcnemar_p, wilson_interval
from edgetop.core.text import csv_lines, markdown_table, one_line
from edgetop.fit.assessment import Reader, pace_of

SPOKEN_WORDS_PER_MINUTE = 150.0
"""Conversational English (National Center for Voice and Speech)."""

S_PER_YEAR = 365.25 * 86400


class Ownership(Struct, frozen=True, kw_only=True):
    """What the device itself costs."""

    device_price: float
    life_years: float = 4.0
    use_share: float = 1.0
    """Share of its life in which it generates tokens."""

    def per_million(self, tokens_per_s: float) -> float:
        """The device's share in the cost of a million tokens at this rate."""
        return self.device_price / (self.life_years * S_PER_YEAR * self.use_share * tokens_per_s) * TOKENS


class View(Struct, frozen=True, kw_only=True):
    """For whom the results are written."""

    reader: Reader = Reader()
    duty: Duty = Duty()
    price: Price | None = None
    ownership: Ownership | None = None


class Value(NamedTuple):
    """A number, with its 95 % interval where it has one."""

    value: float
    low: float | None = None
    high: float | None = None


Cell = Value | str | None


class PaperRow(NamedTuple):
    """A setting, and its tests that the columns speak of."""

    setting: SettingResult
    decode: TestResult | None
    prefill: TestResult | None
    first_token: float | None
    view: View


class PaperColumn(Column[PaperRow]):
    """One column of the table; its name, in CSV, has the unit."""

    def __init__(
        self, name: str, heading: str, read: Callable[[PaperRow], Cell], scale: float = 1.0, *, of_power: bool = False
    ) -> None:
        """`scale` is what the number is multiplied with for a person; `of_power` says that it rests on a meter."""
        super().__init__(name, read, heading)
        self.read, self.scale, self.of_power = read, scale, of_power


def _rate(test: TestResult | None) -> Value | None:
    return None if test is None else Value(test.tokens_per_s.mean, test.tokens_per_s.low, test.tokens_per_s.high)


def _joules(row: PaperRow) -> Value | None:
    figure = None if row.decode is None else row.decode.j_per_token
    return None if figure is None or figure.value <= 0 else Value(figure.value, figure.low, figure.high)


def _watts(row: PaperRow) -> Value | None:
    joules = _joules(row)
    if joules is None or row.decode is None or joules.low is None or joules.high is None:
        return None
    rate = row.decode.tokens_per_s.mean
    return Value(joules.value * rate, joules.low * rate, joules.high * rate)


def _right(row: PaperRow) -> Value | None:
    quality = row.setting.quality
    if quality is None or quality.accuracy is None or not quality.questions:
        return None
    return Value(
        quality.accuracy.value, *wilson_interval(round(quality.accuracy.value * quality.questions), quality.questions)
    )


def _right_per(row: PaperRow, spent: Value | None, amount: float) -> Value | None:
    """Right answers over what each takes: the bounds of both together, so that the interval is at least 95 %."""
    right = _right(row)
    if right is None or spent is None or not spent.low or spent.low <= 0 or spent.high is None:
        return None
    low, high = right.low or 0.0, right.high or 0.0
    return Value(right.value / spent.value / amount, low / spent.high / amount, high / spent.low / amount)


def _right_per_j(row: PaperRow) -> Value | None:
    return _right_per(row, _joules(row), row.view.duty.answer_tokens)


def _energy_cost(row: PaperRow) -> Value | None:
    joules, price = _joules(row), row.view.price
    if joules is None or price is None or joules.low is None or joules.high is None:
        return None
    per_j = TOKENS / (J_PER_WH * WH_PER_KWH) * price.per_kwh
    return Value(*(each * per_j for each in (joules.value, joules.low, joules.high)))


def _device_cost(row: PaperRow) -> Value | None:
    if row.view.ownership is None or row.decode is None:
        return None
    return Value(row.view.ownership.per_million(row.decode.tokens_per_s.mean))


def _pace(words_per_minute: float | None) -> Callable[[PaperRow], str | None]:
    def read(row: PaperRow) -> str | None:
        reader = row.view.reader if words_per_minute is None else Reader(words_per_minute=words_per_minute)
        return None if row.decode is None else pace_of(row.decode.tokens_per_s.mean, reader).partition(" for ")[0]

    return read


def _figure(name: str) -> Callable[[PaperRow], Value | None]:
    def read(row: PaperRow) -> Value | None:
        value = row.setting.figures.get(name)
        return None if value is None else Value(value)

    return read


def _of_model(name: str) -> Callable[[PaperRow], Value | None]:
    def read(row: PaperRow) -> Value | None:
        value = None if row.setting.load is None else getattr(row.setting.load.model, name)
        return Value(value) if value else None

    return read


def _perplexity(row: PaperRow) -> Value | None:
    quality = row.setting.quality
    if quality is None:
        return None
    reach = 2 * quality.perplexity.error
    return Value(quality.perplexity.value, quality.perplexity.value - reach, quality.perplexity.value + reach)


COLUMNS: tuple[PaperColumn, ...] = (
    PaperColumn("setting", "setting", lambda row: row.setting.setting.key),
    PaperColumn("bits_per_weight", "bpw", _of_model("bits_per_weight")),
    PaperColumn("model_bytes", "file MB", _of_model("size_bytes"), 1e-6),
    PaperColumn("memory_bytes", "memory MB", _figure("memory.rss_peak_bytes"), 1e-6),
    PaperColumn("load_s", "load s", _figure(LOAD)),
    PaperColumn("load_j", "load J", _figure(LOAD_J), of_power=True),
    PaperColumn("prefill_tokens_per_s", "prefill tok/s", lambda row: _rate(row.prefill)),
    PaperColumn("decode_tokens_per_s", "decode tok/s", lambda row: _rate(row.decode)),
    PaperColumn(
        "first_token_s", "first token s", lambda row: None if row.first_token is None else Value(row.first_token)
    ),
    PaperColumn("reading", "reading", _pace(None)),
    PaperColumn("speaking", "speaking", _pace(SPOKEN_WORDS_PER_MINUTE)),
    PaperColumn("j_per_token", "J/token", _joules, of_power=True),
    PaperColumn("decode_w", "W", _watts, of_power=True),
    PaperColumn("perplexity", "perplexity", _perplexity),
    PaperColumn("right_share", "right %", _right, 100.0),
    PaperColumn("right_per_j", "right/kJ", _right_per_j, 1000.0, of_power=True),
    PaperColumn("right_per_w", "right %/W", lambda row: _right_per(row, _watts(row), 1.0), 100.0, of_power=True),
    PaperColumn("energy_cost_per_million", "energy cost/M", _energy_cost, of_power=True),
    PaperColumn("device_cost_per_million", "device cost/M", _device_cost),
    PaperColumn("wh_per_day", "Wh/day", _figure("duty.kept_wh_per_day"), of_power=True),
    PaperColumn("battery_h", "battery h", _figure("duty.kept_battery_h"), of_power=True),
)


def paper_rows(result: PlanResult, view: View) -> list[PaperRow]:
    """The settings of which anything is known."""
    decode = decode_test(test.test for setting in result.settings for test in setting.tests)
    rows = []
    for setting in result.settings:
        prefills = [
            test
            for test in setting.tests
            if isinstance(test.test, TokenTest) and test.test.n_prompt and not test.test.n_gen
        ]
        firsts = [test.figures[FIRST_TOKEN] for test in setting.tests if FIRST_TOKEN in test.figures]
        first = None if not firsts else firsts[0].value if isinstance(firsts[0], Interval) else firsts[0].mean
        if setting.tests or setting.quality is not None:
            found = setting.test(decode.name) if decode is not None else None
            rows.append(PaperRow(setting, found, prefills[0] if prefills else None, first, view))
    return rows


def _cells(rows: Sequence[PaperRow]) -> list[tuple[PaperColumn, list[Cell]]]:
    """Columns that any of the settings has something in."""
    read = [(column, [column.read(each) for each in rows]) for column in COLUMNS]
    return [(column, cells) for column, cells in read if any(cell is not None for cell in cells)]


def _text(column: PaperColumn, cell: Cell, interval: str) -> str:
    if cell is None or isinstance(cell, str):
        return cell or ""
    numbers = [format_significant(each * column.scale, 3) for each in cell if each is not None]
    return numbers[0] if len(numbers) < 3 else interval.format(*numbers)


def table_markdown(found: Sequence[PaperRow]) -> str:
    """The table of `table_cells` in Markdown."""
    headings, *rows = table_cells(found)
    return markdown_table([headings, *rows], set(headings[1:]))


def table_cells(found: Sequence[PaperRow]) -> list[list[str]]:
    """The table for people with its headings; intervals stand behind their numbers."""
    columns = _cells(found)
    rows = [[_text(column, cells[at], "{} ({} to {})") for column, cells in columns] for at in range(len(found))]
    return [_headings(found, columns), *rows]


def _headings(found: Sequence[PaperRow], columns: Sequence[tuple[PaperColumn, list[Cell]]]) -> list[str]:
    simulated = any(each.setting.simulated for each in found)
    return [column.heading + " (simulated)" * (simulated and column.of_power) for column, _ in columns]


def caption_of(result: PlanResult) -> str:
    """What stands below the table: what its numbers are, and that the power is simulated where it is."""
    has_energy = any(each.energy_source for each in result.settings)
    power = f" {SIMULATED}." if result.simulated else " Energies are gross, idle power included." * has_energy
    return f"Means, with 95 % intervals in brackets.{power}"


SIMULATED = "Simulated power: a virtual board computed it, no meter measured it"


MEMORY_PARTS = ("weights", "KV cache", "computing", "output")


def memory_parts(row: PaperRow) -> tuple[float, ...]:
    """What the engine says it allocated, in MB; empty where it does not say."""
    load = row.setting.load
    if load is None or load.memory.weights_bytes is None:
        return ()
    memory = load.memory
    parts = (memory.weights_bytes, memory.kv_bytes, memory.compute_bytes, memory.output_bytes)
    return tuple((each or 0) / 1e6 for each in parts)


ENERGY_PARTS = ("prefill", "decode", "idle")


def energy_parts(row: PaperRow) -> tuple[float, ...]:
    """Joules for each decoded token of the prefill test followed by the decode test: net of each, and idle of both.

    Empty where one of them has no energy, or none that is net of idle.
    """
    if row.decode is None or row.prefill is None:
        return ()
    decode, prefill = row.decode, row.prefill
    net_decode, net_prefill = (_net(test) for test in (decode, prefill))
    gross_decode, gross_prefill = decode.j_per_token, prefill.j_per_token
    if net_decode is None or net_prefill is None or gross_decode is None or gross_prefill is None:
        return ()
    if not isinstance(decode.test, TokenTest) or not isinstance(prefill.test, TokenTest):
        return ()
    share = prefill.test.n_prompt / decode.test.n_gen
    idle = gross_decode.value - net_decode + (gross_prefill.value - net_prefill) * share
    return net_prefill * share, net_decode, idle


def _net(test: TestResult) -> float | None:
    found = test.figures.get(NET_J_PER_TOKEN)
    return found.value if isinstance(found, Interval) else None


def values_of(row: PaperRow) -> dict[str, Value]:
    """The numbers of a row by the names of the columns."""
    cells = {column.name: column.read(row) for column in COLUMNS}
    return {name: cell for name, cell in cells.items() if isinstance(cell, Value)}


def table_csv(found: Sequence[PaperRow]) -> str:
    """The table for programs, in the units of the names; a number with an interval has three columns."""
    names: list[str] = []
    lists: list[list[object]] = []
    for column, cells in _cells(found):
        with_interval = any(isinstance(cell, Value) and cell.low is not None for cell in cells)
        parts = (0, 1, 2) if with_interval else (0,)
        names += [column.name + ("", "_low", "_high")[part] for part in parts]
        lists += [
            [cell[part] if isinstance(cell, Value) else cell if part == 0 else None for cell in cells] for part in parts
        ]
    return csv_lines([names, *zip(*lists, strict=True)])


_LATEX = str.maketrans({
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "°": r"\textdegree{}",
})  # fmt: skip


def table_latex(found: Sequence[PaperRow], caption: str) -> str:
    """The table as LaTeX with booktabs; intervals stand in brackets."""
    columns = _cells(found)

    def line(words: Sequence[str]) -> str:
        return f"{' & '.join(one_line(word).translate(_LATEX) for word in words)} \\\\\n"

    rows = "".join(
        line([_text(column, cells[at], "{} [{}, {}]") for column, cells in columns]) for at in range(len(found))
    )
    heading = line(_headings(found, columns))
    return (
        f"\\begin{{table}}\n\\caption{{{one_line(caption).translate(_LATEX)}}}\n"
        f"\\begin{{tabular}}{{l{'r' * (len(columns) - 1)}}}\n\\toprule\n{heading}\\midrule\n{rows}\\bottomrule\n"
        "\\end{tabular}\n\\end{table}\n"
    )


_MEMORY_REPEATS = 0.01
"""Peaks of one setting differ by less, as a share."""


def _memory(row: PaperRow) -> Value | None:
    peak = row.setting.figures.get("memory.rss_peak_bytes")
    return None if peak is None else Value(peak, peak * (1 - _MEMORY_REPEATS), peak * (1 + _MEMORY_REPEATS))


def _token_s(row: PaperRow) -> Value | None:
    rate = _rate(row.decode)
    if rate is None:
        return None
    return Value(1 / rate.value, 1 / rate.high if rate.high else None, 1 / rate.low if rate.low else None)


_COSTS: tuple[tuple[str, Callable[[PaperRow], Value | None]], ...] = (
    ("J/token", _joules),
    ("tok/s", _token_s),
    ("memory", _memory),
)
"""What quality is held against; the less the better."""


class _Answered(NamedTuple):
    """A model in its setting of least cost, and the questions it answers right."""

    key: str
    right: float
    quality: Quality
    cost: Value


def _dominates(one: _Answered, other: _Answered) -> bool:
    """By the means no worse in either, and better in one of them by more than noise explains."""
    if one.right < other.right or one.cost.value > other.cost.value:
        return False
    most, least = one.cost.high, other.cost.low
    cheaper = most is not None and least is not None and most < least
    return cheaper or mcnemar_p(*right_alone(one.quality, other.quality)) < 1 - CONFIDENCE


def right_alone(one: Quality, other: Quality) -> tuple[int, int]:
    """How many of the same questions the one answers right and the other does not, and the other way round."""
    pairs = list(zip(one.answers, other.answers, strict=False))
    return pairs.count(("1", "0")), pairs.count(("0", "1"))


def fronts(rows: Sequence[PaperRow]) -> list[str]:
    """Of several models that were asked the same: what nothing beats, and what is beaten, beyond noise.

    Each model is taken in its setting of least cost.
    """
    asked = {each.setting.quality.questions_digest for each in rows if each.setting.quality and _right(each)}
    if len(asked) != 1 or not all(asked):
        return []
    sentences = []
    for name, cost_of in _COSTS:
        cheapest: dict[str, _Answered] = {}
        for each in rows:
            right, cost, setting, quality = _right(each), cost_of(each), each.setting.setting, each.setting.quality
            if right is not None and cost is not None and quality is not None:
                known = cheapest.get(setting.model.label)
                if known is None or cost.value < known.cost.value:
                    cheapest[setting.model.label] = _Answered(setting.key, right.value, quality, cost)
        points = sorted(cheapest.values(), key=lambda point: (-point.right, point.cost.value))
        if len(points) < 2:
            continue
        winners = {each.key: [one.key for one in points if _dominates(one, each)] for each in points}
        unbeaten = [key for key, others in winners.items() if not others]
        text = f"Right answers against {name}: nothing beats {', '.join(unbeaten)} beyond noise"
        beaten: dict[str, list[str]] = {}
        for key, others in winners.items():
            if others:
                beaten.setdefault(next((one for one in reversed(others) if one in unbeaten), others[-1]), []).append(
                    key
                )
        text += "".join(f"; {winner} dominates {', '.join(keys)}" for winner, keys in beaten.items())
        sentences.append(f"{text}.")
    return sentences


def method_of(plan: Plan, result: PlanResult, view: View) -> str:
    """How it was measured, in one paragraph."""
    device = result.device
    loads = [each.load for each in result.settings if each.load is not None]
    words = []
    if device is not None:
        name = device.model or device.cpu or device.hostname
        what = [
            device.cpu if device.cpu != name else "",
            f"{device.cores_physical} cores" if device.cores_physical else "",
        ]
        what += [format_bytes(device.memory_bytes) if device.memory_bytes else "", device.system]
        mode = device.power_mode or device.governor
        words.append(f"Measured on {name} ({', '.join(filter(None, what))})")
        words[0] += f" in power mode {mode}." if mode else "."
    engines = dict.fromkeys(load.engine.label for load in loads)
    words += [f"Engine: {', '.join(engines)}."] if engines else []
    grades: dict[str, set[str]] = {}
    for each in result.settings:
        if each.energy_source:
            meter = f"{each.energy_source} ({(each.energy_scope or 'unknown scope').replace('_', ' ')}"
            grades.setdefault(meter, set()).add(str(each.energy_grade))
    meters = [
        f"{meter}, grade {min(known)}{f' to {max(known)}' * (len(known) > 1)})" for meter, known in grades.items()
    ]
    missing = next((test.energy_missing for each in result.settings for test in each.tests if test.energy_missing), "")
    if result.simulated:
        words.append(f"{SIMULATED}; do not quote its joules as those of a device.")
    if meters:
        words.append(f"Power was read from {'; '.join(meters)}; energies are gross, idle power included.")
    elif missing:
        words.append(f"Energy is not known: {missing}.")
    if any(" from " in each.model.label for each in plan.settings):
        words.append(
            "Levels made from a quantized file carry its loss too: they stand for those of the unquantized model in "
            "speed and energy, but not in quality."
        )
    if plan.soak_s:
        words.append(f"The tests were done over and over for {format_duration(plan.soak_s)}.")
    else:
        turns = "taking turns" if plan.order == "interleaved" else "one after the other"
        which = f"Each of {len(plan.settings)} settings, {turns}," if len(plan.settings) > 1 else "One setting"
        words.append(f"{which} was measured {_times(plan.repetitions)}{_until(plan)}.")
    words.append("Each load was warmed up; warm-ups do not count." if plan.warmup else "Nothing was warmed up.")
    rest = plan.cool_down
    began = f"A run began once temperature changed by less than {rest.temperature_slope_c_per_min:g} °C a minute"
    if meters:
        began += f" and idle power by less than {100 * rest.power_spread:g} %"
        words.append(f"Idle power was measured for at least {rest.idle_s:g} s before the first run of each setting.")
    words.append(f"{began}, at the latest after {rest.limit_s:g} s.")
    words.append(
        f"Tests: {', '.join(test.name for test in plan.tests) or 'none'}, context {plan.n_ctx}, seed {plan.seed}. "
        "Intervals are 95 % by Student's t; those of energy hold the meter's own error as well."
    )
    if plan.quality is not None:
        scored = next((each.quality for each in result.settings if each.quality is not None), None)
        words.append(f"Perplexity is of the text {plan.quality.text_name} in chunks of {plan.quality.n_ctx} tokens.")
        if scored is not None and scored.scoring:
            words.append(f"Questions ({scored.questions_name or 'built-in'}): {scored.scoring}.")
            words.append(f"Right answers per joule are of answers of {view.duty.answer_tokens} tokens.")
    problems = sum(len(each.problems) for each in result.settings)
    flags = sum(len(test.flags) for each in result.settings for test in each.tests)
    words.append(f"No run was rejected; {problems} problems and {flags} disturbances stand beside the results.")
    return " ".join(one_line(word) for word in words)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _until(plan: Plan) -> str:
    if plan.until is None:
        return ""
    figure = "tok/s" if plan.until.of == "speed" else "J/token"
    return f" or more, up to {plan.until.limit}, until {figure} was known to ± {plan.until.percent:g} %"


def section(plan: Plan, result: PlanResult, view: View, sentences: Sequence[str]) -> str:
    """The whole section in Markdown."""
    rows = paper_rows(result, view)
    lines = "".join(f"- {one_line(each)}\n" for each in sentences)
    if not rows:
        return lines
    table = f"{table_markdown(rows)}\n{caption_of(result)}\n"
    return f"## Method\n\n{method_of(plan, result, view)}\n\n## Results\n\n{table}\n{lines}"

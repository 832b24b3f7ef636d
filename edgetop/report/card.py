"""A result as a card, to be pasted into a forum, an issue or a README: Markdown, SVG or PNG."""

from __future__ import annotations

import io
import re
import shlex
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from html import escape
from typing import Any, Final

from msgspec import Struct

from edgetop.core.engine_settings import EXTRA_FLAGS, EngineSettings, SamplingSettings
from edgetop.core.errors import EdgetopError
from edgetop.core.figures import (
    BY_NAME,
    DECODE,
    DECODE_J_PER_TOKEN,
    FIRST_TOKEN,
    J_PER_TOKEN,
    NET_J_PER_TOKEN,
    PREFILL,
    RSS_PEAK,
    text_of,
    value_of,
)
from edgetop.core.format import NOT_AVAILABLE, format_bytes, plural
from edgetop.core.quantity import Interval, reciprocal, with_interval
from edgetop.core.records import DeviceInfo, LoadEntry
from edgetop.core.text import markdown_table, one_line
from edgetop.fit.kv_cache import N_BATCH_DEFAULT, N_UBATCH_DEFAULT
from edgetop.session.compare.compare import compare
from edgetop.session.compare.result import Cell, Result
from edgetop.session.file import SessionFile
from edgetop.settings.option import Section
from edgetop.settings.options import OPTIONS

Rows = list[tuple[str, str]]

FIGURES: Final = (DECODE, PREFILL, FIRST_TOKEN, J_PER_TOKEN, NET_J_PER_TOKEN, RSS_PEAK)


WITH_INTERVAL: Final = frozenset({DECODE, PREFILL, J_PER_TOKEN, NET_J_PER_TOKEN, DECODE_J_PER_TOKEN})
"""The others differ from turn to turn with the prompts."""


class Card(Struct, frozen=True, kw_only=True):
    """What a card says."""

    title: str
    rows: tuple[tuple[str, str], ...]
    """Label and text."""
    command: str
    """Repeats it; empty where that is not known."""


def heading(device: DeviceInfo | None, load: LoadEntry | None, measured: str) -> Rows:
    """What was measured on: the rows above the figures, those without a text left out."""
    rows: Rows = []
    if device is not None:
        cores = "" if device.cores_logical is None else f"{device.cores_logical} cores"
        memory = "" if device.memory_bytes is None else format_bytes(device.memory_bytes)
        named = [device.model or device.cpu, device.cpu if device.model else "", cores, memory, device.virtualised]
        kernel = "" if device.kernel in device.system else device.kernel
        quota = "" if device.cpu_quota is None else f"{device.cpu_quota:g} CPUs granted"
        rows += [
            ("device", _joined(named)),
            ("system", _joined([device.system, kernel, device.firmware])),
            ("power mode", _joined([device.power_mode or device.governor, quota])),
        ]
    rows.append(("power measured", measured))
    if load is not None:
        model, chosen = load.model, load.settings
        bits = "" if model.bits_per_weight is None else f"{model.bits_per_weight:.2f} bits"
        size = "" if model.size_bytes is None else format_bytes(model.size_bytes)
        sha256 = f"SHA-256 {model.sha256[:12]}" if model.sha256 else ""
        context = "" if chosen.n_ctx is None else f"context {chosen.n_ctx}"
        threads = "" if chosen.n_threads is None else plural(chosen.n_threads, "thread")
        cache = "" if load.engine.server else f"KV {chosen.type_k}/{chosen.type_v}"
        flags = " ".join(f"{flag} {value}" for flag, value in chosen.flags.items())
        rows += [
            ("model", _joined([f"{model.name} {model.quantization}".strip(), bits, size, model.repo, sha256])),
            ("engine", load.engine.label),
            ("settings", _joined([threads, context, cache, flags])),
        ]
    return [(label, one_line(text)) for label, text in rows if text]


def _joined(parts: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(filter(None, parts)))


def card_of(result: Result, file: SessionFile | None) -> Card:
    """The card of a result; `file` is the session it was read from, if it was."""
    cells = compare([result]).rows[0].cells
    load = file.loads[-1] if file is not None and file.loads else None
    name = f"{result.model} {result.quantization}".strip() or result.name
    where = result.device or ("" if file is None else file.device.cpu)
    rows = heading(None if file is None else file.device, load, measured_text(result))
    if file is None:
        known = (("device", result.device), ("model", name), ("engine", result.engine), ("flags", result.flags))
        rows += [(label, one_line(text)) for label, text in known if text]
    values = {each: _value(each, cells.get(each, Cell()), file) for each in (*FIGURES, DECODE_J_PER_TOKEN)}
    for figure in FIGURES:
        missing = cells.get(figure, Cell()).missing or result.absent.get(figure, "") or "not measured"
        value = values[figure]
        text = f"{NOT_AVAILABLE}: {missing}" if value is None else text_of(BY_NAME[figure], value)
        rows.append((BY_NAME[figure].label, one_line(text)))
    for label, unit, of in (
        ("tokens per joule", "tokens/J", J_PER_TOKEN),
        ("tokens per second per watt", "tok/s/W decoding", DECODE_J_PER_TOKEN),
    ):
        value = values[of]
        found = reciprocal(value, 1.0) if isinstance(value, Interval) else None
        rows.append((label, NOT_AVAILABLE if found is None else f"{with_interval(found)} {unit}"))
    times = f"{plural(result.turns, 'turn')}, {plural(result.generated_tokens, 'token')}"
    rows.append(("over", one_line(_joined([times, result.when[:10], *result.conditions.values()]))))
    return Card(
        title=one_line(f"{name} on {where}" if where else name),
        rows=tuple(rows),
        command="" if file is None or load is None else repeating(file, load),
    )


def measured_text(result: Result) -> str:
    """By what its energy was measured; empty without any."""
    if result.energy_scope is None:
        return ""
    grade = f"grade {result.energy_grade}" if result.energy_grade else ""
    return _joined([result.energy_scope.replace("_", " "), result.energy_source, grade, result.energy_grade_reason])


def _value(name: str, cell: Cell, file: SessionFile | None) -> Interval | float | None:
    """With the meter's own interval in a session's energies; of a speed it is how well it repeats."""
    if file is not None and file.bench is None and isinstance(own := value_of(file.summary, name), Interval):
        return own
    if cell.value is None or cell.low is None or cell.high is None or name not in WITH_INTERVAL:
        return cell.value
    return Interval(value=cell.value, low=cell.low, high=cell.high, u_systematic=0.0, u_random=0.0)


PROMPTS_AT_MOST, PROMPT_CHARACTERS = 4, 400
"""More are not written out: they stand in the session."""

_TASK = re.compile(r"(pp|tg)(\d+)")


def repeating(file: SessionFile, load: LoadEntry) -> str:
    """The command that measures the same again."""
    model, first = load.model, next(iter(file.turns), None)
    name = f"hf:{model.repo}:{model.quantization}" if model.repo and model.quantization else _file_name(model.path)
    server = ["--server", load.engine.server] if load.engine.server else []
    tasks = {found[1]: found[2] for turn in file.turns if (found := _TASK.fullmatch(turn.task))}
    if tasks:
        words = ["edgetop", "bench", "-m", name, "-p", tasks.get("pp", "0"), "-n", tasks.get("tg", "0")]
        return one_line(shlex.join([*words, *server, *_flags(load.settings, bench=True)]))
    words = ["edgetop", "run", "-m", name, *server, *([] if server else _flags(load.settings))]
    arguments = {} if server else load.settings.template_args
    if first is not None:
        words += _chosen("sampling", first.sampling, {}, ())
        arguments = {**arguments, **first.sampling.template_args}
    for key, value in arguments.items():
        words += ["--template-arg", f"{key}={str(value).lower() if isinstance(value, bool) else value}"]
    prompts = [turn.prompt or "" for turn in file.turns]
    system = first.system if first is not None and file.text_recorded else None
    written_out = file.text_recorded and len(prompts) <= PROMPTS_AT_MOST
    if written_out and sum(map(len, (*prompts, system or ""))) <= PROMPT_CHARACTERS:
        words += ["--system", system] if system else []
        return one_line(shlex.join([*words, *(word for prompt in prompts for word in ("-p", prompt))]))
    return one_line(f"{shlex.join(words)}{' --system ...' if system else ''} -p ...")


def _file_name(path: str) -> str:
    return path.rpartition("/")[2]


RESOLVED: Final = {"n_threads_batch": "n_threads", "n_batch": N_BATCH_DEFAULT, "n_ubatch": N_UBATCH_DEFAULT}
"""Where nobody chose, an engine reports what it took: a value, or that of another field."""


def _flags(settings: EngineSettings, *, bench: bool = False) -> list[str]:
    taken = {field: getattr(settings, of) if isinstance(of, str) else of for field, of in RESOLVED.items()}
    # All layers, where it is not said otherwise; how many that is depends on what there is.
    left_out = {"n_gpu_layers", *EXTRA_FLAGS, *({"n_ctx"} if bench else ())}
    chosen = _chosen("engine", settings, taken, left_out)
    return chosen + [word for flag, value in settings.flags.items() for word in (flag, *([value] if value else []))]


def _chosen(
    section: Section,
    settings: EngineSettings | SamplingSettings,
    taken: Mapping[str, object],
    left_out: Collection[str],
) -> list[str]:
    """The flags of the options of a section that set what differs from their defaults, or from what is taken."""
    unset = type(settings)()
    known = {field: taken.get(field, getattr(unset, field)) for field in settings.__struct_fields__}
    words: list[str] = []
    for option in OPTIONS:
        fields = option.sets if option.section == section else ()
        values = [getattr(settings, field) for field in fields if field not in left_out]
        # Where two set the same field, the first sets both keys and values of the cache, and the others one of them.
        if (
            not values
            or len(set(values)) > 1
            or values[0] is None
            or all(known[field] == values[0] for field in fields)
        ):
            continue
        known.update(dict.fromkeys(fields, values[0]))
        for value in values[0] if isinstance(values[0], tuple) else values[:1]:
            words += [option.flags[0], f"{value:g}" if isinstance(value, float) else str(value)]
    return words


def as_markdown(title: str, rows: Sequence[tuple[str, str]], command: str = "") -> str:
    """A heading, a table and the command."""
    table = markdown_table([["", title], *(list(row) for row in rows)])
    return f"{table}\n    {one_line(command)}\n" if command else table


CLOSING = "edgetop: energy per token with its 95 % interval"
CHARACTERS = 96
"""In a line of a picture."""

TEXT_CHARACTERS: Final = 1000
"""Of a row in a picture, which a stranger's session could make as long as a book."""

FONT_PX, LINE_PX, MARGIN_PX, LABEL_CHARACTERS = 14, 21, 20, 31
BACKGROUND, FOREGROUND, DIM = "#14161b", "#e6e8ec", "#8d94a3"
WIDTH_PX: Final = 2 * MARGIN_PX + round(CHARACTERS * FONT_PX * 0.6)


class _Line(Struct, frozen=True):
    label: str
    text: str
    is_whole: bool = False
    """It goes over both columns."""


def _lines(card: Card) -> list[_Line]:
    """The card in lines that are no longer than a picture is wide."""
    title = _wrapped(card.title[:TEXT_CHARACTERS], CHARACTERS)
    lines = [*(_Line("", piece, is_whole=True) for piece in title), _Line("", "")]
    for label, text in (*card.rows, ("repeat", card.command)):
        cut = text if len(text) <= TEXT_CHARACTERS else f"{text[:TEXT_CHARACTERS]}..."
        pieces = _wrapped(cut, CHARACTERS - LABEL_CHARACTERS)
        lines += [_Line("" if number else label, piece) for number, piece in enumerate(pieces)]
    return [*lines, _Line("", ""), _Line("", CLOSING, is_whole=True)]


def _wrapped(text: str, width: int) -> list[str]:
    lines: list[str] = []
    for word in text.split(" "):
        if lines and _cells(lines[-1]) + 1 + _cells(word) <= width:
            lines[-1] += f" {word}"
            continue
        piece = ""
        for character in word:
            if _cells(piece + character) > width:
                lines.append(piece)
                piece = ""
            piece += character
        lines.append(piece)
    return lines


def _cells(text: str) -> int:
    """How many characters of a fixed-width font it takes: Chinese, Japanese and Korean ones take two."""
    return len(text) + sum(unicodedata.east_asian_width(character) in "WF" for character in text)


def as_svg(card: Card) -> str:
    """One picture without anything from outside, in whatever fixed-width font there is."""
    lines = _lines(card)
    height = 2 * MARGIN_PX + LINE_PX * len(lines)
    texts = []
    for number, line in enumerate(lines):
        y = MARGIN_PX + LINE_PX * number + FONT_PX
        left = MARGIN_PX if line.is_whole else _text_px()
        if line.label:
            texts.append(f'<text x="{MARGIN_PX}" y="{y}" fill="{DIM}">{escape(line.label)}</text>')
        if line.text:
            weight = ' font-weight="bold"' if line.is_whole and line.text != CLOSING else ""
            texts.append(f'<text x="{left}" y="{y}"{weight} xml:space="preserve">{escape(line.text)}</text>')
    joined = "\n".join(texts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH_PX}" height="{height}" '
        f'viewBox="0 0 {WIDTH_PX} {height}" font-family="monospace" font-size="{FONT_PX}" fill="{FOREGROUND}">\n'
        f'<title>{escape(card.title)}</title>\n<rect width="100%" height="100%" rx="8" fill="{BACKGROUND}"/>\n'
        f"{joined}\n</svg>\n"
    )


def _text_px() -> int:
    return MARGIN_PX + round(LABEL_CHARACTERS * FONT_PX * 0.6)


def as_png(card: Card, scale: int = 2) -> bytes:
    """The same as a bitmap. Raises EdgetopError without Pillow."""
    try:
        from PIL import Image, ImageDraw, ImageFont  # noqa: PLC0415 - an extra
    except ImportError:
        raise EdgetopError(
            "a card as PNG needs Pillow, which is not installed", "type: pip install 'edgetop[card]'; or use --svg"
        ) from None
    lines = _lines(card)
    image = Image.new("RGB", (WIDTH_PX * scale, (2 * MARGIN_PX + LINE_PX * len(lines)) * scale), BACKGROUND)
    draw, font = ImageDraw.Draw(image), _font(ImageFont, FONT_PX * scale)
    for number, line in enumerate(lines):
        y = (MARGIN_PX + LINE_PX * number) * scale
        left = MARGIN_PX if line.is_whole else _text_px()
        draw.text((MARGIN_PX * scale, y), line.label, DIM, font)
        draw.text((left * scale, y), line.text, FOREGROUND, font)
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


MONOSPACE = ("DejaVuSansMono.ttf", "LiberationMono-Regular.ttf", "Menlo.ttc")


def _font(module: Any, size: int) -> Any:  # noqa: ANN401 - of an extra
    """A fixed-width font of the system, else Pillow's own, which is narrower."""
    for name in MONOSPACE:
        try:
            return module.truetype(name, size)
        except OSError:
            continue
    return module.load_default(size)

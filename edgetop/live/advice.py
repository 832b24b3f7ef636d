"""What to change at a llama-server of this machine or at one's own engine, ranked by what it brings.

Each finding rests on what the server counted or this machine shows, and on a figure computed for the change; where one
of the two is missing, nothing is said.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from math import log
from pathlib import Path
from statistics import median
from typing import Final, get_args

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.engine_choices import KvType
from edgetop.core.engine_settings import KV_TYPE, EngineSettings
from edgetop.core.errors import EdgetopError
from edgetop.core.figures import TurnFigures
from edgetop.core.format import format_bytes_short, format_seconds
from edgetop.core.quantity import REACH, Interval, banded, sigma_of, with_interval
from edgetop.core.sources import Unavailable
from edgetop.core.text import one_line
from edgetop.fit.assessment import Assessment, RunTarget, Workload, assess
from edgetop.fit.compute_buffer import micro_batch
from edgetop.fit.kv_cache import N_BATCH_DEFAULT, N_UBATCH_DEFAULT
from edgetop.fit.model_facts import ModelFacts, read_facts
from edgetop.inference.server.address import Address
from edgetop.inference.server.connection import Count, ServerClient
from edgetop.inference.server.usage import count_in, parse_metrics, text_at
from edgetop.live.past_runs import DISTURBED
from edgetop.live.server_monitor import ServerLocation
from edgetop.session.session import Session
from edgetop.session.summary import turn_result
from edgetop.telemetry.host import Host
from edgetop.telemetry.model_processes import ModelProcess

TOKENS_LEAST: Final = 64
"""A mean over fewer tokens is no rate to compare with."""

WORTH: Final = 0.05
"""A change that brings less is not advised."""

RATIO_SIGMA: Final = 0.1
"""Of the ratio of two predictions for one model on one machine: most of their errors are the same."""

CONTENDED: Final = 0.5
"""Load of others, for each core, from which on no rate is compared with a prediction."""

LOOKS: Final = 5
LOOKS_APART_S: Final = 0.02
"""How often and how far apart it is looked who wants a processor; the middle of it counts."""

SAVES_LEAST_BYTES: Final = 16 * 2**20

MS_PER_S: Final = 1000

REREAD_SHARE: Final = 0.25
"""Of a model's size: libraries and a second look at its header are far below."""

FLASH_OFF: Final = "Flash attention is off, which takes memory as contexts fill up"
NOT_HERE: Final = Unavailable("the server's process cannot be read", "run doctor on its machine, as its user")
NO_FILE: Final = Unavailable("the server's model is no file of this machine")

_FLAGS: Final = {
    "n_threads": (("-t", "--threads"), "LLAMA_ARG_THREADS"),
    "n_ctx": (("-c", "--ctx-size"), "LLAMA_ARG_CTX_SIZE"),
    "n_batch": (("-b", "--batch-size"), "LLAMA_ARG_BATCH"),
    "n_ubatch": (("-ub", "--ubatch-size"), "LLAMA_ARG_UBATCH"),
    "type_k": (("-ctk", "--cache-type-k"), "LLAMA_ARG_CACHE_TYPE_K"),
    "type_v": (("-ctv", "--cache-type-v"), "LLAMA_ARG_CACHE_TYPE_V"),
    "flash_attention": (("-fa", "--flash-attn"), "LLAMA_ARG_FLASH_ATTN"),
    "draft_model": (("-md", "--model-draft", "--spec-draft-model"), "LLAMA_ARG_SPEC_DRAFT_MODEL"),
}

_SWITCHES: Final = {"1": True, "true": True, "on": True, "enabled": True,
                    "0": False, "false": False, "off": False, "disabled": False}  # fmt: skip
"""What llama.cpp's environment variables may say."""

_FOR_IDLE: Final = frozenset({"threads", "batch", "disk", "KV type"})
"""Findings whose rate is a prediction for a machine that does nothing else."""


class Finding(Struct, frozen=True, kw_only=True):
    """Something that could be better."""

    name: str
    what: str
    """One line: what was seen."""
    change: str
    """The flag, as llama-server has it."""
    rate: str = "tok/s"
    """What `speed` is of: generated tokens, those of prompts, or generated ones over reading and answering."""
    speed: Interval | None = None
    """By which factor tokens per second change, with a band that holds in 8 cases of 10; `None` for what only saves
    memory."""
    joules: Interval | None = None
    """By which factor joules per token change, the power staying as it is."""
    saves_bytes: int | None = None
    prove: str = ""
    """The command that measures it, before and after."""


class Observed(Struct, frozen=True, kw_only=True):
    """What a server counted and how it was started."""

    facts: ModelFacts
    settings: EngineSettings
    """Of its command line and environment; what stands there nowhere is the default. `n_ctx` is that of all slots."""
    slots: int = 1
    """How many requests it answers at once."""
    decode_tokens_per_s: float | None = None
    """Over all that it has generated."""
    longest_context: int | None = None
    """Tokens that a slot has ever held."""
    prompt_tokens: int = 0
    """Processed: what was cached is not among them."""
    prompt_s: float = 0.0
    decode_s: float = 0.0
    """What reading prompts and answering them took."""
    keeps_prompts: bool = True
    """False: it processes each prompt as a whole."""
    drafted: int = 0
    accepted: int = 0
    steps: int = 0
    """In which a draft was verified."""
    throttled_tokens_per_s: float | None = None
    """While the device throttled, which `decode_tokens_per_s` leaves out."""
    reread_bytes: int = 0
    """Read from the disk beyond the size of the model."""
    draft_bytes: int = 0
    """Of the draft model's file."""
    swapped_bytes: int = 0
    others_load: float = 0.0
    """Processes of others that want a processor."""


class _Defaults(Struct):
    n_ctx: Count | None = None


class _Props(Struct):
    model_path: str | None = None
    total_slots: Count | None = None
    default_generation_settings: _Defaults | None = None


def observe(address: Address, key: str, host: Host) -> Observed | Unavailable:
    """Look at a server. Raises RequestError."""
    pid = ServerLocation(address).pid()
    if pid is None:
        return NOT_HERE
    client = ServerClient(address, key=key, idle_s=5.0, stopped=lambda: False)
    props = client.get("/props", _Props)
    try:
        facts = read_facts(_file_of(host, pid, props.model_path or ""))
    except EdgetopError:
        return NO_FILE
    process = ModelProcess(pid=pid, kind="", uid=os.geteuid())
    metrics = parse_metrics(text_at(client, "/metrics") or "")
    tokens = count_in(metrics, "llamacpp:tokens_predicted_total") or 0
    took_s = metrics.get("llamacpp:tokens_predicted_seconds_total", 0.0)
    defaults, slots = props.default_generation_settings, props.total_slots or 1
    settings = _settings(process, host)
    n_ctx = None if defaults is None or not defaults.n_ctx else defaults.n_ctx
    if n_ctx is not None and not _shares_context(process, host):
        n_ctx *= slots
    draft = _file_of(host, pid, settings.draft_model or "")
    longest = count_in(metrics, "llamacpp:n_tokens_max")
    return Observed(
        facts=facts,
        settings=replace(settings, n_ctx=n_ctx or settings.n_ctx),
        slots=slots,
        decode_tokens_per_s=tokens / took_s if tokens >= TOKENS_LEAST and took_s > 0 else None,
        longest_context=count_in(metrics, "llamacpp:n_past_max") if longest is None else longest,
        prompt_tokens=count_in(metrics, "llamacpp:prompt_tokens_total") or 0,
        prompt_s=metrics.get("llamacpp:prompt_seconds_total", 0.0),
        decode_s=took_s,
        keeps_prompts=not process.has_flag(host, ("--no-cache-prompt",))
        and _SWITCHES.get(process.setting(host, (), "LLAMA_ARG_CACHE_PROMPT") or "", True),
        drafted=count_in(metrics, "llamacpp:spec_decode_num_draft_tokens_total") or 0,
        accepted=count_in(metrics, "llamacpp:spec_decode_num_accepted_tokens_total") or 0,
        steps=count_in(metrics, "llamacpp:spec_decode_num_drafts_total") or 0,
        draft_bytes=draft.stat().st_size if settings.draft_model and draft.is_file() else 0,
        swapped_bytes=_swapped_bytes(host, pid),
        reread_bytes=_reread_bytes(host, pid, facts.size_bytes),
        others_load=_others_load(host, pid),
    )


def observe_session(session: Session, facts: ModelFacts, t_us: int, host: Host, pid: int | None) -> Observed:
    """What a session of one's own engine shows of the model that was loaded last."""
    load = session.loads[-1]
    turns = [
        index
        for index, turn in enumerate(session.turns)
        if turn.started.t_us >= load.t_us and turn.finished is not None
    ]
    ends = [end for index in turns if (end := session.turns[index].finished) is not None]
    figures = [turn_result(session, index, t_us).figures for index in turns]
    perfs = [end.perf for end in ends if end.perf is not None]
    counters = [perf for perf in perfs if perf.draft_tokens]
    drafted = sum(each.draft_tokens or 0 for each in counters)
    accepted = sum(each.draft_accepted or 0 for each in counters)
    draft = Path(load.settings.draft_model or "")
    alone = pid is not None and len(session.loads) == 1
    return Observed(
        facts=facts,
        settings=load.settings,
        decode_tokens_per_s=_rate([each for each in figures if each.limited_by not in DISTURBED and not each.paused_s]),
        throttled_tokens_per_s=_rate([each for each in figures if each.limited_by == "throttled"]),
        longest_context=max((end.context_used or 0 for end in ends), default=0) or None,
        prompt_tokens=sum(perf.prefill_tokens for perf in perfs),
        prompt_s=sum(perf.prefill_ms for perf in perfs) / MS_PER_S,
        decode_s=sum(perf.decode_ms for perf in perfs) / MS_PER_S,
        drafted=drafted,
        accepted=accepted,
        steps=max(0, sum(each.decode_tokens for each in counters) - accepted),
        draft_bytes=draft.stat().st_size if load.settings.draft_model and draft.is_file() else 0,
        swapped_bytes=0 if pid is None else _swapped_bytes(host, pid),
        reread_bytes=0 if pid is None or not alone else _reread_bytes(host, pid, facts.size_bytes),
        others_load=_others_load(host, pid),
    )


def _rate(turns: Sequence[TurnFigures]) -> float | None:
    """Over all of these turns, where they have tokens enough."""
    known = [(turn.generated_tokens, turn.decode_tokens_per_s) for turn in turns if turn.decode_tokens_per_s]
    tokens, took_s = sum(count for count, _ in known), sum(count / rate for count, rate in known if rate)
    return tokens / took_s if tokens >= TOKENS_LEAST and took_s > 0 else None


def words_of(finding: Finding) -> tuple[str, str, str]:
    """What was seen; the change with its effect; how to prove it, or nothing."""
    ratios = ((finding.rate, finding.speed), (finding.rate.replace("tok/s", "J/token"), finding.joules))
    effects = [f"{name} x{with_interval(ratio)}" for name, ratio in ratios if ratio is not None]
    effects += [f"frees {format_bytes_short(finding.saves_bytes)}"] if finding.saves_bytes else []
    change = f"-> {finding.change}" + (f": {', '.join(effects)}" if effects else "")
    return one_line(finding.what), change, f"proved by: {finding.prove}, before and after" if finding.prove else ""


NOTHING_KNOWN: Final = "no change is known that was measured or computed to bring more"


def advise(observed: Observed, place: RunTarget, prove: str) -> list[Finding]:
    """What to change, what brings most first. Nothing is read or measured here."""
    found = [
        finding
        for rule in (
            _threads,
            _batch,
            _prompt_cache,
            _kv_type,
            _context,
            _flash_attention,
            _draft,
            _throttling,
            _swap,
            _disk,
        )
        for finding in rule(observed, place)
    ]
    if observed.others_load > place.threads * CONTENDED:
        # What it counted then says little of what it could do, and a prediction for an idle machine nothing at all.
        what = f"Others keep this machine busy (load {observed.others_load:.0f} on {place.threads} cores)"
        found = [
            replace(each, speed=None, joules=None) if each.name in _FOR_IDLE else each
            for each in found
            if each.name not in _FOR_IDLE or each.speed is None or each.saves_bytes
        ]
        found.append(
            Finding(name="contention", what=what, change="ask again when they have ended: no rate holds until then")
        )
    ranked = sorted(found, key=lambda each: (-(each.speed.value if each.speed else 1.0), -(each.saves_bytes or 0)))
    # What a batch brings only a prompt shows that fills it.
    long = prove.replace("-p 128 ", f"-p {N_UBATCH_DEFAULT} ")
    return [replace(each, prove=long if each.name == "batch" else prove) for each in ranked]


def _assessed(observed: Observed, place: RunTarget, **changed: object) -> Assessment:
    context = max(1, observed.longest_context or observed.settings.n_ctx or 512)
    workload = Workload(prompt_tokens=max(1, context - 64), answer_tokens=64)
    return assess(observed.facts, replace(observed.settings, **changed), workload, place)


def _faster(
    name: str, what: str, change: str, speed: Interval, *, saves_bytes: int | None = None, rate: str = "tok/s"
) -> Finding:
    return Finding(
        name=name,
        what=what,
        change=change,
        rate=rate,
        speed=speed,
        joules=banded(1 / speed.value, (sigma_of(speed) ** 2 + RATIO_SIGMA**2) ** 0.5),
        saves_bytes=saves_bytes,
    )


def _threads(observed: Observed, place: RunTarget) -> Iterator[Finding]:
    """More threads than cores wait for each other at every step; fewer leave bandwidth unused."""
    chosen, now = observed.settings.n_threads, observed.decode_tokens_per_s
    if chosen is None or now is None:
        return
    predicted = {
        count: rate
        for count in range(1, place.threads + 1)
        if (rate := _assessed(observed, place, n_threads=count).decode) is not None
    }
    if not predicted:
        return
    best = max(predicted, key=lambda count: predicted[count].value)
    rate = predicted[best]
    if best != chosen and rate.low > now * (1 + WORTH):
        yield _faster(
            "threads",
            f"It decodes with {chosen} threads, {now:.3g} tok/s in the mean; this machine has {place.threads} cores",
            f"-t {best}",
            banded(rate.value / now, sigma_of(rate)),
        )


def _batch(observed: Observed, place: RunTarget) -> Iterator[Finding]:
    """Each batch of a prompt reads all weights once; of fewer tokens than the default more of them are needed."""
    settings, longest = observed.settings, observed.longest_context or 0
    batch = micro_batch(settings, settings.n_ctx or longest or N_BATCH_DEFAULT)
    if batch >= N_UBATCH_DEFAULT or longest < 2 * batch or observed.prompt_tokens < TOKENS_LEAST:
        return
    predicted = _assessed(observed, place, n_batch=None, n_ubatch=None).speed
    rate = None if isinstance(predicted, Unavailable) else predicted.prefill_tokens_per_s
    now = observed.prompt_tokens / observed.prompt_s if observed.prompt_s > 0 else None
    if now is not None and rate is not None and rate.low > now * (1 + WORTH):
        yield _faster(
            "batch",
            f"It reads prompts {batch} tokens at a time, {now:.3g} tok/s in the mean",
            f"-b {N_BATCH_DEFAULT} -ub {N_UBATCH_DEFAULT}",
            banded(rate.value / now, sigma_of(rate)),
            rate="prompt tok/s",
        )


def _prompt_cache(observed: Observed, _place: RunTarget) -> Iterator[Finding]:
    """What a prompt has in common with one before it need not be read again.

    A server that keeps no prompt cannot tell how much that is: something between nothing and all, and so is the band.
    """
    if observed.keeps_prompts or observed.prompt_tokens < TOKENS_LEAST or observed.decode_s <= 0:
        return
    most = 1 + observed.prompt_s / observed.decode_s
    if most > 1 + 2 * WORTH:
        yield _faster(
            "prompt cache",
            f"It keeps no prompt: {observed.prompt_tokens} tokens were read in {format_seconds(observed.prompt_s)}, "
            f"{1 - 1 / most:.0%} of the time that its answers took",
            "leave --no-cache-prompt out",
            banded(most**0.5, log(most) / 2 / REACH),
            rate="tok/s with the prompt",
        )


def _kv_type(observed: Observed, place: RunTarget) -> Iterator[Finding]:
    settings = observed.settings
    if (settings.type_k or KV_TYPE, settings.type_v or KV_TYPE) != (KV_TYPE, KV_TYPE):
        return
    before, after = (_assessed(observed, place, type_k=kind, type_v=kind) for kind in ("f16", "q8_0"))
    saves = _saved_bytes(before, after)
    if saves is not None and saves >= SAVES_LEAST_BYTES and before.decode is not None and after.decode is not None:
        yield _faster(
            "KV type",
            "Keys and values are f16",
            "-ctk q8_0 -ctv q8_0",
            banded(after.decode.value / before.decode.value, RATIO_SIGMA),
            saves_bytes=saves,
        )


def _context(observed: Observed, place: RunTarget) -> Iterator[Finding]:
    n_ctx, longest = observed.settings.n_ctx, observed.longest_context
    if not n_ctx or not longest:
        return
    enough = max(512, 1 << (2 * longest - 1).bit_length()) * observed.slots
    if enough * 2 > n_ctx:
        return
    saves = _saved_bytes(_assessed(observed, place), _assessed(observed, place, n_ctx=enough))
    if saves is not None and saves >= SAVES_LEAST_BYTES:
        each = f" by one of its {observed.slots} slots" if observed.slots > 1 else ""
        what = f"Its context holds {n_ctx} tokens, and {longest} is the most that was ever used{each}"
        yield Finding(name="context", what=what, change=f"-c {enough}", saves_bytes=saves)


def _flash_attention(observed: Observed, place: RunTarget) -> Iterator[Finding]:
    if observed.settings.flash_attention != "off":
        return
    saves = _saved_bytes(_assessed(observed, place), _assessed(observed, place, flash_attention="on"))
    if saves is not None and saves >= SAVES_LEAST_BYTES:
        yield Finding(name="flash attention", what=FLASH_OFF, change="-fa on", saves_bytes=saves)


def _draft(observed: Observed, _place: RunTarget) -> Iterator[Finding]:
    """A step reads the model once and the draft model once for each token it proposes; reading is what takes time."""
    weights = observed.facts.weight_bytes_per_token
    if not observed.steps or not observed.draft_bytes or not weights:
        return
    accepted, proposed = observed.accepted / observed.steps, observed.drafted / observed.steps
    gain = (1 + accepted) / (1 + proposed * observed.draft_bytes / weights)
    if gain < 1 - WORTH:
        yield _faster(
            "draft model",
            f"Of {proposed:.1f} proposed tokens a step {accepted:.1f} are accepted, which costs more than it brings",
            "leave -md out",
            banded(1 / gain, 2 * RATIO_SIGMA),
        )


def _swap(observed: Observed, _place: RunTarget) -> Iterator[Finding]:
    if observed.swapped_bytes >= SAVES_LEAST_BYTES:
        yield Finding(
            name="swap",
            what=f"{observed.swapped_bytes / 2**20:.0f} MiB of it are in swap, and are read from there when used",
            change="a smaller -c, or -ctk q8_0 -ctv q8_0",
            saves_bytes=observed.swapped_bytes,
        )


def _throttling(observed: Observed, _place: RunTarget) -> Iterator[Finding]:
    cool, hot = observed.decode_tokens_per_s, observed.throttled_tokens_per_s
    if cool is not None and hot is not None and cool > hot * (1 + WORTH):
        yield Finding(
            name="throttling",
            what=f"While the device throttled it decoded {hot:.3g} tok/s, else {cool:.3g}",
            change="cool it better, or hold its clock lower (edgetop bench --cpu-clock says what that takes)",
            speed=banded(cool / hot, RATIO_SIGMA),
        )


def _disk(observed: Observed, place: RunTarget) -> Iterator[Finding]:
    """Weights that do not stay in memory are read again, as fast as the disk is."""
    if observed.reread_bytes < max(SAVES_LEAST_BYTES, observed.facts.size_bytes * REREAD_SHARE):
        return
    what = f"It read {format_bytes_short(observed.reread_bytes)} from the disk beyond the model's own size"
    change = "a smaller model or context, so that its weights stay in memory"
    now, rate = observed.decode_tokens_per_s, _assessed(observed, place).decode
    if now is not None and rate is not None and rate.low > now * (1 + WORTH):
        yield _faster("disk", what, change, banded(rate.value / now, sigma_of(rate)))
    else:
        yield Finding(name="disk", what=what, change=change)


def _saved_bytes(before: Assessment, after: Assessment) -> int | None:
    if isinstance(before.need, Unavailable) or isinstance(after.need, Unavailable):
        return None
    return before.need.total_bytes - after.need.total_bytes


def _settings(process: ModelProcess, host: Host) -> EngineSettings:
    """As far as its command line and environment tell."""
    flag_texts = {name: process.setting(host, flags, variable) for name, (flags, variable) in _FLAGS.items()}
    settings = EngineSettings()
    for name, text in flag_texts.items():
        if not text:
            continue
        if name.startswith("n_"):
            if text.isascii() and text.isdecimal() and int(text[:9]) > 0:
                settings = replace(settings, **{name: int(text[:9])})
        elif name == "flash_attention":
            on = _SWITCHES.get(text)
            settings = replace(settings, flash_attention="auto" if on is None else "on" if on else "off")
        elif name == "draft_model" or text in get_args(KvType):
            settings = replace(settings, **{name: text})
    return settings


def _file_of(host: Host, pid: int, name: str) -> Path:
    """The file that a process means: in the folder where it was started, or in its container."""
    seen = host.path(f"/proc/{pid}/{'root' if name.startswith('/') else 'cwd'}") / name.lstrip("/")
    return seen if os.path.isfile(seen) else Path(name)  # noqa: PTH113 - is_file raises where nothing may be seen


def _shares_context(process: ModelProcess, host: Host) -> bool:
    """Whether all slots have one context together, as they have where their number is left to llama-server."""
    if process.has_flag(host, ("-kvu", "--kv-unified")):
        return True
    if process.has_flag(host, ("-no-kvu", "--no-kv-unified")):
        return False
    told = _SWITCHES.get(process.setting(host, (), "LLAMA_ARG_KV_UNIFIED") or "")
    return not process.setting(host, ("-np", "--parallel"), "LLAMA_ARG_N_PARALLEL") if told is None else told


def _swapped_bytes(host: Host, pid: int) -> int:
    try:
        lines = host.path(f"/proc/{pid}/status").read_text("utf-8", "replace").splitlines()
    except OSError:
        return 0
    fields = next((line.split() for line in lines if line.startswith("VmSwap:")), [])
    return int(fields[1]) * 1024 if len(fields) > 1 and fields[1].isdecimal() else 0


def _reread_bytes(host: Host, pid: int, size_bytes: int) -> int:
    """What a process read from a disk beyond a file's size; 0 where that is not shown."""
    try:
        lines = host.path(f"/proc/{pid}/io").read_text("ascii", "replace").splitlines()
    except OSError:
        return 0
    words = next((line.split() for line in lines if line.startswith("read_bytes:")), [])
    return max(0, int(words[1]) - size_bytes) if len(words) > 1 and words[1].isdecimal() else 0


def _others_load(host: Host, pid: int | None) -> float:
    """Processes of others that want a processor: the load of the last minute, but no more than want one now.

    What the server itself did is in the load of the last minute for as long, and more threads than cores make it high.
    """
    waiting = []
    for _ in range(LOOKS):
        try:
            minute, _, _, now, *_ = host.path("/proc/loadavg").read_text("ascii").split()
            load, running = float(minute), int(now.partition("/")[0])
        except (OSError, ValueError):
            return 0.0
        # This very thread wants one, too.
        waiting.append(min(load, float(max(0, running - 1 - (0 if pid is None else _running_threads(host, pid))))))
        time.sleep(LOOKS_APART_S)
    return median(waiting)


def _running_threads(host: Host, pid: int) -> int:
    running = 0
    for stat in host.path(f"/proc/{pid}/task").glob("*/stat"):
        with suppress(OSError):
            running += stat.read_text("ascii", "replace").rpartition(")")[2].split()[:1] == ["R"]
    return running

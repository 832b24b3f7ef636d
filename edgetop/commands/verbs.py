"""Every verb: help, options, arguments; light, for `--help`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from edgetop.settings.option import (
    OneOf,
    Option,
    Section,
    age,
    byte_count,
    clock_limits_hz,
    fan_share,
    integer,
    listen_address,
    name_of_mode,
    parse_value,
    real,
    token_count,
)
from edgetop.settings.options import (
    ANSWER_TOKENS,
    BATTERY_WH,
    BENCH_AXES,
    CTX,
    CURRENCY,
    DELAY,
    ENGINE,
    FILE_AXES,
    PRICE_PER_KWH,
    REQUESTS_PER_HOUR,
    SERVER,
    SERVER_KEY_FILE,
    SERVER_KIND,
    SERVER_TIMEOUT,
    SYNC_PULSE,
    TEXT,
    THREADS,
)

T = TypeVar("T")

LONGEST_WATCH_S = 366 * 86_400.0


def _reads(parse: Callable[[str], T], flag: str) -> Callable[[str], T]:
    """As `type` of an argument: reads its value, and raises UsageError, which argparse lets through."""
    return lambda text: parse_value(flag, text.strip(), parse)


def _several(parse: Callable[[str], T]) -> Callable[[str], tuple[T, ...]]:
    """Values with commas between."""
    return lambda text: tuple(parse(word.strip()) for word in text.split(","))


def _as_said(parse: Callable[[str], object]) -> Callable[[str], str]:
    """The text itself, if it can be read."""

    def read(text: str) -> str:
        parse(text)
        return text

    return read


def token_count_or_none(text: str) -> int:
    """A number of tokens, 0 for none."""
    return 0 if text == "0" else token_count(text)


def duration(text: str) -> float:
    """A time in seconds from what a person writes, such as `90s`, `30m` or `2h`."""
    per_unit = {"s": 1.0, "m": 60.0, "h": 3600.0}.get(text[-1:])
    try:
        found = real(0.1, 86_400)(text[:-1]) if per_unit is None else real(0.1 / per_unit, 86_400 / per_unit)(text[:-1])
    except ValueError:
        per_unit = None
    if per_unit is None:
        raise ValueError("a time up to a day, such as 90s, 30m or 2h")
    return found * per_unit


def token_pairs(text: str) -> tuple[tuple[int, int], ...]:
    """One pair of numbers of tokens."""
    n_prompt, comma, n_gen = text.partition(",")
    if not comma:
        raise ValueError("two numbers, such as 512,128")
    return ((token_count(n_prompt), token_count(n_gen)),)


TOTALS_BY = ("model", "month", "host", "scope")
"""By what `sessions totals` puts sessions together, of `edgetop.session.store`."""


def _groups(text: str) -> tuple[str, ...]:
    """Names of `TOTALS_BY`, each once."""
    names = tuple(dict.fromkeys(word.strip() for word in text.split(",")))
    if not set(names) <= set(TOTALS_BY):
        raise ValueError(f"some of {', '.join(TOTALS_BY)}, with commas between")
    return names


# fmt: off

def _add_device_axes(several: Callable[..., None]) -> None:
    """What the device is set to for each setting, and where the model's file is before a load."""
    several("--power-mode", parse=name_of_mode, metavar="MODE,...",
            help="set these power modes (nvpmodel, platform_profile), +jetson_clocks behind one for its highest clocks")
    several("--governor", parse=name_of_mode, metavar="NAME,...", help="set these CPU frequency governors")
    several("--cpu-clock", parse=_as_said(clock_limits_hz), metavar="CLOCK,...",
            help="limit the CPU's clock, such as 1.5GHz, or 600MHz-1.5GHz")
    several("--fan", parse=_as_said(fan_share), metavar="PERCENT,...", help="let the fan run so, such as 0%%,100%%")
    several("--memory-clock", parse=_as_said(clock_limits_hz), metavar="CLOCK,...", help="hold the memory's clock so")
    several("--page-cache", parse=OneOf("cold", "warm"), metavar="cold,warm",
            help="load the model with its file out of the page cache or in it: what a load takes, the medium's rate")


def add_bench(parser: argparse.ArgumentParser) -> None:
    """The arguments of `edgetop bench`; those of a `BenchRequest` are named after its fields."""
    add = parser.add_argument

    def several(*flags: str, parse: Callable[[str], object], **more: Any) -> None:  # noqa: ANN401 - as argparse has them
        add(*flags, type=_reads(_several(parse), flags[0]), action="append", **more)

    def one(*flags: str, parse: Callable[[str], object], **more: Any) -> None:  # noqa: ANN401 - the same
        add(*flags, type=_reads(parse, flags[0]), **more)

    add("-m", "--model", dest="models", type=lambda text: (text,), action="append", metavar="MODEL",
        help="a model; may be given several times")
    several("--quant", parse=str.upper, metavar="LEVEL,...",
            help="make these levels of each model, such as Q8_0,Q4_K_M,Q2_K; none is the model as it is")
    several("-p", "--n-prompt", parse=token_count_or_none, metavar="N,...",
            help="tokens of a prompt, 0 for no such test (default: 512)")
    several("-n", "--n-gen", parse=token_count_or_none, metavar="N,...",
            help="tokens of a reply, 0 for no such test (default: 128)")
    add("--pg", dest="pairs", type=_reads(token_pairs, "--pg"), action="append", metavar="N,N",
        help="a prompt and a reply in one test")
    several("-d", "--n-depth", parse=token_count_or_none, metavar="N,...",
            help="tokens in the context before the test (default: 0)")
    one("-r", "--repetitions", parse=integer(1, 10_000), metavar="N", help="repetitions of each test (default: 5)")
    one("--until", dest="until_percent", parse=lambda text: real(0.1, 100)(text.removesuffix("%")), metavar="PERCENT",
        help="repeat until half the 95 %% interval of decode tok/s is at most this much of the mean, such as 3%%")
    add("--for", dest="until_of", choices=["speed", "energy"],
        help="the figure that --until is about: tok/s, or J/token (default: speed)")
    one("--until-limit", parse=integer(2, 10_000), metavar="N", help="repetitions with --until at most (default: 30)")
    one("--soak", dest="soak_s", parse=duration, metavar="TIME",
        help="do the tests over and over for so long, such as 30m: what the device keeps up once it is warm")
    several("--concurrency", parse=integer(1, 256), metavar="N,...",
            help="with --server: so many clients at once, such as 1,2,4,8: throughput, percentiles of first token and "
            "gaps, J/token of each, and the knee (-p 128 and -n 64 unless given, -r requests of each client)")
    for option in BENCH_AXES:
        flags = ("-t", *option.flags) if option is THREADS else option.flags
        metavar = option.metavar if option in FILE_AXES else f"{option.metavar},..."
        add(*flags, dest=option.name, metavar=metavar, help=option.help, action="append", default=[])
    _add_device_axes(several)
    add("--prompt", type=lambda text: (text,), action="append", metavar="TEXT",
        help="ask this of every model in turn, in place of -p and -n; given several times, turns of one conversation")
    add("--prompts", action="store_true", default=None,
        help="real prompts, too: short, long, summary, code, several turns")
    one("--max-tokens", parse=integer(1, 2**20), metavar="N", help="at most so many tokens of an answer to a prompt")
    add("--quality", nargs="?", const=True, metavar="FILE",
        help="perplexity, divergence from the most precise level and questions; on a text of your own if you name one")
    add("--questions", metavar="FILE",
        help="questions of your own in JSON Lines: question (or prompt), choices, answer; instead of the built-in ones")
    add("--question-columns", metavar="NAME=COLUMN,...",
        help="what FILE calls them, such as prompt=ctx,choices=endings")
    add("--question-template", action="store_true", default=None, help="ask questions in the model's chat template")
    one("--shots", parse=integer(0, 64), metavar="N",
        help="so many of the first questions stand answered before each of the others (default: 0)")
    add("--study", action="store_true", help="levels, threads, prompts and quality: the whole study, in one command")
    add("--plan", metavar="FILE", help="a TOML file with these settings; flags override it")
    add("--order", choices=["interleaved", "blocks"], help="settings take turns (interleaved), or one after the other")
    add("--no-warmup", dest="warmup", action="store_false", default=None, help="do not warm up before a test")
    one("--idle", dest="idle_s", parse=real(0, 3600), metavar="SECONDS",
        help="idle time before a run where power is measured (default: 11)")
    one("--cool-down-limit", dest="cool_down_limit_s", parse=real(0, 86400), metavar="SECONDS",
        help="longest wait for the device to cool down (default: 120)")
    one("--seed", parse=integer(0, 2**32 - 1), metavar="N", help="seed of random tokens (default: 0)")
    add("-o", "--output", dest="output_format", default="table",
        choices=["table", "md", "csv", "json", "jsonl", "sql", "paper", "latex"],
        help="form of the results: llama-bench's field names, ours behind them; or a results section, or its table")
    add("--json", dest="output_format", action="store_const", const="json", help="the same as -o json")
    add("--report", metavar="FILE", help="write an HTML report as well")
    one("--device-price", parse=real(0, 1e9), metavar="AMOUNT",
        help="what the device costs, for the cost of a million tokens with --price")
    one("--device-years", parse=real(0.01, 100), metavar="N", help="how long it will be used (default: 4)")
    add("--resume", nargs="?", const="last", metavar="ID", help="continue an interrupted benchmark")
    add("--archive", metavar="FILE",
        help="write plan, sessions, environment, tables and digests into a zip file that --rerun takes")
    add("--rerun", metavar="FILE", help="measure here what an archive says, and hold it against the archive")
    for flag, words in (
        ("--again", "measure everything again, even if it was begun before"),
        ("--list", "benchmarks that were begun"),
        ("--dry-run", "print how long it would take, and measure nothing"),
    ):
        add(flag, action="store_true", help=words)


SCOPES = ("wall", "dc_in", "board_input", "module", "battery", "cpu_package", "gpu_board", "component")
"""What a meter of one's own may cover, of `edgetop.core.sources.Scope`."""

_SESSION_HELP = "a file, a number of the list, the beginning of an id, a tag, or part of a model's name"
_SESSIONS_HELP = f"{_SESSION_HELP}; also a tag of several, a range such as 1-4, a folder, or a pattern such as '*q4*'"


def _add_prompts(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("-p", "--prompt", dest="prompts", type=lambda text: ("text", text), action="append", default=[],
        metavar="TEXT",
        help="ask this without a screen; may be given several times, each one being a turn of one conversation")
    add("-f", "--file", dest="prompts", type=lambda text: ("file", text), action="append", default=[],
        metavar="FILE",
        help="ask what a file says, without a screen")


def _add_chat(parser: argparse.ArgumentParser) -> None:
    _add_prompts(parser)
    parser.add_argument("--continue", dest="resume_from", nargs="?", const="", metavar="SESSION",
                        help=f"go on with the conversation of a recorded session, by default the last one; "
                        f"{_SESSION_HELP}")


def _add_run(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    _add_prompts(parser)
    add("text", nargs="*", metavar="TEXT",
        help="ask this, as -p does; - is what standard input says, alone or beside a text")
    add("--idle", type=_reads(real(0, 3600), "--idle"), default=0.0, metavar="SECONDS",
        help="first leave the device idle, without the model and with it, to measure its idle power (default: 0)")
    _add_json(parser)


def _add_sessions(parser: argparse.ArgumentParser) -> None:
    _add_formats(parser, dest="list_format")
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    listing = actions.add_parser("list", help="all sessions, the newest first; also without a word", allow_abbrev=False)
    listing.add_argument("words", nargs="*", metavar="WORD",
                         help="only sessions that have all of these words in their tags, model, quantization or device")
    _add_formats(listing)
    show = actions.add_parser("show", help="one session and its figures", allow_abbrev=False)
    show.add_argument("session", metavar="SESSION", nargs="?", default="1", help=_SESSION_HELP)
    _add_json(show)
    for option in (REQUESTS_PER_HOUR, ANSWER_TOKENS, BATTERY_WH):
        given: dict[str, Any] = {"dest": f"option_{option.name}", "default": argparse.SUPPRESS}
        show.add_argument(*option.flags, metavar=option.metavar, help=option.help, **given)
    _add_totals(actions.add_parser("totals", help="tokens, hours, energy and cost of all sessions", allow_abbrev=False))
    check = actions.add_parser("validate", help="whether session files are what they should be", allow_abbrev=False)
    check.add_argument("session", metavar="SESSION", nargs="+", help=_SESSIONS_HELP)
    _add_json(check)
    tag = actions.add_parser("tag", help="add tags to a session, or take some away", allow_abbrev=False)
    _add_json(tag)
    tag.add_argument("session", metavar="SESSION", help=_SESSIONS_HELP)
    tag.add_argument("changes", nargs=argparse.REMAINDER, metavar="+NAME|-NAME",
                     help="tags to add and to take away; none shows them")
    note = actions.add_parser("note", help="show or replace a session's note", allow_abbrev=False)
    _add_json(note)
    note.add_argument("session", metavar="SESSION", help=_SESSION_HELP)
    note.add_argument("text", nargs=argparse.REMAINDER, metavar="TEXT",
                      help="the new note; without it the present one is shown")
    export = actions.add_parser("export",
                                help="a session as tables of turns, samples and tokens, or as JSON", allow_abbrev=False)
    export.add_argument("session", metavar="SESSION", help=_SESSION_HELP)
    export.add_argument("--to", choices=["csv", "parquet", "json", "html"], default="csv", help="format (default: csv)")
    export.add_argument("-o", "--output", metavar="FOLDER|FILE",
                        help="where to: a folder for tables; named after the session otherwise")
    bench = actions.add_parser("import", allow_abbrev=False,
                               help="keep results of llama-bench or `ollama run --verbose`, to compare with")
    bench.add_argument("files", metavar="FILE", nargs="+", help="what they printed or wrote")
    _add_json(bench)
    removal = actions.add_parser("rm", help="delete sessions, after asking", allow_abbrev=False)
    removal.add_argument("session", metavar="SESSION", nargs="+", help=_SESSIONS_HELP)
    removal.add_argument("-y", "--yes", action="store_true", help="do not ask")
    _add_json(removal)
    recompute = actions.add_parser("recompute",
                                   help="all figures of a session again, from what was recorded", allow_abbrev=False)
    recompute.add_argument("session", metavar="SESSION", help=_SESSION_HELP)
    recompute.add_argument("--power", metavar="NAME",
                           help="go by this power source of the session; `none`, or `auto` for edgetop's choice")
    recompute.add_argument("--dry-run", action="store_true", help="say what would change, and leave the file as it is")
    _add_json(recompute)
    attach = actions.add_parser(
        "attach-power", help="join the log of a meter on another computer to a session", allow_abbrev=False
    )
    attach.add_argument("log", metavar="FILE", help="CSV of Joulescope, Otii, PPK2, a USB meter or any other")
    attach.add_argument("session", metavar="SESSION", nargs="?", default="1", help=_SESSION_HELP)
    attach.add_argument("--time-column", metavar="NAME", help="heading or number of the column of the time")
    attach.add_argument("--column", metavar="NAME", help="heading or number of the column of power, current or energy")
    attach.add_argument("--unit", metavar="W", help="its unit: W, mW, A, mA, J, Wh ... (default: from the heading)")
    attach.add_argument("--voltage", metavar="V", help="of a log of current alone")
    attach.add_argument("--scope", choices=SCOPES, help="what the meter covers (default: board_input)")
    attach.add_argument("--meter-gain", metavar="PERCENT", help="largest error of the meter's scale (default: 15)")
    _add_json(attach)
    _add_prune(actions.add_parser("prune", help="delete old sessions; by itself only say which", allow_abbrev=False))
    _add_json(
        actions.add_parser("recover", help="save sessions that a crashed edgetop left behind", allow_abbrev=False)
    )


def _add_prune(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--keep", type=_reads(age, "--keep"), metavar="AGE", help="delete what is older, such as 30d, 12h or 8w")
    add("--max", type=_reads(byte_count, "--max"), metavar="SIZE",
        help="delete the oldest until all sessions together take no more, such as 2G; a tag keeps a session")
    add("-y", "--yes", action="store_true", help="do it, and do not only say what would be deleted")
    _add_json(parser)


def _add_totals(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("session", metavar="SESSION", nargs="*", help=f"only these: {_SESSIONS_HELP}")
    add("--by", type=_reads(_groups, "--by"), default=(), metavar="NAME,...",
        help=f"a row for each {', '.join(TOTALS_BY)}; several with commas between")
    for option in (PRICE_PER_KWH, CURRENCY):
        given: dict[str, Any] = {"dest": f"option_{option.name}", "default": argparse.SUPPRESS}
        add(*option.flags, metavar=option.metavar, help=option.help, **given)
    _add_formats(parser)


def _add_check(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("models", nargs="*", metavar="MODEL",
        help="a GGUF file, a name from `edgetop models`, hf:owner/repo[:quant] or https://...; nothing is downloaded "
        "but the header; without MODEL: the models here and good ones to download, best first")
    add("--for", dest="purpose", choices=("chat", "speed", "energy"), default="chat",
        help="without MODEL: what the best is to be best for (default: chat)")
    add("--ctx", "-c", "--ctx-size", metavar="TOKENS,...",
        help="one or several contexts of a conversation, such as 2k,8k,32k")
    add("--device", metavar="NAME", help="on another device, such as pi5 or pi5:8gb; `list` names them")
    add("--memory", metavar="SIZE", help="with so much memory, such as 8G")
    add("--power-mode", metavar="NAME", help="of that device")
    add("-np", "--parallel", "--slots", dest="slots", default="1", metavar="N",
        help="conversations served side by side (default: 1)")
    add("--mtp", action="store_true", help="with the model's own layer for further tokens proposing them")
    add("--mmproj", metavar="FILE", help="the vision or audio part that is loaded beside the model")
    add("--prompt-tokens", metavar="N", help="length of a prompt (default: 512)")
    add("--min-speed", metavar="X", help="exit with 5 if decoding is slower than X tokens per second")
    add("--exact", action="store_true", help="let llama.cpp itself say what it would allocate")
    probe = parser.add_mutually_exclusive_group()
    probe.add_argument("--force-probe", action="store_true", help="measure the memory bandwidth anew")
    probe.add_argument("--no-probe", action="store_true", help="do not measure the memory bandwidth")
    add("--history", action="store_true", help="how good the predictions have been on this machine")
    add("--screen", action="store_true", help="open a table to sort and to look through")
    _add_formats(parser)


def _add_power(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--stream", action="store_true",
        help="print readings continuously, for --power-stream of another edgetop: a header, then readings")
    add("--interval", type=_reads(real(0.02, 60), "--interval"), metavar="SECONDS",
        help="between the readings of a stream (default: that of the sensor)")
    _add_json(parser)


def _add_measure(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("command", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="the command and its arguments")
    add("--idle", type=_reads(real(0, 3600), "--idle"), default=0.0, metavar="SECONDS",
        help="leave the device idle before and after, for the energy above idle (default: 0)")
    add("--tokens", type=_reads(integer(0, 2**31 - 1), "--tokens"), default=0, metavar="N",
        help="how many tokens the command generates, for its energy per token")
    add("--json", action="store_true", help="print JSON; what the command prints goes to stderr")


def _add_serve(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--listen", type=_reads(listen_address, "--listen"), default=("127.0.0.1", 8000), metavar="ADDRESS",
        help="address to listen on (default: 127.0.0.1:8000); a port of 0 takes a free one")
    add("command", nargs=argparse.REMAINDER, metavar="-- ARGUMENTS",
        help="what edgetop is started with for each visitor, such as -- -m phi3-q4.gguf, or -- watch")


def _add_calibrate(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--point", dest="points", action="append", default=[], metavar="SENSOR_W:METER_W",
        help="what the sensor, uncorrected, and the meter showed at one load; two or more calibrate without asking")
    add("--seconds", type=_reads(real(0.1, 3600), "--seconds"), default=10.0, metavar="N",
        help="time to read the sensor at each load (default: 10)")
    add("--meter-gain", type=_reads(real(0, 50), "--meter-gain"), default=1.0, metavar="PERCENT",
        help="largest error of the meter (default: 1)")
    add("--meter-name", default="", metavar="NAME", help="the meter, as sessions are to name it")
    add("--show", action="store_true", help="print the calibrations of this machine")
    add("--remove", action="store_true", help="forget the calibration of a source")
    _add_json(parser)


def _add_report(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("results", metavar="SESSION", nargs="+", help=f"{_SESSION_HELP}; or a result of llama-bench or ollama")
    add("-o", "--output", metavar="FILE", help="where to write it, - for stdout (default: the working folder)")
    add("--force", action="store_true", help="replace a file that is there already")
    add("--interactive", action="store_true",
        help="plots that can be zoomed, drawn by plotly (edgetop[report]); the file is 5 MB then")


def _add_card(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("result", metavar="SESSION", nargs="?", default="1",
        help=f"{_SESSION_HELP}; or a result of llama-bench or ollama (default: the latest)")
    formats = parser.add_mutually_exclusive_group()
    for form, words in (("md", "Markdown"), ("svg", "a picture"), ("png", "a bitmap"), ("json", "JSON")):
        formats.add_argument(f"--{form}", dest="form", action="store_const", const=form, help=f"as {words}")
    add("-o", "--output", metavar="FILE", help="write it into this file, whose ending may say the form")
    add("--force", action="store_true", help="replace a file that is there already")


def _add_compare(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("results", metavar="SESSION", nargs="+",
        help=f"{_SESSION_HELP}; a file of llama-bench (JSON, JSONL, CSV) or what `ollama run --verbose` prints")
    add("--base", metavar="SESSION", help="what the others are compared with (default: the first one)")
    add("--fail-if", action="append", default=[], metavar="LIMIT",
        help="exit with 6 if a limit is crossed by more than noise, such as 'decode_tokens_per_s < -5%%' (of the "
        "base) or 'energy.j_per_token > 2'; may be given several times")
    add("--missing-ok", action="store_true", help="a limit on a figure that is not there does not fail")
    _add_formats(parser)


def _add_replay(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("sessions", metavar="SESSION", nargs="*", help=f"{_SESSIONS_HELP} (default: the latest)")
    add("--demo", action="store_true", help="play two of the examples that come with edgetop")
    add("--align", choices=["time", "turn", "token"],
        help="what the sessions have in common at the play head (default: turn; time for a single session)")
    add("--at", action="append", default=[], metavar="SECONDS",
        help="print the figures at this moment instead of opening the screen (with --align token, at so many tokens); "
        "may be given several times")
    add("--json", action="store_true", help="print snapshots as JSON instead of opening the screen")


def _add_tune(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", nargs="?", metavar="MODEL",
        help="a GGUF file or a name from `edgetop models` (default: the last one used)")
    add("--for", dest="goal", choices=["speed", "energy"], default="speed", help="what to optimize (default: speed)")
    add("-r", "--repetitions", type=_reads(integer(2, 100), "-r"), default=5, metavar="N",
        help="rounds of each question, at least 2 (default: 5)")
    add("--test", dest="test_s", type=_reads(real(0.1, 600), "--test"), metavar="SECONDS",
        help="length of a test (default: 2, for energy 6)")
    add("--dry-run", action="store_true", help="measure and print, but save nothing")
    add("--show", action="store_true", help="the models that were tuned on this machine")
    add("--remove", action="store_true", help="let the model have the usual settings again")
    _add_formats(parser)


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--template", action="store_true", help="print a configuration file with every setting in it")
    _add_json(parser)
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    change = actions.add_parser("set", help="write a value into the configuration file", allow_abbrev=False)
    change.add_argument("name", metavar="NAME", help="of the setting, such as ctx or screen.theme")
    change.add_argument("values", metavar="VALUE", nargs=argparse.REMAINDER, help="one; several where it takes several")
    removal = actions.add_parser("unset", help="take a setting out of the configuration file", allow_abbrev=False)
    removal.add_argument("name", metavar="NAME", help="of the setting")


def _add_completion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=["bash", "zsh", "fish"], help="bash, zsh or fish")


def _add_engine(parser: argparse.ArgumentParser) -> None:
    _add_json(parser, dest="show_json")
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    show = actions.add_parser("show", help="the engines that are there, and which is used; also without a word")
    _add_json(show)
    install = actions.add_parser("install", help="download the portable engine; needs no compiler", allow_abbrev=False)
    install.add_argument("--again", action="store_true", help="even if there is an engine that can be used")
    install.add_argument("--here", action="store_true", help="have it in this environment of Python, for every user")
    install.add_argument("--index", metavar="URL", help="an index with wheels of llama-cpp-python, or author")
    build = actions.add_parser("build", help="compile llama.cpp for this processor; takes minutes", allow_abbrev=False)
    backends = build.add_mutually_exclusive_group()
    backends.add_argument("--cuda", action="store_true", help="for NVIDIA GPUs, Jetsons among them; needs nvcc")
    backends.add_argument("--vulkan", action="store_true", help="for GPUs with a Vulkan driver; needs glslc")


def _add_nothing(parser: argparse.ArgumentParser) -> None:
    """Leave the parser as it is."""


class _OfServer(argparse.Action):
    """A file that belongs to the `--server` before it, or to the next one where none is before it."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,  # noqa: ARG002 - argparse calls it so
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,  # noqa: ARG002 - the same
    ) -> None:
        namespace.key_files = {**namespace.key_files, max(0, len(namespace.servers) - 1): values}


def _add_watch(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("hosts", nargs="*", metavar="HOST",
        help="watch these machines instead of this one, over your own SSH; those without edgetop need a shell only")
    add("--server-key-file", dest="key_files", action=_OfServer, default={}, metavar="FILE",
        help="file that holds the API key of the --server before it; neither recorded nor shown")
    add("--server", dest="servers", action="append", default=[], metavar="URL",
        help="watch this server too, such as http://127.0.0.1:8080; may be given several times; those of this machine "
        "are found without")
    add("--seconds", type=_reads(real(0, LONGEST_WATCH_S), "--seconds"), metavar="N",
        help="print a line a second instead of opening the screen, for so long")
    add("--probe", action="store_true",
        help="ask each server for 16 tokens once, which it computes: first token and decode speed, measured")
    add("--json", action="store_true", help="print a JSON object a second and a summary at the end")


def _add_proxy(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--server-key-file", dest="key_files", action=_OfServer, default={}, metavar="FILE",
        help="file that holds the API key with which the server is asked for its counters; requests keep their own")
    add("--server", dest="servers", action="append", default=[], metavar="URL",
        help="the server that requests are passed on to, such as http://127.0.0.1:8080 or Ollama's :11434")
    add("--listen", type=_reads(listen_address, "--listen"), default=("127.0.0.1", 8090), metavar="ADDRESS",
        help="address to listen on (default: 127.0.0.1:8090); a port of 0 takes a free one")
    add("--keep-text", action="store_true", help="record prompts and replies, too")
    add("--seconds", type=_reads(real(0, LONGEST_WATCH_S), "--seconds"), metavar="N",
        help="print a line a request instead of opening the screen, and end after so long")
    add("--json", action="store_true", help="print a JSON object a request and a summary at the end")


def _add_json(parser: argparse.ArgumentParser, dest: str = "json") -> None:
    parser.add_argument("--json", dest=dest, action="store_true", help="print JSON")


def _add_doctor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bundle", nargs="?", const="edgetop-bundle.txt", metavar="FILE",
                        help="show what an issue needs and write it into a file: versions, all of this, the files of "
                        "sensors that were read, the end of --log; no prompts, and nothing is sent")
    _add_json(parser)


def _add_formats(parser: argparse.ArgumentParser, dest: str = "format") -> None:
    formats = parser.add_mutually_exclusive_group()
    formats.add_argument("--json", dest=dest, action="store_const", const="json", help="print JSON")
    formats.add_argument("--csv", dest=dest, action="store_const", const="csv", help="print CSV")
    formats.add_argument("--md", dest=dest, action="store_const", const="md", help="print a Markdown table")


# fmt: on


class Verb(NamedTuple):
    """What a person can ask for. The module `edgetop.commands.<verb>` carries it out."""

    help: str
    sections: tuple[Section, ...]
    """Settings that the verb takes."""
    add_arguments: Callable[[argparse.ArgumentParser], None]
    """Gives a parser what is not a setting."""
    replaced: tuple[Option[object], ...] = ()
    """Settings of the sections whose flags mean nothing to this verb, or something more and are among the arguments."""
    more: tuple[Option[object], ...] = ()
    """Settings of other sections that it takes as well."""
    repairs: bool = False
    """It works with settings that cannot be read, and says which those are."""


_MODEL: tuple[Section, ...] = (
    "model", "search", "server", "engine", "sampling", "recording", "storage", "device", "price", "use", "progress",
    "general",
)  # fmt: skip

VERBS: dict[str, Verb] = {
    "chat": Verb(
        "the live screen: chat beside token rate, memory, power and energy", (*_MODEL, "screen", "alerts"), _add_chat
    ),
    "run": Verb("one or more prompts without a screen; the reply goes to stdout", (*_MODEL, "alerts"), _add_run),
    "models": Verb(
        "GGUF models found on this machine, or what a server offers", ("search", "server", "general"), _add_formats
    ),
    "doctor": Verb(
        "sensors, engine, terminal: what works, what doesn't, and how to fix it",
        (*_MODEL, "screen"),
        _add_doctor,
        repairs=True,
    ),
    "engine": Verb(
        "llama.cpp: which one is used, install the portable one, build one for this processor",
        ("general",),
        _add_engine,
    ),
    "power": Verb("what this machine draws now, by every power sensor", ("device", "general"), _add_power),
    "measure": Verb("the energy of a command, by the same sensors", ("device", "general"), _add_measure),
    "serve": Verb("the screens in a browser, behind a token (pip install 'edgetop[serve]')", ("general",), _add_serve),
    "calibrate": Verb("fit a power sensor of this machine to an external meter", ("device", "general"), _add_calibrate),
    "check": Verb(
        "will a model fit, how fast, at what energy; loads nothing",
        ("search", "engine", "storage", "screen", "device", "price", "use", "fit", "general"),
        _add_check,
        (CTX, DELAY),
    ),
    "bench": Verb(
        "repeatable measurement: speed, energy, memory and quality over models and settings",
        ("search", "server", "storage", "device", "price", "use", "fit", "progress", "general"),
        add_bench,
        more=(ENGINE, SYNC_PULSE),
    ),
    "tune": Verb(
        "find threads, cores, pieces of prefill, attention and KV cache type for a model here, for speed or for energy",
        ("search", "storage", "device", "progress", "general"),
        _add_tune,
        more=(ENGINE,),
    ),
    "watch": Verb(
        "this device and the model servers that run on it, without a model of its own",
        ("server", "recording", "storage", "screen", "device", "price", "alerts", "progress", "general"),
        _add_watch,
        (SERVER, SERVER_KIND, SERVER_KEY_FILE, SERVER_TIMEOUT, TEXT, SYNC_PULSE),
    ),
    "proxy": Verb(
        "stand before a model server: pass requests on unchanged; tokens, first token and J/token by client and model",
        ("server", "recording", "storage", "screen", "device", "price", "alerts", "progress", "general"),
        _add_proxy,
        (SERVER, SERVER_KIND, SERVER_KEY_FILE, SERVER_TIMEOUT, TEXT, SYNC_PULSE),
    ),
    "sessions": Verb(
        "recorded sessions: list, show, totals, tag, note, export, import, rm, prune, validate, recompute and others",
        ("storage", "general"),
        _add_sessions,
    ),
    "compare": Verb(
        "sessions and bench results against each other: differences, noise, and what is not alike",
        ("storage", "screen", "use", "general"),
        _add_compare,
        (DELAY,),
    ),
    "replay": Verb(
        "sessions played again, one or several side by side at one play head",
        ("storage", "screen", "price", "use", "general"),
        _add_replay,
    ),
    "report": Verb("sessions as one HTML file that opens offline", ("storage", "use", "general"), _add_report),
    "card": Verb(
        "a result with what it was measured on, as Markdown, SVG or PNG to be pasted; nothing is sent anywhere",
        ("storage", "use", "general"),
        _add_card,
    ),
    "config": Verb(
        "show settings and where each comes from; change the configuration file",
        ("general",),
        _add_config,
        repairs=True,
    ),
    "keys": Verb("every action of the screens, and its keys; [keys] of the configuration", ("general",), _add_json),
    "completion": Verb("a script that completes these command lines with Tab", ("general",), _add_completion),
    "man": Verb("the manual page: `edgetop man | man -l -`", ("general",), _add_nothing),
}

DEFAULT_VERB = "chat"

EXAMPLES: dict[str, tuple[str, ...]] = {
    "chat": ("-m phi3-q4.gguf --ctx 4k", "--server http://127.0.0.1:8080", "--continue", "-p 'What is a PMIC?'"),
    "run": (
        "-m llama3.2:1b 'Explain what a PMIC does.' -n 200",
        "-p 'Name a colour.' --temp 0 --json",
        "-f question.txt",
    ),
    "models": ("", "--json", "--server http://127.0.0.1:11434"),
    "doctor": ("", "--json"),
    "engine": ("", "install", "build"),
    "power": ("", "--stream"),
    "measure": ("-- make -j4",),
    "serve": ("", "-- -m phi3-q4.gguf", "--listen 0.0.0.0:8000 -- watch"),
    "calibrate": ("",),
    "check": ("phi3-q4.gguf", "phi3-q4.gguf --ctx 2k,8k --device pi5", "hf:Qwen/Qwen3-0.6B-GGUF:Q8_0", "--for energy"),
    "bench": (
        "-m phi3-q4.gguf",
        "-m a.gguf -m b.gguf --prompt 'What is a PMIC?'",
        "-m phi3-q4.gguf --quant Q8_0,Q4_K_M -t 2,4 --until 3%",
        "-m phi3-f16.gguf --study",
        "--server http://127.0.0.1:8080 --concurrency 1,2,4,8",
    ),
    "tune": ("phi3-q4.gguf", "phi3-q4.gguf --for energy", "--show"),
    "watch": ("", "pi1 pi2 jetson", "--server http://127.0.0.1:8080", "--seconds 60 --json"),
    "proxy": ("--server http://127.0.0.1:11434 --listen 127.0.0.1:11435",),
    "sessions": ("list q4 jetson", "tag 1 +baseline", "export 1 --to csv", "totals --by model,month"),
    "compare": ("1 2", "'*q4*' '*q8*'", "baseline today --fail-if 'decode_tokens_per_s < -5%'"),
    "replay": ("--demo", "1 2"),
    "report": ("1 2 -o report.html", "baseline --interactive"),
    "card": ("--svg -o card.svg", "baseline --md"),
    "config": ("", "set ctx 4k", "unset ctx"),
    "keys": ("", "--json"),
    "completion": ("bash", "fish"),
    "man": ("",),
}
"""What may be typed behind each verb, for its help."""

FIRST = {
    "chat": "the live screen: chat beside speed, memory, power, energy",
    "run": "one or more prompts without a screen",
    "check": "will a model fit, how fast, at what energy; loads nothing",
    "bench": "repeatable measurement of speed, energy, memory, quality",
    "tune": "find the threads and batches that suit this machine",
    "compare": "is the difference between results more than noise?",
    "replay": "recorded sessions played again, side by side",
    "report": "sessions as one HTML file that opens offline",
    "watch": "this machine and the model servers on it",
    "sessions": "what was recorded: list, show, totals, tag, export, rm ...",
    "models": "GGUF models found here, or what a server offers",
    "doctor": "sensors, engine, terminal: what works, what would help",
}
"""The verbs that the first help tells of, in a few words each; the others are named there."""

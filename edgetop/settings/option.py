"""What an option is; value parsers; sections.

Everything `edgetop --help` needs is imported here, so nothing heavier than `argparse` may be: msgspec alone would
double the time it takes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final, Generic, Literal, TypeVar, get_args

from edgetop.core.errors import UsageError
from edgetop.io.files import expanded

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Section = Literal[
    "model",
    "search",
    "server",
    "engine",
    "sampling",
    "recording",
    "storage",
    "screen",
    "device",
    "price",
    "use",
    "fit",
    "alerts",
    "progress",
    "general",
]

SECTIONS: Final[tuple[Section, ...]] = get_args(Section)
"""In the order in which they are shown; each is a table of the configuration file."""

KEY_VALUE = "KEY=VALUE"
CURRENCY_CHARACTERS = 8


class Option(Generic[T_co]):
    """One setting: a flag, a variable of the environment and a key of the configuration file with one meaning.

    The flag is the name, behind --no- for a switch that is on by default; the variable is EDGETOP_ and the name in
    capitals; the key is the name, in the table named after the section.
    """

    __slots__ = (
        "_flag", "_sets", "about", "also", "also_env", "default", "example", "flag_only", "help", "metavar", "name",
        "parse", "section", "short",
    )  # fmt: skip

    def __init__(
        self,
        section: Section,
        parse: Callable[[str], T_co],
        metavar: str = "",
        *,
        default: T_co = None,  # type: ignore[assignment]  # of Option[X | None]
        help: str,  # noqa: A002 - as argparse names it
        about: str = "",
        example: str = "",
        short: str = "",
        flag: str | None = None,
        also: tuple[str, ...] = (),
        also_env: str = "",
        flag_only: bool = False,
        sets: tuple[str, ...] | None = None,
    ) -> None:
        self.name = ""
        """Of its constant in the table, in small letters."""
        self.section: Section = section
        self.parse = parse
        """Reads one text. Raises ValueError with what was expected, such as `a number from 0 to 1`."""
        self.metavar = metavar
        """Empty for a switch: its flag takes no value and means `switched`."""
        self.default = default
        self.help = help
        self.about = about
        """Sentences beyond `help` for the manual: when to use it, and what to know about it."""
        self.example = example
        """A text that its parser reads, for the manual, where there is no default to show one."""
        self.short = short
        """A flag of one or two letters, such as -n."""
        self._flag = flag
        self.also = also
        """Flags by which llama.cpp's programs know it; taken, and not shown in the help."""
        self.also_env = also_env
        """A variable of other programs that switches this on when it is set and not empty."""
        self.flag_only = flag_only
        """Means one run; not read from the environment or the configuration file."""
        self._sets = sets

    @property
    def flags(self) -> tuple[str, ...]:
        """The short one and the long one; empty for a setting of the environment and the configuration file only."""
        long = f"--{'no-' if self.default is True else ''}{self.name.replace('_', '-')}"
        return tuple(filter(None, (self.short, long if self._flag is None else self._flag)))

    @property
    def sets(self) -> tuple[str, ...]:
        """The fields of EngineSettings (section `engine`) or SamplingSettings (section `sampling`) that it sets."""
        return (self.name,) if self._sets is None else self._sets

    @property
    def is_list(self) -> bool:
        """Whether it may be given several times, the values making one tuple."""
        return isinstance(self.default, tuple)

    @property
    def env(self) -> str:
        """The variable of the environment."""
        return f"EDGETOP_{self.name.upper()}"

    @property
    def choices(self) -> tuple[str, ...]:
        """The words it can be, if it is one of a few."""
        return self.parse.names if isinstance(self.parse, OneOf) else ()

    @property
    def is_switch(self) -> bool:
        """Whether the flag takes no value."""
        return not self.metavar

    @property
    def switched(self) -> str:
        """What a switch's flag says, as text: `false` for the --no-... ones."""
        return "false" if self.default is True else "true"


def parse_value(where: str, text: str, parse: Callable[[str], T]) -> T:
    """The value of a text. Raises UsageError with `where` it was given, such as a flag, and what was expected."""
    try:
        return parse(text)
    except ValueError as error:
        raise UsageError(f"{where}: {text!r} is not valid", f"expected {error}") from None


def text(value: str) -> str:
    """Any text."""
    return value


def one_text(value: str) -> tuple[str, ...]:
    """One text of several."""
    return (value,)


def age(value: str) -> float:
    """An age in seconds, such as 30d."""
    found = re.fullmatch(r"(\d{1,6}(?:\.\d+)?)\s*([hdw])", value.strip().lower(), re.ASCII)
    if found is None or not float(found[1]):
        raise ValueError("an age such as 12h, 30d or 8w")
    return float(found[1]) * {"h": 3600, "d": 86_400, "w": 7 * 86_400}[found[2]]


def listen_address(value: str) -> tuple[str, int]:
    """Where to listen: a port, of this machine alone, or HOST:PORT."""
    host, _, port = value.rpartition(":")
    if not (port.isascii() and port.isdecimal() and 0 <= int(port) < 65536):
        raise ValueError("a port such as 9091, or HOST:PORT")
    return host.strip("[]") or "127.0.0.1", int(port)


def export_address(value: str) -> tuple[str, ...]:
    """One of several addresses of metrics, or the name of an extension and its text."""
    if not re.match(r"[A-Za-z][\w.-]*:", value):
        listen_address(value)
    return (value,)


def path(value: str) -> Path:
    """A path, `~` being the home folder."""
    if not value or "\0" in value:
        raise ValueError("a path")
    try:
        return expanded(value)
    except UsageError as error:
        raise ValueError(f"a path; {error.what.rpartition(': ')[2]}") from None


ALERT_SHAPE: Final = (
    r"\s*(?P<name>[\w.:@%\[\]-]+)\s*(?P<operator><=?|>=?)\s*(?P<number>[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,2})?)"
    r"(?:\s+for\s+(?P<time>\d{1,9}(?:\.\d+)?)\s*(?P<unit>s|min|m|h|))?\s*"
)
"""A limit on a figure or a channel, and how long it is to be crossed."""


def alert(value: str) -> tuple[str, ...]:
    """One limit of several."""
    if re.fullmatch(ALERT_SHAPE, value) is None:
        raise ValueError("a limit such as 'temperature.cpu > 80' or 'energy.j_per_token > 1.5 for 60s'")
    return (value,)


def one_path(value: str) -> tuple[Path, ...]:
    """One path of several."""
    return (path(value),)


def switch(value: str) -> bool:
    """Yes or no."""
    match value.strip().lower():
        case "1" | "true" | "yes" | "on":
            return True
        case "0" | "false" | "no" | "off" | "":
            return False
    raise ValueError("true or false")


def integer(low: int, high: int = 2**31 - 1) -> Callable[[str], int]:
    """Whole numbers from `low` to `high`."""

    def parse(value: str) -> int:
        try:
            number = int(value)
        except ValueError:
            number = low - 1
        if not low <= number <= high:
            raise ValueError(f"a whole number from {low} {f'to {high}' if high < 2**31 - 1 else 'up'}")
        return number

    return parse


def real(low: float, high: float) -> Callable[[str], float]:
    """Numbers from `low` to `high`."""

    def parse(value: str) -> float:
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if not low <= number <= high:
            raise ValueError(f"a number from {low:g} to {high:g}")
        return number

    return parse


def token_count(value: str) -> int:
    """A number of tokens: 4096, or 4k, k being 1024."""
    expected = "a number of tokens, such as 4096 or 4k"
    number = value.strip().lower()
    factor = 1024 if number.endswith("k") else 1
    try:
        count = int(number.removesuffix("k")) * factor
    except ValueError:
        raise ValueError(expected) from None
    if not 0 < count < 2**31:
        raise ValueError(expected)
    return count


def byte_count(value: str) -> int:
    """A size of memory in bytes: 8G, 8GB and 8 GiB are the same 2^30 bytes each, as memory is sold; 8 alone is 8G."""
    expected = "a size of memory, such as 8G or 512M"
    number = value.strip().lower().removesuffix("b").removesuffix("i").strip()
    exponent = {"m": 20, "g": 30, "t": 40}.get(number[-1:], 30)
    try:
        count = float(number.rstrip("mgt")) * float(2**exponent)
    except ValueError:
        raise ValueError(expected) from None
    if not 2**20 <= count < 2**50:
        raise ValueError(expected)
    return round(count)


def currency(value: str) -> str:
    """A currency's name or sign."""
    if not (0 < len(value) <= CURRENCY_CHARACTERS and value.isprintable() and " " not in value):
        raise ValueError(f"a currency in at most {CURRENCY_CHARACTERS} characters, such as EUR")
    return value


class OneOf:
    """Reads one of some words, which it can name."""

    def __init__(self, *names: str, brought: Callable[[], Collection[str]] = tuple) -> None:
        """`brought` gives words that other packages add; it takes long, and is asked last."""
        self._names = names
        self.brought = brought

    @property
    def names(self) -> tuple[str, ...]:
        """All words."""
        return (*self._names, *sorted(set(self.brought()) - set(self._names)))

    def __call__(self, value: str) -> str:
        """The word. Raises ValueError."""
        if value not in self._names and value not in self.brought():
            raise ValueError(f"one of {', '.join(self.names)}")
        return value


ENGINE_CHOICES = ("auto", "installed", "portable")

SERVER_ENGINE = "llama-server"

SCRIPT_PREFIX = "scripted:"


def engine_choice(value: str) -> str:
    """The engine's name. `llama` is what `auto` was called before."""
    name, equals, path_given = value.partition("=")
    if value in ENGINE_CHOICES or value == SERVER_ENGINE or (name == SERVER_ENGINE and equals and path_given):
        return value
    if value == "llama":
        return "auto"
    if not value.startswith(SCRIPT_PREFIX):
        raise ValueError(f"{', '.join(ENGINE_CHOICES)}, {SERVER_ENGINE} or {SERVER_ENGINE}=PATH")
    return value


def clock_limits_hz(value: str) -> tuple[int | None, int]:
    """The lowest clock, if one is said, and the highest, of `1.5GHz` or `600MHz-1.5GHz`."""
    found = re.fullmatch(
        r"(?:(\d[\d.]{0,8})\s*([MG])Hz\s*-\s*)?(\d[\d.]{0,8})\s*([MG])Hz", value.strip(), re.IGNORECASE
    )
    low, high = None, 0
    if found is not None and all(number is None or number.count(".") < 2 for number in (found[1], found[3])):
        scale = {"M": 1_000, "G": 1_000_000}
        high = round(float(found[3]) * scale[found[4].upper()]) * 1000
        low = None if found[1] is None else round(float(found[1]) * scale[found[2].upper()]) * 1000
    if not high or (low is not None and not 0 < low <= high):
        raise ValueError("a clock such as 1.5GHz, or the lowest and the highest such as 600MHz-1.5GHz")
    return low, high


def name_of_mode(value: str) -> str:
    """A word such as `25W`, `MAXN+jetson_clocks` or `performance`."""
    if not re.fullmatch(r"\w[\w +.-]{0,60}", value.strip()):
        raise ValueError("a name that the device knows, such as 25W or performance")
    return value.strip()


def fan_share(value: str) -> float:
    """How much of its full speed a fan is to have, of `50%`."""
    try:
        return real(0, 100)(value.strip().removesuffix("%")) / 100
    except ValueError:
        raise ValueError("a share of the full speed, from 0% to 100%") from None


def cpu_mask(value: str) -> str:
    """A hexadecimal mask of processors, without 0x."""
    digits = value.lower().removeprefix("0x")
    if not digits or set(digits) - set("0123456789abcdef") or not int(digits, 16):
        raise ValueError("a hexadecimal mask of processors, such as f0 for those from 4 to 7")
    return digits


def tensor_override(value: str) -> tuple[str, ...]:
    """One or several rules with commas or semicolons between, each `PATTERN=BUFFER`."""
    rules = tuple(re.split("[,;]", value))
    if any(not pattern or not buffer for pattern, _, buffer in (rule.rpartition("=") for rule in rules)):
        raise ValueError("PATTERN=BUFFER, such as ffn_.*_exps=CPU")
    return rules


Scalar = bool | int | float | str


def key_value(value: str) -> tuple[tuple[str, Scalar], ...]:
    """KEY=VALUE, the value being true, false, a number or text."""
    key, equals, given = value.partition("=")
    if not key or not equals:
        raise ValueError(f"{KEY_VALUE}, such as enable_thinking=false")
    return ((key, _scalar(given)),)


def _scalar(value: str) -> Scalar:
    if value in {"true", "false"}:
        return value == "true"
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value


def key_of_origin(value: str) -> tuple[tuple[str, Path], ...]:
    """URL=FILE: a server and the file that holds its key."""
    url, equals, file = value.rpartition("=")
    if not url or not equals or not file:
        raise ValueError("URL=FILE, such as http://10.0.0.2:8080=~/pi.key")
    return ((url, Path(file).expanduser()),)


PORT_DEFAULT = 50052
"""Of llama.cpp's ggml-rpc-server (tools/rpc)."""

SERVERS_MAX = 16
"""GGML_RPC_MAX_SERVERS of ggml-rpc.h."""

_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9.\-]*[A-Za-z0-9])?"


def rpc_servers(value: str) -> tuple[str, ...]:
    """One or several addresses with commas between, each as `host:port`; the port may be left out.

    llama.cpp takes names and IPv4 addresses here. Raises ValueError.
    """
    servers = tuple(dict.fromkeys(_server(word.strip()) for word in value.split(",")))
    if len(servers) > SERVERS_MAX:
        raise ValueError(f"at most {SERVERS_MAX} RPC servers")
    return servers


def _server(word: str) -> str:
    host, colon, port = word.partition(":")
    number = port if colon else str(PORT_DEFAULT)
    if not re.fullmatch(_HOST, host) or not number.isascii() or not number.isdecimal() or not 0 < int(number) < 2**16:
        raise ValueError(f"HOST:PORT, several with commas between, such as 10.0.0.2:{PORT_DEFAULT},10.0.0.3")
    return f"{host}:{int(number)}"


TITLES: dict[Section, str] = {
    "model": "model",
    "search": "model folders",
    "server": "remote server",
    "engine": "engine",
    "sampling": "sampling",
    "recording": "recording",
    "storage": "sessions folder",
    "screen": "screen",
    "device": "device",
    "price": "price of energy",
    "use": "how the model is used",
    "fit": "thresholds",
    "alerts": "alerts",
    "progress": "progress",
    "general": "general",
}

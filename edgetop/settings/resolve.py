"""Flag, environment, file, default; engine settings and keys from them."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar, cast

from edgetop.core.errors import UsageError
from edgetop.io.files import read_toml, user_folder
from edgetop.settings import options
from edgetop.settings.option import Option, Section, key_value, one_text, parse_value, text

if TYPE_CHECKING:
    from edgetop.core.energy.duty import Price
    from edgetop.core.engine_settings import EngineSettings, SamplingSettings

KEYS_TABLE = "keys"


class KeyChoice(NamedTuple):
    """The keys that an action is to have in place of its own."""

    screen: str
    """Empty for every screen that has the action."""
    action: str
    keys: tuple[str, ...]
    """As `normalised` gives them; none to take the action's keys away."""


MODIFIERS = ("alt", "ctrl", "shift")
"""In the order in which the screen library writes them."""

_OTHER_NAMES = {"solidus": "slash", "reverse_solidus": "backslash", "commercial_at": "at", "hyphen_minus": "minus",
                "plus_sign": "plus", "low_line": "underscore"}  # fmt: skip


def _name_of(character: str) -> str:
    """A character as the screen library names its key: letters and digits by themselves, all else by Unicode's name."""
    if character.isalnum():
        return character
    name = unicodedata.name(character).lower().replace("-", "_").replace(" ", "_")
    return _OTHER_NAMES.get(name, name)


CHARACTERS: dict[str, str] = {
    _name_of(character): character for character in map(chr, range(0x21, 0x7F)) if not character.isalnum()
}
"""Keys with a name that type a character, such as `question_mark`, and the character."""

NAMED = ("space", "enter", "tab", "escape", "backspace", "delete", "insert", "home", "end", "pageup", "pagedown", "up",
         "down", "left", "right", *(f"f{number}" for number in range(1, 25)))  # fmt: skip
"""Keys that are called by a name."""

_ALIASES = {"esc": "escape", "return": "enter", "pgup": "pageup", "pgdn": "pagedown", "pgdown": "pagedown",
            "page_up": "pageup", "page_down": "pagedown", "del": "delete", "ins": "insert", " ": "space",
            "bksp": "backspace", "control": "ctrl", "option": "alt", "meta": "alt"}  # fmt: skip

_SAME_TO_A_TERMINAL = {"ctrl+i": "tab", "ctrl+m": "enter", "ctrl+left_square_bracket": "escape",
                       "ctrl+at": "ctrl+space"}  # fmt: skip
EXPECTED = "a key such as t, ?, space, F5, pgdn, ctrl+t or alt+x"


def normalised(text: str) -> str:
    """A key as people write it in the one way in which screens know it: `Ctrl+T` is `ctrl+t`, `?` is `question_mark`.

    Raises ValueError, saying what was expected, for what is no key.
    """
    *written, last = _parts(text)
    modifiers = {_ALIASES.get(part.lower(), part.lower()) for part in written}
    if unknown := sorted(modifiers - set(MODIFIERS)):
        raise ValueError(f"{EXPECTED}; {unknown[0]!r} is no modifier, there are {', '.join(MODIFIERS)}")
    key = _base(last)
    if len(key) == 1 and key.isalpha():
        if "ctrl" in modifiers:
            key = key.lower()
        elif "shift" in modifiers:
            key, modifiers = key.upper(), modifiers - {"shift"}
    whole = "+".join([*sorted(modifiers), key])
    return _SAME_TO_A_TERMINAL.get(whole, whole)


def _parts(text: str) -> list[str]:
    """Modifiers and key; a plus at the end is the key itself."""
    if text == " ":
        return [text]
    stripped = text.strip()
    if stripped.endswith("+"):
        before = stripped[:-1].removesuffix("+")
        return [*filter(None, before.split("+")), "+"]
    return [part.strip() for part in stripped.split("+")]


def _base(text: str) -> str:
    if len(text) == 1 and text.isprintable():
        return "space" if text == " " else _name_of(text)
    name = _ALIASES.get(text.lower(), text.lower())
    if name in NAMED or name in CHARACTERS:
        return name
    import difflib  # noqa: PLC0415 - only for what is not known

    close = difflib.get_close_matches(name, [*NAMED, *_ALIASES, *CHARACTERS], n=1)
    raise ValueError(f"{EXPECTED}{f'; did you mean {close[0]}?' if close else ''}")


def key_choices(table: object, where: str) -> tuple[KeyChoice, ...]:
    """The table [keys] as read from TOML; `where` names the file. Raises UsageError for what cannot be meant."""
    if not isinstance(table, Mapping):
        raise UsageError(f"{where}: [{KEYS_TABLE}] is no table", 'write [keys], and below it lines like quit = "q"')
    choices: list[KeyChoice] = []
    for name, value in table.items():
        if isinstance(value, Mapping):
            choices += [
                KeyChoice(name, action, _keys(keys, f"{where} [{KEYS_TABLE}.{name}] {action}"))
                for action, keys in value.items()
            ]
        else:
            choices.append(KeyChoice("", name, _keys(value, f"{where} [{KEYS_TABLE}] {name}")))
    return tuple(choices)


def _keys(value: object, where: str) -> tuple[str, ...]:
    texts = value if isinstance(value, list) else [value]
    keys = []
    for key in texts:
        if not isinstance(key, str):
            raise UsageError(f"{where}: {key!r} is no key", f"expected {EXPECTED}, in quotes")
        if key:
            try:
                keys.append(normalised(key))
            except ValueError as error:
                raise UsageError(f"{where}: {key!r} is no key", f"expected {error}") from None
    return tuple(dict.fromkeys(keys))


T = TypeVar("T")
DEFAULT = "default"
"""The origin of a value that nobody chose."""


class Origin(NamedTuple):
    """A setting's value and where it was found."""

    value: object
    origin: str
    """For a person: `--ctx`, `EDGETOP_CTX`, the configuration file's path, or `default`."""


class Settings:
    """The value of every setting: `settings[options.CTX]`."""

    def __init__(
        self,
        resolved: Mapping[str, Origin],
        config_file: Path | None,
        keys: tuple[KeyChoice, ...] = (),
        problems: tuple[UsageError, ...] = (),
    ) -> None:
        self._resolved = resolved
        self.keys = keys
        """What the configuration file says of keys; the screens know which there are."""
        self.config_file = config_file
        """The configuration file that was read; `None` if there is none."""
        self.problems = problems
        """What could not be read, where defaults stand for it; only for verbs that repair."""

    def __getitem__(self, option: Option[T]) -> T:
        return cast("T", self._resolved[option.name].value)

    def changed(self, option: Option[T], value: T, origin: str) -> Settings:
        """These settings with one of another value."""
        resolved = {**self._resolved, option.name: Origin(value, origin)}
        return Settings(resolved, self.config_file, self.keys, self.problems)

    def origin(self, option: Option[T]) -> str:
        """Where the value comes from, for a person."""
        return self._resolved[option.name].origin


def resolve(
    flags: Mapping[str, Sequence[str] | str | None],
    environment: Mapping[str, str] = os.environ,
    *,
    repairing: bool = False,
) -> Settings:
    """Settle every setting.

    `flags` holds what the command line gave, by name of the setting: text, several texts, or `None`.
    Raises UsageError for a value that cannot be read, an unreadable configuration file, or a key nobody knows; with
    `repairing` only for flags, and the rest are the settings' problems.
    """
    problems: list[UsageError] = []

    def tolerated(error: UsageError) -> None:
        if not repairing:
            raise error
        problems.append(error)

    def resolved_one(option: Option[T], config: Mapping[str, Mapping[str, object]]) -> Origin:
        try:
            return _resolve_one(option, flags.get(option.name), environment, config, config_file)
        except UsageError as error:
            if flags.get(option.name) is not None:
                raise
            tolerated(error)
            return Origin(option.default, DEFAULT)

    config_file: Path | None = None
    config_file = _config_file(resolved_one(options.CONFIG, {}), tolerated)
    config: dict[str, dict[str, object]] = {}
    try:
        config = {} if config_file is None else _read_config(config_file, tolerated)
    except UsageError as error:
        tolerated(error)
    keys: tuple[KeyChoice, ...] = ()
    if "keys" in config:
        try:
            keys = _key_choices(config.pop("keys"), config_file)
        except UsageError as error:
            tolerated(error)
    resolved = {option.name: resolved_one(option, config) for option in options.OPTIONS}
    return Settings(resolved, config_file, keys, tuple(problems))


def _key_choices(table: object, config_file: Path | None) -> tuple[KeyChoice, ...]:

    return key_choices(table, str(config_file))


def read_value(option: Option[T], texts: Sequence[str], where: str) -> T:
    """The value that texts mean for a setting. Raises UsageError that begins with `where`."""
    return cast("T", _parsed(option, texts, where).value)


def default_config_file() -> Path:
    """config.toml in the user's configuration folder."""
    return user_folder("config") / "config.toml"


def _config_file(chosen: Origin, on_missing: Callable[[UsageError], None]) -> Path | None:
    if isinstance(chosen.value, Path):
        if not chosen.value.is_file():
            what = f"{chosen.origin}: there is no configuration file {chosen.value}"
            on_missing(UsageError(what, "name one that exists, or leave it out"))
        return chosen.value
    usual = default_config_file()
    return usual if usual.is_file() else None


def _read_config(file: Path, on_unknown: Callable[[UsageError], None]) -> dict[str, dict[str, object]]:
    try:
        tables: dict[str, dict[str, object]] = read_toml(file)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UsageError(
            f"cannot read {file}: {error.strerror}", "make it readable, or choose another with --config"
        ) from None
    except ValueError as error:
        raise UsageError(
            f"{file} is not TOML: {error}", "fix that line, or choose another file with --config"
        ) from None
    known: set[tuple[str, str]] = {
        (option.section, option.name)
        for option in options.OPTIONS
        if not option.flag_only and option is not options.CONFIG
    }
    sections = {section for section, _ in known} | {"keys"}
    for section, table in [*tables.items()]:
        if section == "keys":
            continue
        if section == "server" and isinstance(table, dict) and "keys" in table:
            table["server_keys"] = table.pop("keys")
        if section not in sections or not isinstance(table, dict):
            on_unknown(_unknown(file, f"table [{section}]", section, sections))
            del tables[section]
            continue
        for name in table:
            if (section, name) not in known:
                names = {n for s, n in known if s == section}
                on_unknown(_unknown(file, f"setting {name!r} in [{section}]", name, names))
    return tables


def _unknown(file: Path, what: str, name: str, known: set[str]) -> UsageError:
    import difflib  # noqa: PLC0415 - only for what is not known

    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(sorted(known))}"
    return UsageError(f"{file}: there is no {what}", hint)


def _resolve_one(
    option: Option[T],
    flag: Sequence[str] | str | None,
    environment: Mapping[str, str],
    config: Mapping[str, Mapping[str, object]],
    config_file: Path | None,
) -> Origin:
    if flag is not None and option.flags:
        return _parsed(option, [flag] if isinstance(flag, str) else flag, option.flags[-1])
    if option.flag_only:
        return Origin(option.default, DEFAULT)
    if environment.get(option.env):
        given = environment[option.env]
        # A variable holds several folders as PATH does; a text may hold anything, so it stays one.
        texts = [part for part in given.split(os.pathsep) if part] if option.name == "model_dir" else [given]
        return _parsed(option, texts, option.env)
    if option.also_env and environment.get(option.also_env):
        return Origin(True, option.also_env)
    section = config.get(option.section, {})
    if option.name in section:
        texts = _config_texts(section[option.name])
        return _parsed(option, texts, f"{config_file} [{option.section}] {option.name}", shown=str(config_file))
    return Origin(option.default, DEFAULT)


def _config_texts(value: object) -> list[str]:
    """A value of the configuration file as the flag would have it, so that one parser reads both."""
    if isinstance(value, bool):
        return ["true" if value else "false"]
    if isinstance(value, list):
        return [text for element in value for text in _config_texts(element)]
    if isinstance(value, dict):
        return [f"{key}={text}" for key, element in value.items() for text in _config_texts(element)]
    return [str(value)]


def _parsed(option: Option[T], texts: Sequence[str], where: str, shown: str = "") -> Origin:
    if not option.is_list and len(texts) != 1:
        raise UsageError(f"{where}: there can be only one value", f"give one {option.metavar or 'of true and false'}")
    values = [parse_value(where, text, option.parse) for text in texts]
    return Origin(_joined(values) if option.is_list else values[0], shown or where)


def _joined(values: Iterable[object]) -> tuple[object, ...]:
    return tuple(part for several in values if isinstance(several, tuple) for part in several)


def loggable(settings: Settings) -> Iterator[str]:
    """Every setting that somebody chose, for the log; texts, which may be prompts or passwords, without their value."""
    for option in options.OPTIONS:
        origin = settings.origin(option)
        if origin != DEFAULT:
            value = "given" if option.parse in {text, one_text, key_value} else settings[option]
            yield f"{option.name} = {value} ({origin})"
    for problem in settings.problems:
        yield problem.what


def setting_named(name: str) -> Option[object]:
    """The setting of a name: `ctx`, `engine.ctx`, `--ctx` and EDGETOP_CTX mean the same. Raises UsageError."""
    asked = name.rpartition(".")[2].lstrip("-").replace("-", "_").lower().removeprefix("edgetop_")
    for option in options.OPTIONS:
        if asked == option.name or name in option.flags:
            return option
    known = [option.name for option in options.OPTIONS]
    import difflib  # noqa: PLC0415 - only for what is not known

    close = difflib.get_close_matches(asked, known, n=1)
    hint = f"did you mean {close[0]}?" if close else "`edgetop config` lists them"
    raise UsageError(f"there is no setting {name!r}", hint)


def is_of_file(option: Option[object]) -> bool:
    """Whether the configuration file can hold it."""
    return not option.flag_only and option is not options.CONFIG


def engine_settings(settings: Settings) -> EngineSettings:
    """How the model is to be run."""
    from msgspec import convert  # noqa: PLC0415 - `--help` resolves settings, too, and runs no model

    from edgetop.core.engine_choices import LAYERS_MAX  # noqa: PLC0415 - the same
    from edgetop.core.engine_settings import EngineSettings  # noqa: PLC0415 - the same

    draft = settings[options.MODEL_DRAFT]
    fields = {
        **_fields(settings, "engine"),
        "template_args": dict(settings[options.TEMPLATE_ARG]),
        "lora": tuple(str(file.absolute()) for file in settings[options.LORA]),
        "draft_model": None if draft is None else str(draft.absolute()),
        **({"n_cpu_moe": LAYERS_MAX} if settings[options.CPU_MOE] else {}),
    }
    return convert(fields, EngineSettings)


def _fields(settings: Settings, section: Section) -> dict[str, object]:
    """Values of EngineSettings' or SamplingSettings' fields, by the options that set them.

    Where two set the same field, the later one in the table does, if it has a value.
    """
    values: dict[str, object] = {}
    for option in options.OPTIONS:
        for field in option.sets if option.section == section else ():
            if settings[option] is not None or field not in values:
                values[field] = settings[option]
    return values


def left_open(settings: Settings) -> frozenset[str]:
    """Fields of EngineSettings and SamplingSettings, and `system`, that nobody chose a value for.

    `edgetop tune` can find a better default for some of them, and models of Ollama's bring their own.
    """
    chosen, default = set[str](), set[str]()
    for option in options.OPTIONS:
        if option.section in {"engine", "sampling"}:
            (default if settings.origin(option) == DEFAULT else chosen).update(option.sets or (option.name,))
    if chosen & {"type_k", "type_v"}:
        # Tuned together, since few pairs of unlike types are fast.
        chosen |= {"type_k", "type_v"}
    return frozenset(default - chosen)


def sampling_settings(settings: Settings) -> SamplingSettings:
    """How tokens are drawn."""
    from msgspec import convert  # noqa: PLC0415 - as in `engine_settings`

    from edgetop.core.engine_settings import SamplingSettings  # noqa: PLC0415 - the same

    return convert(_fields(settings, "sampling"), SamplingSettings)


def price_of(settings: Settings) -> Price | None:
    """What energy costs, where the user gave a price."""
    from edgetop.core.energy.duty import Price  # noqa: PLC0415 - as in `engine_settings`

    per_kwh = settings[options.PRICE_PER_KWH]
    return None if per_kwh is None else Price(per_kwh=per_kwh, currency=settings[options.CURRENCY])

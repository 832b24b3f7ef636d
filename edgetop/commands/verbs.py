"""The verbs and what each takes, apart from their modules: `--help` need not import what those stand on."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from edgetop.settings.option import Section

_SESSION_HELP = "a file, a number of the list, the beginning of an id, a tag, or part of a model's name"


class PromptAction(argparse.Action):
    """Keeps prompts from texts and files in the order of the command line, as pairs of `text` or `file` and what."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,  # noqa: ARG002 - argparse's signature
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Note one prompt."""
        source = "text" if option_string in {"-p", "--prompt"} else "file"
        setattr(namespace, self.dest, [*getattr(namespace, self.dest), (source, str(values))])


def _add_prompts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-p", "--prompt", dest="prompts", action=PromptAction, default=[], metavar="TEXT",
        help="ask this without a screen; may be given several times, each one being a turn of one conversation",
    )  # fmt: skip
    parser.add_argument(
        "-f", "--file", dest="prompts", action=PromptAction, default=[], metavar="FILE",
        help="ask what a file says, without a screen",
    )  # fmt: skip


def _add_run(parser: argparse.ArgumentParser) -> None:
    _add_prompts(parser)
    parser.add_argument("stdin", nargs="?", choices=["-"], metavar="-", help="ask what standard input says")
    _add_json(parser)


def _add_sessions(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="list|show|validate|recompute|recover")
    listing = actions.add_parser("list", help="all sessions, the newest first; also without a word", allow_abbrev=False)
    _add_formats(listing)
    show = actions.add_parser("show", help="one session and its figures", allow_abbrev=False)
    show.add_argument("session", metavar="SESSION", nargs="?", default="1", help=_SESSION_HELP)
    _add_json(show)
    check = actions.add_parser("validate", help="whether session files are what they should be", allow_abbrev=False)
    check.add_argument("session", metavar="SESSION", nargs="+", help=_SESSION_HELP)
    _add_json(check)
    recompute = actions.add_parser(
        "recompute", help="all figures of a session again, from what was recorded", allow_abbrev=False
    )
    recompute.add_argument("session", metavar="SESSION", help=_SESSION_HELP)
    recompute.add_argument(
        "--power", metavar="NAME", help="go by this power source of the session; `none`, or `auto` for edgetop's choice"
    )
    recompute.add_argument("--dry-run", action="store_true", help="say what would change, and leave the file as it is")
    _add_json(recompute)
    recover = actions.add_parser("recover", help="save what an edgetop that died has left", allow_abbrev=False)
    _add_json(recover)


def _add_calibrate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--point", dest="points", action="append", default=[], metavar="SENSOR_W:METER_W",
        help="what the sensor, uncorrected, and the meter showed at one load; give two or more to calibrate unasked",
    )  # fmt: skip
    parser.add_argument("--seconds", default="10", metavar="N", help="how long the sensor is read at each load; 10")
    parser.add_argument("--meter-gain", default="1", metavar="PERCENT", help="how far off the meter may be; 1")
    parser.add_argument("--meter-name", default="", metavar="NAME", help="the meter, as sessions are to name it")
    parser.add_argument("--show", action="store_true", help="print the calibrations of this machine")
    parser.add_argument("--remove", action="store_true", help="forget the calibration of a source")
    _add_json(parser)


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def _add_formats(parser: argparse.ArgumentParser) -> None:
    formats = parser.add_mutually_exclusive_group()
    formats.add_argument("--json", dest="format", action="store_const", const="json", help="print JSON")
    formats.add_argument("--csv", dest="format", action="store_const", const="csv", help="print CSV")
    formats.add_argument("--md", dest="format", action="store_const", const="md", help="print a Markdown table")


class Verb(NamedTuple):
    """What a person can ask for. The module `edgetop.commands.<verb>` carries it out."""

    help: str
    sections: tuple[Section, ...]
    """Settings that the verb takes."""
    add_arguments: Callable[[argparse.ArgumentParser], None]
    """Gives a parser what is not a setting."""


_MODEL: tuple[Section, ...] = (
    "model", "search", "engine", "sampling", "recording", "storage", "device", "price", "progress", "general",
)  # fmt: skip
VERBS: dict[str, Verb] = {
    "chat": Verb(
        "the live screen: chat beside token rate, memory, power and energy", (*_MODEL, "screen"), _add_prompts
    ),
    "run": Verb("one or more prompts without a screen; the reply goes to stdout", _MODEL, _add_run),
    "models": Verb("GGUF models found on this machine", ("search", "general"), _add_formats),
    "doctor": Verb(
        "sensors, engine, terminal: what works, what not, and how to mend it", (*_MODEL, "screen"), _add_json
    ),
    "power": Verb("what this machine draws now, by every sensor that says so", ("device", "general"), _add_json),
    "calibrate": Verb("fit a power sensor of this machine to an outside meter", ("device", "general"), _add_calibrate),
    "sessions": Verb(
        "recorded sessions: list, show, validate, recompute, recover", ("storage", "general"), _add_sessions
    ),
}
DEFAULT_VERB = "chat"

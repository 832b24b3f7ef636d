"""`edgetop power`: what this machine draws now, by every source that says so, once or as a stream."""

from __future__ import annotations

import argparse

from edgetop.core.errors import UsageError
from edgetop.settings import options
from edgetop.settings.option import real
from edgetop.settings.resolve import Settings

INTERVALS_S = (0.02, 60.0)


def execute(arguments: argparse.Namespace, settings: Settings) -> int:
    """Print one table, or go on printing for another edgetop, for which little is to be imported."""
    if arguments.stream:
        from edgetop.commands.power_stream import stream_power  # noqa: PLC0415 - see above
        from edgetop.telemetry.power_choice import PowerChoice  # noqa: PLC0415

        choice = PowerChoice(name=settings[options.POWER], command=settings[options.POWER_EXEC])
        return stream_power(settings[options.SYSROOT], choice, _interval_s(arguments.interval))
    if arguments.interval is not None:
        raise UsageError("--interval is for a stream", "add --stream, or leave it out")
    from edgetop.commands.power_table import print_power  # noqa: PLC0415 - a stream has no use for it

    return print_power(settings, as_json=arguments.json)


def _interval_s(given: str | None) -> float | None:
    if given is None:
        return None
    try:
        return real(*INTERVALS_S)(given)
    except ValueError as error:
        raise UsageError(f"--interval: {given!r} cannot be used", f"expected is {error}") from None

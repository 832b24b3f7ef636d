"""The machine, its power sources, and what energy costs."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from edgetop.settings.option import Option, currency, joined, one_text, path, real, text

SYSROOT: Final = Option[Path](
    "sysroot",
    "device",
    "--sysroot",
    default=Path("/"),
    metavar="DIR",
    parse=path,
    help="read /sys and /proc below this folder",
    about="For a container that has the host's folders mounted elsewhere, and for tests.",
)

POWER: Final = Option[str | None](
    "power",
    "device",
    "--power",
    default=None,
    metavar="NAME",
    parse=text,
    help="the power source to go by: a name from `edgetop doctor`, a plug such as shelly:HOST, hosts such as "
    "local+pi2, or none",
    about="Without it the source with the widest scope that can be read is gone by: wall before board before "
    "module before processor package. none switches power and energy off.",
    example="none",
)

POWER_EXEC: Final = Option[str | None](
    "power_exec",
    "device",
    "--power-exec",
    default=None,
    metavar="CMD",
    parse=text,
    help="a program that prints a header and one power reading each time it is run; no shell",
    about="The header names scope, method and error of the meter; `edgetop power` says what is wrong with one "
    "that cannot be read.",
    example="read-my-meter",
)

POWER_STREAM: Final = Option[tuple[str, ...]](
    "power_stream",
    "device",
    "--power-stream",
    default=(),
    metavar="CMD",
    parse=one_text,
    join=joined,
    help="a program that goes on printing power readings, or tcp:HOST:PORT, or unix:PATH; may be given several times, "
    "once for each host: [NAME=]CMD",
    about="The same text as of --power-exec, as long as edgetop runs. `edgetop power --stream` prints it for the "
    'machine it runs on, so that `--power-stream "ssh pi2 edgetop power --stream"` brings the power of that one. '
    "The hosts of all streams, and this machine where it has power, are added up if all are measured alike; "
    "--power local+pi2 names those that are to be.",
    example="pi2=ssh pi2 edgetop power --stream",
)

PRICE_PER_KWH: Final = Option[float | None](
    "price_per_kwh",
    "price",
    "--price",
    default=None,
    metavar="AMOUNT",
    parse=real(0, 1e9),
    help="what a kilowatt-hour costs; then energy is told as money, too",
    about="Money is shown for the session and for a million tokens, gross.",
    example="0.3",
)

CURRENCY: Final = Option[str](
    "currency",
    "price",
    "--currency",
    default="EUR",
    metavar="NAME",
    parse=currency,
    help="what the price is in",
    about="Three letters such as EUR, or a sign.",
)

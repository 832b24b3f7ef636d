"""The power of Macs, from what `macmon` or Apple's `powermetrics` prints.

Nobody here has a Mac: this was never run on one, only on what others recorded there, and its figures say so.

`macmon pipe` needs no root and prints a JSON object a line: `sys_power` is what the whole Mac draws by its system
management controller, `all_power` what processor, GPU and Neural Engine draw by Apple's energy model. `powermetrics`
needs root and gives the second alone, `Combined Power`, before macOS 14 as `Package Power`; on Intel's Macs it is the
package's counter. Apple says that its averages "are estimated and may be inaccurate" (powermetrics(1)).
"""

from __future__ import annotations

import math
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence

import msgspec
from msgspec import Struct

from edgetop.core.sources import EXTERNAL_METER, Unavailable
from edgetop.telemetry.host import Host
from edgetop.telemetry.power_feed import Connection, ProgramFeed
from edgetop.telemetry.power_stream import StreamSource
from edgetop.telemetry.power_text import MAGIC
from edgetop.telemetry.source import Source, SourceLost, UnavailableSource

NAME = "power.mac"
PERIOD_S = 0.5

_MACMON = ("macmon", "pipe", "-i", str(round(1000 * PERIOD_S)))
_POWERMETRICS = ("powermetrics", "--samplers", "cpu_power,gpu_power", "-i", str(round(1000 * PERIOD_S)))

_POWER = re.compile(
    r"(?:Combined Power \(CPU \+ GPU \+ ANE\)|Package Power|"
    r"Intel energy model derived package power \(CPUs\+GT\+SA\)): *(\d{1,7}(?:\.\d{1,6})?) *(m?)W"
)

_SYSTEM_AT_MOST_W = 1000.0
"""The controller was seen to answer 40,089 W (judgement: no Mac draws more than this)."""

_GAINS = {"platform": 0.10, "cpu_package": 0.15}
"""Half-widths by scope (judgement: Apple states none)."""


class _MacmonLine(Struct, frozen=True):
    sys_power: float | None = None
    all_power: float | None = None


def watts_of_macmon(line: str) -> tuple[str, float] | None:
    """Scope and watts of a line of `macmon pipe`; `None` where there are none."""
    try:
        sample = msgspec.json.decode(line, type=_MacmonLine)
    except (ValueError, RecursionError):
        return None
    system_w, chip_w = sample.sys_power or math.nan, sample.all_power or math.nan
    # A controller that does not know says 0; what the chip draws is a part of what it says.
    if 0 < system_w <= _SYSTEM_AT_MOST_W and not system_w < chip_w:
        return "platform", system_w
    return ("cpu_package", chip_w) if 0 < chip_w <= _SYSTEM_AT_MOST_W else None


def watts_of_powermetrics(line: str) -> tuple[str, float] | None:
    """Scope and watts of a line of `powermetrics`; `None` of those about something else."""
    found = _POWER.fullmatch(line.strip())
    return None if found is None else ("cpu_package", float(found[1]) / (1000 if found[2] else 1))


class MacFeed(ProgramFeed):
    """The lines of such a program as those of a meter program; those of another scope than the first are left out."""

    def __init__(self, argv: Sequence[str], watts_of: Callable[[str], tuple[str, float] | None]) -> None:
        super().__init__(argv)
        self._watts_of = watts_of
        self._unfinished = b""
        self._scope = ""

    def start(self) -> None:
        """See `Feed.start`."""
        self._unfinished, self._scope = b"", ""
        super().start()

    def receive(self, timeout_s: float) -> bytes | None:
        """See `Feed.receive`."""
        chunk = super().receive(timeout_s)
        if not chunk:
            return chunk
        *lines, self._unfinished = (self._unfinished + chunk).split(b"\n")
        # Of a line that never ends nothing is kept.
        self._unfinished = self._unfinished[-_LINE_BYTES:]
        return b"".join(self._translated(line.decode("utf-8", "replace")) for line in lines)

    def _translated(self, line: str) -> bytes:
        found = self._watts_of(line)
        if found is None:
            return b""
        scope, watts = found
        header = ""
        if not self._scope:
            self._scope = scope
            header = (
                f"{MAGIC} kind=power unit=W scope={scope} update={PERIOD_S} window={PERIOD_S} "
                f"gain={_GAINS[scope]} flags=untried\n"
            )
        return f"{header}{watts:.6f}\n".encode() if scope == self._scope else b""


_LINE_BYTES = 65536


def probe(
    host: Host, *, which: Callable[[str], str | None] = shutil.which, is_root: bool | None = None
) -> Iterator[Source | UnavailableSource]:
    """The power of a Mac; nothing on any other machine."""
    if host.system != "darwin":
        return
    root = os.geteuid() == 0 if is_root is None else is_root
    if (program := which(_MACMON[0])) is not None:
        feed = MacFeed((program, *_MACMON[1:]), watts_of_macmon)
    elif root and (program := which(_POWERMETRICS[0])) is not None:
        feed = MacFeed((program, *_POWERMETRICS[1:]), watts_of_powermetrics)
    else:
        missing = Unavailable("a Mac reports its power to root only", f"brew install macmon, or {EXTERNAL_METER}")
        yield UnavailableSource(name="power", missing=missing)
        return
    try:
        yield StreamSource(Connection(feed, host.clock), host, name=NAME)
    except SourceLost as lost:
        yield UnavailableSource(name=NAME, missing=lost.missing, retry=True)

"""Plugs that measure what the whole device takes from the wall."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from msgspec import Struct

from edgetop.core.records import Channel, Missing, SourceInfo
from edgetop.telemetry.plug_protocols import Kasa, Plug, Shelly, Tasmota
from edgetop.telemetry.power_properties import PowerProperties, to_properties
from edgetop.telemetry.source import SourceLost, Values

KINDS: dict[str, Callable[[str, int | None, int | None], Plug]] = {
    "shelly": Shelly,
    "tasmota": Tasmota,
    "kasa": Kasa,
}

_ADDRESS = re.compile(
    r"(?P<kind>[A-Za-z]+):(//)?"
    r"(?P<host>[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63}){0,8}\.?|\[[0-9A-Fa-f:.]{2,45}\])"
    r"(?::(?P<port>\d{1,5}))?(?:/(?P<outlet>\d{1,2}))?/?",
    re.ASCII,
)

_PERIOD_S = 0.5
_UPDATE_S = 1.0
_GAIN, _OFFSET_W = 0.03, 0.5
"""By judgement; the makers give no accuracy."""
_P_MAX_W = 4000.0
"""16 A at 250 V."""
_CONFIRMATIONS = 2
"""Plugs are known to read 0 W for a moment; so many more zeros in a row are needed to believe the first."""


class PlugAddress(Struct, frozen=True, kw_only=True):
    """Where the user says that a plug is."""

    kind: str
    host: str
    port: int | None = None
    outlet: int | None = None
    """Counted from 0."""


def is_plug(text: str) -> bool:
    """Whether `text` means a plug, well or badly written."""
    return text.partition(":")[0].lower() in KINDS and ":" in text


def parse_plug(text: str) -> PlugAddress:
    """Read an address such as `shelly:192.168.1.7`, `tasmota:plug.lan:8080` or, for the second outlet, `shelly:HOST/1`.

    Raises ValueError, with a line for the user, when it is not one.
    """
    match = _ADDRESS.fullmatch(text.strip())
    if match is None or match["kind"].lower() not in KINDS or int(match["port"] or 80) > 65535:
        raise ValueError(f"{text!r} is not the address of a plug: write {'HOST, '.join(f'{k}:' for k in KINDS)}HOST")
    return PlugAddress(
        kind=match["kind"].lower(),
        host=match["host"].strip("[]"),
        port=int(match["port"]) if match["port"] else None,
        outlet=int(match["outlet"]) if match["outlet"] else None,
    )


def plug(text: str) -> PlugSource:
    """The plug at the address in `text`, after a first reading.

    Raises ValueError when `text` is not an address, and SourceLost when the plug gives no plausible reading.
    """
    address = parse_plug(text)
    return PlugSource(address, KINDS[address.kind](address.host, address.port, address.outlet))


class PlugSource:
    """The power that one plug supplies."""

    blocking = True

    def __init__(self, address: PlugAddress, asked: Plug) -> None:
        """Take a first reading. Raises SourceLost when it is not that of a device that runs."""
        self._plug = asked
        self._zeros = 0
        known = PowerProperties(
            window_s=_UPDATE_S,
            update_s=_UPDATE_S,
            gain=_GAIN,
            offset_w=_OFFSET_W,
            lsb_w=asked.lsb_w,
            p_max_w=_P_MAX_W,
            flags=("slow",),
            total=True,
        )
        outlet = "" if address.outlet is None else f"/{address.outlet}"
        self.info = SourceInfo(
            name=f"power.{address.kind}",
            driver=address.kind,
            path=f"{address.host}{outlet}",
            kind="power",
            period_s=_PERIOD_S,
            channels=(Channel(name="power.wall", unit="W", digits=3, scope="wall", label=address.kind),),
            properties=to_properties({"power.wall": known}),
        )
        first = self._believed(asked.power_w())
        if isinstance(first, Missing):
            raise SourceLost(first.reason, first.mend)

    def read(self) -> Values:
        """Watts. Raises SourceLost when the plug does not answer."""
        try:
            return (self._believed(self._plug.power_w()),)
        except SourceLost:
            self._plug.forget()
            raise

    def _believed(self, power_w: float) -> float | Missing:
        if not math.isfinite(power_w) or not -_OFFSET_W <= power_w <= _P_MAX_W:
            return Missing(f"the plug says {power_w:g} W, which is not plausible")
        self._zeros = self._zeros + 1 if power_w == 0 else 0
        if 0 < self._zeros <= _CONFIRMATIONS:
            return Missing("the plug says 0 W", "plug this device's supply into it and switch it on")
        return power_w

    def close(self) -> None:
        """No connection outlasts a reading."""

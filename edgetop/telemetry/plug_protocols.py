"""What metering plugs answer over the local network: Shelly, Tasmota and Kasa."""

from __future__ import annotations

from typing import Protocol

from edgetop.telemetry.plug_exchange import NotThereError, decode_json, exchange, get_json
from edgetop.telemetry.source import SourceLost


class Plug(Protocol):
    """One way of asking a plug."""

    @property
    def lsb_w(self) -> float:
        """Step of the reading, in watts."""

    def power_w(self) -> float:
        """What the plug says that it supplies now, in watts, believable or not. Raises SourceLost."""

    def forget(self) -> None:
        """Ask as if for the first time; the plug may have been replaced or updated."""


class Shelly:
    """A Shelly of any generation; which one shows in what it answers to."""

    lsb_w = 0.1
    _PATHS = (
        ("/rpc/Switch.GetStatus?id={0}", "apower"),
        ("/rpc/PM1.GetStatus?id={0}", "apower"),
        ("/rpc/EM1.GetStatus?id={0}", "act_power"),
        ("/status", "meters.{0}.power"),
        ("/status", "emeters.{0}.power"),
    )
    """Generation 2 and later by component, then generation 1."""

    def __init__(self, host: str, port: int | None, outlet: int | None) -> None:
        self._host, self._port, self._outlet = host, port or 80, outlet or 0
        self._found: tuple[str, str] | None = None

    def power_w(self) -> float:
        """See `Plug.power_w`."""
        if self._found is None:
            self._found = self._find()
        path, field = self._found
        answer = get_json(self._host, self._port, path.format(self._outlet))
        power_w = _number_at(answer, field.format(self._outlet))
        if power_w is None or _at(answer, f"meters.{self._outlet}.is_valid") is False:
            raise SourceLost(f"{self._host} answers without a power reading")
        return power_w

    def forget(self) -> None:
        """See `Plug.forget`."""
        self._found = None

    def _find(self) -> tuple[str, str]:
        for path, field in self._PATHS:
            try:
                answer = get_json(self._host, self._port, path.format(self._outlet))
            except NotThereError:
                continue
            if _number_at(answer, field.format(self._outlet)) is not None:
                return path, field
        raise SourceLost(
            f"{self._host} has no power meter {self._outlet} that a Shelly would have",
            "check kind and outlet: shelly:HOST/0, shelly:HOST/1",
        )


class Tasmota:
    """A plug with the Tasmota firmware. A device with several outlets answers with one number for each."""

    lsb_w = 1.0
    """Watts are whole unless the user set WattRes."""

    def __init__(self, host: str, port: int | None, outlet: int | None) -> None:
        self._host, self._port, self._outlet = host, port or 80, outlet

    def power_w(self) -> float:
        """See `Plug.power_w`."""
        answer = get_json(self._host, self._port, "/cm?cmnd=Status%208")
        if _at(answer, "WARNING") is not None:
            raise SourceLost(f"{self._host} wants a password", "clear it with the command WebPassword 0")
        power = _at(answer, "StatusSNS.ENERGY.Power")
        if isinstance(power, list) and self._outlet is None and len(power) > 1:
            raise SourceLost(f"{self._host} has {len(power)} outlets", "name one: tasmota:HOST/0")
        field = f"StatusSNS.ENERGY.Power.{self._outlet or 0}" if isinstance(power, list) else "StatusSNS.ENERGY.Power"
        power_w = _number_at(answer, field)
        if power_w is None:
            raise SourceLost(f"{self._host} answers without a power reading", "check that this plug has a meter")
        return power_w

    def forget(self) -> None:
        """See `Plug.forget`."""


class Kasa:
    """A TP-Link Kasa plug that still speaks its first local protocol: JSON, enciphered by its own text, on TCP."""

    lsb_w = 0.1
    _PORT = 9999
    _KEY = 171

    def __init__(self, host: str, port: int | None, outlet: int | None) -> None:
        """Raises ValueError when an outlet is named: the protocol's plugs have one."""
        if outlet is not None:
            raise ValueError("a Kasa plug has no outlets to choose from: kasa:HOST")
        self._host, self._port = host, port or self._PORT

    def power_w(self) -> float:
        """See `Plug.power_w`."""
        question = self.encipher(b'{"emeter":{"get_realtime":{}}}')
        try:
            enciphered = exchange(self._host, self._port, question)
        except ConnectionRefusedError as error:
            raise SourceLost(
                f"{self._host} refuses the local Kasa protocol",
                "its firmware may want a login: use --power-exec with python-kasa",
            ) from error
        answer = decode_json(self._host, self.decipher(enciphered))
        power_w, power_mw = (_number_at(answer, f"emeter.get_realtime.{field}") for field in ("power", "power_mw"))
        if power_w is not None:
            return power_w
        if power_mw is not None:
            return power_mw / 1000
        raise SourceLost(f"{self._host} answers without a power reading", "check that this plug has a meter")

    def forget(self) -> None:
        """See `Plug.forget`."""

    @classmethod
    def encipher(cls, plain: bytes) -> bytes:
        """Combine each byte with the enciphered one before it."""
        key, enciphered = cls._KEY, bytearray()
        for byte in plain:
            key ^= byte
            enciphered.append(key)
        return bytes(enciphered)

    @classmethod
    def decipher(cls, enciphered: bytes) -> bytes:
        """Undo `encipher`."""
        return bytes(byte ^ key for byte, key in zip(enciphered, bytes([cls._KEY]) + enciphered, strict=False))


def _at(node: object, path: str) -> object:
    """What lies below `node` at a path of keys and places joined by dots; `None` when there is nothing."""
    for step in path.split("."):
        if isinstance(node, dict):
            node = node.get(step)
        elif isinstance(node, list) and step.isdigit() and int(step) < len(node):
            node = node[int(step)]
        else:
            return None
    return node


def _number_at(node: object, path: str) -> float | None:
    value = _at(node, path)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        return float(value)
    except OverflowError:
        return None

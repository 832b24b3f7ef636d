"""Shelly, Tasmota and Kasa plugs.

Only the address that the user gave is contacted: no proxy, no redirect, no cloud. Each request has a deadline, so that
a device that sends a byte at a time does not block its thread, and its answer has a limit of size.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable
from http import HTTPStatus
from io import BufferedReader
from typing import Protocol

import msgspec
from msgspec import Struct

from edgetop.core.sources import Channel, PowerProperties, SourceInfo, Unavailable, to_properties
from edgetop.telemetry.source import SourceLost, Values

EXCHANGE_S = 2.0
"""How long a whole request may take."""

_ANSWER_BYTES = 65536
_LENGTH = struct.Struct(">I")
_SAME_NETWORK = "check the address, and that this machine is in the plug's network"


class NotFoundError(SourceLost):
    """The plug answers, but has nothing under that path."""


def exchange(host: str, port: int, question: bytes) -> bytes:
    """Send `question` and receive an answer over TCP, each after its length in four bytes.

    Raises ConnectionRefusedError when nobody listens, and SourceLost for everything else that fails.
    """
    from edgetop.io.http import RequestError, connect  # noqa: PLC0415 - 40 ms, and most people have no plug

    try:
        connection = connect(host, port, EXCHANGE_S)
        try:
            connection.sendall(_LENGTH.pack(len(question)) + question)
            answer = connection.makefile("rb")
            (length,) = _LENGTH.unpack(_read(answer, _LENGTH.size))
            if length > _ANSWER_BYTES:
                raise SourceLost(f"the answer of {host} would have {length} bytes")
            return _read(answer, length)
        finally:
            connection.hang_up()
    except RequestError as error:
        if isinstance(error.__cause__, ConnectionRefusedError):
            raise error.__cause__ from None
        raise SourceLost(error.reason[0], _SAME_NETWORK) from error
    except OSError as error:
        raise SourceLost(f"{host}: {error.strerror or error}", _SAME_NETWORK) from error


def _read(answer: BufferedReader, size: int) -> bytes:
    data = answer.read(size)
    if len(data) < size:
        raise ConnectionError("the connection was closed before the end of the answer")
    return data


def get_json(host: str, port: int, path: str) -> object:
    """The JSON at an HTTP path. Raises NotFoundError for status 404 and SourceLost for everything else that fails."""
    from edgetop.io.http import RequestError, Timeouts, send  # noqa: PLC0415 - see above

    url = f"http://{f'[{host}]' if ':' in host else host}:{port}{path}"
    timeouts = Timeouts(EXCHANGE_S, EXCHANGE_S, EXCHANGE_S)
    try:
        with send("GET", url, where=host, headers={}, timeouts=timeouts) as response:
            status, body = response.status, response.read_all(_ANSWER_BYTES)
    except RequestError as error:
        raise SourceLost(error.reason[0], _SAME_NETWORK) from error
    if status == HTTPStatus.NOT_FOUND:
        raise NotFoundError(f"{host} has no {path}")
    if status == HTTPStatus.UNAUTHORIZED:
        raise SourceLost(f"{host} wants a password", "switch its restricted login off, or use --power-exec with curl")
    if status != HTTPStatus.OK:
        raise SourceLost(f"{host} answers {path} with HTTP status {status}")
    return decode_json(host, body)


def decode_json(host: str, body: bytes) -> object:
    """The JSON in an answer of `host`. Raises SourceLost when it is none."""
    try:
        return msgspec.json.decode(body, type=object)
    except (ValueError, RecursionError) as error:
        raise SourceLost(f"{host} does not answer in JSON") from error


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
            except NotFoundError:
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
        elif isinstance(node, list) and step.isdecimal() and int(step) < len(node):
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
        if isinstance(first, Unavailable):
            raise SourceLost(first)

    def read(self) -> Values:
        """Watts. Raises SourceLost when the plug does not answer."""
        try:
            return (self._believed(self._plug.power_w()),)
        except SourceLost:
            self._plug.forget()
            raise

    def _believed(self, power_w: float) -> float | Unavailable:
        if not math.isfinite(power_w) or not -_OFFSET_W <= power_w <= _P_MAX_W:
            return Unavailable(f"the plug says {power_w:g} W, which is not plausible")
        self._zeros = self._zeros + 1 if power_w == 0 else 0
        if 0 < self._zeros <= _CONFIRMATIONS:
            return Unavailable("the plug says 0 W", "plug this device's supply into it and switch it on")
        return power_w

    def close(self) -> None:
        """No connection outlasts a reading."""

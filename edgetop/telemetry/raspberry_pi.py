"""Pi 5 power chip, throttling, firmware mailbox.

The kernel offers the mailbox as a character device with one ioctl. `/dev/vcio_gencmd` passes text commands only and
belongs to the group `video`; `/dev/vcio` passes everything and is root's alone on new kernels. Asking in-process spares
a fork for every reading; `vcgencmd` is the way that remains when neither device opens.

The firmware also says whether it slows the processor down: a turn during which it did is not comparable with others.

The DA9091 of the Pi 5 (and 500, CM5) measures twelve rails, each a current and a voltage, and not the 5 V input: what
hangs on it directly (USB, HAT, NVMe, fan) is invisible. Other models measure nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from edgetop.core.sources import (
    EXTERNAL_METER,
    Channel,
    PowerProperties,
    SensorFlag,
    SourceInfo,
    SourceProperties,
    Unavailable,
    to_properties,
)
from edgetop.telemetry.calibration import CalibrationError, CalibrationLine, default_file, device_key, load
from edgetop.telemetry.host import GENCMD_ANSWERS, Host, SysfsFile, board_model, text_of, why
from edgetop.telemetry.source import Source, SourceLost, UnavailableSource, Values, find_chips

DEVICES = ("/dev/vcio_gencmd", "/dev/vcio")
JOIN_VIDEO_GROUP = "sudo usermod -aG video $USER, then log in again"

_TAG_GENCMD = 0x00030080
_TEXT_BYTES = 4096
_HEADER = struct.Struct("=6I")
"""Message size, request or response code, tag, size of the text, length of the request, error of the command."""

_MESSAGE_BYTES = _HEADER.size + _TEXT_BYTES + 4
_RESPONSE_OK = 0x80000000
_IOCTL_PROPERTY = 0xC0000000 | struct.calcsize("P") << 16 | 100 << 8
"""_IOWR(100, 0, char *): the size of a pointer is part of the number, so it differs on a 32-bit system."""

_VCGENCMD_TIMEOUT_S = 2.0

_FAILURE = re.compile(
    r"error=\d+"
    r"|ioctl_set_msg failed"
    r"|vc_gencmd_read_response returned"
    r"|Can't open device file"
    r"|VCHI initialization failed"
)
"""What a failed command says. It says so on stdout, where the answer would be, and may exit with 0."""

Ioctl = Callable[[int, int, bytearray], int]


class FirmwareError(SourceLost):
    """The firmware did not answer, or answered that it cannot."""


class FirmwareClient(Protocol):
    """One way of asking the firmware."""

    @property
    def path(self) -> str:
        """The device or the program that is asked."""

    @property
    def in_process(self) -> bool:
        """Whether a question costs no process of its own."""

    def ask(self, command: str) -> str:
        """The answer to `command`. Raises FirmwareError, also for an answer that reports a failure."""

    def close(self) -> None:
        """Give back what is held open."""


class Mailbox:
    """Asks through one of the mailbox devices."""

    in_process = True

    def __init__(self, device: Path, *, ioctl: Ioctl = fcntl.ioctl) -> None:
        """Open `device`. Raises OSError when that is not possible."""
        self.path = str(device)
        self._ioctl = ioctl
        self._fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)

    def ask(self, command: str) -> str:
        """See `FirmwareClient.ask`."""
        text = command.encode("ascii").ljust(_TEXT_BYTES, b"\0")
        message = bytearray(_HEADER.pack(_MESSAGE_BYTES, 0, _TAG_GENCMD, _TEXT_BYTES, 0, 0) + text + bytes(4))
        try:
            self._ioctl(self._fd, _IOCTL_PROPERTY, message)
        except OSError as error:
            raise FirmwareError(
                f"{self.path}: {error.strerror}", "update the firmware: sudo apt full-upgrade"
            ) from error
        _, code, _, _, _, failure = _HEADER.unpack_from(message)
        answer = _printable(bytes(message[_HEADER.size : -4]).split(b"\0", 1)[0])
        if code != _RESPONSE_OK:
            raise FirmwareError(f"{self.path}: the firmware did not process `{command}` (code {code:#x})")
        return checked(command, answer, failed=failure != 0)

    def close(self) -> None:
        """See `FirmwareClient.close`."""
        os.close(self._fd)


class Vcgencmd:
    """Asks by running `vcgencmd`, at a fork for every question."""

    in_process = False

    def __init__(self, program: str) -> None:
        self.path = program

    def ask(self, command: str) -> str:
        """See `FirmwareClient.ask`."""
        try:
            done = subprocess.run(
                [self.path, *command.split()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=_VCGENCMD_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise FirmwareError(f"vcgencmd {command}: no answer in {_VCGENCMD_TIMEOUT_S:g} s", retry=True) from error
        except OSError as error:
            raise FirmwareError(f"{self.path}: {error.strerror}") from error
        return checked(command, _printable(done.stdout[:_TEXT_BYTES]), failed=done.returncode != 0)

    def close(self) -> None:
        """See `FirmwareClient.close`."""


class CopiedAnswers:
    """Gives what the firmware of another machine answered last."""

    in_process = False
    path = "vcgencmd"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def ask(self, command: str) -> str:
        """See `FirmwareClient.ask`."""
        answer = text_of(self._folder / command, _TEXT_BYTES)
        if not answer:
            raise FirmwareError("there is no vcgencmd", "sudo apt install raspi-utils")
        return checked(command, _printable(answer.encode()))

    def close(self) -> None:
        """See `FirmwareClient.close`."""


def open_gencmd(host: Host, *, ioctl: Ioctl = fcntl.ioctl) -> FirmwareClient:
    """The cheapest way of asking the firmware that answers on this host.

    Raises FirmwareError when there is none.
    """
    if (copied := host.path(GENCMD_ANSWERS)).is_dir():
        return CopiedAnswers(copied)
    refused: list[str] = []
    permitted = True
    for device in DEVICES:
        try:
            mailbox = Mailbox(host.path(device), ioctl=ioctl)
        except OSError as error:
            permitted = permitted and not isinstance(error, PermissionError)
            refused.append(f"{device}: {error.strerror}")
            continue
        with contextlib.suppress(FirmwareError):
            mailbox.ask("get_throttled")
            return mailbox
        refused.append(f"{device} does not answer")
        mailbox.close()
    program = shutil.which("vcgencmd")
    if program is None:
        hint = "sudo apt install raspi-utils" if permitted else JOIN_VIDEO_GROUP
        raise FirmwareError("; ".join([*refused, "no vcgencmd"]), hint)
    vcgencmd = Vcgencmd(program)
    vcgencmd.ask("get_throttled")
    return vcgencmd


def checked(command: str, answer: str, *, failed: bool = False) -> str:
    """`answer`, unless it reports a failure.

    Raises FirmwareError when it does.
    """
    answer = answer.strip()
    if failed or not answer or _FAILURE.search(answer):
        first_line = answer.splitlines()[0][:120] if answer else "no answer"
        hint = JOIN_VIDEO_GROUP if "Can't open device" in answer else ""
        raise FirmwareError(f"{command}: {first_line}", hint)
    return answer


def _printable(answer: bytes) -> str:
    text = answer.decode("ascii", "replace")
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)


_THROTTLE_BITS = ("undervoltage", "frequency_capped", "slowed_down", "soft_temperature_limit")
"""Bits 0 to 3 of `get_throttled` are now; 16 to 19 are the same, at any time since boot."""

_THROTTLED = re.compile(r"^throttled=0x([0-9a-fA-F]{1,8})$")


class PiThrottle:
    """What the firmware does to keep the board within its supply and its temperature: 1 while it does, else 0.

    A dip of the supply between two readings shows in the bits that are kept since boot, the first time it happens. Such
    a bit that was set since the reading before counts as one that is set now.
    """

    blocking = True

    def __init__(self, gencmd: FirmwareClient) -> None:
        """Take a first reading. Raises SourceLost when there is none."""
        self._gencmd = gencmd
        self._since_boot = 0xF
        now = tuple(Channel(name=f"throttle.{name}", unit="1") for name in _THROTTLE_BITS)
        since_boot = tuple(Channel(name=f"throttle.{name}_since_boot", unit="1") for name in _THROTTLE_BITS)
        self.info = SourceInfo(
            name="throttle",
            driver="Raspberry Pi get_throttled",
            path=gencmd.path,
            period_s=1.0,
            channels=now + since_boot,
        )
        self.read()

    def read(self) -> Values:
        """The eight bits. Raises SourceLost when the firmware does not answer."""
        answer = self._gencmd.ask("get_throttled")
        match = _THROTTLED.match(answer)
        if match is None:
            raise SourceLost(f"get_throttled: {answer[:80]!r} is not an answer")
        bits = int(match[1], 16)
        since_boot = bits >> 16 & 0xF
        now = bits & 0xF | since_boot & ~self._since_boot
        self._since_boot = since_boot
        return tuple(float(word >> bit & 1) for word in (now, since_boot) for bit in range(4))

    def close(self) -> None:
        """Close the way to the firmware."""
        self._gencmd.close()


class UndervoltageAlarm:
    """The one bit of throttling that the kernel shows to everybody, for when the firmware cannot be asked."""

    blocking = False

    def __init__(self, file: Path) -> None:
        """Take a first reading. Raises SourceLost when there is none."""
        self._file = SysfsFile(file)
        self.info = SourceInfo(
            name="throttle",
            driver="hwmon rpi_volt",
            path=str(file),
            period_s=1.0,
            channels=(Channel(name="throttle.undervoltage", unit="1"),),
        )
        self.read()

    def read(self) -> Values:
        """1 while the supply is too low. Raises SourceLost when the alarm cannot be read."""
        try:
            text = self._file.text()
        except OSError as error:
            raise SourceLost(why(error, self._file.path)) from error
        if text not in {"0", "1"}:
            raise SourceLost(f"{self._file.path}: {text[:40]!r} is neither 0 nor 1")
        return (float(text),)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def throttle(host: Host, connect: Callable[[Host], FirmwareClient]) -> Source | UnavailableSource:
    """The throttling bits, as many of them as this host shows."""
    gencmd: FirmwareClient | None = None
    try:
        gencmd = connect(host)
        return PiThrottle(gencmd)
    except SourceLost as lost:
        missing = lost.missing
    if gencmd is not None:
        gencmd.close()
    for chip in find_chips(host):
        if chip.name == "rpi_volt":
            with contextlib.suppress(SourceLost):
                return UndervoltageAlarm(chip.directory / "in0_lcrit_alarm")
    return UnavailableSource(name="throttle", missing=missing)


SOURCE_NAME = "power.pi"
TOTAL = "power.board"
RAW_SUM = "power.rails"
"""What a calibration is fitted on: the plain sum of the rails."""

GENERIC = CalibrationLine(slope=1.1451, intercept_w=0.5879, gain=0.15)
"""A published fit of one board's rails to a meter in its supply line (jfikar/RPi5-power). Half-width by judgement."""

_RAILS = {
    0: ("3V7_WL_SW", 8),
    1: ("3V3_SYS", 9),
    2: ("1V8_SYS", 10),
    3: ("DDR_VDD2", 11),
    4: ("DDR_VDDQ", 12),
    5: ("1V1_SYS", 13),
    6: ("0V8_SW", 14),
    7: ("VDD_CORE", 15),
    17: ("3V3_DAC", 20),
    18: ("3V3_ADC", 21),
    16: ("0V8_AON", 19),
    22: ("HDMI", 23),
}
"""Rail by the index of its current, with the index of its voltage. Early firmware gives two rails the same name."""

_SMALL_RAILS = frozenset({16, 17, 18})
_SMALL_RAIL_MAX_A = 0.1
"""These three carry milliamperes; early firmware reports them about a thousand times too large."""

_READING = re.compile(
    r"^[ \t]*\w{1,32} (current|volt)\((\d{1,2})\)=(\d{1,6}\.\d{1,12})[AV][ \t\r]*$", re.MULTILINE | re.ASCII
)

_UPDATE_S = 1 / 21.2
"""Full scans of the converter take this long (measured by the author of powerstamp)."""

_PERIOD_S = 0.1
"""Twice what a full scan takes, so that the firmware has time for other things."""

_PERIOD_FORKING_S = 0.5
"""A fork costs about 4 ms, so this keeps `vcgencmd` below 1 % of a core."""

_LSB_W = 0.008
"""Step of VDD_CORE, 8.93 mA at 0.9 V, as seen in public dumps; it dwarfs those of the other rails."""

_P_MIN_W, _P_MAX_W = 0.5, 40.0
"""No Pi 5 runs Linux on less than the one, and its supply gives 27 W."""

_EARLY_FIRMWARE = Unavailable(
    "early firmware reports this rail about a thousand times too large",
    "sudo apt full-upgrade && sudo rpi-eeprom-update -a",
)

_NO_READING = Unavailable("not in the firmware's answer")


class PmicScan(Struct, frozen=True, kw_only=True):
    """One answer to `pmic_read_adc`."""

    rails_w: dict[int, float]
    """Power by the index of the rail's current, rails of early firmware included."""
    wrong_scale: frozenset[int]
    """Rails whose current cannot be true."""

    @property
    def sum_w(self) -> float:
        """Sum of the rails that can be believed."""
        dropped = _SMALL_RAILS if self.wrong_scale else frozenset()
        return sum(power_w for rail, power_w in self.rails_w.items() if rail not in dropped)


def parse_pmic(answer: str) -> PmicScan:
    """Pair currents with voltages by index. Lines that are neither are passed over."""
    amperes: dict[int, float] = {}
    volts: dict[int, float] = {}
    for kind, index, number in _READING.findall(answer):
        (amperes if kind == "current" else volts)[int(index)] = float(number)
    return PmicScan(
        rails_w={
            rail: amperes[rail] * volts[volt] for rail, (_, volt) in _RAILS.items() if rail in amperes and volt in volts
        },
        wrong_scale=frozenset(rail for rail in _SMALL_RAILS if amperes.get(rail, 0.0) > _SMALL_RAIL_MAX_A),
    )


class PiPmic:
    """The board's power: the rails, their sum, and the sum corrected for what the rails do not see."""

    blocking = True

    def __init__(self, gencmd: FirmwareClient, *, line: CalibrationLine, calibration: str, note: str = "") -> None:
        """Take a first reading to see what there is. `line` is applied to the sum and `calibration` names it.

        Raises FirmwareError when the firmware does not answer, SourceLost when what it answers is not plausible.
        """
        self._gencmd = gencmd
        self._line = line
        scan = parse_pmic(gencmd.ask("pmic_read_adc"))
        if not _P_MIN_W <= scan.sum_w <= _P_MAX_W:
            raise SourceLost(f"pmic_read_adc: {len(scan.rails_w)} rails with {scan.sum_w:.2f} W are not plausible")
        self._rails = tuple(scan.rails_w)
        self._early_firmware = bool(scan.wrong_scale)
        self.info = self._describe(calibration, note)

    def _describe(self, calibration: str, note: str) -> SourceInfo:
        flags: tuple[SensorFlag, ...] = ("early-firmware",) if self._early_firmware else ()
        rails = {f"power.{_RAILS[rail][0]}": rail for rail in self._rails}
        believed = tuple(name for name, rail in rails.items() if not (self._early_firmware and rail in _SMALL_RAILS))
        rail_properties = PowerProperties(window_s=0.0, update_s=_UPDATE_S, gain=0.10, p_max_w=_P_MAX_W)
        known = {
            TOTAL: PowerProperties(
                window_s=0.0,
                update_s=_UPDATE_S,
                gain=self._line.gain,
                lsb_w=_LSB_W * self._line.slope,
                p_max_w=_P_MAX_W,
                calibration=calibration,
                flags=("generic-calibration", *flags) if self._line is GENERIC else flags,
                total=True,
            ),
            RAW_SUM: PowerProperties(
                window_s=0.0,
                update_s=_UPDATE_S,
                gain=0.10,
                lsb_w=_LSB_W,
                p_max_w=_P_MAX_W,
                flags=("partial", *flags),
                sum_of=believed,
            ),
            **dict.fromkeys(rails, rail_properties),
        }
        applied = SourceProperties(
            calibration_slope=self._line.slope, calibration_intercept_w=self._line.intercept_w, calibration_note=note
        )
        return SourceInfo(
            name=SOURCE_NAME,
            driver="Raspberry Pi PMIC",
            path=self._gencmd.path,
            kind="power",
            period_s=_PERIOD_S if self._gencmd.in_process else _PERIOD_FORKING_S,
            channels=(
                Channel(name=TOTAL, unit="W", digits=3, scope="board_rails", label="board"),
                Channel(name=RAW_SUM, unit="W", digits=4, scope="component", label="sum of rails"),
                *(
                    Channel(name=name, unit="W", digits=4, scope="component", label=_RAILS[rail][0])
                    for name, rail in rails.items()
                ),
            ),
            properties=to_properties(known, applied),
        )

    def read(self) -> Values:
        """Watts, in the order of the channels. Raises SourceLost when the firmware does not answer."""
        scan = parse_pmic(self._gencmd.ask("pmic_read_adc"))
        if not scan.rails_w:
            raise SourceLost("pmic_read_adc: no rails in the firmware's answer")
        self._early_firmware = self._early_firmware or bool(scan.wrong_scale)
        rails = tuple(self._rail(scan, rail) for rail in self._rails)
        if _NO_READING in rails:
            return (_NO_READING, _NO_READING, *rails)
        sum_w = sum(value for value in rails if isinstance(value, float))
        if not _P_MIN_W <= sum_w <= _P_MAX_W:
            implausible = Unavailable(f"a sum of {sum_w:.2f} W is not plausible")
            return (implausible, implausible, *rails)
        return (self._line.corrected_w(sum_w), sum_w, *rails)

    def _rail(self, scan: PmicScan, rail: int) -> float | Unavailable:
        if self._early_firmware and rail in _SMALL_RAILS:
            return _EARLY_FIRMWARE
        return scan.rails_w.get(rail, _NO_READING)

    def close(self) -> None:
        """Close the way to the firmware."""
        self._gencmd.close()


def probe(
    host: Host, *, calibration_file: Path | None = None, connect: Callable[[Host], FirmwareClient] = open_gencmd
) -> Iterator[Source | UnavailableSource]:
    """The power and throttling of a Raspberry Pi; nothing on other machines.

    A calibration of this board in `calibration_file`, by default the user's own, replaces the generic one.
    """
    model = board_model(host)
    if not model.startswith("Raspberry Pi"):
        return
    yield _power(host, model, calibration_file or default_file(), connect)
    yield throttle(host, connect)


def _power(
    host: Host, model: str, calibration_file: Path, connect: Callable[[Host], FirmwareClient]
) -> Source | UnavailableSource:
    line, calibration, note = GENERIC, "generic", ""
    try:
        own = load(calibration_file, device=device_key(host), source=SOURCE_NAME)
    except CalibrationError as error:
        note = f"{error.what}; {error.hint}"
    else:
        if own is not None:
            line, calibration = own.line, own.title
    gencmd: FirmwareClient | None = None
    retry = False
    try:
        gencmd = connect(host)
        return PiPmic(gencmd, line=line, calibration=calibration, note=note)
    except FirmwareError as error:
        missing, retry = error.missing, error.retry
        if "Command not registered" in missing.reason:
            missing = _no_sensor(model)
    except SourceLost as lost:
        missing, retry = lost.missing, True
    if gencmd is not None:
        gencmd.close()
    return UnavailableSource(name=SOURCE_NAME, missing=missing, retry=retry)


def _no_sensor(model: str) -> Unavailable:
    if re.match(r"Raspberry Pi (5|500\+?|Compute Module 5)( |$)", model):
        return Unavailable(
            "this firmware cannot read the power chip", "sudo apt full-upgrade && sudo rpi-eeprom-update -a"
        )
    return Unavailable(f"{model} has no power sensor", EXTERNAL_METER)

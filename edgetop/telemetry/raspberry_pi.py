"""Raspberry Pi: power from the Pi 5's power management chip; throttling, on every Pi, is in `pi_throttle`.

The DA9091 of the Pi 5 (and 500, CM5) measures twelve rails, each a current and a voltage, and not the 5 V input: what
hangs on it directly (USB, HAT, NVMe, fan) is invisible. Other models measure nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from msgspec import Struct

from edgetop.core.records import Channel, Missing, SourceInfo
from edgetop.telemetry.calibration import CalibrationError, Line, default_file, device_key, load
from edgetop.telemetry.external import OUTSIDE_METERS
from edgetop.telemetry.pi_mailbox import Gencmd, MailboxError, open_gencmd
from edgetop.telemetry.pi_throttle import throttle
from edgetop.telemetry.power_properties import PowerProperties, SensorFlag, to_properties
from edgetop.telemetry.source import Absent, Host, Source, SourceLost, Values

SOURCE_NAME = "power.pi"
TOTAL = "power.board"
RAW_SUM = "power.rails"
"""What a calibration is fitted on: the plain sum of the rails."""

GENERIC = Line(slope=1.1451, intercept_w=0.5879, gain=0.15)
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
_READING = re.compile(r"^\s*\w{1,32} (current|volt)\((\d{1,2})\)=(\d{1,6}\.\d{1,12})[AV]\s*$", re.MULTILINE | re.ASCII)

_UPDATE_S = 1 / 21.2
"""Full scans of the converter take this long (measured by the author of powerstamp)."""
_PERIOD_S = 0.1
"""Twice what a full scan takes, since the sampler drops a reading that took more than half a period."""
_PERIOD_FORKING_S = 0.5
"""A fork costs about 4 ms, so this keeps `vcgencmd` below 1 % of a core."""
_LSB_W = 0.008
"""Step of VDD_CORE, 8.93 mA at 0.9 V, as seen in public dumps; it dwarfs those of the other rails."""
_P_MIN_W, _P_MAX_W = 0.5, 40.0
"""No Pi 5 runs Linux on less than the one, and its supply gives 27 W."""

_EARLY_FIRMWARE = Missing(
    "early firmware reports this rail about a thousand times too large",
    "sudo apt full-upgrade && sudo rpi-eeprom-update -a",
)
_NO_READING = Missing("not in the firmware's answer")


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

    def __init__(self, gencmd: Gencmd, *, line: Line, calibration: str, note: str = "") -> None:
        """Take a first reading to see what there is. `line` is applied to the sum and `calibration` names it.

        Raises MailboxError when the firmware does not answer, SourceLost when what it answers is not plausible.
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
        properties = to_properties(known)
        properties["calibration_slope"] = self._line.slope
        properties["calibration_intercept_w"] = self._line.intercept_w
        if note:
            properties["calibration_note"] = note
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
            properties=properties,
        )

    def read(self) -> Values:
        """Watts, in the order of the channels. Raises SourceLost when the firmware does not answer."""
        try:
            scan = parse_pmic(self._gencmd.ask("pmic_read_adc"))
        except MailboxError as error:
            raise SourceLost(error.reason, error.mend) from error
        if not scan.rails_w:
            raise SourceLost("pmic_read_adc: no rails in the firmware's answer")
        self._early_firmware = self._early_firmware or bool(scan.wrong_scale)
        rails = tuple(self._rail(scan, rail) for rail in self._rails)
        if _NO_READING in rails:
            return (_NO_READING, _NO_READING, *rails)
        sum_w = sum(value for value in rails if isinstance(value, float))
        if not _P_MIN_W <= sum_w <= _P_MAX_W:
            implausible = Missing(f"a sum of {sum_w:.2f} W is not plausible")
            return (implausible, implausible, *rails)
        return (self._line.corrected_w(sum_w), sum_w, *rails)

    def _rail(self, scan: PmicScan, rail: int) -> float | Missing:
        if self._early_firmware and rail in _SMALL_RAILS:
            return _EARLY_FIRMWARE
        return scan.rails_w.get(rail, _NO_READING)

    def close(self) -> None:
        """Close the way to the firmware."""
        self._gencmd.close()


def probe(
    host: Host, *, calibration_file: Path | None = None, connect: Callable[[Host], Gencmd] = open_gencmd
) -> Iterator[Source | Absent]:
    """The power and throttling of a Raspberry Pi; nothing on other machines.

    A calibration of this board in `calibration_file`, by default the user's own, replaces the generic one.
    """
    try:
        text = host.path("/proc/device-tree/model").read_text("ascii", "replace")
    except OSError:
        return
    model = "".join(c for c in text if c.isprintable()).strip()[:80]
    if not model.startswith("Raspberry Pi"):
        return
    yield _power(host, model, calibration_file or default_file(), connect)
    yield throttle(host, connect)


def _power(host: Host, model: str, calibration_file: Path, connect: Callable[[Host], Gencmd]) -> Source | Absent:
    line, calibration, note = GENERIC, "generic", ""
    try:
        own = load(calibration_file, device=device_key(host), source=SOURCE_NAME)
    except CalibrationError as error:
        note = f"{error.reason}; {error.mend}"
    else:
        if own is not None:
            line, calibration = own.line, own.title
    gencmd: Gencmd | None = None
    try:
        gencmd = connect(host)
        return PiPmic(gencmd, line=line, calibration=calibration, note=note)
    except MailboxError as error:
        missing = Missing(error.reason, error.mend)
        if "Command not registered" in error.reason:
            missing = _no_sensor(model)
    except SourceLost as lost:
        missing = lost.missing
    if gencmd is not None:
        gencmd.close()
    return Absent(name=SOURCE_NAME, missing=missing)


def _no_sensor(model: str) -> Missing:
    if re.search(r"\b(5|500|Module 5)\b", model):
        return Missing("this firmware cannot read the power chip", "sudo apt full-upgrade && sudo rpi-eeprom-update -a")
    return Missing(f"{model} has no power sensor", OUTSIDE_METERS)

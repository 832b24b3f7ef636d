"""A Jetson and a Pi 5 whose power modes, governors, clocks and fan can be set, below a folder, with fake programs.

The programs do to the tree what nvpmodel and jetson_clocks do to a Jetson, and write into the script of the engine how
fast it is then: in 25 W faster than in MAXN, which throttles.
"""

from __future__ import annotations

from pathlib import Path

from tests.support.fake_sysfs import JETSON, ORIN_NANO, PI_5, Tree, below, plant

CPUFREQ = "/sys/devices/system/cpu/cpufreq"
GOVERNORS = "conservative ondemand userspace powersave performance schedutil"
MODES = "\n".join(
    f"< POWER_MODEL ID={number} NAME={name} >" for number, name in enumerate(("MAXN", "15W", "25W", "40W"))
)


def policy(number: int, least: int, most: int, steps: str, governor: str) -> Tree:
    return below(
        f"{CPUFREQ}/policy{number}",
        {
            "scaling_governor": governor, "scaling_available_governors": GOVERNORS, "scaling_min_freq": least,
            "scaling_max_freq": most, "cpuinfo_min_freq": least, "cpuinfo_max_freq": most,
            "scaling_available_frequencies": steps, "scaling_cur_freq": most,
        },
    )  # fmt: skip


TUNABLE_PI: Tree = {
    **PI_5,
    **policy(0, 1_500_000, 2_400_000, "1500000 1600000 2000000 2400000", "ondemand"),
    "/sys/class/hwmon/hwmon2/name": "pwmfan",
    "/sys/class/hwmon/hwmon2/pwm1": 125,
    "/proc/sys/kernel/random/boot_id": "11111111-0000-0000-0000-000000000000",
}

TUNABLE_ORIN: Tree = {
    **JETSON,
    **ORIN_NANO,
    **policy(0, 115_200, 1_728_000, "115200 729600 1728000", "schedutil"),
    **policy(4, 115_200, 1_728_000, "115200 729600 1728000", "schedutil"),
    "/etc/nvpmodel.conf": f"{MODES}\n< PM_CONFIG DEFAULT=1 >\n",
    "/var/lib/nvpmodel/status": "pmode:0001",
    "/sys/kernel/debug/bpmp/debug/clk/emc/rate": 2_133_000_000,
    "/sys/kernel/debug/bpmp/debug/clk/emc/mrq_rate_locked": 0,
    "/proc/sys/kernel/random/boot_id": "22222222-0000-0000-0000-000000000000",
}

NVPMODEL = """#!/bin/sh
# -m N: the mode's number into the status file, its speed into the engine's script; 40W needs a restart of the device.
echo "nvpmodel $*" >> {calls}
[ "$1" = -m ] || exit 1
[ "$2" = 3 ] && {{ echo "NVPM WARN: Reboot required for changing to this power mode: 3"
  echo "NVPM WARN: DO YOU WANT TO REBOOT NOW? enter YES/yes to confirm:"; read answer; exit 0; }}
sleep 0.1 && printf 'pmode:%04d' "$2" > {root}/var/lib/nvpmodel/status
case $2 in 0) speed=100 ;; 1) speed=50 ;; 2) speed=400 ;; esac
[ -e {script} ] && printf '{{"tokens_per_s": %s, "prefill_tokens_per_s": 20000}}' $speed > {script}
exit 0
"""

JETSON_CLOCKS = """#!/bin/sh
echo "jetson_clocks $*" >> {calls}
cd {root}/sys/devices/system/cpu/cpufreq
case $1 in
  --store) for each in policy*; do echo "$each $(cat $each/scaling_min_freq)"; done > "$2" ;;
  --restore) while read each min; do echo $min > $each/scaling_min_freq; done < "$2" ;;
  "") for each in policy*; do cat $each/scaling_max_freq > $each/scaling_min_freq; done ;;
esac
"""

SUDO = """#!/bin/sh
# Without a password: -n -l PROGRAM, or -n PROGRAM ARGUMENT ...
shift
[ "$1" = -l ] || exec "$@"
"""


def make_tunable(folder: Path, tree: Tree) -> Path:
    """Plant the tree below `folder/root`; the folder of the programs, for PATH."""
    plant(folder / "root", tree)
    programs = folder / "programs"
    programs.mkdir()
    names = {"root": folder / "root", "calls": folder / "calls", "script": folder / "script.json"}
    for name, text in (("nvpmodel", NVPMODEL), ("jetson_clocks", JETSON_CLOCKS), ("sudo", SUDO)):
        (programs / name).write_text(text.format(**names))
        (programs / name).chmod(0o755)
    return programs

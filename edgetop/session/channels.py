"""Names of the channels that figures are made from. Sources that read these quantities use these names."""

from __future__ import annotations

from typing import Final

CPU_OTHERS: Final = "cpu.others"
CPU_STEAL: Final = "cpu.steal"
ENGINE_RSS: Final = "engine.rss"
ENGINE_MAPPED: Final = "engine.mapped"
ENGINE_ANONYMOUS: Final = "engine.anonymous"
ENGINE_SWAP: Final = "engine.swap"
ENGINE_MAJOR_FAULTS: Final = "engine.major_faults"
MEMORY_AVAILABLE: Final = "memory.available"
SWAP_USED: Final = "swap.used"
GPU_PREFIX: Final = "gpu."
GPU_MEMORY_USED_SUFFIX: Final = ".memory_used"
"""`gpu.0.memory_used` and so on, one for each GPU."""
BATTERY_ENERGY: Final = "battery.energy"
"""What is left in the batteries, in J."""
OWN_CPU: Final = "edgetop.cpu"
OWN_RSS: Final = "edgetop.rss"
THROTTLE_PREFIX: Final = "throttle."
"""Channels below this are above 0 while something holds the device back ..."""
SINCE_BOOT_SUFFIX: Final = "_since_boot"
"""... except those that only say that it once did."""

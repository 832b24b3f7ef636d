"""This machine for the predictions: what was measured of it, and what the table knows of its model."""

from __future__ import annotations

from msgspec.structs import replace

from edgetop.core.records import DeviceInfo
from edgetop.fit.band import banded
from edgetop.fit.calibration import learn
from edgetop.fit.devices import DeviceTable, device_of_model, machine_of
from edgetop.fit.machine import Machine, Processor
from edgetop.fit.machine_profile import MachineProfile, machine_key
from edgetop.fit.quant_speed import KERNELS, REFERENCE_DIGITS_PER_S, Kernels, KernelSet
from edgetop.fit.repacking import Features, usual_features

SIGMA = 0.08
"""Deviation of the logarithm of one measured bandwidth."""
UNMEASURED_BYTES_PER_S, UNMEASURED_SIGMA = 15e9, 0.7
"""A single channel of DDR4 or LPDDR4X as it is really read; with the band, from a Pi 4 to a workstation."""
SPEEDS = (0.1, 2.5)
"""Cores relative to the one the constants were found on; beyond, the probe was disturbed."""
PREFILL_BY_CORES_SIGMA = 0.35


def this_machine(
    device: DeviceInfo,
    profile: MachineProfile | None,
    table: DeviceTable,
    *,
    features: Features | None = None,
    gpu_offload: bool = True,
) -> Machine:
    """What is known of the machine we run on.

    What was measured goes before the table, and the table, if it has this model, before general figures. `features`
    are the instructions that the engine uses; `gpu_offload` is whether it can use a GPU at all.
    """
    known = device_of_model(table, device.model)
    listed = None if known is None else machine_of(known, device.power_mode or None, strict=False)
    kernels = _kernels(features if features is not None else usual_features(), profile)
    cpu = Processor(
        name=device.cpu or "CPU",
        bandwidth_bytes_per_s={1: banded(UNMEASURED_BYTES_PER_S, UNMEASURED_SIGMA)},
        kernels=kernels,
    )
    machine = Machine(
        name=device.model or device.cpu or "this machine",
        power_mode=device.power_mode,
        cpu=cpu,
        cores=device.cores_physical,
        memory_bytes=device.memory_bytes,
        key=machine_key(device),
        basis="formula",
        explanation="nothing of this machine has been measured yet",
    )
    if listed is not None:
        machine = replace(
            machine,
            cpu=listed.cpu or cpu,
            gpu=listed.gpu if gpu_offload else None,
            gpu_shares_memory=listed.gpu_shares_memory,
            power=listed.power,
            price_usd=listed.price_usd,
            basis="device table",
            explanation=listed.explanation,
            sources=listed.sources,
        )
    return machine if profile is None else _measured(machine, cpu, profile)


def _measured(machine: Machine, own_cpu: Processor, profile: MachineProfile) -> Machine:
    """With the bandwidth of the profile; the processor of the table keeps its arithmetic where it has any."""
    listed = machine.cpu if machine.cpu is not None and machine.cpu.kernels is not None else own_cpu
    cpu = replace(
        listed,
        bandwidth_bytes_per_s={
            threads: banded(rate, SIGMA) for threads, rate in sorted(profile.bandwidth_bytes_per_s.items())
        },
    )
    on_gpu = machine.gpu is not None
    rate = max(profile.bandwidth_bytes_per_s.values())
    measured = f"memory read at {rate / 1e9:.3g} GB/s, measured {profile.measured_at[:10]}"
    return replace(
        machine,
        cpu=cpu,
        learned=learn(profile.runs, profile.bandwidth_bytes_per_s),
        basis="device table" if on_gpu else "formula",
        explanation=f"{machine.explanation}; {measured}" if on_gpu else measured,
    )


def _kernels(features: Features, profile: MachineProfile | None) -> Kernels:
    """The arithmetic of the instructions there are, at the speed that the probe showed."""
    kind: KernelSet = "plain"
    if "AVX2" in features:
        kind = "avx2"
    elif features & {"DOTPROD", "MATMUL_INT8"}:
        kind = "arm-dotprod"
    kernels = KERNELS[kind]
    if profile is None or kind != "avx2":
        return kernels
    speed = profile.digits_per_s / REFERENCE_DIGITS_PER_S
    return kernels.scaled(min(max(speed, SPEEDS[0]), SPEEDS[1]))

"""Whether this is a virtual machine or a container, where sensors are hidden or read as zero."""

from __future__ import annotations

from edgetop.telemetry.source import Host
from edgetop.telemetry.sysfs_file import text_of

_HYPERVISORS = (
    "qemu",
    "kvm",
    "vmware",
    "virtualbox",
    "innotek",
    "xen",
    "microsoft corporation virtual",
    "bochs",
    "parallels",
    "amazon ec2",
    "google compute",
    "openstack",
    "firecracker",
    "bhyve",
    "apple virtualization",
)
"""Beginnings and parts of what virtual machines write into their DMI tables."""
_CONTAINER_FILES = {"/.dockerenv": "Docker", "/run/.containerenv": "Podman"}
_CONTAINER_GROUPS = {"docker": "Docker", "kubepods": "Kubernetes", "containerd": "containerd", "lxc": "LXC"}


def cpu_vendor(host: Host) -> str:
    """`GenuineIntel`, `AuthenticAMD` or the like on x86; empty elsewhere."""
    return _cpuinfo_field(host, "vendor_id")


def is_virtual_machine(host: Host) -> bool:
    """Whether a hypervisor is below: the processor says so, or the DMI tables do."""
    if "hypervisor" in _cpuinfo_field(host, "flags").split():
        return True
    dmi = host.path("/sys/class/dmi/id")
    made_by = f"{text_of(dmi / 'sys_vendor')} {text_of(dmi / 'product_name')}".lower()
    return any(name in made_by for name in _HYPERVISORS)


def container(host: Host) -> str:
    """Return the kind of container this runs in, such as `Docker`; empty outside of one."""
    for path, kind in _CONTAINER_FILES.items():
        if host.path(path).exists():
            return kind
    groups = _text(host, "/proc/1/cgroup")
    return next((kind for word, kind in _CONTAINER_GROUPS.items() if word in groups), "")


def device_tree_compatible(host: Host) -> tuple[str, ...]:
    """List what the board calls itself, most specific first: `nvidia,p3768-0000+p3767-0005`, `nvidia,tegra234`."""
    return tuple(name for name in _text(host, "/proc/device-tree/compatible").split("\0") if name)


def _cpuinfo_field(host: Host, field: str) -> str:
    for line in _text(host, "/proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == field:
            return value.strip()
    return ""


def _text(host: Host, path: str) -> str:
    try:
        return host.path(path).read_bytes()[:65536].decode("utf-8", "replace")
    except OSError:
        return ""

"""A fake `/proc` with processes and their sockets in it."""

from __future__ import annotations

import os
from pathlib import Path

from edgetop.inference.server.backend import server_programs
from edgetop.telemetry.host import Host
from edgetop.telemetry.model_processes import LEAST_BYTES, ModelProcess, ModelProcesses

TCP_HEADING = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

MODEL_PATH = "/srv/models/My Model-Q4_K_M.gguf"


class FakeProcesses:
    """A `/proc` with processes in it."""

    def __init__(self, root: Path) -> None:
        self.root = root / "proc"
        (self.root / "net").mkdir(parents=True)
        self.now_us = 0
        self.host = Host(sysroot=root, system="linux", own_pid=1, clock=lambda: self.now_us)
        self.lines = [TCP_HEADING]

    def process(
        self,
        pid: int,
        *arguments: str,
        parent: int = 1,
        uid: int = 1000,
        mapped: str | None = "",
        ports: tuple[int, ...] | None = (),
        resident_bytes: int = 4 * LEAST_BYTES,
        started: int = 0,
        cpu_ticks: int = 0,
    ) -> None:
        """`mapped` and `ports` of `None` may not be looked at."""
        folder = self.root / str(pid)
        folder.mkdir(exist_ok=True)
        (folder / "cmdline").write_text("".join(f"{argument}\0" for argument in arguments))
        fields = ["S", str(parent), *["0"] * 9, str(cpu_ticks), "0", "0", "0", "20", "0", "7", "0", str(started or pid)]
        (folder / "stat").write_text(
            f"{pid} (a (b) c) {' '.join([*fields, '0', str(resident_bytes // PAGE_BYTES)])} 0\n"
        )
        (folder / "status").write_text(f"Name:\tx\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n")
        if mapped is not None:
            lines = ["7f00-7f01 r-xp 00000000 08:01 1    /usr/lib/libc.so.6"]
            lines += [f"7f02-7f03 r--s 00000000 08:01 2    {mapped}"] if mapped else []
            (folder / "maps").write_text("\n".join(lines) + "\n")
        if ports is None:
            return
        (folder / "fd").mkdir(exist_ok=True)
        for port in ports:
            (folder / "fd" / str(port)).symlink_to(f"socket:[{pid}{port}]")
            self.listen(port, f"{pid}{port}", uid=uid)

    def listen(self, port: int, inode: str, *, uid: int = 1000, address: str = "0100007F") -> None:
        queues = "00000000:00000000 00:00000000 00000000"
        self.lines.append(f"   0: {address}:{port:04X} 00000000:0000 0A {queues} {uid:5d} 0 {inode} 1\n")
        (self.root / "net" / "tcp").write_text("".join(self.lines))

    def gone(self, pid: int) -> None:
        for file in sorted((self.root / str(pid)).rglob("*"), reverse=True):
            file.rmdir() if file.is_dir() and not file.is_symlink() else file.unlink()
        (self.root / str(pid)).rmdir()

    def found(self) -> dict[int, ModelProcess]:
        return {process.pid: process for process in ModelProcesses(self.host, server_programs()).scan()}

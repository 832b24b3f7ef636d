"""OpenSSH on the loopback: a server of one's own that knows one key."""

from __future__ import annotations

import getpass
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from tests.support.eventually import eventually
from tests.support.requirements import need_program


class Sshd:
    """A server of OpenSSH on the loopback that knows one key."""

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        """Keys, configuration and log are put into `folder`; `environment` is added to what runs there.

        Raises NotInstalledError.
        """
        server = need_program("sshd", "openssh-server", path="/usr/sbin:/usr/local/sbin:/usr/bin")
        need_program("ssh", "openssh-client")
        self._folder = folder
        self._port = unused_port()
        for name in ("host_key", "user_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
        shutil.copy(folder / "user_key.pub", folder / "authorized_keys")
        (folder / "sshd_config").write_text(
            f"ListenAddress 127.0.0.1\nPort {self._port}\nHostKey {folder}/host_key\nPidFile none\n"
            f"AuthorizedKeysFile {folder}/authorized_keys\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n"
            "PrintMotd no\nPrintLastLog no\n"
            + (f"SetEnv {' '.join(f'{name}={value}' for name, value in environment.items())}\n" if environment else "")
        )
        # Where it separates privileges, an sshd that root starts wants this folder, which only its service makes.
        if Path("/run").stat().st_uid == psutil.Process().uids().effective:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self._server = server
        self.start()

    def start(self) -> None:
        """Begin to answer, also after the server was ended."""
        with (self._folder / "sshd.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._server, "-D", "-e", "-f", self._folder / "sshd_config"], stdin=subprocess.DEVNULL, stderr=log
            )
        eventually(self._answers, "sshd answers", told=(self._folder / "sshd.log").read_text)

    @property
    def user_key(self) -> str:
        """The file of the key that it knows."""
        return str(self._folder / "user_key")

    def command(self, command: Sequence[str], environment: Mapping[str, str], *, terminal: bool = False) -> list[str]:
        """The command line that runs a command over the line, in this environment; on a terminal if so wished."""
        options = [
            *("-F", "none", "-i", self.user_key, "-p", str(self._port), "-o", "IdentitiesOnly=yes"),
            *("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"),
        ]
        settings = [f"{name}={value}" for name, value in environment.items()]
        tty = ["-tt"] if terminal else ["-T"]
        return ["ssh", *tty, *options, f"{getpass.getuser()}@127.0.0.1", "env", *settings, *command]

    def configuration(self, *names: str, known: bool = True) -> str:
        """The part of a client's configuration for hosts of these names; `known` says whether their key is."""
        file = self._folder / "known_hosts"
        kind, key, *_ = (self._folder / "host_key.pub").read_text().split()
        file.write_text(f"[127.0.0.1]:{self._port} {kind} {key}\n")
        return (
            f"Host {' '.join(names)}\n  HostName 127.0.0.1\n  Port {self._port}\n  User {getpass.getuser()}\n"
            f"  IdentityFile {self.user_key}\n  IdentitiesOnly yes\n"
            f"  UserKnownHostsFile {file if known else '/dev/null'}\n  GlobalKnownHostsFile /dev/null\n"
        )

    def close(self) -> None:
        """End the server; lines that are up stay."""
        self._process.terminate()
        self._process.wait(10)

    def hang_up(self) -> None:
        """End the server and the lines that are up."""
        lines: list[psutil.Process] = []
        with suppress(psutil.Error):
            lines = psutil.Process(self._process.pid).children(recursive=True)
        self.close()
        for line in lines:
            with suppress(psutil.Error):
                line.kill()

    def _answers(self) -> bool:
        assert self._process.poll() is None, (self._folder / "sshd.log").read_text()
        with socket.socket() as tried:
            return tried.connect_ex(("127.0.0.1", self._port)) == 0


def unused_port() -> int:
    """A port of the loopback that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def ssh_with(configuration: str, folder: Path) -> Path:
    """A folder for PATH in which `ssh` is OpenSSH's with this configuration in place of one's own."""
    program = need_program("ssh", "openssh-client")
    folder.mkdir()
    (folder / "config").write_text(configuration)
    (folder / "ssh").write_text(f'#!/bin/sh\nexec {program} -F {folder}/config "$@"\n')
    (folder / "ssh").chmod(0o755)
    return folder

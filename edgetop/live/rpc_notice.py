"""What a person must know of layers on RPC servers, said once."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from edgetop.live.conversation import Notice

_HOW = "Let them listen on 127.0.0.1 and reach them through SSH: ssh -L 50052:127.0.0.1:50052 HOST."


def rpc_notice(servers: Sequence[str]) -> Notice:
    """The warning of llama.cpp's SECURITY.md, and what the panes do not show."""
    text = "llama.cpp's RPC is neither encrypted nor guarded: its SECURITY.md forbids it on untrusted networks."
    away = [server.rpartition(":")[0] for server in servers if not _is_loopback(server)]
    if not away:
        return Notice(text=text, mend=_HOW, severity="warning")
    text += f" Memory and power are shown of this machine, not of {', '.join(dict.fromkeys(away))}"
    more = f'; --power-stream "ssh {away[0]} edgetop power --stream" brings the power of another one.'
    return Notice(text=text + more, mend=_HOW, severity="warning")


def _is_loopback(server: str) -> bool:
    host = server.rpartition(":")[0]
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

"""How addresses of llama.cpp's RPC servers are written."""

from __future__ import annotations

import re

PORT_DEFAULT = 50052
"""Of llama.cpp's ggml-rpc-server (tools/rpc)."""
SERVERS_MAX = 16
"""GGML_RPC_MAX_SERVERS of ggml-rpc.h."""
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.\-]*[A-Za-z0-9])?")


def rpc_servers(value: str) -> tuple[str, ...]:
    """One or several addresses with commas between, each as `host:port`; the port may be left out.

    llama.cpp takes names and IPv4 addresses here. Raises ValueError.
    """
    servers = tuple(dict.fromkeys(_server(word.strip()) for word in value.split(",")))
    if len(servers) > SERVERS_MAX:
        raise ValueError(f"at most {SERVERS_MAX} RPC servers")
    return servers


def _server(word: str) -> str:
    host, colon, port = word.partition(":")
    number = port if colon else str(PORT_DEFAULT)
    if not _HOST.fullmatch(host) or not number.isascii() or not number.isdecimal() or not 0 < int(number) < 2**16:
        raise ValueError(f"HOST:PORT, several with commas between, such as 10.0.0.2:{PORT_DEFAULT},10.0.0.3")
    return f"{host}:{int(number)}"

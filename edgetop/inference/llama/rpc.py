"""Layers on other machines.

The library aborts the process for a server that is not there or that breaks off, and waits for ever for one that is
busy, since it serves one program at a time. So each server is greeted from here first, with patience.
"""

from __future__ import annotations

import ctypes
import socket
from collections.abc import Sequence

from edgetop.core.engine_settings import LayerShare
from edgetop.inference.llama.library import Library
from edgetop.inference.llama.log import Line, layer_devices

PATIENCE_S = 5.0
"""Time limit of a server's answer to a greeting."""

_HELLO = bytes([14]) + (24).to_bytes(8, "little") + bytes(24)
"""The command RPC_CMD_HELLO, the size of what follows, and no capabilities beyond TCP (ggml/src/ggml-rpc of 0.3.36)."""

_VERSION_BYTES = 3
_ANSWER_BYTES = 4 + 24
_ADD_SERVER = b"ggml_backend_rpc_add_server"
BUILD_ARGS = "-DGGML_RPC=ON"


class RpcError(Exception):
    """An RPC server cannot be used; the text says which and why, in one line, `hint` what to do."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(what)
        self.hint = hint


def supports_rpc(library: Library) -> bool:
    """Whether the library was built with it."""
    return bool(library.llama_supports_rpc())


class RpcServers:
    """The servers whose devices the library knows. It cannot forget one."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._known: set[str] = set()

    def connect(self, servers: Sequence[str]) -> None:
        """Make the devices of servers, each `host:port`, known to the library. Raises RpcError."""
        if not servers:
            return
        if not supports_rpc(self._library):
            raise RpcError(
                "This llama.cpp was built without RPC, so that no layers can be given to other machines.",
                f"Build it with {BUILD_ARGS} (see `edgetop doctor`), or leave --rpc out.",
            )
        for server in servers:
            greet(server)
        for server in servers:
            if server not in self._known:
                self._add(server)
                self._known.add(server)

    def _add(self, server: str) -> None:
        shared = self._library._lib  # noqa: SLF001 - the bindings leave ggml's device functions out
        by_name, address_of = shared.ggml_backend_reg_by_name, shared.ggml_backend_reg_get_proc_address
        by_name.argtypes, by_name.restype = [ctypes.c_char_p], ctypes.c_void_p
        address_of.argtypes, address_of.restype = [ctypes.c_void_p, ctypes.c_char_p], ctypes.c_void_p
        shared.ggml_backend_register.argtypes = [ctypes.c_void_p]
        shared.ggml_backend_register.restype = None
        address = address_of(by_name(b"RPC"), _ADD_SERVER)
        registered = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_char_p)(address)(server.encode()) if address else None
        if not registered:
            raise RpcError(f"The RPC server at {server} offers no device.", "Look at what it printed when it began.")
        shared.ggml_backend_register(registered)


def greet(server: str) -> str:
    """The version of the protocol that an RPC server speaks, such as `7.0.0`. Raises RpcError where none answers."""
    host, _, port = server.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), PATIENCE_S) as connection:
            connection.settimeout(PATIENCE_S)
            connection.sendall(_HELLO)
            answer = b""
            while len(answer) < 8 + _ANSWER_BYTES and (piece := connection.recv(64)):
                answer += piece
    except TimeoutError:
        raise RpcError(
            f"The RPC server at {server} does not answer within {PATIENCE_S:g} s.",
            "It serves one program at a time: end the other one, or check whether the machine is on.",
        ) from None
    except OSError as error:
        why = "nobody listens there" if isinstance(error, ConnectionRefusedError) else error.strerror or str(error)
        raise RpcError(
            f"The RPC server at {server} cannot be reached: {why}.",
            "Start llama.cpp's ggml-rpc-server there, or check the address after --rpc.",
        ) from None
    if len(answer) < 8 + _ANSWER_BYTES or int.from_bytes(answer[:8], "little") != _ANSWER_BYTES:
        raise RpcError(
            f"What listens at {server} does not speak this llama.cpp's RPC.",
            "Run a ggml-rpc-server of the same llama.cpp there, or check the address after --rpc.",
        )
    return ".".join(str(number) for number in answer[8 : 8 + _VERSION_BYTES])


def layer_shares(library: Library, lines: Sequence[Line]) -> tuple[LayerShare, ...]:
    """Which layers a load has put on which device, from its log; empty where all are on one."""
    by_device = layer_devices(lines)
    if len(by_device) < 2:
        return ()
    servers = _servers_of_devices(library)
    return tuple(
        LayerShare(device=device, server=servers.get(device, ""), first=min(layers), last=max(layers))
        for device, layers in by_device.items()
    )


def _servers_of_devices(library: Library) -> dict[str, str]:
    """The address of the server that a device is on, by the device's name; only of devices on one."""
    shared = library._lib  # noqa: SLF001 - the bindings leave ggml's device functions out
    found = {}
    for index in range(shared.ggml_backend_dev_count()):
        device = shared.ggml_backend_dev_get(index)
        name = shared.ggml_backend_dev_name(device).decode("utf-8", "replace")
        if name.startswith("RPC"):
            found[name] = shared.ggml_backend_dev_description(device).decode("utf-8", "replace")
    return found

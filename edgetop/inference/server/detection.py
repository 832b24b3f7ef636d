"""Loads the kinds; asks a server which kind it is and what it offers."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from functools import cache
from importlib import import_module

from msgspec import Struct

from edgetop.core.text import one_line
from edgetop.inference.server import KINDS
from edgetop.inference.server.address import KEY_VARIABLE, ServerChoice, key_of
from edgetop.inference.server.backend import Offer, Program, ServerBackend
from edgetop.inference.server.connection import ServerClient
from edgetop.io import extensions
from edgetop.io.http import Cause, RequestError

PROBE_TIMEOUT_S = 10.0

_SPEAKS_HTTP: frozenset[Cause] = frozenset({"missing", "broken", "refused"})
"""Failures after which the server may still be of another kind."""


class ServerProbe(Struct, frozen=True, kw_only=True):
    """What was found at an address."""

    server: str
    """The address."""
    kind: str = ""
    """For a person."""
    version: str = ""
    offers: tuple[Offer, ...] = ()
    problem: str = ""
    """Why nothing or not all was found, in one line; empty where all was."""
    hint: str = ""

    @property
    def backend(self) -> type[ServerBackend]:
        """What this kind of server can do. Raises StopIteration where it is not known."""
        return next(backend for backend in backends() if backend.name == self.kind)


def _module_backends(name: str) -> tuple[type[ServerBackend], ...]:
    found: tuple[type[ServerBackend], ...] = import_module(f"edgetop.inference.server.{name}").BACKENDS
    return found


def backends() -> tuple[type[ServerBackend], ...]:
    """All kinds, in the order in which a server is asked whether it is one of them."""
    *own, rest = _own_backends()
    return (*own, *_extension_backends(), rest)


@cache
def _own_backends() -> tuple[type[ServerBackend], ...]:
    return tuple(backend for name in KINDS for backend in _module_backends(name))


def _extension_backends() -> Iterator[type[ServerBackend]]:
    """The kinds of other packages, which are asked for before the one that stands for all others."""
    for name, brought in extensions.loaded(extensions.SERVERS):
        if isinstance(brought, type) and issubclass(brought, ServerBackend):
            yield brought
        else:
            extensions.switch_off(extensions.SERVERS, name, TypeError("it is no class of ServerBackend"))


def server_programs() -> tuple[Program, ...]:
    """The programs of all kinds; the first one whose pattern matches counts."""
    return tuple(program for backend in backends() for program in backend.programs)


def server_process_names() -> tuple[str, ...]:
    """Names of the processes of all kinds."""
    return tuple(name for backend in backends() for name in backend.process_names)


def detect(client: ServerClient, kind: str = "auto") -> ServerBackend:
    """The backend for a server, of the kind it shows to be. Raises RequestError where none answers.

    Of a kind that was named, only it and the ones that build on it are considered: vLLM also speaks the OpenAI API.
    """
    candidates = backends()
    if kind != "auto":
        named = _named_backends(kind)
        candidates = tuple(backend for backend in candidates if issubclass(backend, named))
    for backend in candidates[:-1]:
        try:
            if backend.matches(client):
                return backend()
        except RequestError as error:
            if error.cause not in _SPEAKS_HTTP:
                raise
        except Exception as error:
            name = extensions.owner(extensions.SERVERS, backend)
            if name is None:
                raise
            extensions.switch_off(extensions.SERVERS, name, error)
    return candidates[-1]()


def _named_backends(kind: str) -> tuple[type[ServerBackend], ...]:
    """Those of a kind of ours, else of the extension of that name. Raises RequestError where that failed."""
    if kind.replace("-", "_") in KINDS:
        return _module_backends(kind.replace("-", "_"))
    found = tuple(backend for backend in _extension_backends() if extensions.owner(extensions.SERVERS, backend) == kind)
    if not found:
        raise RequestError(f"The extension {one_line(kind)} brings no kind of server.", "Choose another --server-kind.")
    return found


def probe(choice: ServerChoice, timeout_s: float = PROBE_TIMEOUT_S) -> ServerProbe:
    """Ask a server for its kind, version and models; nothing is loaded. Never raises."""
    server = choice.url
    kind = version = ""
    deadline_s = time.monotonic() + timeout_s
    try:
        server = str(choice.address)
        client = ServerClient(
            choice.address,
            key=key_of(choice, os.environ.get(KEY_VARIABLE)),
            idle_s=timeout_s,
            stopped=lambda: time.monotonic() > deadline_s,
        )
        backend = detect(client, choice.kind)
        kind = backend.name
        version = backend.version(client)
        offers = backend.offers(client)
    except RequestError as error:
        late = error.cause == "stopped"
        problem = f"No answer from the server within {timeout_s:g} s." if late else error.what
        return ServerProbe(server=server, kind=kind, version=version, problem=problem, hint=error.hint)
    except ValueError as error:
        return ServerProbe(server=server, problem=f"{error}.")
    return ServerProbe(server=server, kind=kind, version=version, offers=tuple(offers))

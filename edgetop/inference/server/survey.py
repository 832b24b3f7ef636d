"""What a server is and offers, asked once: for a list, for the picker and for `edgetop doctor`."""

from __future__ import annotations

import os
import time

from msgspec import Struct

from edgetop.inference.server.address import KEY_VARIABLE, ServerChoice, key_of
from edgetop.inference.server.detection import detect
from edgetop.inference.server.dialect import Offer
from edgetop.inference.server.exchange import Exchange
from edgetop.inference.server.failure import ServerFailure

PATIENCE_S = 10.0
"""A person waits for the answer."""


class Survey(Struct, frozen=True, kw_only=True):
    """What was found."""

    server: str
    """Its address."""
    kind: str = ""
    version: str = ""
    offers: tuple[Offer, ...] = ()
    problem: str = ""
    """Why nothing or not all was found, in one line; empty where all was."""
    mend: str = ""


def survey(choice: ServerChoice, patience_s: float = PATIENCE_S) -> Survey:
    """Ask a server for its kind, version and models; nothing is loaded. Never raises."""
    server = choice.url
    kind = version = ""
    deadline_s = time.monotonic() + patience_s
    try:
        server = str(choice.address)
        exchange = Exchange(
            choice.address,
            key=key_of(choice, os.environ.get(KEY_VARIABLE)),
            silence_s=patience_s,
            stopped=lambda: time.monotonic() > deadline_s,
        )
        dialect = detect(exchange, choice.kind)
        kind = dialect.name
        version = dialect.version(exchange)
        offers = dialect.offers(exchange)
    except ServerFailure as failure:
        late = failure.cause == "stopped"
        problem = f"The server does not answer within {patience_s:g} s." if late else failure.what
        return Survey(server=server, kind=kind, version=version, problem=problem, mend=failure.mend)
    except ValueError as error:
        return Survey(server=server, problem=f"{error}.")
    return Survey(server=server, kind=dialect.name, version=version, offers=tuple(offers))

"""One rising token count from what servers report.

A server's count begins at 0 when it is started, and may be unknown at a look. The count made here goes on over all of
that; where what was generated between two looks is not known, the later one of them gives no count.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Final, Literal

from msgspec import Struct

from edgetop.core.sources import Unavailable

NOT_RUNNING: Final = "not running"
"""In place of a count: nobody listens at the server's address, so that it generates nothing."""

ReportedCount = int | Literal["not running"] | Unavailable
"""What one look at a server gave: the tokens it has generated since it was started, or why that is not known."""

STARTED_ANEW = Unavailable("the server was started anew: what it had generated before that is not known")
ENDED = Unavailable("the server ended: what it had generated last is not known")
TOO_FAST = Unavailable("requests end faster than the server can be asked")


class _Server(Struct):
    last: int | None = None
    """Its latest count."""
    state: Literal["new", "counted", "unknown", "down"] = "new"


class TokenSum:
    """The tokens of several servers together, from the first look at each of them on."""

    def __init__(self) -> None:
        self.total = 0
        self._servers: dict[Hashable, _Server] = {}

    def look(self, told: Mapping[Hashable, ReportedCount]) -> int | Unavailable:
        """Take in a look at all servers; the sum, or why it is not known what was generated since the look before.

        A server that is left out is not watched any more. One that comes new counts from now on.
        """
        self._servers = {name: self._servers.get(name, _Server()) for name in told}
        reasons = [self._take(self._servers[name], count) for name, count in told.items()]
        return next((reason for reason in reasons if reason is not None), self.total)

    def _take(self, server: _Server, count: ReportedCount) -> Unavailable | None:
        """Add what a server has generated since the look before, or say why that is not known."""
        last, state = server.last, server.state
        if isinstance(count, Unavailable):
            server.state = "unknown"
            return count
        if count == NOT_RUNNING:
            server.state = "down"
            return ENDED if state == "counted" else None
        server.last, server.state = count, "counted"
        if last is None:
            return None
        if state == "down" and count < last:
            # It began at 0 since the look before.
            self.total += count
            return None
        if count < last or (state == "down" and count > 0):
            return STARTED_ANEW
        self.total += count - last
        return None


class RequestCount:
    """The tokens that llama-server has generated, from what it tells of ended requests and of running ones.

    `/metrics` counts a request when it has ended, and one that was cancelled never; `/slots` tells how far each
    running one is. Both together count every token, but for those of a cancelled request after the last look at it.
    """

    def __init__(self) -> None:
        self._ended: int | None = None
        self._cancelled = 0
        self._running: dict[int, int] = {}

    def look(self, ended: int, running: Mapping[int, int]) -> int:
        """Tokens of all requests: `ended` ones as the server counts them, `running` ones by their numbers."""
        before, self._ended = self._ended, ended
        gone = sum(count for request, count in self._running.items() if request not in running)
        self._running = dict(running)
        if before is not None and ended < before:
            self._cancelled = 0
        elif before is not None:
            self._cancelled += max(0, gone - (ended - before))
        return ended + sum(running.values()) + self._cancelled


class RunningCount:
    """The tokens that were seen to be generated in running requests, where a server does not count the ended ones.

    What a request generates after the last look at it is not seen; `unseen` is how much that may be in all.
    """

    def __init__(self) -> None:
        self._seen = 0
        self.unseen = 0
        self._running: dict[int, int] = {}
        self._grown: dict[int, int] = {}
        """Tokens of each running request between the last two looks."""

    def look(self, running: Mapping[int, int]) -> int:
        """Tokens seen so far; `running` has those of each request under way."""
        for request, count in self._grown.items():
            if request not in running:
                self.unseen += max(1, count)
        self._grown = {request: max(0, count - self._running.get(request, 0)) for request, count in running.items()}
        self._seen += sum(self._grown.values())
        self._running = dict(running)
        return self._seen

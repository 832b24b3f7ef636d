"""A server with several clients at once: each asks, and asks again once it is answered.

Sensors and the server's own counters are read as in a watch, whose session the requests are recorded in. The figures of
each number of clients, and the knee, are `edgetop.session.requests.level_figures`.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count

from msgspec import Struct

from edgetop.bench.plan import CHARACTERS_PER_TOKEN, reading_text
from edgetop.core.clock import monotonic_us
from edgetop.core.engine_settings import EngineSettings, SamplingSettings
from edgetop.core.records import Event, RequestServed
from edgetop.inference.protocol import ChatMessage, Generate
from edgetop.inference.server.address import ServerChoice
from edgetop.inference.server.backend import LoadedModel, ServerBackend, choose, detect
from edgetop.inference.server.connection import ServerClient
from edgetop.io.http import RequestError
from edgetop.live.live_session import WatchOptions, WatchSession
from edgetop.live.server_monitor import ServerLocation
from edgetop.live.server_request import AnswerReader, ask
from edgetop.session.requests import CONCURRENCY_EVENT, LevelFigures, level_figures
from edgetop.session.store import Store

REST_S = 2.0
"""Between two numbers of clients, so that no meter takes the one for the other."""

PUMP_S = 0.1


class Load(Struct, frozen=True, kw_only=True):
    """What the clients ask for."""

    at_once: tuple[int, ...]
    """Numbers of clients, one after the other."""
    requests: int = 5
    """Of each client, at each number of clients."""
    prompt_tokens: int = 128
    """About as many: the server says how many they were."""
    answer_tokens: int = 64


class Clients(WatchSession):
    """A watch of one server that is asked by clients of its own."""

    def __init__(
        self,
        options: WatchOptions,
        store: Store,
        on_trouble: Callable[[str], None],
        *,
        load: Load,
        model: str | None,
        choice: ServerChoice,
        interrupted: Callable[[], bool],
    ) -> None:
        """Find the model and start the watch of the one server of `options`, which is that of `choice`.

        Raises RequestError.
        """
        ((self._address, self._key),) = options.servers.items()
        self._idle_s, loading_s = choice.timeout_s, choice.loading_s
        self._load, self._interrupted = load, interrupted
        client = self._client()
        self._backend = detect(client, choice.kind)
        self._backend.wait_until_ready(client, loading_s)
        offer = choose(self._backend.offers(client), model)
        self._model: LoadedModel = self._backend.load(client, offer, EngineSettings(), loading_s)
        self._numbers = count(1)
        super().__init__(options, store, on_trouble)
        location = ServerLocation(self._address)
        self.recorder.record(
            Event(
                t_us=monotonic_us(),
                kind=CONCURRENCY_EVENT,
                text=f"{', '.join(map(str, load.at_once))} clients ask {self._address}: about {load.prompt_tokens} "
                f"tokens of prompt, {load.answer_tokens} of answer.",
                data={
                    "no_energy": "" if location.is_here or options.power.streams else str(location.no_power),
                    "server": str(self._address),
                },
            )
        )

    @property
    def backend(self) -> ServerBackend:
        """The kind of the server."""
        return self._backend

    @property
    def levels(self) -> tuple[LevelFigures, ...]:
        """The figures so far."""
        return level_figures(self.session, self.session.end_us)

    @property
    def slots(self) -> int | None:
        """How many requests the server works at together, where it says so."""
        usages = [row.usage for row in self.rows if row.address == str(self._address) and row.usage is not None]
        return next((len(usage.slots) for usage in usages if usage.slots), None)

    def carry_out(self, on_progress: Callable[[str], None]) -> bool:
        """Ask with each number of clients; False when it was interrupted. Raises RequestError where no answer comes."""
        while not self.has_searched:
            self._wait(PUMP_S)
            if self._interrupted():
                return False
        on_progress("warm-up")
        warm_up = self._ask(1)
        if warm_up.error:
            raise RequestError(f"The first request failed: {warm_up.error}")
        for at_once in self._load.at_once:
            total = at_once * self._load.requests
            self._wait(REST_S)
            for done, record in enumerate(self._answers(at_once, total), 1):
                if self._interrupted():
                    # It was cut off by us.
                    continue
                self.recorder.record(record)
                on_progress(f"{at_once} at once: {done} of {total} requests")
            if self._interrupted():
                return False
        # Slow meters have then read what was done.
        self._wait(REST_S)
        return True

    def _wait(self, length_s: float) -> None:
        end_s = time.monotonic() + length_s
        while not self._interrupted() and time.monotonic() < end_s:
            self.pump()
            time.sleep(PUMP_S)

    def _answers(self, at_once: int, total: int) -> Iterator[RequestServed]:
        """What came of `total` requests, of which `at_once` run together, as they end."""
        left, ended = iter(range(total)), queue.SimpleQueue[RequestServed | None]()
        taking = threading.Lock()

        def ask_again() -> None:
            try:
                while not self._interrupted():
                    with taking:
                        if next(left, None) is None:
                            return
                    ended.put(self._ask(at_once))
            finally:
                ended.put(None)

        threads = [
            threading.Thread(target=ask_again, name=f"edgetop-client-{number}", daemon=True)
            for number in range(at_once)
        ]
        for thread in threads:
            thread.start()
        running = at_once
        while running:
            self.pump()
            try:
                record = ended.get(timeout=PUMP_S)
            except queue.Empty:
                continue
            if record is None:
                running -= 1
            else:
                yield record
        for thread in threads:
            thread.join()

    def _client(self) -> ServerClient:
        return ServerClient(self._address, key=self._key, idle_s=self._idle_s, stopped=self._interrupted)

    def _ask(self, at_once: int) -> RequestServed:
        """Ask once, and follow the answer to its end."""
        by, reader = f"{at_once} at once", AnswerReader()
        return ask(self._client(), self._backend, self._model, self._command(), reader, by=by, at_once=at_once)

    def _command(self) -> Generate:
        """A request that no other one begins like, so that nothing is kept of an earlier one."""
        number, text = next(self._numbers), reading_text()
        beginning = number * 997 % (len(text) // 2)
        words = text[beginning : beginning + CHARACTERS_PER_TOKEN * self._load.prompt_tokens]
        return Generate(
            turn=number,
            messages=(ChatMessage(role="user", content=f"{number}. {words}"),),
            sampling=SamplingSettings(temperature=0.0, seed=number, max_tokens=self._load.answer_tokens),
        )

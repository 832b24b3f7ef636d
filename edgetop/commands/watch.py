"""`edgetop watch`: this device and the model servers that others use on it, without a model of its own."""

from __future__ import annotations

import argparse
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from edgetop.commands.console import say, say_trouble
from edgetop.commands.conversing import ENDING_SIGNALS, power_choice, price_of
from edgetop.commands.page import chosen_controls, chosen_theme, obey_no_color, shows_screens
from edgetop.commands.storage import open_store
from edgetop.commands.watch_text import write_reading, write_summary
from edgetop.core.errors import EdgetopError, UsageError
from edgetop.core.text import one_line
from edgetop.inference.server.address import KEY_VARIABLE, Address, ServerChoice, key_of
from edgetop.live.watch_session import WatchOptions, WatchSession
from edgetop.settings import options
from edgetop.settings.option import real
from edgetop.settings.resolve import Settings

if TYPE_CHECKING:
    from pathlib import Path

EXIT_INTERRUPTED = 130
LOOK_S = 0.1
LONGEST_S = 366 * 86_400.0


def execute(arguments: argparse.Namespace, settings: Settings) -> int:
    """Open the screen, or print a line a second."""
    seconds = _seconds(arguments.seconds)
    wished = _wished(arguments, settings)
    if shows_screens(settings) and not arguments.json and seconds is None:
        return _open_screen(wished, settings)
    return _print(wished, settings, seconds=seconds, as_json=arguments.json)


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return real(0, LONGEST_S)(text)
    except ValueError as error:
        raise UsageError(f"--seconds takes {error}, not {one_line(text)!r}", "such as --seconds 60") from None


def _wished(arguments: argparse.Namespace, settings: Settings) -> WatchOptions:
    """What is to be watched. Raises UsageError for an address that is none, and for a key that cannot be sent."""
    configured = settings[options.SERVER]
    urls = arguments.servers or ([configured] if configured is not None else [])
    addresses: list[Address] = []
    for url in urls:
        try:
            addresses.append(Address.parse(url))
        except ValueError as error:
            raise UsageError(f"{one_line(url)!r} is no address of a server", f"expected is {error}") from None
    key_file = settings[options.SERVER_KEY_FILE]
    choice = ServerChoice(url="", key_file="" if key_file is None else str(key_file))
    try:
        key = key_of(choice, os.environ.get(KEY_VARIABLE))
    except ValueError as error:
        raise UsageError(str(error), "put the key alone into it") from None
    return WatchOptions(
        servers=tuple(dict.fromkeys(addresses)),
        key=key,
        sysroot=settings[options.SYSROOT],
        power=power_choice(settings),
        record=settings[options.RECORD],
        output=settings[options.OUTPUT],
    )


def _open_screen(wished: WatchOptions, settings: Settings) -> int:
    obey_no_color(settings)
    from edgetop.tui.watch_app import run_watch  # noqa: PLC0415 - Textual is slow to import

    saved = run_watch(
        lambda tell: WatchSession(wished, open_store(settings), tell),
        theme=chosen_theme(settings),
        level="ascii" if settings[options.ASCII] else None,
        delay_s=settings[options.DELAY],
        price=price_of(settings),
        controls=chosen_controls(settings),
    )
    if saved is not None:
        say(f"session: {saved}")
    return 0


def _print(wished: WatchOptions, settings: Settings, *, seconds: float | None, as_json: bool) -> int:
    quiet = settings[options.QUIET]
    ended = threading.Event()
    failure: EdgetopError | None = None
    path: Path | None = None
    with _ending(ended):
        watch = WatchSession(wished, open_store(settings), lambda text: None if quiet else say_trouble(text))
        try:
            _follow(watch, ended, seconds, as_json=as_json)
        except BrokenPipeError:
            ended.set()
        finally:
            try:
                path = watch.close()
            except EdgetopError as error:
                failure = error
    if failure is not None:
        raise failure
    write_summary(watch, path, as_json=as_json)
    if path is not None and not quiet:
        say(f"session: {path}")
    return EXIT_INTERRUPTED if ended.is_set() and seconds is not None else 0


def _follow(watch: WatchSession, ended: threading.Event, seconds: float | None, *, as_json: bool) -> None:
    """Print a reading a second until it is to end, or for so many seconds from the first look on."""
    begin_s = due_s = None
    while not ended.is_set():
        now_s = time.monotonic()
        if begin_s is None and watch.has_looked:
            begin_s = due_s = now_s
        if begin_s is not None and seconds is not None and now_s >= begin_s + seconds and now_s > begin_s:
            return
        watch.pump()
        if due_s is not None and now_s >= due_s:
            watch.check()
            write_reading(watch, as_json=as_json)
            due_s = max(due_s + 1.0, now_s)
        ended.wait(LOOK_S)


@contextmanager
def _ending(ended: threading.Event) -> Iterator[None]:
    """Let the ending signals only set `ended` meanwhile."""

    def end(_number: int, _frame: FrameType | None) -> None:
        ended.set()

    # What is ignored, as SIGHUP below nohup, stays ignored.
    heard = [number for number in ENDING_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, end) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

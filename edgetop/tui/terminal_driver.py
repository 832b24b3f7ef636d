"""Textual's Linux driver for our needs: select instead of polling, mouse clicks only, SIGCONT."""

from __future__ import annotations

import os
import signal
import threading
from codecs import getincrementaldecoder
from selectors import EVENT_READ, SelectSelector
from typing import TYPE_CHECKING, Any

from textual._xterm_parser import XTermParser
from textual.drivers.linux_driver import LinuxDriver

if TYPE_CHECKING:
    from textual.app import App


BUTTON_EVENTS, ANY_EVENTS = 1002, 1003
"""Modes of xterm's mouse: presses, releases and drags; and every move as well."""

PENDING_S = 0.1
"""How long to wait for the rest of an escape sequence; after that it is the Escape key."""

READ_SIZE = 4096


class WakingEvent(threading.Event):
    """An event that a selector can wait for; its two descriptors stay open as long as the process runs."""

    def __init__(self) -> None:
        super().__init__()
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)

    def fileno(self) -> int:
        """Readable once the event is set."""
        return self._reader

    def set(self) -> None:
        """Set the event, and wake the selector."""
        if not self.is_set():
            super().set()
            os.write(self._writer, b"!")

    def clear(self) -> None:
        """Clear the event."""
        if self.is_set():
            super().clear()
            os.read(self._reader, 1)


class TerminalDriver(LinuxDriver):
    """Enters application mode once per SIGCONT, reports only mouse presses and drags, and does not poll the keyboard.

    Textual leaves application mode on Ctrl+Z (SIGTSTP). After a SIGSTOP, as a debugger sends it, it would enter that a
    second time on SIGCONT, and its first input thread would never end.

    Mouse movements would cost about 3 ms each, a third of a core while the mouse moves, and nothing here changes under
    the pointer. Textual also checks ten times a second whether its input thread should end, which costs as much as all
    sensors do; here the thread sleeps until a key comes.
    """

    def __init__(
        self, app: App[Any], *, debug: bool = False, mouse: bool = True, size: tuple[int, int] | None = None
    ) -> None:
        super().__init__(app, debug=debug, mouse=mouse, size=size)
        self.exit_event: WakingEvent = WakingEvent()

    def run_input_thread(self) -> None:
        """Process what is typed, until `exit_event`."""
        parser = XTermParser(self._debug)
        decode = getincrementaldecoder("utf-8")("replace").decode
        # The only selector that accepts every terminal: kqueue on macOS does not.
        with SelectSelector() as selector:
            selector.register(self.fileno, EVENT_READ)
            selector.register(self.exit_event, EVENT_READ)
            while not self.exit_event.is_set():
                for key, _ in selector.select(None if parser._timeout_time is None else PENDING_S):  # noqa: SLF001
                    if key.fileobj is self.exit_event:
                        continue
                    data = self._read()
                    if not data:
                        selector.unregister(self.fileno)
                        os.kill(os.getpid(), signal.SIGHUP)
                    elif text := decode(data):
                        for event in parser.feed(text):
                            self.process_message(event)
                for event in parser.tick():
                    self.process_message(event)

    def _read(self) -> bytes:
        """What was typed; nothing where the terminal has been closed, for which not every system sends a signal."""
        try:
            return os.read(self.fileno, READ_SIZE)
        except OSError:
            return b""

    def _sigcont_application(self, *args: object) -> None:
        if not self._must_signal_resume:
            self.suspend_application_mode()
            self._must_signal_resume = True
        super()._sigcont_application(*args)

    def _enable_mouse_support(self) -> None:
        super()._enable_mouse_support()
        if self._mouse:
            self.write(f"\x1b[?{ANY_EVENTS}l\x1b[?{BUTTON_EVENTS}h")

    def _disable_mouse_support(self) -> None:
        if self._mouse:
            self.write(f"\x1b[?{BUTTON_EVENTS}l")
        super()._disable_mouse_support()

r"""Textual's driver for terminals and its unhandled errors, for our needs.

This file and `terminal_output.py` (painting) are the only ones that use private names of Textual 8.2.8. What is
replaced here, and why:

- `XTermParser.parse`: a terminal's late answers to questions that it was asked arrive as typed text (tmux#4846,
  microsoft/terminal#18714); a paste without its end takes every further key; colours in a paste reorder it; alternate
  keys and event types of Kitty's protocol raise ValueError. `TerminalInput` splits the input, and asks `XTermParser`
  only for the names of whole keys and for whole mouse events.
- `LinuxDriver.run_input_thread`: it polls ten times a second, which costs as much as all sensors do; here the thread
  sleeps until a key comes. What it raises became a trace on the screen and exit code 0. It takes all keys for UTF-8.
- `WebDriver.run_input_thread`, `on_meta`: the same keyboard and sizes, and the end of a screen whose server is gone.
- `Driver.send_message`: keys that arrive together were all dispatched before the first had opened or focused
  anything, so the rest of a word went to the panes. Here each waits until the one before is done.
- `LinuxDriver._get_terminal_size`, `_query_in_band_window_resize`, `_size`: COLUMNS and LINES were believed before the
  terminal, and sizes in its input without bounds; the kernel knows the size.
- `LinuxDriver._file`: stderr, which may be a file; the screen belongs to the terminal, which stdout is.
- `write`: a terminal that stops reading blocked the thread that draws, and with it the recording.
- `start_application_mode`, `stop_application_mode`: with a guard that restores the terminal after a kill.
- `_sigcont_application`: after a SIGSTOP, as a debugger sends it, application mode would be entered twice; and with
  `bg` it would be entered in the background.
- `_enable_mouse_support`: mouse movements cost about 3 ms each, and nothing here changes under the pointer.
- `App._fatal_error`, `App.panic`: they print a trace, and panic leaves the exit code 0.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import termios
import threading
import time
from codecs import getincrementaldecoder, lookup
from collections.abc import Iterator
from contextlib import suppress
from selectors import EVENT_READ, SelectSelector
from typing import TYPE_CHECKING, Any

from textual import events
from textual._ansi_sequences import ANSI_SEQUENCES_KEYS
from textual._keyboard_protocol import FUNCTIONAL_KEYS
from textual._xterm_parser import FOCUSIN, FOCUSOUT, XTermParser
from textual.app import App, ReturnType
from textual.driver import Driver
from textual.drivers._byte_stream import ByteStream
from textual.drivers.linux_driver import LinuxDriver
from textual.drivers.web_driver import WebDriver, _ExitInput
from textual.keys import Keys
from textual.message import Message
from textual.messages import TerminalSupportsSynchronizedOutput

from edgetop.io.log import log_exception
from edgetop.io.terminal import (
    COLUMNS_MAX,
    LINES_MAX,
    RESTORE,
    STALLED_S,
    TerminalGuard,
    Writer,
    in_foreground,
    terminal_size,
)

if TYPE_CHECKING:
    from rich.console import RenderableType
    from textual.message_pump import MessagePump


BUTTON_EVENTS, ANY_EVENTS = 1002, 1003
"""Modes of xterm's mouse: presses, releases and drags; and every move as well."""

ESCAPE_S = 0.1
"""How long to wait for the rest of an escape sequence; after that it is the Escape key."""

LATE_ESCAPE_S = 0.4
"""The same while answers of the terminal may be under way, which a slow line splits anywhere."""

ANSWERS_S = 10.0
"""So long after the start, a resume, a focus or an answer the terminal may still answer."""

REST_S = 1.0
"""How long to wait for the rest of a report, a paste, or a key that has begun."""

STRING_S = 3.0
"""How long a report may take altogether; keys typed meanwhile would be lost."""

READ_SIZE = 65536

PASTE_START, PASTE_END = "\x1b[200~", "\x1b[201~"
_CTRL_C = {"\x03", "\x1b[99;5u", "\x1b[99;5:1u"}

# ECMA-48: CSI, parameters, intermediates, a final; the linux console's F1 to F5; rxvt's keys with Shift.
_CSI = re.compile(r"\x1b\[(?:\[[A-E]|\d{1,2}\$(?!y)|(?!\[)([0-?]*)[ -/]*([@-~]))")
_CSI_BEGUN = re.compile(r"\x1b\[(?:\[|[0-?]*[ -/]*)")
_X10_MOUSE = re.compile(r"\x1b\[M[^\x1b]{3}")
_SGR_MOUSE = re.compile(r"\x1b\[<\d{1,4};-?\d{1,6};-?\d{1,6}[Mm]")
_SGR_MOUSE_BEGUN = re.compile(r"\x1b\[<[\d;-]*")
_SS3 = re.compile(r"\x1bO[0-9;]*[ -/:-~]")
# OSC, DCS, PM, APC, SOS: up to BEL or ST. Control characters end them unfinished, so that Enter and Ctrl+C stay keys.
_STRING = re.compile(r"\x1b[\]P^_X][^\x00-\x1f\x9c]*(?:\x07|\x1b\\|\x9c)")
_STRING_BEGUN = re.compile(r"\x1b[\]P^_X][^\x00-\x1f\x9c]*\x1b?")
# How a report goes on whose Escape came long before it.
_REPORT_TAIL = re.compile(r"\](?:\d+;|[lL])|P[>!01]?[|$+]|[_^X]\S|\[[?>=]\d|\[\d+(;\d+)+[Rtcny$]|\[[03]n")
# Nobody types as much at once: a paste by a terminal that puts no brackets around it, which as keys would take minutes.
_LONG_RUN = re.compile("[^\x00-\x1f\x7f-\x9f]{256,}")
_RELEASED = "3"
_C1 = re.compile("[\x80-\x9f]")
_MODE_REPORT = re.compile(r"\x1b\[\?2026;[1-9]\$y")

LONGEST_SEQUENCE = 64
"""No key has more characters; longer ones are reports."""


class TerminalInput:
    """Splits what a terminal sends into keys, mouse events, pastes and reports, however it is cut into packets.

    From ECMA-48, xterm's control sequences and Kitty's keyboard protocol. Every report is dropped whole. A paste is one
    event, whatever is in it; it ends at its marker, after REST_S of silence, or when Ctrl+C comes alone.
    """

    def __init__(self, now_s: float) -> None:
        self._names = XTermParser()
        self._buffer = ""
        self._paste: str | None = None
        self._unended_paste = False
        """The last paste ended by silence: what comes next may be the rest of it."""
        self._changed_s = self._begun_s = now_s
        self._answers_until_s = now_s + ANSWERS_S
        self._escaped_s = -REST_S
        """When a lone Escape was taken for the key."""

    @property
    def deadline_s(self) -> float | None:
        """When `expire` has something to do; `None` where nothing is unfinished."""
        if self._paste is not None:
            return self._changed_s + REST_S
        if not self._buffer:
            return None
        if self._buffer == "\x1b":
            late = self._changed_s < self._answers_until_s
            return self._changed_s + (LATE_ESCAPE_S if late else ESCAPE_S)
        return min(self._changed_s + REST_S, self._begun_s + STRING_S)

    def feed(self, text: str, now_s: float) -> Iterator[Message]:
        """What a packet brings."""
        yield from self.expire(now_s)
        if self._paste is not None and text in _CTRL_C:
            yield from self._end_paste(now_s)
            return
        if self._paste is None:
            text = self._joined(text, now_s)
        if not self._buffer:
            self._begun_s = now_s
        self._buffer += text
        self._changed_s = now_s
        yield from self._messages(now_s)

    def expire(self, now_s: float) -> Iterator[Message]:
        """What is there when the rest does not come."""
        deadline_s = self.deadline_s
        if deadline_s is None or now_s < deadline_s:
            return
        if self._paste is not None:
            self._unended_paste = True
            yield from self._end_paste(now_s)
            return
        begun, self._buffer = self._buffer, ""
        if begun == "\x1b":
            self._escaped_s = now_s
            yield events.Key("escape", "\x1b")
        elif len(begun) == 2:
            yield from self._keys(begun[1], alt=True)

    def expect_answers(self, now_s: float) -> None:
        """The terminal may be about to answer."""
        self._answers_until_s = now_s + ANSWERS_S

    def _joined(self, text: str, now_s: float) -> str:
        """The packet with what belongs before it: the start of a paste, the Escape of a report."""
        if self._buffer == "\x1b" and now_s - self._changed_s > ESCAPE_S and not _REPORT_TAIL.match(text):
            # It was the Escape key, as Kitty sends it, and this is another one.
            self._buffer = ""
            return f"\x1b[27u{text}"
        if not self._buffer and now_s - self._escaped_s < REST_S and _REPORT_TAIL.match(text):
            self._escaped_s = -REST_S
            return f"\x1b{text}"
        end, start = text.find(PASTE_END), text.find(PASTE_START)
        lost_start = not self._buffer and end > 0 and not 0 <= start < end
        several_lines = self._unended_paste and re.search(r"[\r\n](?![\r\n]*$)", text) is not None
        self._unended_paste = False
        return f"{PASTE_START}{text}" if lost_start or several_lines else text

    def _messages(self, now_s: float) -> Iterator[Message]:
        while self._buffer:
            if self._paste is not None:
                text, found, rest = self._buffer.partition(PASTE_END)
                if not found:
                    return
                self._paste, self._buffer = text, rest
                yield from self._end_paste(now_s)
                continue
            first = self._buffer[0]
            if _C1.match(first):
                # The same in 8 bits.
                first, self._buffer = "\x1b", f"\x1b{chr(ord(first) - 0x40)}{self._buffer[1:]}"
            if run := _LONG_RUN.match(self._buffer):
                self._buffer = self._buffer[run.end() :]
                yield events.Paste(run[0])
                continue
            length = self._length() if first == "\x1b" else 1
            if not length:
                return
            unit, self._buffer = self._buffer[:length], self._buffer[length:]
            if unit == PASTE_START:
                self._paste = ""
            elif len(unit) == 1 and unit != "\x1b":
                yield from self._keys(unit)
            else:
                yield from self._sequence(unit, now_s)

    def _end_paste(self, now_s: float) -> Iterator[Message]:
        text, self._paste = self._paste or "", None
        if not text:
            # By silence or Ctrl+C: all of it but the beginning of an end marker.
            text, self._buffer = self._buffer, ""
            begun = next((n for n in range(len(PASTE_END) - 1, 0, -1) if text.endswith(PASTE_END[:n])), 0)
            if begun:
                text, self._buffer = text[:-begun], text[-begun:]
                self._begun_s = self._changed_s = now_s
        if text:
            yield events.Paste(text.replace("\x00", ""))

    def _length(self) -> int:
        """Of the escape sequence that the buffer begins with; 0 while it is unfinished."""
        buffer = self._buffer
        if len(buffer) == 1:
            return 0
        second = buffer[1]
        if second == "\x1b":
            return 1
        if second == "[":
            return self._csi_length()
        if second in "]P^_X":
            return self._string_length()
        if second == "O":
            whole = _SS3.match(buffer)
            return whole.end() if whole else 2 * (re.fullmatch(r"\x1bO[0-9;]*", buffer) is None)
        return 2

    def _string_length(self) -> int:
        buffer = self._buffer
        whole = _STRING.match(buffer)
        if whole is not None:
            return whole.end()
        begun = _STRING_BEGUN.match(buffer)
        end = begun.end() if begun else 2
        if end == len(buffer):
            return 0
        # What was begun is dropped, and what ended it is read anew.
        return end - (buffer[end - 1] == "\x1b")

    def _csi_length(self) -> int:
        buffer = self._buffer
        for whole in (_SGR_MOUSE, _X10_MOUSE) if buffer[2:3] in {"<", "M"} else ():
            if match := whole.match(buffer):
                return match.end()
        if buffer.startswith("\x1b[M") and len(buffer) < 6 and "\x1b" not in buffer[3:]:
            return 0
        begun = _SGR_MOUSE_BEGUN.match(buffer)
        if begun is not None:
            return 0 if begun.end() == len(buffer) else begun.end() + (buffer[begun.end()] >= "@")
        match = _CSI.match(buffer)
        if match is not None:
            return match.end()
        begun = _CSI_BEGUN.match(buffer)
        end = begun.end() if begun else 2
        return 0 if end == len(buffer) else end

    def _sequence(self, unit: str, now_s: float) -> Iterator[Message]:
        """What a whole escape sequence means; nothing for a report."""
        if unit == "\x1b":
            yield events.Key("escape", unit)
        elif unit in {FOCUSIN, FOCUSOUT}:
            self.expect_answers(now_s)
            yield events.AppFocus() if unit == FOCUSIN else events.AppBlur()
        elif _SGR_MOUSE.fullmatch(unit):
            event = self._names.parse_mouse_code(unit)
            if event is not None:
                yield event
        elif unit == "\x1b\r":
            # Without Kitty's protocol Alt+Enter is this, which Textual takes for Enter alone.
            yield events.Key("alt+enter", None)
        elif _MODE_REPORT.fullmatch(unit):
            yield TerminalSupportsSynchronizedOutput()
        elif isinstance(keys := ANSI_SEQUENCES_KEYS.get(unit), tuple):
            for key in keys:
                yield events.Key(key.value, None)
        elif normal := _normal_key(unit):
            yield from self._keys(normal)
        elif len(unit) == 2:
            yield from self._keys(unit[1], alt=True)
        else:
            self.expect_answers(now_s)

    def _keys(self, sequence: str, *, alt: bool = False) -> Iterator[events.Key]:
        for event in self._names._sequence_to_key_events(sequence, alt=alt):  # noqa: SLF001
            if event.key == Keys.ControlAt:
                yield events.Key("ctrl+space", None)  # the same byte
            elif event.key != Keys.Ignore:
                yield event


def _normal_key(unit: str) -> str:
    """A key's sequence without alternate keys and event types; empty for a released key, and for what is no key."""
    match = _CSI.fullmatch(unit)
    if match is None or match[2] is None or len(unit) > LONGEST_SEQUENCE or not re.fullmatch(r"[\d:;]*", match[1]):
        return ""
    code, modifiers, text = ([*match[1].split(";"), "", ""])[:3]
    number, pressed = code.partition(":")[0], modifiers.partition(":")
    texts = text.split(":") if text else []
    if pressed[2] == _RELEASED or not all(part == "" or _is_character(part) for part in (number, *texts)):
        return ""
    if match[2] == "u":
        is_key = number not in {"", "0"} or bool(texts)
    else:
        is_key = f"{number or 1}{match[2]}" in FUNCTIONAL_KEYS and unit.count(";") < 2
    if not is_key or len(pressed[0]) > 3:
        return ""
    return f"\x1b[{';'.join([number, pressed[0], ':'.join(texts)]).rstrip(';')}{match[2]}"


def _is_character(number: str) -> bool:
    """Whether it is the number of a character."""
    return len(number) < 8 and number.isdecimal() and int(number) < 0x110000 and not 0xD800 <= int(number) < 0xE000


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


SETTLE_S = 1.0
"""How long a key waits for what the one before it does; a handler that takes longer is not waited for."""

STRING_END = "\x1b\\"
"""Ends a sequence of which the rest is not written."""

GIVEN_BACK_S = 2.0
"""How long a terminal may take to read what restores it; after that the guard waits for it."""

SETTLE_ROUNDS, GONE_S = 5, 0.02


class KeysInTurn(Driver):
    """A driver that gives the application one key or paste after the other."""

    def __init__(
        self, app: App[Any], *, debug: bool = False, mouse: bool = True, size: tuple[int, int] | None = None
    ) -> None:
        super().__init__(app, debug=debug, mouse=mouse, size=size)
        self._typed: asyncio.Queue[Message] = asyncio.Queue()
        self._delivery: asyncio.Task[None] | None = None

    def send_message(self, message: Message) -> None:
        """Give the application a message; keys and pastes one by one, and no mouse event beyond the screen.

        Textual takes the focus from the prompt for such a one.
        """
        if isinstance(message, events.Key | events.Paste):
            self._loop.call_soon_threadsafe(self._deliver_later, message)
        elif not isinstance(message, events.MouseEvent) or self._app.size.region.contains_point(message.screen_offset):
            super().send_message(message)

    def _deliver_later(self, message: Message) -> None:
        self._typed.put_nowait(message)
        if self._delivery is None or self._delivery.done():
            self._delivery = self._loop.create_task(self._deliver())

    async def _deliver(self) -> None:
        while not self._typed.empty():
            message = self._typed.get_nowait()
            focused = self._app.focused
            is_text = isinstance(message, events.Key) and (
                focused is not None and focused.check_consume_key(message.key, message.character)
            )
            await self._app._post_message(message)  # noqa: SLF001
            if not is_text:
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._settled(), SETTLE_S)

    async def _settled(self) -> None:
        """Wait until every widget has handled its messages, and those that came of them."""
        for number in range(SETTLE_ROUNDS):
            pumps: list[MessagePump] = [self._app]
            if self._app.screen_stack:
                pumps += self._app.screen.walk_children(with_self=True)
            waiting = [asyncio.Event() for _ in pumps]
            called = [pump.call_later(event.set) for pump, event in zip(pumps, waiting, strict=True)]
            for pump, event, was_called in zip(pumps, waiting, called, strict=True):
                # A widget that is taken away meanwhile answers no more.
                while was_called and pump.is_running and not event.is_set():
                    with suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(event.wait(), GONE_S)
            if number and all(pump._message_queue.empty() for pump in pumps if pump.is_running):  # noqa: SLF001
                return

    def end_with(self, error: Exception) -> None:
        """End the screen, from the thread of the keyboard."""
        self._app.call_later(self._app._handle_exception, error)  # noqa: SLF001


class TerminalDriver(KeysInTurn, LinuxDriver):
    """As the head of this file says."""

    def __init__(
        self, app: App[Any], *, debug: bool = False, mouse: bool = True, size: tuple[int, int] | None = None
    ) -> None:
        super().__init__(app, debug=debug, mouse=mouse, size=size)
        self.exit_event: WakingEvent = WakingEvent()
        self._screen_fd = 1
        self._file = open(  # noqa: SIM115 - as long as the process runs
            self._screen_fd, "w", encoding=getattr(sys.__stdout__, "encoding", "utf-8"), errors="replace", closefd=False
        )
        self._encoding = self._file.encoding
        self._size = size or self._get_terminal_size()
        self._guard: TerminalGuard | None = None
        self._writer: Writer | None = None

    def run_input_thread(self) -> None:
        """Process what is typed, until `exit_event`."""
        try:
            self._read_input()
        except Exception as error:  # noqa: BLE001 - the screen ends with it
            self.end_with(error)

    def _read_input(self) -> None:
        typed = TerminalInput(time.monotonic())
        decode = getincrementaldecoder(self._input_encoding())("replace").decode
        # The only selector that accepts every terminal: kqueue on macOS does not.
        with SelectSelector() as selector:
            selector.register(self.fileno, EVENT_READ)
            selector.register(self.exit_event, EVENT_READ)
            while not self.exit_event.is_set():
                deadline_s = typed.deadline_s
                wait_s = None if deadline_s is None else max(0.0, deadline_s - time.monotonic())
                for key, _ in selector.select(wait_s):
                    if key.fileobj is self.exit_event:
                        continue
                    data = self._read()
                    if not data:
                        selector.unregister(self.fileno)
                        os.kill(os.getpid(), signal.SIGHUP)
                    elif text := decode(data):
                        for event in typed.feed(text, time.monotonic()):
                            self.process_message(event)
                for event in typed.expire(time.monotonic()):
                    self.process_message(event)

    @staticmethod
    def _input_encoding() -> str:
        """Of the locale; letters typed in one without any are UTF-8's, if they are anything."""
        encoding = lookup(getattr(sys.__stdin__, "encoding", "utf-8")).name
        return "utf-8" if encoding == "ascii" else encoding

    def _read(self) -> bytes:
        """What was typed; nothing where the terminal has been closed, for which not every system sends a signal."""
        try:
            return os.read(self.fileno, READ_SIZE)
        except OSError:
            return b""

    def _get_terminal_size(self) -> tuple[int, int]:
        return terminal_size(self._screen_fd)

    def _query_in_band_window_resize(self) -> None:
        """Not asked for: the kernel knows the size, and within bounds."""

    def write(self, data: str) -> None:
        """Write later; what a terminal that stops reading does not take in time is drawn anew when it reads again."""
        if self._writer is None:
            self._writer = Writer(self._draw_anew)
        self._writer.put(self._screen_fd, data.encode(self._encoding, "replace"))

    def _draw_anew(self) -> None:
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._repaint)

    def _repaint(self) -> None:
        app = self._app
        if app.is_running and app.screen_stack:
            app._display(app.screen, app.screen._compositor.render_update(full=True))  # noqa: SLF001

    def start_application_mode(self) -> None:
        """Take the terminal, with a guard."""
        self._guard = TerminalGuard(self._screen_fd)
        super().start_application_mode()  # type: ignore[no-untyped-call]

    def stop_application_mode(self) -> None:
        """Give the terminal back, without what it has not taken so far; one that takes nothing, to the guard."""
        if self._writer is not None and not self._writer.drain(STALLED_S):
            self._writer.discard()
            self.write(STRING_END)
        super().stop_application_mode()
        guard, self._guard = self._guard, None
        if guard is None:
            return
        if self._writer is None or self._writer.drain(GIVEN_BACK_S):
            guard.release()
        else:
            self._writer.discard()
            guard.restore()

    def restore_terminal(self) -> None:
        """Restore the terminal from any thread, whatever the application is doing."""
        if self.attrs_before is not None:
            with suppress(termios.error):
                termios.tcsetattr(self.fileno, termios.TCSANOW, self.attrs_before)
        guard, self._guard = self._guard, None
        if guard is not None and self._writer is not None:
            self._writer.discard()
            self._writer.put(self._screen_fd, f"{STRING_END}{RESTORE}".encode("ascii"))
            self._writer.drain(STALLED_S)
            guard.restore()

    def _sigcont_application(self, *args: object) -> None:
        if not in_foreground(self.fileno):
            os.kill(os.getpid(), signal.SIGSTOP)
            return
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


class BrowserDriver(KeysInTurn, WebDriver):
    """Textual's driver below textual-serve, with the same keyboard and bounds."""

    def run_input_thread(self) -> None:
        """Process what the server says, until it says no more."""
        typed, packets = TerminalInput(time.monotonic()), ByteStream()
        decode = getincrementaldecoder("utf-8")("replace").decode
        try:
            for data in self._input_reader:
                for kind, payload in packets.feed(data) if data else ():
                    if kind == "D":
                        for event in typed.feed(decode(payload), time.monotonic()):
                            self.process_message(event)
                    else:
                        self._on_meta(kind, payload)
                for event in typed.expire(time.monotonic()):
                    self.process_message(event)
            if not self.exit_event.is_set():
                os.kill(os.getpid(), signal.SIGHUP)
        except _ExitInput:
            pass
        except Exception as error:  # noqa: BLE001 - the screen ends with it
            self.end_with(error)
        finally:
            self._input_reader.close()

    def on_meta(self, packet_type: str, payload: dict[str, object]) -> None:
        """Process what is no key; a size within bounds."""
        if packet_type == "resize":
            width, height = payload["width"], payload["height"]
            if not isinstance(width, int) or not isinstance(height, int):
                return
            payload = {"width": max(1, min(width, COLUMNS_MAX)), "height": max(1, min(height, LINES_MAX))}
        super().on_meta(packet_type, payload)


class TerminalApp(App[ReturnType]):
    """An application that keeps the error that ended it, and prints no trace."""

    def __init__(self, *, ansi_color: bool | None = None) -> None:
        super().__init__(ansi_color=ansi_color)
        self.failure: Exception | None = None
        """What ended it, if that was a defect of ours."""

    def panic(self, *renderables: RenderableType) -> None:
        """End with exit code 1."""
        self._return_code = 1
        if self.failure is None:
            self.failure = RuntimeError("; ".join(str(each) for each in renderables))
        self._close_messages_no_wait()

    def _handle_exception(self, error: Exception) -> None:
        log_exception(error)
        if self._exit:
            return  # what comes after the end finds no screen, or no widget
        if self.failure is None:
            self.failure = error
        super()._handle_exception(error)

    def _fatal_error(self) -> None:
        self._close_messages_no_wait()

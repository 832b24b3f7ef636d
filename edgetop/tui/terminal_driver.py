"""Textual's driver of a terminal, for processes that are also stopped from outside, and with a quieter mouse."""

from __future__ import annotations

from textual.drivers.linux_driver import LinuxDriver

BUTTON_EVENTS, ANY_EVENTS = 1002, 1003
"""Modes of xterm's mouse: presses, releases and drags; and every move as well."""


class TerminalDriver(LinuxDriver):
    """Takes the terminal once for each time that it goes on, and hears of the mouse only what is pressed and dragged.

    Textual knows Ctrl+Z (SIGTSTP), on which it gives the terminal back. After a SIGSTOP, as a debugger or `kill -STOP`
    sends it, it would take the terminal a second time on SIGCONT, with threads that nobody ends any more.

    Every move of the mouse would cost some 3 ms of a core that a model decodes on, a third of it while the hand moves,
    and nothing here looks different under the pointer.
    """

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

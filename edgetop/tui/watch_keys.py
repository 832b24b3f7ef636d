"""The keys of the watch screen, in one table that feeds bindings, key line, help, palette and remapping."""

from __future__ import annotations

from edgetop.tui.keymap import ANYWHERE, KeyAction, ScreenKeys

KEYS: tuple[KeyAction, ...] = (
    KeyAction("help", ("f1", "question_mark", "h"), "help", "Help"),
    KeyAction("sessions", ("f3", "f5", "f6"), "recorded sessions: list, compare, replay", "Saved"),
    KeyAction("app.quit", ("f10", "q"), "quit; the session is saved", "Quit"),
    KeyAction("pause", ("space", "p"), "pause the figures; recording goes on", "Pause"),
    KeyAction("zoom_pane", ("z",), "one pane, all of the room; again: all panes", "Zoom"),
    KeyAction("toggle_pane(1)", ("1",), "show or hide tokens", "Panes", named="toggle_tokens"),
    KeyAction("toggle_pane(2)", ("2",), "show or hide memory", "Panes", named="toggle_memory"),
    KeyAction("toggle_pane(3)", ("3",), "show or hide power", "Panes", named="toggle_power"),
    KeyAction("toggle_pane(4)", ("4",), "show or hide energy", "Panes", named="toggle_energy"),
    KeyAction("next_theme", ("t",), "next theme", "Theme"),
    KeyAction("next_glyphs", ("g",), "glyphs: braille, block, ASCII", "Glyphs"),
    KeyAction("screenshot", ("s",), "save a picture of the screen (SVG)", "Picture"),
    KeyAction("focus_pane(1)", ("tab",), "the next pane", named="next_pane"),
    KeyAction("focus_pane(-1)", ("shift+tab",), "the pane before", named="previous_pane"),
    KeyAction("move_pane(1)", ("right_curly_bracket", "shift+down"), "move the pane down", named="pane_down"),
    KeyAction("move_pane(-1)", ("left_curly_bracket", "shift+up"), "move the pane up", named="pane_up"),
    KeyAction("scroll(1)", ("j", "down"), "the list: a line down", named="down"),
    KeyAction("scroll(-1)", ("k", "up"), "the list: a line up", named="up"),
    KeyAction("scroll(10)", ("pagedown",), "the list: ten lines down", named="page_down"),
    KeyAction("scroll(-10)", ("pageup",), "the list: ten lines up", named="page_up"),
    KeyAction("slower", ("minus",), "refresh less often"),
    KeyAction("faster", ("plus", "equals_sign"), "refresh more often"),
    *ANYWHERE,
)
WATCH = ScreenKeys("watch", "Watch", KEYS)

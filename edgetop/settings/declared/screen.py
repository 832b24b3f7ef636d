"""How the screen looks."""

from __future__ import annotations

from typing import Final

from edgetop.settings.option import Option, real, switch, text

DELAY_MIN_S = 0.25
"""More frames than this cost the model tokens, and no one reads them."""

DELAY: Final = Option[float](
    "delay",
    "screen",
    "-d",
    "--delay",
    default=1.0,
    metavar="SECONDS",
    parse=real(DELAY_MIN_S, 60),
    help="time between two updates of the panes (seconds, not tenths)",
    about="The chat is drawn a few times a second whatever this is. Where a draw takes long, the panes are drawn more "
    "rarely while a model decodes, unless this is below a second. Keys: + and -.",
)

THEME: Final = Option[str | None](
    "theme",
    "screen",
    "--theme",
    default=None,
    metavar="NAME",
    parse=text,
    help="colour theme",
    about="Shipped are dark, light, high-contrast, colour-blind, mono and ansi (the terminal's own colours). "
    "Your own are files NAME.toml in the folder `themes` of the configuration folder; copy one of those "
    "that are shipped. Key: t.",
    example="light",
)

ASCII: Final = Option[bool](
    "ascii",
    "screen",
    "-U",
    "--ascii",
    default=False,
    parse=switch,
    help="draw with ASCII characters only",
    about="Chosen by itself where the locale or the terminal cannot show more. Key: g.",
)

MOUSE: Final = Option[bool](
    "mouse",
    "screen",
    "--no-mouse",
    default=True,
    parse=switch,
    help="leave the mouse to the terminal, which then selects text with it",
    about="With the mouse, a click on a key, a pane or a row does what the key for it does, and the wheel scrolls; "
    "every action has a key, too. Where the screen has the mouse, most terminals select text while Shift is held.",
)

NO_COLOR: Final = Option[bool](
    "no_color",
    "screen",
    "-C",
    "--no-color",
    default=False,
    parse=switch,
    also_env="NO_COLOR",
    help="no colours",
    about="Nothing on the screen is told by colour alone. NO_COLOR of the environment, if it is set and not "
    "empty, means the same.",
)

PLAIN: Final = Option[bool](
    "plain",
    "screen",
    "--plain",
    default=False,
    parse=switch,
    help="lines instead of a screen, for screen readers and logs",
    about="Nothing is drawn twice, nothing is coloured and no cursor moves: the chat reads a prompt and writes the "
    "answer and a line of figures, other commands print what they would have shown. Chosen by itself "
    "where TERM is dumb.",
)

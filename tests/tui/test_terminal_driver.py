"""What a terminal sends, cut into packets anywhere; what the thread of the keyboard waits for."""

from __future__ import annotations

import select

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual import events
from textual.message import Message

from edgetop.tui.terminal_driver import REST_S, TerminalInput, WakingEvent

REPORTS = {
    "OSC 11, BEL": "\x1b]11;rgb:0000/ffff/1111\x07",
    "OSC 11, ST": "\x1b]11;rgb:0000/ffff/1111\x1b\\",
    "OSC 4": "\x1b]4;1;rgb:cd/00/00\x1b\\",
    "OSC 52": "\x1b]52;c;cXVpdA==\x07",
    "title": "\x1b]lA title: q r /\x1b\\",
    "DA1": "\x1b[?64;1;2;6;22c",
    "DA2": "\x1b[>1;4000;20c",
    "DA3": "\x1bP!|7E565445\x1b\\",
    "XTVERSION": "\x1bP>|q(1)\x1b\\",
    "DECRQSS": "\x1bP1$r0m\x1b\\",
    "XTGETTCAP": "\x1bP1+r544e=787465726d\x1b\\",
    "APC": "\x1b_Gi=1;OK\x1b\\",
    "PM": "\x1b^privacy\x1b\\",
    "SOS": "\x1bXstring\x1b\\",
    "mode": "\x1b[?2048;0$y",
    "ANSI mode": "\x1b[4;2$y",
    "keyboard": "\x1b[?1u",
    "colours": "\x1b[?997;1n",
    "status": "\x1b[0n",
    "cursor": "\x1b[24;80R",
    "cursor of DEC": "\x1b[?24;80;1R",
    "size": "\x1b[8;24;80t",
    "resize in band": "\x1b[48;99999;99999;1;1t",
    "8 bits": "\x9d11;rgb:0/0/0\x9c",
}
START, END = "\x1b[200~", "\x1b[201~"


def told(message: Message) -> str:
    match message:
        case events.Paste():
            return f"paste {message.text}"
        case events.Key():
            return message.key
    return type(message).__name__


def typed(*packets: str | float) -> list[str]:
    """Packets, and seconds of silence between them."""
    now_s = 1000.0
    terminal = TerminalInput(now_s)
    messages: list[Message] = []

    def wait(until_s: float) -> None:
        while terminal.deadline_s is not None and terminal.deadline_s <= until_s:
            messages.extend(terminal.expire(terminal.deadline_s))

    for packet in packets:
        if isinstance(packet, str):
            messages += terminal.feed(packet, now_s)
        else:
            wait(now_s + packet)
            now_s += packet
    wait(now_s + 10)
    return [told(message) for message in messages]


@pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS)
@pytest.mark.parametrize("gap_s", [0.0, 0.3])
def test_a_report_is_dropped_whole_wherever_it_is_cut(report: str, gap_s: float) -> None:
    assert typed(f"a{report}b") == ["a", "b"]
    for at in range(1, len(report)):
        assert typed("a", 0.5, report[:at], gap_s, report[at:], 0.5, "b") == ["a", "b"], at
    assert typed("a", *report, "b") == ["a", "b"]


def test_a_report_whose_end_is_lost_takes_neither_enter_nor_ctrl_c() -> None:
    assert typed("\x1b]11;rgb:\r") == ["enter"]
    assert typed("\x1bP>|", "\x03") == ["ctrl+c"]
    assert typed("\x1b]11;rgb:", REST_S, "a") == ["a"]


def test_escape_and_alt_stay_keys() -> None:
    assert typed("\x1b", 0.5, "r") == ["escape", "r"]
    assert typed("\x1b", 0.2, "r") == ["escape", "r"]
    assert typed("\x1br") == ["alt+r"]
    assert typed("\x1b\r") == ["alt+enter"]
    assert typed("\x1b\x1b[A") == ["escape", "up"]
    assert typed("\x1b[", 2.0, "a") == ["left_square_bracket", "a"]
    assert typed(60.0, "\x1b", 0.15, "]11;rgb:0/0/0\x07", "b") == ["escape", "b"]


@pytest.mark.parametrize(
    "packets",
    [
        (f"{START}first \x1b[31mERROR\x1b[0m\rsecond\x03\r{END}",),
        ("\x1b[20", "0~first \x1b[31mERROR\x1b[0m\rsecond\x03\r\x1b[2", "01~"),
        tuple(f"{START}first \x1b[31mERROR\x1b[0m\rsecond\x03\r{END}"),
        (f"first \x1b[31mERROR\x1b[0m\rsecond\x03\r{END}",),
        (f"{START}first \x1b[31mERROR\x1b[0m\rsecond\x03\r", 1.5),
        (f"{START}first \x1b[31mERROR\x1b[0m\rsecond\x03\r", 0.1, "\x03"),
        (f"{START}first \x1b[31mERROR\x1b[0m\rsecond\x03\r\x1b[20", 1.5, "1~"),
    ],
    ids=["whole", "split", "each character", "no start", "no end", "Ctrl+C", "half an end"],
)
def test_a_paste_is_one_thing_and_ends(packets: tuple[str | float, ...]) -> None:
    if len(packets) > 20:
        packets = tuple(packet for packet in packets if packet != "\x03")  # alone it is a key
        assert typed(*packets, "x") == ["paste first \x1b[31mERROR\x1b[0m\rsecond\r", "x"]
        return
    assert typed(*packets, "x", "\x1b[21~", "\x03") == [
        "paste first \x1b[31mERROR\x1b[0m\rsecond\x03\r", "x", "f10", "ctrl+c",
    ]  # fmt: skip


def test_the_rest_of_a_paste_that_a_slow_line_held_up_sends_nothing() -> None:
    assert typed(f"{START}first\r", 1.5, f"second\rthird\r{END}", "x") == [
        "paste first\r",
        "paste second\rthird\r",
        "x",
    ]
    assert typed(f"{START}first\r", 1.5, "second\rthird", 1.5, "x", "\r") == [
        "paste first\r", "paste second\rthird", "x", "enter",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("sent", "keys"),
    [
        ("\x1b[97:65;2;65u", ["A"]),
        ("\x1b[97;1:3u", []),
        ("\x1b[97;1:1u\x1b[97;1:2;97u", ["a", "a"]),
        ("\x1b[1114112u", []),
        ("\x1b[55296u\x1b[97;1;1114112u\x1b[97;1;55296u", []),
        (f"\x1b[{'9' * 5000}u\x1b[{'9' * 5000}~\x1b[<{'9' * 5000};1;1M", []),
        ("\x1b[0;;229u", ["å"]),
        ("\x1b[1;1:3A\x1b[1;5:2A", ["ctrl+up"]),
        ("\x1b[99;5u\x1b[27u\x1b[13;3u", ["ctrl+c", "escape", "alt+enter"]),
        ("\x1b[201~\x1b[97~\x1b[999~", []),
        ("\x1b[[A\x1bOP\x1b[11~\x1b[7$\x1b[Z\x1b[3~", ["f1", "f1", "f1", "shift+home", "shift+tab", "delete"]),
        ("\x1b[M !!\x1b[<0;1;1M\x1b[<0;-1;1M\x1b[I\x1b[O", ["MouseDown", "AppFocus", "AppBlur"]),
        ("\x1b[?2026;2$y", ["TerminalSupportsSynchronizedOutput"]),
    ],
)
def test_keys_of_every_protocol_are_named_or_ignored(sent: str, keys: list[str]) -> None:
    assert typed(sent) == keys


@given(st.lists(st.text(st.sampled_from("\x1b[]P_O?>;:0129uMm~ac\x07\\\x03\r\x9b\x9d")) | st.floats(0, 2), max_size=8))
def test_nothing_that_comes_from_a_terminal_is_an_error(packets: list[str | float]) -> None:
    assert typed(*packets, 5.0, "q")[-1] in {"q", "Q", "paste q"}


def test_more_than_anybody_types_at_once_is_a_paste_of_a_terminal_without_brackets() -> None:
    run = "größer " * 100
    assert typed(f"{run}\r") == [f"paste {run}", "enter"]
    assert typed("q" * 100) == ["q"] * 100


def can_be_read(event: WakingEvent) -> bool:
    return bool(select.select([event], [], [], 0)[0])


def test_an_event_wakes_who_selects_as_long_as_it_is_set() -> None:
    event = WakingEvent()
    assert not can_be_read(event)
    event.set()
    event.set()
    assert event.is_set()
    assert can_be_read(event)
    event.clear()
    event.clear()
    assert not event.is_set()
    assert not can_be_read(event)

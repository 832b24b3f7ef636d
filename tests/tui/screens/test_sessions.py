from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace
from rich.cells import cell_len
from textual.pilot import Pilot

from edgetop.session.file_io import encode_file, load_head
from edgetop.session.store import Store
from edgetop.settings.resolve import KeyChoice
from edgetop.tui.app import Display, SingleScreenApp
from edgetop.tui.keys import TABLES, KeyTables, remapped
from edgetop.tui.screens.sessions import SessionsScreen
from edgetop.tui.themes import LEVELS, GlyphLevel
from tests.support.hostile_text import acts_on_a_terminal
from tests.support.recorded_power import with_energy
from tests.tui.screen_text import rows_of, text_of, until, until_shown

GOLDEN = Path(__file__).parents[1] / "golden"
SIZES = ((120, 36), (80, 24), (40, 12))
MODELS = (("SmolLM2-1.7B-Instruct", "Q4_K_M"), ("SmolLM2-1.7B-Instruct", "Q8_0"), ("Llama-3.2-1B-Instruct", "Q4_0"))
BOARDS = ("Raspberry Pi 5 Model B Rev 1.0", "NVIDIA Jetson Orin Nano", "")
RATES = (6.46, 4.1, 12.44, 7.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve sessions, one torn file; number 13 is the oldest."""
    base = with_energy()
    load = base.loads[0]
    for index in range(12):
        name, quantization = MODELS[index % 3]
        file = replace(
            base,
            id=f"{index:02d}ab",
            started_at=f"2026-{index + 1:02d}-03T08:15:00+00:00",
            loads=(replace(load, model=replace(load.model, name=name, quantization=quantization)),),
            device=replace(base.device, model=BOARDS[index % 3], hostname="laptop"),
            tags=("baseline",) if index == 11 else ("fan", "draft") if index == 4 else (),
            summary=replace(
                base.summary,
                decode_tokens_per_s=RATES[index % 4],
                energy=None if index % 3 == 2 else base.summary.energy,
            ),
        )
        path = tmp_path / f"2026{index + 1:02d}03-081500-tiny-{index:02d}ab.json"
        path.write_bytes(b"".join(encode_file(file)))
    (tmp_path / "20260615-000000-torn.json").write_text("{")
    return tmp_path


class Opened:
    """What the screen wanted opened."""

    def __init__(self) -> None:
        self.replayed: list[tuple[str, ...]] = []
        self.compared: list[tuple[str, ...]] = []


Start = Callable[..., SingleScreenApp[None]]


@pytest.fixture
def opened() -> Opened:
    return Opened()


@pytest.fixture
def start(folder: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> Start:
    monkeypatch.setattr("platformdirs.user_config_path", lambda *_args, **_named: folder / "config")

    def into(names: list[tuple[str, ...]]) -> Callable[..., None]:
        return lambda _app, paths, *_options: names.append(tuple(path.name[4:8] for path in paths))

    monkeypatch.setattr("edgetop.tui.screens.sessions.open_replay", into(opened.replayed))
    monkeypatch.setattr("edgetop.tui.screens.sessions.open_comparison", into(opened.compared))

    def app(
        level: GlyphLevel = "braille", store: Store | None = None, keys: KeyTables = TABLES
    ) -> SingleScreenApp[None]:
        display = Display(level=level, keys=keys)
        return SingleScreenApp(lambda chosen: SessionsScreen(store or Store(folder), chosen), display)

    return app


async def ready(pilot: Pilot[None], *texts: str) -> None:
    await until_shown(pilot, "sessions 13", *texts)


def chosen(app: SingleScreenApp[None]) -> str:
    """The row of the cursor."""
    (row,) = [row for row in rows_of(app) if row.startswith(" >")]
    return row


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("size", SIZES, ids=[f"{columns}x{rows}" for columns, rows in SIZES])
async def test_the_screen_looks_as_in_the_picture(
    start: Start, folder: Path, size: tuple[int, int], level: GlyphLevel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    app = start(level, Store(Path()))
    async with app.run_test(size=size) as pilot:
        await ready(pilot)
        await pilot.press("down", "ctrl+space", "down", "ctrl+space")
        await until_shown(pilot, "2 marked")
        drawn = rows_of(app)
    assert len(drawn) == size[1]
    assert max(map(cell_len, drawn)) <= size[0]
    assert level != "ascii" or "".join(drawn).isascii()
    picture = GOLDEN / f"sessions-{size[0]}x{size[1]}-{level}.txt"
    if os.environ.get("EDGETOP_WRITE_PICTURES"):
        picture.write_text("\n".join(drawn) + "\n", encoding="utf-8")
    assert drawn == picture.read_text(encoding="utf-8").splitlines()


async def test_f6_replays_the_chosen_session_or_the_marked_ones(start: Start, opened: Opened) -> None:
    app = start()
    async with app.run_test(size=(100, 30)) as pilot:
        await ready(pilot)
        await pilot.press("f6", "down", "f6", "ctrl+space", "ctrl+space", "f6")
    assert opened.replayed == [("1203",), ("1103",), ("1103", "1003")]


async def test_marked_sessions_are_compared_in_the_order_of_their_marks(start: Start, opened: Opened) -> None:
    app = start()
    async with app.run_test(size=(100, 30)) as pilot:
        await ready(pilot)
        await pilot.press("f5")
        await until_shown(pilot, "Mark two or more with Ctrl+Space")
        await pilot.press("end", "ctrl+space", "home", "insert")
        await until_shown(pilot, "2 marked")
        await pilot.press("f5", "ctrl+x", "f5")
        await until_shown(pilot, "Mark two or more")
    assert opened.compared == [("0103", "1203")]


async def test_the_list_is_sorted_by_the_next_column_and_the_other_way_round(start: Start) -> None:
    app = start()
    async with app.run_test(size=(120, 30)) as pilot:
        await ready(pilot, "#▲")
        for _ in range(5):
            await pilot.press("right")
        await until_shown(pilot, "TOK/S▼")
        assert "12.4" in chosen(app)
        await pilot.press("ctrl+r")
        await until_shown(pilot, "TOK/S▲")
        assert "4.10" in chosen(app)
        await pilot.press("left", "left")
        await until_shown(pilot, "MODEL▲")
        assert "Llama" in chosen(app)


@pytest.mark.parametrize("few", [500, 3])
async def test_a_filter_narrows_the_list_as_it_is_typed_and_esc_takes_it_back(
    start: Start, opened: Opened, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of more rows than a few in a thread."""
    monkeypatch.setattr("edgetop.tui.screens.list.FITTED", few)
    app = start()
    async with app.run_test(size=(120, 30)) as pilot:
        await ready(pilot)
        await pilot.press(*"q8 jet")
        await until_shown(pilot, "sessions 4 of 13", "filter: q8 jet_", "F6 Replay")
        assert "Q8_0" in chosen(app)
        await pilot.press(*"m")
        await until_shown(pilot, "none of 13 has this")
        await pilot.press("backspace")
        await until_shown(pilot, "sessions 4 of 13")
        await pilot.press("down", "f6")
        await pilot.press("escape")
        await ready(pilot)
        assert "4 of" not in text_of(app)
        await pilot.press(*"qmdsrjkhg?")
        await until_shown(pilot, "filter: qmdsrjkhg?_")
        await pilot.press("ctrl+u")
        await ready(pilot)
    assert len(opened.replayed) == 1


async def test_a_character_that_the_user_gave_an_action_has_it_where_nothing_is_typed(
    start: Start, opened: Opened
) -> None:
    app = start(keys=remapped([KeyChoice("sessions", "replay", ("r",))], "config.toml"))
    async with app.run_test(size=(120, 30)) as pilot:
        await ready(pilot)
        await pilot.press("r", *"jetr")
        await until_shown(pilot, "filter: jetr_")
    assert len(opened.replayed) == 1


async def test_tags_are_edited_in_place(start: Start, folder: Path) -> None:
    app = start()
    path = Store(folder).find("1")
    async with app.run_test(size=(120, 30)) as pilot:
        await ready(pilot)
        await pilot.press("ctrl+t")
        await until_shown(pilot, "Tags of 1: baseline_")
        await pilot.press("space", *"cold,")
        await pilot.press("enter")
        await until_shown(pilot, "cannot be a tag")
        assert load_head(path).tags == ("baseline",)
        await pilot.press("ctrl+t", "ctrl+w", *"cold", "enter")
        await until(pilot, lambda: load_head(path).tags == ("cold",), "the tag in the file")
        await until_shown(pilot, "cold")


async def test_nothing_is_deleted_without_a_yes(start: Start, folder: Path) -> None:
    app = start()
    async with app.run_test(size=(100, 30)) as pilot:
        await ready(pilot)
        await pilot.press("delete")
        await until_shown(pilot, "Delete 1, 2026-12-03 08:15 UTC, Llama-3.2-1B-Instruct Q4_0 for good? y/N:")
        await pilot.press("n", "enter", "delete", "enter", "delete", "escape")
        await ready(pilot, "Enter Open")
        assert len(list(folder.glob("*.json"))) == 13
        await pilot.press("down", "ctrl+space", "ctrl+space", "delete")
        await until_shown(pilot, "Delete 2 marked sessions for good?")
        await pilot.press("y", "enter")
        await until_shown(pilot, "sessions 11", "Enter Open")
        assert "marked" not in text_of(app)
    assert [path.name[4:8] for path in sorted(folder.glob("*.json"), reverse=True)][:3] == ["1203", "0903", "0803"]


async def test_a_file_that_cannot_be_read_says_so_and_can_only_be_deleted(
    start: Start, folder: Path, opened: Opened
) -> None:
    app = start()
    async with app.run_test(size=(100, 30)) as pilot:
        await ready(pilot, "20260615-000000-torn.json: byte 1: Input data was truncated")
        await pilot.press(*["down"] * 6)
        assert "torn" in chosen(app)
        await pilot.press("ctrl+t", "f6", "ctrl+space")
        await until_shown(pilot, "This one cannot be read.")
        await pilot.press("delete", "y", "enter")
        await until_shown(pilot, "sessions 12")
    assert not (folder / "20260615-000000-torn.json").exists()
    assert opened.replayed == []


async def test_a_long_list_scrolls_with_the_cursor(start: Start) -> None:
    app = start()
    async with app.run_test(size=(80, 8)) as pilot:
        await ready(pilot)
        await pilot.press("end")
        await until(pilot, lambda: " > 13" in text_of(app), "the last session")
        await pilot.press("pageup")
        assert chosen(app).startswith(" > 9")
        await pilot.press("home")
        assert chosen(app).startswith(" > 1 ")
        await pilot.resize_terminal(80, 30)
        await until_shown(pilot, " > 1 ", "   13 ")


async def test_hostile_names_and_a_hostile_paste_stay_text(start: Start, folder: Path) -> None:
    base = with_energy()
    evil = "\x1b[2J[red]\u202e" + "\u4e2d" * 200
    load = base.loads[0]
    file = replace(
        base,
        tags=(evil,),
        device=replace(base.device, model=evil),
        loads=(replace(load, model=replace(load.model, name=evil, quantization=evil)),),
    )
    (folder / "20270101-000000-evil.json").write_bytes(b"".join(encode_file(file)))
    app = start()
    async with app.run_test(size=(120, 20)) as pilot:
        await until_shown(pilot, "sessions 14", "␛[2J[red]<U+202E>")
        assert max(map(cell_len, rows_of(app))) <= 120
        assert not acts_on_a_terminal("".join(rows_of(app)))


async def test_esc_goes_back(start: Start) -> None:
    app = start()
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot)
        await pilot.press("x", "escape", "escape")
        await until(pilot, lambda: not app.is_running or app._exit, "the end")
    assert app.return_value is None

"""Net energy by the idle power of an earlier session."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from edgetop.core.energy.tokens import Energy
from edgetop.core.figures import rows_of
from edgetop.core.records import DeviceInfo, Event, Record, SourceAdded
from edgetop.io.files import write_atomically
from edgetop.live.past_runs import last_idle
from edgetop.session.file import to_file
from edgetop.session.file_io import encode_file
from edgetop.session.meters import stored_idle
from edgetop.session.session import Session
from edgetop.session.snapshot import snapshot
from tests.support.bench_sessions import counter
from tests.support.recorded_sessions import LOADED, MS, START_US, STARTED, S, fold, sample, turn

BOARD = counter()
ASKED_US, DONE_US, END_US = 2 * S, 2 * S + 250 * MS + 10 * S, 14 * S
IDLE_W, BUSY_W = 3.4, 8.0


def session(*events: Event, idle_s: int = 0, device: DeviceInfo = STARTED.device) -> Session:
    """A turn of 10 s at 8 W, after `idle_s` more of idling at 3.4 W."""
    more_us = idle_s * S

    def energy_j(t_us: int) -> float:
        busy_us = max(0, min(t_us, DONE_US + more_us) - ASKED_US - more_us)
        return (IDLE_W * t_us + (BUSY_W - IDLE_W) * busy_us) / S

    readings: list[Record] = [sample(BOARD, t, energy_j(t)) for t in range(0, END_US + more_us, 100 * MS)]
    answer = turn(at_us=ASKED_US + more_us, gaps_us=(100 * MS,) * 100)
    ended = Event(t_us=START_US + END_US + more_us, kind="session_ended", text="The session was closed.")
    head: list[Record] = [replace(STARTED, device=device), SourceAdded(source=BOARD), LOADED, *events]
    return fold([*head, *answer, *readings, ended])


def baseline(age: float = 7200.0, /, **data: str | float) -> Event:
    told: dict[str, str | float | bool] = {
        "power_w": IDLE_W, "u_w": 0.02, "age_s": age, "scope": "board_input", "source": BOARD.name, "changed": "",
    }  # fmt: skip
    return Event(t_us=LOADED.t_us, kind="idle_baseline", text="earlier", data={**told, **data})


def energy(of: Session) -> Energy:
    found = snapshot(of, of.end_us).summary.energy
    assert found is not None
    return found


def test_without_any_baseline_there_is_no_net() -> None:
    assert energy(session()).net_j is None


def test_the_last_baseline_gives_the_net_and_is_named() -> None:
    found = energy(session(baseline()))
    assert found.net_j is not None
    assert found.net_j.low <= (BUSY_W - IDLE_W) * 10.25 <= found.net_j.high
    assert found.idle_w is not None
    assert found.idle_w.value == pytest.approx(IDLE_W)
    assert "idle baseline of 2 h ago" in found.flags
    shown = session(baseline())
    assert "idle power" in rows_of(snapshot(shown, shown.end_us).summary)


def test_its_age_and_what_has_changed_widen_the_interval() -> None:
    widths = []
    for event in (
        baseline(60),
        baseline(7200),
        baseline(7200, changed="governor"),
        baseline(7200, changed="governor, power mode"),
        baseline(7200, changed="governor, power mode", source="another"),
    ):
        found = energy(session(event)).idle_w
        assert found is not None
        widths.append(found.high - found.low)
    assert widths == sorted(set(widths))
    assert widths[0] >= 2 * 2 * 0.02 * IDLE_W
    flags = energy(session(baseline(3 * 86_400, changed="governor", source="another"))).flags
    assert "idle baseline of 3 d ago, with another governor and sensor" in flags


def test_its_own_baseline_comes_before_an_earlier_one() -> None:
    found = energy(session(baseline(power_w=9.0), idle_s=20))
    assert found.idle_w is not None
    assert found.idle_w.value == pytest.approx(IDLE_W, rel=0.01)
    assert not any("baseline" in flag for flag in found.flags)


@pytest.mark.parametrize("data", [{"scope": "wall"}, {"power_w": -1.0}, {"power_w": float("nan")}, {"age_s": "x"}])
def test_another_scope_or_nonsense_gives_nothing(data: dict[str, str | float]) -> None:
    assert stored_idle(session(baseline(**data)), "board_input", BOARD.name) is None


def test_the_store_is_asked_for_the_same_machine_and_model(tmp_path: Path) -> None:
    then = session(idle_s=20)
    write_atomically(tmp_path / "2026-10-12-a.json", encode_file(to_file(then)))
    now_s = 1791813802.5 + then.end_us / S + 3600  # an hour after its end
    here = STARTED.device
    found = last_idle(tmp_path, here, LOADED, now_s)
    assert found is not None
    assert found.data["power_w"] == pytest.approx(IDLE_W, rel=0.01)
    assert found.data["age_s"] == pytest.approx(3600)
    assert found.data["changed"] == ""
    other_mode = last_idle(tmp_path, replace(here, governor="powersave"), LOADED, now_s)
    assert other_mode is not None
    assert other_mode.data["changed"] == "governor"
    assert last_idle(tmp_path, replace(here, cpu="another"), LOADED, now_s) is None
    assert last_idle(tmp_path, here, replace(LOADED, model=replace(LOADED.model, name="other")), now_s) is None


def test_a_session_that_only_borrowed_its_idle_power_lends_none(tmp_path: Path) -> None:
    write_atomically(tmp_path / "2026-10-12-a.json", encode_file(to_file(session(baseline()))))
    (tmp_path / "broken.json").write_text("{")
    odd = replace(to_file(session(idle_s=20)), started_at="some day")
    write_atomically(tmp_path / "2026-10-13-b.json", encode_file(odd))
    assert last_idle(tmp_path, STARTED.device, LOADED, 2e9) is None

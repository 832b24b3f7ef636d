"""The screen of several hosts; ssh is a program that tells readings, or refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.fleet import HOW, READING, SSH
from edgetop.io import json
from edgetop.live.fleet import FleetSession
from edgetop.live.live_session import WatchOptions
from edgetop.session.store import Store
from edgetop.tui.app import Display, WatchApp
from tests.tui.screen_text import settled_rows, until_shown

REFUSES = 'case "$*" in *pi2*) echo "Host key verification failed." >&2; exit 255;; esac\n'


@pytest.mark.parametrize("size", [(80, 24), (120, 36)])
async def test_a_row_a_host_the_sum_and_why_one_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    (tmp_path / "reading").write_bytes(json.encode(READING) + b"\n")
    (tmp_path / "ssh").write_text(SSH.format(how=REFUSES + HOW["edgetop"].format(folder=tmp_path)))
    (tmp_path / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr("edgetop.live.fleet.lower_priority", lambda: None)
    fleet = FleetSession(["pi1", "pi2", "jetson"], WatchOptions(record=False), Store(tmp_path), pytest.fail)
    app = WatchApp(fleet.warned_by, Display(level="ascii"))
    async with app.run_test(size=size) as pilot:
        # 23 tokens a second are those of both.
        await until_shown(pilot, "2 of 3 hosts", "pi2: gone since", "SmolLM2-1", " 23.0 ", "jetson")
        await pilot.resize_terminal(160, 48)
        await until_shown(pilot, "2 of 3 hosts")
        assert "memory" not in "\n".join(await settled_rows(pilot, app)), "the list has all the room"
    app.save_session()

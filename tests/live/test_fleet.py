"""Rows, sums, records and metrics of several hosts; a machine that tells nonsense."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edgetop.commands.completion import candidates
from edgetop.core.errors import UsageError
from edgetop.core.quantity import Interval
from edgetop.core.records import Sampled, SourceAdded
from edgetop.core.sources import Unavailable
from edgetop.io.ssh import Shell, configured_hosts
from edgetop.live.fleet import (
    CHANNELS,
    HEADINGS,
    FarHost,
    FleetSession,
    HostReading,
    HostRow,
    channel_values,
    fleet_notes,
    host_cells,
    source_of,
    total_cells,
    total_of,
)
from edgetop.live.metrics import HOSTS, Metrics
from edgetop.live.watch_session import WatchOptions
from edgetop.session.session import Session
from edgetop.session.store import Store
from tests.support.recorded_sessions import STARTED, S


def interval(value: float, half: float) -> Interval:
    return Interval(value=value, low=value - half, high=value + half, u_systematic=half / 2, u_random=0.0)


def row(host: str, **told: object) -> HostRow:
    return HostRow(host=host, state="answers", since=0.0, by="edgetop", reading=HostReading(**told))  # type: ignore[arg-type]


def measured(host: str, tokens: float, j_per_token: float, half: float, scope: str = "module") -> HostRow:
    return row(
        host,
        tokens_per_s=10.0,
        power_w=5.0,
        power_scope=scope,
        j_per_token=interval(j_per_token, half),
        energy_j=interval(tokens * j_per_token, tokens * half),
    )


GONE = HostRow(host="pi3", state="gone", since=0.0, missing=Unavailable("it does not answer", "see to it"))


def test_the_sum_is_over_energies_and_tokens_and_not_a_mean_of_ratios() -> None:
    total = total_of([measured("a", 100, 2.0, 0.1), measured("b", 300, 1.0, 0.1), GONE])
    assert (total.answering, total.hosts) == (2, 3)
    assert total.tokens_per_s == 20
    assert total.power_w == 10
    assert total.j_per_token is not None
    assert total.j_per_token.value == pytest.approx(500 / 400)
    assert total.j_per_token.high - total.j_per_token.value == pytest.approx(0.1)  # all to one side
    assert total.thriftiest == "b"


def test_power_that_is_not_measured_alike_is_not_added_up() -> None:
    total = total_of([measured("a", 100, 2.0, 0.1), measured("b", 300, 1.0, 0.1, scope="wall")])
    assert total.power_w is None
    assert total.j_per_token is None
    assert "not measured at the same place" in total.power_missing


def test_a_sum_over_some_says_over_how_many() -> None:
    total = total_of([measured("a", 100, 2.0, 0.1), row("b", tokens_per_s=4.0), GONE])
    assert total_cells(total)[1:5] == ["2 of 3 hosts", "14.0", "5.00 of 1", "2.00 ± 0.10 of 1"]


def test_nobody_is_the_best_where_the_intervals_overlap() -> None:
    assert total_of([measured("a", 100, 1.1, 0.2), measured("b", 300, 1.0, 0.2)]).thriftiest == ""


def test_nothing_known_is_no_zero() -> None:
    total = total_of([row("a"), GONE])
    assert (total.tokens_per_s, total.power_w, total.j_per_token) == (None, None, None)
    assert host_cells(row("a"))[2:6] == ["n/a"] * 4
    assert len(host_cells(GONE)) == len(host_cells(row("a"))) == len(HEADINGS)
    values, reasons = channel_values(GONE)
    assert values == (0.0, *[None] * (len(CHANNELS) - 1))
    assert set(reasons[1:]) == {"it does not answer"}


def test_a_host_that_is_gone_says_since_when_and_why() -> None:
    (note,) = fleet_notes([GONE], total_of([GONE]))
    assert note.startswith("pi3: gone since ")
    assert note.endswith("it does not answer (see to it)")


@pytest.mark.parametrize(
    "told",
    [
        b'{"type":"reading","tokens_per_s":"many"}',
        b'{"type":"reading","power_w":1e300}',
        b'{"type":"reading","j_per_token":{"value":1}}',
        b'{"type":"reading","models":[1]}',
    ],
)
def test_a_reading_that_cannot_be_is_refused(told: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(msgspec.json.decode(told), HostReading)


def test_what_a_host_calls_its_models_moves_no_cursor(tmp_path: Path) -> None:
    host = FarHost("pi", tmp_path)
    assert host._take(b'{"type":"reading","models":["\\u001b[2Jevil"],"throttling":["a\\nb"]}'.decode())
    assert "\x1b" not in "".join(host_cells(host.row))
    assert not host._take('{"type":"summary"}')


@pytest.mark.parametrize("name", ["-oProxyCommand=x", "", "a b", "a;b", "$(x)", "a\nb", "--"])
def test_what_is_no_host_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="is no host"):
        Shell(name, tmp_path)


def test_a_host_named_twice_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="twice"):
        FleetSession(["a", "a"], WatchOptions(), Store(tmp_path), pytest.fail)


def test_each_host_is_a_stream_and_has_its_metrics() -> None:
    session = Session()
    session.apply(STARTED)
    session.apply(SourceAdded(source=source_of("pi1.lan")))
    values, reasons = channel_values(measured("pi1.lan", 100, 2.0, 0.1))
    session.apply(Sampled(source="host.pi1.lan", t_us=STARTED.t_us + S, values=values, reasons=reasons))
    told = {(each.metric.name, each.labels): each.value for each in Metrics(session).now(S)}
    assert told["edgetop_host_energy_per_token_joules", ("pi1.lan",)] == 2.0
    assert told["edgetop_host_up", ("pi1.lan",)] == 1
    assert ("edgetop_host_temperature_celsius", ("pi1.lan",)) not in told
    assert set(HOSTS) == {channel.name for channel in CHANNELS}


def test_hosts_of_the_configuration_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    (home / ".ssh/more").mkdir(parents=True)
    (home / ".ssh/config").write_text(
        'Include more/*.conf nowhere\nHost pi1 "pi2"\n  HostName 10.0.0.1\nHost * !x pi?\nhost=jetson\nInclude config\n'
    )
    (home / ".ssh/more/a.conf").write_text("Host orin\n")
    monkeypatch.setenv("HOME", str(home))
    assert configured_hosts() == ["orin", "pi1", "pi2", "jetson"]
    assert [each.text for each in candidates(["watch", "pi1"], "p")] == ["pi1", "pi2"]

from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from edgetop.core.clock import US_PER_S
from edgetop.core.errors import UsageError
from edgetop.core.quantity import Interval, exact
from edgetop.core.records import Sampled, SessionKind, SourceAdded
from edgetop.core.sources import Channel, SourceInfo, Unavailable
from edgetop.inference.scripted import Reply
from edgetop.live.alerts import Alerts, figure_names, parse_alert, value_at
from edgetop.live.fleet import HostReading, HostRow, channel_values, source_of
from edgetop.session.session import Session
from edgetop.settings.option import alert
from tests.support.eventually import eventually
from tests.support.isolated_home import IsolatedHome
from tests.support.recorded_sessions import START_US, STARTED
from tests.support.requirements import need_program
from tests.support.tmux import Tmux

THERMAL = SourceInfo(
    name="thermal", driver="thermal", period_s=1.0, channels=(Channel(name="temperature.cpu", unit="Cel", digits=1),)
)


def heated(*celsius: float | None, kind: SessionKind = "watch") -> Session:
    """A watch whose processor was read once a second."""
    session = Session()
    session.apply(replace(STARTED, kind=kind))
    session.apply(SourceAdded(source=THERMAL))
    for second, value in enumerate(celsius):
        stamp = START_US + second * US_PER_S
        reasons = () if value is not None else ("unplugged",)
        session.apply(Sampled(t_us=stamp, source="thermal", values=(value,), reasons=reasons))
    return session


def states(text: str, *celsius: float | None) -> list[tuple[int, str]]:
    """When an alert changed, in seconds, and to what."""
    session, alerts = heated(*celsius), Alerts([text], "watch")
    return [
        (second, event.kind.removeprefix("alert_"))
        for second in range(len(celsius))
        for event in alerts.check(session, second * US_PER_S, lambda _text: None)
    ]


def test_it_is_raised_once_and_is_over_once() -> None:
    assert states("temperature_cpu_c > 80", 79, 81, 82, *[80] * 11, 81) == [(1, "raised"), (13, "over"), (14, "raised")]


def test_what_goes_to_and_fro_across_its_limit_is_one_alert() -> None:
    assert states("temperature_cpu_c > 80", *[81, 79] * 10, *[79] * 10) == [(0, "raised"), (29, "over")]
    assert states("temperature.cpu > 80 for 12s", *[81] * 13, *[79] * 13) == [(12, "raised"), (25, "over")]
    # What cannot be read is not known to be over.
    assert states("temperature.cpu > 80", 81, *[79] * 9, None, *[79] * 11) == [
        (0, "raised"), (10, "not_known"), (21, "over"),
    ]  # fmt: skip


def test_for_counts_from_the_first_look_beyond_the_limit_on() -> None:
    assert states("temperature.cpu >= 80 for 2s", 80, 79, 80, 80, 80, 80) == [(4, "raised")]


def test_what_cannot_be_read_crosses_nothing_and_ends_no_alert() -> None:
    assert states("temperature.cpu > 80", None, 81, None, 81, *[70] * 11) == [
        (0, "not_known"), (1, "raised"), (2, "not_known"), (14, "over"),
    ]  # fmt: skip
    assert states("temperature.cpu > 80 for 2s", 81, 81, None, 81, 81) == [(2, "not_known")]


def test_an_old_reading_is_none() -> None:
    assert "ago" in str(value_at(heated(90.0), "temperature_cpu_c", 60 * US_PER_S))


def test_a_limit_within_the_interval_is_not_crossed() -> None:
    unsure = Interval(value=1.6, low=1.4, high=1.8, u_systematic=0.1, u_random=0.0)
    assert not parse_alert("energy.j_per_token > 1.5").is_crossed_by(unsure)
    assert not parse_alert("energy.j_per_token < 1.7").is_crossed_by(unsure)
    assert parse_alert("energy.j_per_token > 1.5").is_crossed_by(exact(1.6))


@pytest.mark.parametrize(
    ("text", "for_s"),
    [("a > 1 for 60s", 60), ("a<-1e3 for 2 min", 120), ("a > .5 for 1h", 3600), ("a > 5. for 7", 7), ("a > 1", 0)],
)
def test_durations(text: str, for_s: float) -> None:
    assert alert(text) == (text,)
    assert parse_alert(text).for_s == for_s


@pytest.mark.parametrize("text", ["", "a", "a = 1", "a > x", "a > 5%", "a > 1 for", "a > 1 for ever", "a > 1e999"])
def test_what_is_no_limit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a limit such as"):
        alert(text)


def test_a_name_that_nothing_has_is_refused_with_the_nearest_one() -> None:
    def look(name: str) -> None:
        list(Alerts([f"{name} > 1"], "watch").check(heated(50), 0, lambda _text: None))

    for known in ("energy.j_per_token", "temperature_cpu_c", "server.1.context_use", "servers.requests_running"):
        look(known)
    with pytest.raises(UsageError) as refused:
        look("temprature_cpu_c")
    assert "did you mean temperature_cpu_c?" in refused.value.hint
    with pytest.raises(UsageError):
        Alerts(["decode_tokens_per_s < 5"], "watch")


def test_a_command_is_told_in_its_environment_and_its_failure_is_said() -> None:
    told: list[str] = []
    session = heated(90)
    alerts = Alerts(
        ["temperature.cpu > 80"],
        "watch",
        command='test "$EDGETOP_ALERT_STATE $EDGETOP_ALERT_VALUE $EDGETOP_ALERT_LIMIT" '
        '= "raised 90.0 temperature.cpu > 80" && exit 7; exit 1',
    )
    eventually(lambda: (list(alerts.check(session, 0, told.append)), len(told) > 1)[1], "the command ends")
    assert told == ["temperature.cpu > 80: 90.00", "--alert-run: the command ended with 7"]


def interval(value: float, half: float) -> Interval:
    return Interval(value=value, low=value - half, high=value + half, u_systematic=half / 2, u_random=0.0)


def several(*rows: HostRow) -> Session:
    """A watch of several hosts, each of which was read once."""
    session = Session()
    session.apply(replace(STARTED, kind="watch"))
    for each in rows:
        session.apply(SourceAdded(source=source_of(each.host)))
        values, reasons = channel_values(each)
        session.apply(Sampled(source=f"host.{each.host}", t_us=START_US, values=values, reasons=reasons))
    return session


def test_of_several_hosts_a_limit_is_that_of_each() -> None:
    hot = HostReading(temperature_cpu_c=85.0, j_per_token=interval(2.0, 0.1), power_w=7.0)
    unsure = HostReading(temperature_cpu_c=60.0, j_per_token=interval(1.6, 0.2))
    session = several(
        HostRow(host="pi.1", state="answers", since=0.0, reading=hot),
        HostRow(host="me@pi2", state="answers", since=0.0, reading=unsure),
        HostRow(host="pi3", state="gone", since=0.0, missing=Unavailable("it does not answer")),
    )

    def raised(limit: str) -> list[str]:
        told: list[str] = []
        return [
            str(event.data["alert"]).partition(":")[0]
            for event in Alerts([limit], "watch").check(session, 0, told.append)
            if event.kind == "alert_raised"
        ]

    for limit in ("temperature_cpu_c > 80", "temperature.cpu > 80", "energy.j_per_token > 1.5", "power_w > 5"):
        assert raised(limit) == ["pi.1"], limit
    assert raised("up < 1") == ["pi3"]
    assert raised("memory_used_bytes > 0") == []
    assert raised("host.me@pi2.temperature_cpu > 50") == ["host.me@pi2.temperature_cpu > 50"]
    for name in ("energy.net_j", "host.pi9.power", "servers.requests_running", "temperature_gpu_c"):
        with pytest.raises(UsageError):
            raised(f"{name} > 1")


def test_every_figure_of_a_watch_and_of_a_session_has_a_value_or_a_reason() -> None:
    kinds: tuple[SessionKind, ...] = ("watch", "chat")
    for kind in kinds:
        session = heated(50, kind=kind)
        for name in figure_names(kind):
            value = value_at(session, name, 0)
            assert value.reason if isinstance(value, Unavailable) else isinstance(value, Interval), name


@pytest.fixture
def home(tmp_path: Path) -> IsolatedHome:
    zone = tmp_path / "root/sys/class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (tmp_path / "root/proc").mkdir()
    (zone / "type").write_text("cpu-thermal\n")
    (zone / "temp").write_text("85000\n")
    return IsolatedHome(tmp_path)


HOT = ("--sysroot", "root", "--alert", "temperature_cpu_c > 80", "--alert-exit")


def test_run_is_ended_with_6_and_what_was_measured_is_saved(home: IsolatedHome) -> None:
    """By an alert that nothing raises before there are words: of a session without an answer nothing is kept."""
    home.scripted(Reply(text="word " * 4000), tokens_per_s=50)
    done = home.run("run", "-p", "Go on.", "--json", "--alert", "decode_tokens_per_s > 1", "--alert-exit")
    assert done.returncode == 6
    assert "ended by an alert: decode_tokens_per_s > 1" in done.stderr
    assert json.loads(done.stdout)["session"]
    (raised,) = [each.data for each in home.only_session().events if each.kind == "alert_raised"]
    assert raised["alert"] == "decode_tokens_per_s > 1"
    assert home.only_session().turns


def test_watch_and_the_live_screen_are_ended_too(home: IsolatedHome) -> None:
    done = home.run("watch", "--seconds", "60", *HOT)
    assert (done.returncode, "generated" in done.stdout) == (6, True)
    need_program("tmux")
    command = [*home.scripted(Reply(text="word")), "chat", *HOT]
    window = Tmux(command, environment=home.environment, folder=home.folder)
    try:
        assert window.exit_code() == 6
        assert "ended by an alert: temperature_cpu_c" in window.text
    finally:
        window.close()

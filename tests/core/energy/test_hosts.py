from __future__ import annotations

import pytest

from edgetop.core.energy.scopes import Headline, headline_over_hosts, hosts_of
from edgetop.core.sources import Meter, Scope, Unavailable


def meter(name: str, scope: Scope = "module", *, host: str = "", source: str = "", **known: object) -> Meter:
    parts: dict[str, object] = {"name": name, "kind": "power", "scope": scope, "poll_s": 0.1, "host": host}
    return Meter(**{**parts, "source": source or f"power.{host or name}", **known})  # type: ignore[arg-type]


OWN = meter("power.VDD_IN", total=True)
RAIL = meter("power.VDD_SOC", "component", source=OWN.source)
PLUG = meter("power.plug", "wall")
PI2, PI3 = (meter(f"power.{host}", host=host, source=f"power.host.{host}", total=True) for host in ("pi2", "pi3"))
AT_WALL = meter("power.pi4", "wall", host="pi4", source="power.host.pi4", total=True)


def names(found: Headline | Unavailable) -> list[str]:
    assert isinstance(found, Headline), found
    return [each.name for each in found.meters]


def test_all_hosts_are_added_up_and_this_machine_where_it_has_power() -> None:
    found = headline_over_hosts([OWN, RAIL, PI2, PI3])
    assert names(found) == ["power.VDD_IN", "power.pi2", "power.pi3"]
    assert isinstance(found, Headline)
    assert hosts_of(found) == ("local", "pi2", "pi3")
    assert names(headline_over_hosts([PI2])) == ["power.pi2"]


def test_this_machine_is_measured_as_the_others_are_if_it_can_be() -> None:
    assert names(headline_over_hosts([PLUG, OWN, PI2])) == ["power.VDD_IN", "power.pi2"]
    assert names(headline_over_hosts([PLUG, OWN, AT_WALL])) == ["power.plug", "power.pi4"]


def test_different_scopes_are_not_added() -> None:
    for meters in ([PI2, AT_WALL], [OWN, AT_WALL], [PLUG, PI2]):
        found = headline_over_hosts(meters)
        assert isinstance(found, Unavailable)
        assert "powers of different scope are not added" in found.reason
        assert "wall" in found.reason
        assert "module" in found.reason


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ("pi2", ["power.pi2"]),
        ("pi3+pi2", ["power.pi3", "power.pi2"]),
        ("local+pi2", ["power.VDD_IN", "power.pi2"]),
        ("local", ["power.VDD_IN"]),
        ("power.VDD_IN+pi2", ["power.VDD_IN", "power.pi2"]),
        ("power.VDD_SOC", ["power.VDD_SOC"]),
        ("power.host.pi3", ["power.pi3"]),
        ("pi4", ["power.pi4"]),
    ],
)
def test_hosts_and_sources_can_be_chosen(chosen: str, expected: list[str]) -> None:
    assert names(headline_over_hosts([OWN, RAIL, PI2, PI3, AT_WALL], chosen)) == expected


def test_a_host_that_gives_nothing_makes_the_sum_absent_with_its_name_and_not_smaller() -> None:
    absent = {"pi3": Unavailable("ssh exited with status 255")}
    for chosen in (None, "pi2+pi3", "pi3"):
        found = headline_over_hosts([OWN, PI2], chosen, absent)
        assert isinstance(found, Unavailable)
        assert found.reason == "pi3: ssh exited with status 255"
        assert found.hint
    assert names(headline_over_hosts([OWN, PI2], "pi2", absent)) == ["power.pi2"]
    assert isinstance(headline_over_hosts([OWN], None, absent), Unavailable)


def test_this_machine_without_power_is_missed_only_where_it_was_asked_for() -> None:
    assert names(headline_over_hosts([PI2, PI3])) == ["power.pi2", "power.pi3"]
    found = headline_over_hosts([PI2, PI3], "local+pi2")
    assert isinstance(found, Unavailable)
    assert found.reason.startswith("local: ")
    unknown = headline_over_hosts([OWN, PI2], "pi2+pi9")
    assert isinstance(unknown, Unavailable)
    assert "'pi9'" in unknown.reason

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetop.core.sources import (
    Channel,
    PowerProperties,
    SourceInfo,
    SourceProperties,
    of_channel,
    of_source,
    to_properties,
    with_properties,
)

positive = st.floats(min_value=1e-9, max_value=1e9)
properties = st.builds(
    PowerProperties,
    window_s=st.none() | positive,
    update_s=st.none() | st.floats(min_value=1e-6, max_value=1e9),
    gain=st.none() | positive,
    offset_w=st.just(0.0) | positive,
    lsb_w=st.none() | positive,
    wrap_j=st.none() | positive,
    calibration=st.sampled_from(["", "generic", "desk meter"]),
    flags=st.lists(st.sampled_from(["opt-in", "slow", "partial"]), unique=True).map(tuple),
    total=st.booleans(),
    sum_of=st.sampled_from([(), ("power.a",), ("power.a", "power.b.c")]),
    adds_up_as=st.sampled_from(["", "cpu"]),
)


def info(known: dict[str, PowerProperties]) -> SourceInfo:
    channels = tuple(Channel(name=name, unit="W") for name in known)
    return SourceInfo(
        name="s", driver="d", kind="power", period_s=1, channels=channels, properties=to_properties(known)
    )


@given(st.dictionaries(st.sampled_from(["power.a", "power.b", "energy.package-0.dram"]), properties, min_size=1))
def test_what_is_written_of_each_channel_is_read_back_through_the_session_file(
    known: dict[str, PowerProperties],
) -> None:
    kept = msgspec.json.decode(msgspec.json.encode(info(known)), type=SourceInfo)
    assert {name: of_channel(kept, name) for name in known} == known


def test_a_value_that_all_channels_share_is_written_once_and_another_beside_its_channel() -> None:
    known = {
        "power.a": PowerProperties(gain=0.01, total=True),
        "power.b": PowerProperties(gain=0.01),
    }
    assert to_properties(known) == {"gain": 0.01, "total.power.a": True}


def test_a_property_of_the_wrong_kind_counts_as_not_stated() -> None:
    stated: dict[str, str | float | bool] = {
        "gain": "much", "offset_w": -1.0, "wrap_j": 0.0, "total": 1.0, "flags": True, "host": 7.0, "update_s": 0.1,
    }  # fmt: skip
    tampered = msgspec.structs.replace(info({"power.a": PowerProperties()}), properties=stated)
    assert of_channel(tampered, "power.a") == PowerProperties(update_s=0.1)
    assert of_source(tampered) == SourceProperties()


@pytest.mark.parametrize("update_s", [0.0, 1e-300, -1.0])
def test_a_period_that_no_stamp_can_show_counts_as_not_stated(update_s: float) -> None:
    tampered = msgspec.structs.replace(info({"power.a": PowerProperties()}), properties={"update_s": update_s})
    assert of_channel(tampered, "power.a") == PowerProperties()


def test_what_is_known_of_the_source_itself_is_read_back_beside_that_of_its_channels() -> None:
    source = SourceProperties(host="pi2", poll_s=0.1, simulated=True, mirrored=("package-0-die-1", "package-0-die-2"))
    known = {"power.a": PowerProperties(gain=0.01, flags=("slow", "partial"))}
    stated = with_properties(msgspec.structs.replace(info({}), properties={"fan": 1.0}), known, source)
    assert (of_source(stated), of_channel(stated, "power.a")) == (source, known["power.a"])
    assert stated.properties["fan"] == 1.0, "a property of an extension stays"

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgetop.core.energy.scopes import Hardware, Headline, headline, headlines, other_views
from edgetop.core.sources import P_MAX_W, Channel, Meter, MeterKind, Scope, SourceInfo, Unavailable, meter_of


def meter(name: str, scope: Scope, kind: MeterKind = "energy", source: str = "", **known: object) -> Meter:
    return Meter(name=name, scope=scope, kind=kind, source=source or name, poll_s=0.05, **known)  # type: ignore[arg-type]


PACKAGE = meter("energy.package-0", "cpu_package", source="rapl", adds_up_as="cpu")
SECOND = meter("energy.package-1", "cpu_package", source="rapl", adds_up_as="cpu")
DRAM = meter("energy.dram", "component", source="rapl", adds_up_as="cpu")
PSYS = meter("energy.psys", "platform", source="rapl", flags=("opt-in",))
CORE = meter("energy.core", "component", source="rapl")
GPU = meter("energy.gpu0", "gpu_board", source="nvml", adds_up_as="gpu")
GPU_POWER = meter("power.gpu0", "gpu_board", "power", source="nvml", adds_up_as="gpu")
APU = meter("power.PPT", "gpu_board", "power", source="amdgpu", adds_up_as="gpu", flags=("includes-cpu",))
WALL = meter("power.plug", "wall", "power")
BATTERY = meter("power.BAT0", "battery", "power")
MODULE = meter("power.VDD_IN", "module", "power", source="ina", total=True)
RAIL = meter("power.VDD_SOC", "component", "power", source="ina")


def chosen(*meters: Meter, name: str | None = None) -> set[str]:
    found = headline(meters, name)
    assert isinstance(found, Headline)
    return {each.name for each in found.meters}


def test_only_packages_their_memory_and_discrete_graphics_are_added() -> None:
    assert chosen(PACKAGE, SECOND, DRAM, CORE) == {"energy.package-0", "energy.package-1", "energy.dram"}
    both = headline([GPU_POWER, GPU, PACKAGE])
    assert isinstance(both, Headline)
    assert {each.name for each in both.meters} == {"energy.package-0", "energy.gpu0"}
    assert both.partial
    assert "partial" in both.flags
    assert chosen(PACKAGE, APU) == {"energy.package-0"}
    assert chosen(GPU_POWER, GPU) == {"energy.gpu0"}


@given(st.permutations([WALL, BATTERY, MODULE, RAIL, PACKAGE, DRAM, PSYS, CORE, GPU]))
def test_the_widest_scope_stands_alone_in_any_order(meters: list[Meter]) -> None:
    assert chosen(*meters) == {"power.plug"}
    assert chosen(*(each for each in meters if each is not WALL)) == {"power.VDD_IN"}


def test_adding_psys_or_a_subzone_changes_nothing() -> None:
    assert chosen(PACKAGE) == chosen(PACKAGE, PSYS, CORE) == {"energy.package-0"}


def test_the_user_may_choose_by_channel_or_source_and_learns_the_names_otherwise() -> None:
    assert chosen(PACKAGE, PSYS, WALL, name="energy.psys") == {"energy.psys"}
    assert chosen(MODULE, RAIL, WALL, name="ina") == {"power.VDD_IN"}
    unknown = headline([MODULE, WALL], "nvml")
    assert isinstance(unknown, Unavailable)
    assert "ina" in unknown.hint
    assert isinstance(headline([]), Unavailable)


def test_a_meter_is_read_from_its_source_and_hostile_values_count_as_not_stated() -> None:
    channel = Channel(name="energy.package-0", unit="J", scope="cpu_package")
    info = SourceInfo(
        name="rapl",
        driver="powercap",
        period_s=0.05,
        channels=(channel,),
        properties={"gain": 0.05, "wrap_j.energy.package-0": 262143.3, "p_max_w": "much", "flags": "virtualised"},
    )
    read = meter_of(info, channel)
    assert read is not None
    assert (read.kind, read.gain, read.wrap_j, read.p_max_w) == ("energy", 0.05, 262143.3, P_MAX_W)
    assert read.flags == ("virtualised",)
    assert meter_of(info, Channel(name="temperature", unit="Cel", scope="module")) is None


APU_PACKAGE = meter("power.amdgpu", "cpu_package", "power", total=True, flags=("includes-cpu",))
CARD = meter("energy.gpu.0", "gpu_board", adds_up_as="gpu", device="gpu.0", total=True)
CARD_POWER = meter("power.gpu.0.instant", "gpu_board", "power", device="gpu.0", total=True)


CPU: frozenset[Hardware] = frozenset(("cpu",))
GRAPHICS: frozenset[Hardware] = frozenset(("gpu",))
BOTH = CPU | GRAPHICS


def scopes_of(*meters: Meter, runs_on: frozenset[Hardware] = frozenset()) -> list[tuple[set[str], tuple[str, ...]]]:
    found = headlines(meters, runs_on=runs_on)
    assert not isinstance(found, Unavailable), found
    return [({each.name for each in headline.meters}, headline.left_out) for headline in found]


def test_an_integrated_gpus_sensor_hides_no_discrete_card() -> None:
    assert scopes_of(APU_PACKAGE, CARD, CARD_POWER, runs_on=GRAPHICS) == [
        ({"power.amdgpu", "energy.gpu.0"}, ()),
        ({"energy.gpu.0"}, ("the processor",)),
    ]


def test_what_is_left_out_is_named_and_makes_the_figure_partial() -> None:
    found = headlines([PACKAGE, CARD], runs_on=CPU)
    assert not isinstance(found, Unavailable)
    assert [(each.partial, each.left_out) for each in found] == [(True, ()), (True, ("the graphics card",))]


def test_a_meter_that_does_not_contain_where_the_model_runs_is_no_headline() -> None:
    idle_card = headlines([CARD, CARD_POWER], runs_on=CPU)
    assert isinstance(idle_card, Unavailable)
    assert idle_card.reason == "the model runs on the processor, and only the power of the graphics card is read"
    assert f"--power {CARD.name} measures the graphics card alone" in idle_card.hint
    assert isinstance(headlines([CARD], runs_on=BOTH), Unavailable)
    assert scopes_of(WALL, CARD, runs_on=CPU) == [({"power.plug"}, ())]


def test_a_package_does_not_stand_for_a_model_on_a_card_that_is_not_read() -> None:
    missing = headlines([PACKAGE], runs_on=GRAPHICS)
    assert isinstance(missing, Unavailable)
    assert "graphics card" in missing.reason


def test_meters_of_unknown_wiring_are_listed_and_none_of_them_is_taken() -> None:
    supply, fan = meter("power.ina226.1-0040", "dc_in", "power"), meter("power.ina226.1-0041", "dc_in", "power")
    for each in ((supply, fan), (fan, supply)):
        missing = headlines(each, readings_w={supply.name: 5.1, fan.name: 0.3})
        assert isinstance(missing, Unavailable)
        assert "power.ina226.1-0040 5.10 W" in missing.reason
        assert f"--power {supply.name}" in missing.hint
        assert f"--power {fan.name}" in missing.hint
    assert chosen(supply, fan, name=supply.name) == {supply.name}
    assert scopes_of(supply, fan, PACKAGE) == [({PACKAGE.name}, ())]
    rails = [meter(f"power.hat.CH{n}", "component", "power", source="power.hat") for n in (1, 2, 3)]
    assert isinstance(headlines(rails), Unavailable)
    assert isinstance(headlines(rails, "power.hat"), Unavailable)
    assert chosen(*rails, name="power.hat.CH2") == {"power.hat.CH2"}


def test_a_counter_and_the_power_of_one_board_are_views_of_one_thing() -> None:
    assert other_views([CARD, CARD_POWER, PACKAGE], [PACKAGE, CARD]) == (None, CARD_POWER)
    assert other_views([GPU, GPU_POWER], [GPU]) == (GPU_POWER,)

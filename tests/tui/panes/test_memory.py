"""The zoomed memory pane: what uses the memory over time, and the way of the weights."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from edgetop.core.engine_settings import EngineInfo, LayerShare
from edgetop.session.limits import Limit
from edgetop.tui.panes.column import PANES
from edgetop.tui.panes.pane import View
from tests.support.demo_session import demo_view, with_readings


def zoomed(view: View, width: int = 116, height: int = 30) -> list[str]:
    return ["".join(span.text for span in line) for line in PANES["memory"].render_zoomed(view, width, height)]


def on_gpu(view: View, limit: Limit) -> View:
    """`view` with three quarters of the weights on a GPU."""
    load = view.snapshot.load
    assert load is not None
    memory = replace(
        load.memory,
        by_buffer={"CPU_Mapped model": 250, "CUDA0 model": 750, "CUDA0 KV": 9000},
        layers=(LayerShare(device="CPU", first=0, last=5), LayerShare(device="CUDA0", first=6, last=24)),
    )
    return replace(view, snapshot=replace(view.snapshot, load=replace(load, memory=memory), limit=limit))


def row(lines: list[str], name: str) -> str:
    return " ".join(next(line[line.index(f"  {name} ") :] for line in lines if f"  {name} " in line).split())


def test_the_parts_of_the_memory_stand_upon_each_other_with_their_sizes() -> None:
    lines = zoomed(demo_view(level="ascii"))
    legend = [" ".join(line[-24:].split()) for line in lines[:5]]
    assert legend == [
        "= others 1.80 GiB",
        ": rest 0.0376 GiB",
        "+ compute 0.0977 GiB",
        "% kv 0.188 GiB",
        "# weights 0.987 GiB",
    ]
    column = "".join(line[80] for line in reversed(lines[:20])).strip()
    assert "#" in column
    assert "=" in column
    assert column.index("#") < column.index("%") < column.index("=")


def test_before_all_of_it_is_resident_the_engine_has_no_parts() -> None:
    half = with_readings(demo_view(level="ascii"), {"engine.rss": 2.0**29})
    assert half.snapshot.memory.rest_bytes is not None
    hidden = replace(half, snapshot=replace(half.snapshot, memory=replace(half.snapshot.memory, rest_bytes=None)))
    legend = "\n".join(line[-24:] for line in zoomed(hidden)[:3])
    assert "engine" in legend
    assert "weights" not in legend


def test_each_hop_of_the_weights_has_its_rate_and_the_one_that_holds_back_is_named() -> None:
    lines = zoomed(demo_view())
    assert row(lines, "RAM") == "RAM 6.36 GiB 8.94 GiB 71% < holds the model back"
    assert row(lines, "disk").startswith("disk 0 B 722 MiB 0%")
    assert "all 24 layers on CPU" in "\n".join(lines)
    assert not [line for line in lines if "PCIe" in line or "VRAM" in line]


@pytest.mark.parametrize(("limit", "hop"), [("memory-bandwidth", "VRAM"), ("paging", "disk"), ("contention", "")])
def test_with_a_gpu_its_memory_and_the_way_there_are_hops_too(limit: str, hop: str) -> None:
    lines = zoomed(on_gpu(demo_view(), Limit(limit, "x")))  # type: ignore[arg-type]
    for name in ("disk", "RAM", "PCIe", "VRAM"):
        assert ("holds the model back" in row(lines, name)) is (name == hop)
    assert row(lines, "PCIe").startswith("PCIe n/a 542 MiB")
    assert row(lines, "VRAM").startswith("VRAM 4.77 GiB 8.94 GiB")
    for share in ("layers 0 to 5 on CPU", "layers 6 to 23 and output on CUDA0"):
        assert f"by device      {share}" in "\n".join(lines)


def test_of_a_server_no_way_is_known() -> None:
    view = demo_view()
    assert view.snapshot.load is not None
    served = replace(view.snapshot.load, engine=EngineInfo(name="llama-server", server="http://x"))
    lines = zoomed(replace(view, snapshot=replace(view.snapshot, load=served)))
    assert not [line for line in lines if "holds" in line or "read/s" in line]

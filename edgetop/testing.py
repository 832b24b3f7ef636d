"""A plugin of pytest: what a test may cost in joules.

    @pytest.mark.energy(at_most_j=5)
    def test_something(): ...

or, within a test, `with energy(at_most_j=5): ...`. A test fails when it took more beyond doubt, so that its whole
interval lies above the limit. Where energy cannot be measured a warning says why; with `--require-energy` it fails.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from edgetop.api import EnergyMeter
    from edgetop.live.energy_meter import Measurement

_METER: pytest.StashKey[EnergyMeter] = pytest.StashKey()
_MEASURED: pytest.StashKey[list[Measurement]] = pytest.StashKey()


class EnergyNotMeasuredWarning(UserWarning):
    """A limit could not be checked."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    group = parser.getgroup("edgetop")
    group.addoption("--require-energy", action="store_true", help="fail where the energy of a test cannot be measured")


def pytest_configure(config: pytest.Config) -> None:
    """Tell of the marker."""
    config.addinivalue_line("markers", "energy(at_most_j): what the test may cost, in joules, by edgetop's sensors")
    config.stash[_MEASURED] = []


def pytest_unconfigure(config: pytest.Config) -> None:
    """Close the sensors."""
    if _METER in config.stash:
        config.stash[_METER].stop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Measure a test that has the marker."""
    mark = item.get_closest_marker("energy")
    if mark is None:
        return (yield)
    with _limited(item.config, item.nodeid, *mark.args, **mark.kwargs):
        return (yield)


@pytest.fixture
def energy(request: pytest.FixtureRequest) -> Callable[[float], AbstractContextManager[None]]:
    """What begins a block that may take so many joules at most."""

    def limited(at_most_j: float) -> AbstractContextManager[None]:
        # Of several blocks each has a name of its own.
        return _limited(request.config, f"{request.node.nodeid} ({len(request.config.stash[_MEASURED])})", at_most_j)

    return limited


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what was measured."""
    for measured in config.stash[_MEASURED]:
        terminalreporter.write_line(f"energy: {measured.name}: {measured}")


@contextmanager
def _limited(config: pytest.Config, name: str, at_most_j: float) -> Iterator[None]:
    if _METER not in config.stash:
        from edgetop.api import EnergyMeter  # noqa: PLC0415 - pytest loads this module also where no test has a limit

        config.stash[_METER] = EnergyMeter()
    meter = config.stash[_METER]
    meter.begin(name)
    try:
        yield
    finally:
        meter.end(name)
    measured = meter[name]
    config.stash[_MEASURED].append(measured)
    if measured.interval_j is not None:
        if measured.interval_j[0] > at_most_j:
            pytest.fail(f"it may cost at most {at_most_j:g} J and took {measured}", pytrace=False)
    elif config.getoption("--require-energy"):
        pytest.fail(f"its energy was not measured: {measured.energy_missing}", pytrace=False)
    else:
        warnings.warn(f"{name}: {measured.energy_missing}", EnergyNotMeasuredWarning, stacklevel=2)

"""A plugin of pytest: what a test may cost in joules.

    @pytest.mark.energy(at_most_j=5)
    def test_something(): ...

or, within a test, `with energy(at_most_j=5): ...`. A test fails when it took more beyond doubt, so that its whole
interval lies above the limit. Where energy cannot be measured a warning says why; with `--require-energy` it fails.

pytest loads this in every run, also where no test has a limit. So it takes nothing that pytest 6.2 lacks, which Ubuntu
22.04 has, and imports what measures when it is first needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from edgetop.api import EnergyMeter

NAME = "energy"
"""Of marker, fixture and property: a test has what was measured as a property, which pytest-xdist passes on."""

_LIMITS = "edgetop-limits"


class EnergyNotMeasuredWarning(UserWarning):
    """A limit could not be checked."""


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Add the option, and have pytest leave the rest of edgetop as it is.

    Of a package with a plugin it parses every module anew to rewrite its assertions: seconds, and where two threads
    import at once, as the search for sensors does, CPython 3.11 fails with "AST constructor recursion depth mismatch".
    """
    rewritten: set[str] = getattr(pluginmanager.rewrite_hook, "_must_rewrite", set())
    rewritten.discard("edgetop")
    group = parser.getgroup("edgetop")
    group.addoption("--require-energy", action="store_true", help="fail where the energy of a test cannot be measured")


def pytest_configure(config: pytest.Config) -> None:
    """Tell of the marker."""
    config.addinivalue_line("markers", f"{NAME}(at_most_j): what the test may cost, in joules, by edgetop's sensors")
    config.pluginmanager.register(_Limits(required=config.getoption("--require-energy")), _LIMITS)


class _Limits:
    """One meter for all tests of a run that have limits."""

    def __init__(self, *, required: bool) -> None:
        self._required = required
        self._meter: EnergyMeter | None = None
        self._numbers = count(1)

    def pytest_collection_modifyitems(self, items: Sequence[pytest.Item]) -> None:
        """Measure the tests that have the marker."""
        for item in items:
            mark = item.get_closest_marker(NAME)
            if mark is not None:
                run = partial(self._run, item, item.runtest, _limit_of(item, mark))
                item.runtest = run  # type: ignore[method-assign]

    def _run(self, item: pytest.Item, run: Callable[[], None], at_most_j: float) -> None:
        with self.limited(item, at_most_j):
            run()

    @contextmanager
    def limited(self, item: pytest.Item, at_most_j: float) -> Iterator[None]:
        """A block of a test that may take so many joules at most."""
        if self._meter is None:
            from edgetop.api import EnergyMeter  # noqa: PLC0415 - see above

            self._meter = EnergyMeter()
        name = f"{item.nodeid} {next(self._numbers)}"
        self._meter.begin(name)
        try:
            yield
        finally:
            self._meter.end(name)
        measured = self._meter[name]
        item.user_properties.append((NAME, str(measured)))
        if measured.interval_j is not None:
            if measured.interval_j[0] > at_most_j:
                pytest.fail(f"it may cost at most {at_most_j:g} J and took {measured}", pytrace=False)
        elif self._required:
            pytest.fail(f"its energy was not measured: {measured.energy_missing}", pytrace=False)
        else:
            item.warn(EnergyNotMeasuredWarning(measured.energy_missing))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print what was measured."""
        told: dict[str, Sequence[tuple[str, object]]] = {}
        for reports in terminalreporter.stats.values():
            # The report of a test's end has the properties of all of it.
            told.update(
                (report.nodeid, report.user_properties)
                for report in reports
                if getattr(report, "when", None) == "teardown"
            )
        for test, properties in told.items():
            for name, text in properties:
                if name == NAME:
                    terminalreporter.write_line(f"energy: {test}: {text}")

    def pytest_unconfigure(self) -> None:
        """Close the sensors."""
        if self._meter is not None:
            self._meter.stop()


def _limit_of(item: pytest.Item, mark: pytest.Mark) -> float:
    """The limit that a marker names, in joules. Raises UsageError."""
    given = [*mark.args, *mark.kwargs.values()]
    if mark.kwargs.keys() <= {"at_most_j"} and len(given) == 1 and isinstance(given[0], int | float):
        return given[0]
    raise pytest.UsageError(f"{item.nodeid}: the marker takes one number: @pytest.mark.{NAME}(at_most_j=5)")


@pytest.fixture
def energy(request: pytest.FixtureRequest) -> Callable[[float], AbstractContextManager[None]]:
    """What begins a block that may take so many joules at most."""
    limits: Any = request.config.pluginmanager.get_plugin(_LIMITS)
    return partial(limits.limited, request.node)

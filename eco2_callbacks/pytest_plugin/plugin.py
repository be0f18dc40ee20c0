"""The hooks of the pytest plugin."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any

import msgspec
import pytest

from eco2_callbacks.errors import ConfigError
from eco2_callbacks.pytest_plugin.costs import LLMCosts
from eco2_callbacks.pytest_plugin.figures import CostRow, total_row
from eco2_callbacks.pytest_plugin.limits import MARKERS, check_limits, read_limits
from eco2_callbacks.pytest_plugin.snapshots import Snapshots
from eco2_callbacks.pytest_plugin.table import cost_table

__all__ = ["llm_costs", "pytest_addoption", "pytest_configure"]

_costs = pytest.StashKey[LLMCosts]()
_limits = pytest.StashKey[dict[str, Any]]()
# xdist carries a report's properties to the controller.
_PROPERTY = "eco2_llm_costs"
_MODES = ("check", "update", "off")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the plugin's options."""
    group = parser.getgroup("eco2-callbacks", "cost and tokens of model calls")
    group.addoption("--llm-costs", action="store_true", help="measure every test, for the summary")
    group.addoption(
        "--llm-costs-top", type=int, default=5, metavar="N", help="how many of the dearest tests are listed (5)"
    )
    group.addoption(
        "--cost-snapshot",
        choices=_MODES,
        help="check: tests in modules with a snapshot must match it (default); update: write snapshots; off",
    )
    parser.addini("llm_costs", "measure every test, as --llm-costs", type="bool", default=False)
    parser.addini("cost_snapshot", "default of --cost-snapshot", default="check")


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers and the plugin's own object."""
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    mode = config.getoption("--cost-snapshot") or config.getini("cost_snapshot")
    if mode not in _MODES:
        raise pytest.UsageError(f"cost_snapshot is {mode!r}, wanted one of {', '.join(_MODES)}; correct it.")
    config.pluginmanager.register(_CostPlugin(config, mode), "eco2-llm-costs")


@pytest.fixture
def llm_costs(request: pytest.FixtureRequest) -> LLMCosts:
    """This test's model calls, with tokens and dollars by agent, node and model."""
    costs: LLMCosts = request.node.stash[_costs]
    return costs


class _CostPlugin:
    """Measures tests, checks them, and reports."""

    def __init__(self, config: pytest.Config, mode: str) -> None:
        self._is_worker = hasattr(config, "workerinput")
        self._measures_all = bool(config.getoption("--llm-costs") or config.getini("llm_costs")) or mode == "update"
        self._mode = mode
        self._top: int = config.getoption("--llm-costs-top")
        self._snapshots = Snapshots(config.rootpath)
        self._running: LLMCosts | None = None
        # Of a test's last attempt, for snapshots, and of all, which a plugin can have repeated, for the summary.
        self._rows: dict[str, list[CostRow]] = {}
        self._spent: dict[str, list[CostRow]] = {}
        self._passed: set[str] = set()
        self._written: list[str] = []

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, Any, Any]:
        if self._measures(item):
            self._running = item.stash[_costs] = LLMCosts()
            self._running.start()
        result = yield
        if self._running is not None:
            try:
                item.stash[_limits] = read_limits(item)
            except ConfigError as error:
                pytest.fail(str(error), pytrace=False)
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, Any, Any]:
        # What several tests share belongs to none: which of them comes first depends on the selection.
        is_shared = fixturedef.scope != "function" and self._running is not None
        if self._running is not None and is_shared:
            self._running.pause()
        try:
            return (yield)
        finally:
            if self._running is not None and is_shared:
                self._running.start()

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        if self._running is None:
            return (yield)
        try:
            result = yield
        finally:
            costs = item.stash[_costs]
            costs.stop()
            rows = costs.rows()
            item.user_properties.append((_PROPERTY, msgspec.json.encode(rows).decode()))
        faults = check_limits(item.stash[_limits], rows)
        if faults:
            faults.append(cost_table(rows))
        if self._mode == "check" and self._snapshots.has_module(item.nodeid):
            faults += [fault] if (fault := self._snapshots.compare(item.nodeid, rows)) is not None else []
        if faults:
            pytest.fail("\n".join(faults), pytrace=False)
        return result

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self) -> Generator[None, Any, Any]:
        if self._running is not None:
            self._running.stop()
            self._running = None
        return (yield)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call":
            return
        properties: Mapping[str, object] = dict(report.user_properties)
        if isinstance(text := properties.get(_PROPERTY), str):
            rows = self._rows[report.nodeid] = msgspec.json.decode(text, type=list[CostRow])
            self._spent.setdefault(report.nodeid, []).extend(rows)
            if report.passed:
                self._passed.add(report.nodeid)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        if self._mode == "update" and not self._is_worker:
            # A test that failed may not have made all its calls.
            passed = {node_id: rows for node_id, rows in self._rows.items() if node_id in self._passed}
            self._written = [str(path) for path in self._snapshots.update(passed)]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        tests = {node_id: total_row(rows) for node_id, rows in self._spent.items() if rows}
        if tests:
            terminalreporter.section("LLM costs")
            for line in _summary(tests, self._top):
                terminalreporter.line(line)
        for path in self._written:
            terminalreporter.line(f"cost snapshot written: {path}")

    def _measures(self, item: pytest.Item) -> bool:
        return (
            self._measures_all
            or "llm_costs" in getattr(item, "fixturenames", ())
            or any(item.get_closest_marker(name) is not None for name in ("limit_cost", "limit_tokens"))
            or (self._mode == "check" and self._snapshots.has_module(item.nodeid))
        )


def _summary(tests: Mapping[str, CostRow], top: int) -> Sequence[str]:
    total = total_row(tests.values())
    unpriced = f" (without {total.unpriced_calls:,} unpriced calls)" if total.unpriced_calls else ""
    lines = [
        f"{len(tests):,} tests made {total.calls:,} model calls: {total.input_tokens:,} input tokens "
        f"({total.cached_tokens:,} cached), {total.output_tokens:,} output tokens, {total.usd:f} USD{unpriced}"
    ]
    dearest = sorted(tests.items(), key=lambda test: (-test[1].usd, -test[1].total_tokens, test[0]))[: max(0, top)]
    width = max((len(f"{row.usd:f}") for _, row in dearest), default=0)
    for node_id, row in dearest:
        mark = "?" if row.unpriced_calls else " "
        lines.append(f"{mark}{row.usd:>{width}f} USD  {row.total_tokens:>9,} tokens  {row.calls:>4,} calls  {node_id}")
    return lines

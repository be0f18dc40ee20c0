"""LLMCosts: the model calls of one test."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry

from eco2_callbacks.handler import Eco2CallbackHandler
from eco2_callbacks.pricing import Cost
from eco2_callbacks.pytest_plugin.figures import CostRow, cost_rows
from eco2_callbacks.pytest_plugin.table import cost_table
from eco2_callbacks.records import LLMCall, Record
from eco2_callbacks.testing import RecordingSink
from eco2_callbacks.totals import Totals
from eco2_callbacks.usage import TokenUsage

__all__ = ["LLMCosts"]


class LLMCosts:
    """What a test's model calls consumed and cost: every call in the process, whatever thread or task makes it.

    Calls in fixtures of a wider scope than ``function`` belong to no test.
    """

    def __init__(self) -> None:
        self._sink = RecordingSink()
        self._handler: Eco2CallbackHandler | None = None

    @property
    def records(self) -> list[Record]:
        """The records of all runs that have ended: model calls, nodes, tools, retrievers and requests."""
        return self._sink.records

    @property
    def calls(self) -> list[LLMCall]:
        """The model calls that have ended."""
        return self._sink.calls

    @property
    def totals(self) -> Totals:
        """What all calls consumed and cost."""
        return self._sink.totals

    @property
    def cost(self) -> Cost:
        """USD; leaves out what ``totals.unpriced_calls`` calls have no price for."""
        return self.totals.cost

    @property
    def usage(self) -> TokenUsage:
        """Tokens and other counts."""
        return self.totals.usage

    @property
    def by_node(self) -> Mapping[str, Totals]:
        """Totals by node; ``""`` holds the calls outside of nodes."""
        return self._by(lambda call: call.node)

    @property
    def by_agent(self) -> Mapping[str, Totals]:
        """Totals by agent; ``""`` holds the calls outside of named agents."""
        return self._by(lambda call: call.agent_name)

    @property
    def by_model(self) -> Mapping[str, Totals]:
        """Totals by the model that answered."""
        return self._by(lambda call: call.model)

    def rows(self) -> list[CostRow]:
        """Return the totals by agent, node and model."""
        return cost_rows(self.calls)

    def __str__(self) -> str:
        """Return a table by agent, node and model."""
        return cost_table(self.rows())

    def start(self) -> None:
        """Measure every call that starts from now on."""
        if self._handler is None:
            # A test's calls belong neither in the ledger nor in the budgets that the environment names.
            self._handler = Eco2CallbackHandler(registry=CollectorRegistry(), ledger="", budgets={}, sinks=[self._sink])
        self._handler.install()

    def pause(self) -> None:
        """Measure no call that starts from now on."""
        if self._handler is not None:
            self._handler.uninstall()

    def stop(self) -> None:
        """Close calls that are still open as cancelled, and end the measurement."""
        if self._handler is not None:
            handler, self._handler = self._handler, None
            handler.close()

    def _by(self, key: Callable[[LLMCall], str]) -> Mapping[str, Totals]:
        groups: dict[str, list[LLMCall]] = {}
        for call in self.calls:
            groups.setdefault(key(call), []).append(call)
        return {name: Totals.of(calls) for name, calls in groups.items()}

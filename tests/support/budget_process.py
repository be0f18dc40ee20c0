"""A handler with budgets in a store, as one process of several has it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry

from eco2_callbacks import BudgetEvent, BudgetExceeded, BudgetRule, Budgets, Eco2CallbackHandler
from tests.support.fake_model import FakeModel
from tests.support.record_sink import Records
from tests.support.spending_worker import PROMPT

__all__ = ["MAX_WAIT_SECONDS", "MODEL", "BudgetProcess", "wait_until"]

MODEL = FakeModel(usage={"input_tokens": 416, "output_tokens": 100, "total_tokens": 516})
MAX_WAIT_SECONDS = 120.0


class BudgetProcess:
    """A handler with a registry and a sink of its own, as in a process of its own.

    Args:
        url: The store.
        rules: The rules.
        options: Further arguments of the handler.
        settings: Further fields of ``Budgets``.
    """

    def __init__(self, url: str, *rules: BudgetRule, options: dict[str, Any] | None = None, **settings: Any) -> None:
        self.registry = CollectorRegistry()
        self.records = Records()
        budgets = Budgets(
            rules=list(rules), store=url, **{"assumed_output_tokens": 100, "wait_seconds": 20, **settings}
        )
        self.handler = Eco2CallbackHandler(
            registry=self.registry, sinks=[self.records], budgets=budgets, **(options or {})
        )

    def ask(self, model: FakeModel = MODEL, **metadata: Any) -> None:
        model.invoke(PROMPT, {"callbacks": self.handler.callbacks, "metadata": metadata})

    def passes(self, _: object = None, **metadata: Any) -> bool:
        try:
            self.ask(**metadata)
        except BudgetExceeded:
            return False
        return True

    @property
    def events(self) -> list[str]:
        return [event.event for event in self.records.of(BudgetEvent)]


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds; fail after two minutes."""
    give_up_at = time.monotonic() + MAX_WAIT_SECONDS
    while not condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.01)

"""A worker process that spends from a shared budget until it is refused; the parent may kill it at any moment.

    python -m tests.support.spending_worker <store address> <limit in USD> <lease seconds> <file of sent calls>

Each call is written to the file at the moment it is sent to the provider, so the file holds the calls of killed
workers too.
"""

from __future__ import annotations

import os
import sys
from decimal import Decimal
from typing import Any

from prometheus_client import CollectorRegistry

from eco2_callbacks import BudgetExceeded, BudgetRule, Budgets, Eco2CallbackHandler
from tests.support.fake_model import FakeModel

__all__ = ["CALL_USD", "PROMPT", "SLICE_SHARE"]

# 400 bytes of prompt count as 400 tokens and 16 for the message, at 1.75 USD per million; 100 tokens at 14.
PROMPT = "x" * 400
CALL_USD = Decimal("0.002128")
SLICE_SHARE = Decimal("0.02")


class SentModel(FakeModel):
    """Writes each call to a file when it is sent."""

    file: int = -1

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Any:
        os.write(self.file, b".")
        return super()._generate(messages)


def main(url: str, limit_usd: str, lease_seconds: str, path: str) -> None:
    """Spend until the budget refuses."""
    budgets = Budgets(
        rules=[BudgetRule(name="shared", limit_usd=Decimal(limit_usd), warn_at=())],
        store=url,
        assumed_output_tokens=100,
        slice_share=SLICE_SHARE,
        lease_seconds=float(lease_seconds),
        wait_seconds=30.0,
    )
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    model = SentModel(usage={"input_tokens": 416, "output_tokens": 100, "total_tokens": 516}, file=file)
    with Eco2CallbackHandler(registry=CollectorRegistry(), budgets=budgets) as handler:
        try:
            while True:
                model.invoke(PROMPT, {"callbacks": handler.callbacks})
        except BudgetExceeded as error:
            print(error.reason, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

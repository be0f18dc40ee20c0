"""RunTotals: what all calls below a run consumed and cost."""

from __future__ import annotations

from eco2_callbacks.pricing import Cost
from eco2_callbacks.records import LLMCall
from eco2_callbacks.usage import TokenUsage

__all__ = ["RunTotals"]


class RunTotals:
    """Keeps the model calls below a run one by one; adds them up once, when the run ends."""

    __slots__ = (
        "_costs",
        "_usages",
        "estimated",
        "llm_calls",
        "model",
        "provider",
        "request_model",
        "tool_calls",
        "unpriced_calls",
    )

    def __init__(self) -> None:
        self._usages: list[TokenUsage] = []
        self._costs: list[Cost] = []
        self.llm_calls = 0
        self.tool_calls = 0
        self.unpriced_calls = 0
        self.estimated = False
        self.provider = ""
        self.model = ""
        self.request_model = ""

    def add_call(self, call: LLMCall) -> None:
        """Add one model call."""
        self.llm_calls += 1
        self.provider, self.model, self.request_model = call.provider, call.model, call.request_model
        if call.usage is not None:
            self._usages.append(call.usage)
        if call.cost is not None:
            self._costs.append(call.cost)
        if call.unpriced_reason is not None:
            self.unpriced_calls += 1
        self.estimated = self.estimated or call.estimated

    def usage(self) -> TokenUsage:
        """Return the tokens of all calls."""
        return TokenUsage.sum(self._usages)

    def cost(self) -> Cost:
        """Return the USD of all priced calls."""
        return Cost.sum(self._costs)

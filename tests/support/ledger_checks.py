"""Checks that records, Prometheus metrics and LangSmith runs of a test's model calls agree."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import uuid4

import langsmith
import pytest
from langchain_core.tracers.langchain import LangChainTracer
from prometheus_client import CollectorRegistry

from eco2_callbacks import Eco2CallbackHandler, GraphRun, LLMCall, NodeRun
from eco2_callbacks.langsmith.usage_payload import usage_metadata
from tests.support.failing_provider import INPUT_TOKENS, OUTPUT_TOKENS, Api
from tests.support.langsmith_server import LangSmithServer
from tests.support.parsed_request import count_tokens
from tests.support.record_sink import Records, exposed

__all__ = ["REFUSED", "UNKNOWN", "WHOLE", "Bill", "LedgerChecks", "estimate_so_far", "wait_until"]

# USD per token of input and output, standard tier: gpt-5.2 and gemini-3-flash-preview.
RATES = {
    "openai": (Decimal("0.00000175"), Decimal("0.000014")),
    "google_genai": (Decimal("0.0000005"), Decimal("0.000003")),
}


@dataclass(frozen=True)
class Bill:
    """What is known about the bill of a call.

    Attributes:
        output_tokens: None where nothing was billed, or the bill is unknown.
        input_tokens: None where they are estimated.
        estimate_reason, unpriced_reason: As in the record.
    """

    output_tokens: int | None = None
    input_tokens: int | None = None
    estimate_reason: str | None = None
    unpriced_reason: str | None = None


# 1,000 input and 156 output tokens: 0.00175 + 0.002184 USD of gpt-5.2, 0.0005 + 0.000468 of Gemini.
WHOLE = Bill(OUTPUT_TOKENS, INPUT_TOKENS)
# The provider answered with an error: nothing was billed.
REFUSED = Bill()
# The call failed before its first text: it may have been billed.
UNKNOWN = Bill(unpriced_reason="no_usage")


def estimate_so_far(api: Api, text: str, reason: str) -> Bill:
    """Return the bill of a call that ended after this text; Gemini reports usage early, OpenAI only at the end."""
    input_tokens = INPUT_TOKENS if api == "gemini" and text else None
    delimiters = 4 if api != "gemini" and text else 0  # around an answer of gpt-5.2
    return Bill(count_tokens(text) + delimiters, input_tokens, estimate_reason=reason)


async def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds, at most five seconds."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.002)


class LedgerChecks:
    """Collects what the handler and a real LangSmith client report about the same calls."""

    def __init__(self, client: langsmith.Client, server: LangSmithServer) -> None:
        self.registry = CollectorRegistry()
        self.records = Records()
        self.handler = Eco2CallbackHandler(registry=self.registry, sinks=[self.records])
        self._client, self._server = client, server
        self._project = str(uuid4())
        self.callbacks = [LangChainTracer(client=client, project_name=self._project), self.handler]

    @property
    def config(self) -> dict[str, Any]:
        return {"callbacks": self.callbacks}

    @property
    def pieces(self) -> int:
        """How many pieces of text have been streamed so far."""
        return int(exposed(self.registry, "chat_stream_tokens_total"))

    @property
    def open_runs(self) -> int:
        return int(exposed(self.registry, "eco2_callbacks_open_runs"))

    def ended(self, kind: type[NodeRun | GraphRun]) -> list[tuple[str, str | None]]:
        """Return status and error type of each run of a node, or of a request."""
        return [(run.status, run.error_type) for run in self.records.of(kind)]

    def assert_balanced(self, *expected: tuple[str, str | None, Bill], streams: int | None = None) -> list[LLMCall]:
        """Assert that each call is reported once, the same everywhere, and as expected.

        Args:
            expected: Status, error type and bill of each call, in any order.
            streams: How many of the calls streamed; None for all.

        Returns:
            The calls in the order of ``expected``.
        """
        # Reading the registry closes the calls for which no end callback fires.
        assert self.open_runs == 0
        calls = self._in_order(expected)
        for call, (_, _, bill) in zip(calls, expected, strict=True):
            _assert_billed(call, bill)
        self._assert_counted(calls, len(calls) if streams is None else streams)
        self._assert_traced(calls)
        return calls

    def _in_order(self, expected: tuple[tuple[str, str | None, Bill], ...]) -> list[LLMCall]:
        calls = list(self.records.calls)
        ended = sorted((call.status, call.error_type or "") for call in calls)
        assert ended == sorted((status, error_type or "") for status, error_type, _ in expected)
        assert len({call.run_id for call in calls}) == len(calls)
        found = []
        for status, error_type, _ in expected:
            found.append(next(call for call in calls if (call.status, call.error_type) == (status, error_type)))
            calls.remove(found[-1])
        return found

    def _assert_counted(self, calls: list[LLMCall], streams: int) -> None:
        streamed = [call for call in calls if call.streamed]
        assert len(streamed) == streams
        totals: Counter[str] = Counter()
        by_status: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for family in self.registry.collect():
            for sample in family.samples:
                totals[sample.name] += sample.value
                by_status[sample.name][sample.labels.get("status", "")] += sample.value
        assert by_status["llm_calls_total"] == Counter(call.status for call in calls)
        assert by_status["chat_stream_requests_total"] == Counter(call.status for call in streamed)
        assert totals["chat_stream_active"] == 0
        assert totals["chat_stream_tokens_total"] == sum(call.streamed_tokens for call in calls)
        assert totals["llm_errors_total"] == sum(call.status == "error" for call in calls)
        assert totals["llm_rate_limit_errors_total"] == sum(call.rate_limited for call in calls)
        assert totals["llm_unpriced_calls_total"] == sum(call.unpriced_reason is not None for call in calls)
        assert totals["llm_cost_dollars_total"] == pytest.approx(_dollars(calls), abs=1e-12)
        estimated = _dollars([call for call in calls if call.estimated])
        assert totals["llm_estimated_cost_dollars_total"] == pytest.approx(estimated, abs=1e-12)
        assert totals["eco2_callbacks_errors_total"] == 0

    def _assert_traced(self, calls: list[LLMCall]) -> None:
        self._client.flush()
        everything = [run for run in self._server.runs().values() if run["session_name"] == self._project]
        assert [run["name"] for run in everything if not run.get("end_time")] == []
        runs = {run["id"]: run for run in everything if run["run_type"] == "llm"}
        assert set(runs) == {str(call.run_id) for call in calls}
        for call in calls:
            run = runs[str(call.run_id)]
            assert bool(run.get("error")) == (call.status != "success")
            assert call.status != "error" or str(call.error_type) in run["error"]
            assert len(self._server.patches(run["id"])) <= 1
            metadata = run["extra"]["metadata"]
            usage = None if call.usage is None else usage_metadata(call.usage, call.cost)
            assert metadata.get("usage_metadata") == usage
            assert metadata.get("cost_usd") == (None if call.cost is None else float(call.cost.total_usd))
            assert metadata.get("estimate_reason") == call.estimate_reason
            assert metadata.get("unpriced_reason") == call.unpriced_reason


def _assert_billed(call: LLMCall, bill: Bill) -> None:
    assert (call.estimate_reason, call.unpriced_reason) == (bill.estimate_reason, bill.unpriced_reason)
    assert call.estimated == (bill.estimate_reason is not None)
    if bill.output_tokens is None:
        assert (call.usage, call.cost) == (None, None)
        return
    assert call.usage is not None
    assert call.cost is not None
    assert call.usage.reasoning_tokens == 0
    if bill.estimate_reason is None:
        assert (call.usage.input_tokens, call.usage.output_tokens) == (bill.input_tokens, bill.output_tokens)
    else:
        # An estimate of a prompt of a few words and of the text so far.
        assert call.usage.input_tokens == bill.input_tokens or (
            bill.input_tokens is None and 0 < call.usage.input_tokens < 40
        )
        assert call.usage.output_tokens == pytest.approx(bill.output_tokens, rel=0.1, abs=2)
    if not call.from_cache:
        input_usd, output_usd = RATES[call.provider]
        usd = call.usage.input_tokens * input_usd + call.usage.output_tokens * output_usd
        assert call.cost.total_usd == usd


def _dollars(calls: list[LLMCall]) -> float:
    return float(sum((call.cost.total_usd for call in calls if call.cost is not None), Decimal(0)))

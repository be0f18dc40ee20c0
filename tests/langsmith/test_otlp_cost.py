"""The cost on exported spans equals the cost in the records."""

from __future__ import annotations

import json
from decimal import Decimal

from tests.support.otlp_tracing import each_mode, tracing


@each_mode
def test_the_cost_is_on_the_span(mode: dict[str, str]) -> None:
    """Every span carries its record's dollars; the model's span also splits them as LangSmith does."""
    with tracing(**mode) as traced:
        costs = {record["kind"]: Decimal(record["cost"]) for record in traced.records}
        attributes = {name: span.attributes for name, span in traced.otlp.spans.items()}

    # gpt-5.2: 176 x 1.75 + 1024 read from the cache x 0.175; 350 x 14 USD per million tokens
    assert costs == dict.fromkeys(("LLMCall", "NodeRun", "GraphRun"), Decimal("0.0053872"))
    for name in ("FakeModel", "answer", "LangGraph"):
        assert attributes[name]["langsmith.metadata.cost_usd"] == 0.0053872
    usage = json.loads(attributes["FakeModel"]["langsmith.metadata.usage_metadata"])
    assert (usage["input_cost"], usage["output_cost"], usage["total_cost"]) == (0.0004872, 0.0049, 0.0053872)
    assert attributes["FakeModel"]["gen_ai.usage.input_tokens"] == usage["input_tokens"] == 1200
    assert attributes["FakeModel"]["gen_ai.usage.output_tokens"] == usage["output_tokens"] == 350


def test_the_cost_is_on_the_span_of_an_applications_own_provider() -> None:
    """With a tracer provider of its own, the application's spans and the model's are one trace with the cost in it."""
    with tracing("own-provider", LANGSMITH_OTEL_ENABLED="true", LANGSMITH_OTEL_ONLY="true") as traced:
        spans = traced.otlp.spans

    assert spans["FakeModel"].attributes["langsmith.metadata.cost_usd"] == 0.0053872
    assert spans["FakeModel"].trace_id == spans["request"].trace_id

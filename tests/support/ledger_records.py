"""Records of a small application, for tests of the ledger."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from eco2_callbacks import Cost, GraphRun, LLMCall, NodeRun, PriceBook, Record, RetrieverCall, TokenUsage, ToolCall
from eco2_callbacks.ledger import backend_of

__all__ = ["AT", "BOOK", "call", "count", "one_request", "query", "total_usd"]

AT = datetime(2026, 11, 2, 9, 30, tzinfo=UTC)
BOOK = PriceBook()


def call(*, usage: TokenUsage | None = None, **about: Any) -> LLMCall:
    """Return a call of gpt-5.2 with 1,000 and 100 tokens: 0.00175 + 0.0014 = 0.00315 USD."""
    usage = usage or TokenUsage(input_tokens=1000, output_tokens=100)
    quote = BOOK.quote(usage, provider="openai", model="gpt-5.2", at=AT)
    run_id = uuid.uuid4()
    defaults: dict[str, Any] = {
        "run_id": run_id,
        "trace_id": run_id,
        "provider": "openai",
        "model": "gpt-5.2",
        "request_model": "gpt-5.2",
        "started_at": AT,
        "duration_seconds": 1.5,
        "usage": usage,
        "cost": quote.cost,
        "rates": quote.rates,
    }
    return LLMCall(**(defaults | about))


def one_request(*, started_at: datetime = AT, **owner: Any) -> list[Record]:
    """Return the records of one request: a node with a call, a tool and a retriever, 2 seconds in all."""
    trace_id = uuid.uuid4()
    shared: dict[str, Any] = {"trace_id": trace_id, **owner}
    made = call(
        **shared, node="answer", path="boss/answer", started_at=started_at + timedelta(seconds=0.2), tags=("b", "a")
    )
    assert made.usage is not None
    assert made.cost is not None
    return [
        made,
        ToolCall(
            **shared,
            run_id=uuid.uuid4(),
            tool_name="search",
            path="boss/answer",
            started_at=started_at + timedelta(seconds=1.75),
            duration_seconds=0.1,
        ),
        RetrieverCall(
            **shared,
            run_id=uuid.uuid4(),
            retriever="wiki",
            path="boss/answer",
            started_at=started_at + timedelta(seconds=1.75),
            duration_seconds=0.15,
        ),
        NodeRun(
            **shared,
            run_id=uuid.uuid4(),
            node="answer",
            path="boss/answer",
            started_at=started_at + timedelta(seconds=0.1),
            duration_seconds=1.8,
            usage=made.usage,
            cost=made.cost,
            feedback={"grounded": 0.75},
        ),
        GraphRun(**shared, started_at=started_at, duration_seconds=2.0, usage=made.usage, cost=made.cost, llm_calls=1),
    ]


def total_usd(records: Sequence[Record]) -> Decimal:
    """Return the exact cost of all calls among the records."""
    return Cost.sum(record.cost for record in records if isinstance(record, LLMCall) and record.cost).total_usd


def query(url: Any, text: str) -> list[Any]:
    """Return the rows of a query on a ledger."""
    backend = backend_of(url)
    try:
        with backend.engine().connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text(text))]
    finally:
        backend.close()


def count(url: Any, table: str) -> int:
    """Return the number of rows of a table."""
    return int(query(url, f"SELECT count(*) FROM {table}")[0][0])

"""Metadata whose objects raise, wait for ever or are huge: the runs are measured all the same."""

from __future__ import annotations

import json
import threading
import uuid
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from eco2_callbacks import Eco2CallbackHandler, LLMCall
from tests.support.record_sink import Records


class Raises:
    """Raises whatever is asked of it."""

    def __str__(self) -> str:
        raise RuntimeError("no")

    __eq__ = __bool__ = __repr__ = __len__ = __str__  # type: ignore[assignment]
    __hash__ = object.__hash__


class Blocks:
    """Waits for ever whatever is asked of it."""

    def __str__(self) -> str:
        threading.Event().wait()
        return ""

    __eq__ = __bool__ = __repr__ = __len__ = __str__  # type: ignore[assignment]
    __hash__ = object.__hash__


class BlockingText(str):
    __slots__ = ()

    def __str__(self) -> str:
        threading.Event().wait()
        return ""

    def __len__(self) -> int:
        raise RuntimeError("no")

    __bool__ = __len__  # type: ignore[assignment]


KEYS = (
    *("ls_provider", "ls_model_name", "langgraph_node", "langgraph_checkpoint_ns", "langgraph_step", "langgraph_path"),
    *("lc_source", "lc_agent_name", "intent", "tenant_id", "user_id", "thread_id", "feature"),
)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    "value",
    [Raises(), Blocks(), BlockingText("x"), "y" * 1_000_000, 10**6000, [1], {"a": 1}],
    ids=["raises", "blocks", "blocking_text", "huge", "huge_number", "list", "dict"],
)
def test_every_run_is_measured(registry: CollectorRegistry, records: Records, key: str, value: Any) -> None:
    """Call, tool, node and request are recorded, exposed and ready for JSON; only an id may count as unreadable."""
    handler = Eco2CallbackHandler(registry=registry, sinks=[records])
    metadata = {"ls_provider": "openai", "ls_model_name": "gpt-5.2", key: value}
    inside = {**metadata, "langgraph_node": "n"}
    root, node, call, tool = (uuid.uuid4() for _ in range(4))

    handler.on_chain_start(None, {}, run_id=root, metadata=metadata, name="x")
    handler.on_chain_start(
        None, {}, run_id=node, parent_run_id=root, metadata=inside, tags=["graph:step:1", "seq:step:1"], name="n"
    )
    handler.on_chat_model_start({}, [[]], run_id=call, parent_run_id=node, metadata=metadata, invocation_params={})
    handler.on_llm_error(ValueError(), run_id=call)
    handler.on_tool_start({"name": "t"}, "", run_id=tool, parent_run_id=node, metadata=metadata)
    handler.on_tool_end("", run_id=tool)
    handler.on_chain_end({}, run_id=node)
    handler.on_chain_end({}, run_id=root)

    assert [type(record).__name__ for record in records.all] == ["LLMCall", "ToolCall", "NodeRun", "GraphRun"]
    assert len(generate_latest(registry)) < 200_000
    errors = {
        line.labels["callback"]
        for family in registry.collect()
        for line in family.samples
        if line.name == "eco2_callbacks_errors_total" and line.value
    }
    assert errors <= {"attribution"}
    (record,) = records.of(LLMCall)
    json.dumps(record.to_dict(), allow_nan=False)

"""What Prometheus scrapes: every family of the contract, series that start at 0, labels that stay bounded."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest, start_http_server
from prometheus_client.parser import text_string_to_metric_families

from eco2_callbacks import ConfigError, Cost, Eco2CallbackHandler, GraphRun, LLMCall, NodeRun, TokenUsage
from eco2_callbacks.prometheus.families import BUDGET_FAMILIES, FAMILIES
from tests.support.fake_model import DETAILED_USAGE, FakeModel
from tests.support.programs import program
from tests.support.record_sink import Records
from tests.support.small_graphs import State, answer, graph_of, intent, sample

GOLDEN = Path(__file__).parents[1] / "golden"


def golden(name: str, text: str) -> None:
    """Compare with a golden file; UPDATE_GOLDEN=1 writes the file instead, to be reviewed as a diff."""
    path = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


def exposition(registry: CollectorRegistry) -> str:
    """Return the exposition without what differs between runs: versions and the age of the prices."""
    lines = generate_latest(registry).decode().splitlines()
    varies = ("eco2_callbacks_info{", "eco2_callbacks_prices_age_seconds ")
    kept = [line for line in lines if not line.startswith(varies)]
    return "\n".join(kept) + "\n"


def test_a_fresh_process_exposes_every_family(registry: CollectorRegistry) -> None:
    """Dashboards and alerts find every name before the first request."""
    # Kept: a budget's figures are those of a handler that lives.
    handler = Eco2CallbackHandler(
        registry=registry, subagents=["waste_rag"], budgets={"acme": {"monthly_usd": 100, "daily_usd": 5}}
    )

    families = {family.name for family in text_string_to_metric_families(generate_latest(registry).decode())}
    wanted = {family.name for family in (*FAMILIES, *BUDGET_FAMILIES)}
    assert {f"{name}_total" if f"{name}_total" in wanted else name for name in families} == wanted
    golden("fresh.prom", exposition(registry))
    handler.close()


async def test_a_graph_run_exposes_exactly_this(registry: CollectorRegistry) -> None:
    """The whole exposition after one request of two nodes, on a clock with steps of a quarter second."""
    quarters = iter(range(1000))
    handler = Eco2CallbackHandler(registry=registry, agent_name="eco2", clock=lambda: next(quarters) / 4)

    async def reply(state: State) -> State:
        text = "".join([chunk.text async for chunk in FakeModel(usage=DETAILED_USAGE).astream("answer")])
        return {"answers": [text]}

    graph = graph_of(intent, reply).compile()
    await graph.ainvoke({"answers": []}, {"callbacks": [handler], "metadata": {"tenant_id": "acme"}})

    golden("graph.prom", exposition(registry))


def a_call(**changes: Any) -> LLMCall:
    values = {
        "run_id": uuid.uuid4(),
        "trace_id": uuid.uuid4(),
        "provider": "openai",
        "model": "gpt-5.2",
        "node": "answer",
        "started_at": datetime.now(UTC),
        "duration_seconds": 1.0,
        "usage": TokenUsage(input_tokens=10),
    }
    return LLMCall(**{**values, **changes})


def test_the_start_of_a_call_initialises_all_its_statuses(registry: CollectorRegistry) -> None:
    """A ratio of errors to calls is 0, not missing, before the first error."""
    handler = Eco2CallbackHandler(registry=registry)

    metadata = {"ls_provider": "openai", "ls_model_name": "gpt-5.2", "langgraph_node": "answer", "intent": "waste"}
    handler.on_chat_model_start({}, [[]], run_id=uuid.uuid4(), metadata=metadata)

    labels = {"node": "answer", "agent_name": "", "intent": "waste", "provider": "openai", "model": "gpt-5.2"}
    for status in ("success", "error", "cancelled"):
        assert sample(registry, "llm_calls_total", status=status, **labels) == 0


@pytest.mark.parametrize(
    ("values", "admitted", "overflowed"), [(2, 2, 0), (3, 3, 0), (5, 3, 2)], ids=["below", "at", "above"]
)
def test_a_label_takes_no_more_values_than_allowed(
    registry: CollectorRegistry, values: int, admitted: int, overflowed: int
) -> None:
    """Past the cap each new value becomes ``other`` and is counted once, and its tokens are not lost."""
    handler = Eco2CallbackHandler(registry=registry, max_label_values=3)

    for number in range(values):
        for _ in range(2):
            handler.emit(a_call(node=f"node_{number}"))

    labels = {"intent": "unclassified", "provider": "openai", "model": "gpt-5.2", "token_type": "input"}
    labels |= {"agent_name": ""}
    counted = [sample(registry, "graph_node_tokens_total", node=f"node_{n}", **labels) for n in range(values)]
    assert counted == [20] * admitted + [None] * overflowed
    assert sample(registry, "graph_node_tokens_total", node="other", **labels) == (overflowed * 20 or None)
    assert sample(registry, "eco2_callbacks_label_overflow_total", label="node") == overflowed


def test_tenants_have_a_cap_of_their_own(registry: CollectorRegistry) -> None:
    """``max_tenants`` bounds tenants and nothing else."""
    handler = Eco2CallbackHandler(registry=registry, max_label_values=1, max_tenants=2)

    for tenant in ("a", "b", "c"):
        handler.emit(a_call(tenant_id=tenant))

    labels = {"provider": "openai", "model": "gpt-5.2", "token_type": "input"}
    counted = {
        tenant: sample(registry, "llm_tokens_total", tenant_id=tenant, **labels) for tenant in ("a", "b", "c", "other")
    }
    assert counted == {"a": 10, "b": 10, "c": None, "other": 10}
    assert sample(registry, "eco2_callbacks_label_overflow_total", label="tenant_id") == 1


def test_a_node_named_other_is_no_overflow(registry: CollectorRegistry) -> None:
    """A node called ``other`` shares the series of the overflow and counts as no overflow."""
    handler = Eco2CallbackHandler(registry=registry, max_label_values=1)

    handler.emit(a_call(node="other"))
    handler.emit(a_call(node="answer"))

    assert sample(registry, "eco2_callbacks_label_overflow_total", label="node") == 0


def test_every_billed_unit_shows_in_its_own_series(registry: CollectorRegistry) -> None:
    """Tools, images, audio and cached tokens have series of their own beside the totals that include them."""
    handler = Eco2CallbackHandler(registry=registry)
    usage = TokenUsage(
        input_tokens=100,
        output_tokens=2000,
        cache_read_tokens=40,
        cache_creation_tokens=10,
        reasoning_tokens=30,
        input_audio_tokens=20,
        output_audio_tokens=5,
        output_image_tokens=1290,
        images=2,
        image_sizes=("1K", "4K"),
        web_searches=3,
        file_searches=2,
        code_interpreter_sessions=1,
        image_generations=1,
    )
    parts = {"output": Decimal("0.5"), "web_search": Decimal("0.03"), "code_interpreter": Decimal("0.03")}

    handler.emit(a_call(usage=usage, cost=Cost(output_usd=Decimal("0.56"), parts=parts)))

    where = {"node": "answer", "provider": "openai", "model": "gpt-5.2"}
    model = {"provider": "openai", "model": "gpt-5.2"}
    assert sample(registry, "llm_cached_tokens_total", kind="read", **where) == 40
    assert sample(registry, "llm_cached_tokens_total", kind="write", **where) == 10
    assert sample(registry, "llm_reasoning_tokens_total", **where) == 30
    assert sample(registry, "llm_media_tokens_total", direction="input", modality="audio", **where) == 20
    assert sample(registry, "llm_media_tokens_total", direction="output", modality="audio", **where) == 5
    assert sample(registry, "llm_media_tokens_total", direction="output", modality="image", **where) == 1290
    assert sample(registry, "llm_images_total", size="1K", **where) == 1
    assert sample(registry, "llm_images_total", size="4K", **where) == 1
    tools = {
        tool: sample(registry, "llm_server_tool_calls_total", tool=tool, **where)
        for tool in ("web_search", "file_search", "code_interpreter", "image_generation")
    }
    assert tools == {"web_search": 3, "file_search": 2, "code_interpreter": 1, "image_generation": 1}
    assert sample(registry, "llm_cost_parts_dollars_total", part="web_search", **model) == 0.03
    assert sample(registry, "llm_cost_dollars_total", tenant_id="", **model) == 0.56


def test_a_subagent_is_counted_as_node_and_as_subagent(registry: CollectorRegistry) -> None:
    """Named nodes appear in the subagent families, and their series start at 0 with the handler."""
    handler = Eco2CallbackHandler(registry=registry, subagents=["waste_rag"])
    assert sample(registry, "chat_subagent_calls_total", subagent="waste_rag", status="error") == 0

    for node in ("waste_rag", "answer"):
        handler.emit(
            NodeRun(
                run_id=uuid.uuid4(),
                trace_id=uuid.uuid4(),
                node=node,
                started_at=datetime.now(UTC),
                duration_seconds=0.3,
            )
        )

    assert sample(registry, "chat_subagent_calls_total", subagent="waste_rag", status="success") == 1
    assert sample(registry, "chat_subagent_calls_total", subagent="answer", status="success") is None
    assert sample(registry, "chat_subagent_duration_seconds_bucket", subagent="waste_rag", le="0.3") == 1
    assert sample(registry, "graph_node_runs_total", node="answer", agent_name="", status="success") == 1


def test_a_failed_request_counts_for_its_intent_and_its_agent(registry: CollectorRegistry) -> None:
    """An error shows its class by intent and by agent and tenant; a cancelled request is no error."""
    handler = Eco2CallbackHandler(registry=registry)
    run = {"trace_id": uuid.uuid4(), "started_at": datetime.now(UTC), "duration_seconds": 1.5, "agent_name": "eco2"}

    handler.emit(GraphRun(**run, intent="waste", tenant_id="acme", status="error", error_type="KeyError"))
    handler.emit(GraphRun(**run, intent="waste", tenant_id="acme", status="cancelled", error_type="CancelledError"))

    assert sample(registry, "chat_errors_total", intent="waste", error_type="KeyError") == 1
    assert sample(registry, "agent_errors_total", agent_name="eco2", error_type="KeyError", tenant_id="acme") == 1
    assert sample(registry, "chat_errors_total", intent="waste", error_type="CancelledError") is None
    assert sample(registry, "chat_requests_total", intent="waste", status="cancelled", provider="") == 1
    assert sample(registry, "chat_intent_total", intent="waste") == 2


def test_only_budgets_that_are_set_are_exposed(registry: CollectorRegistry) -> None:
    """A tenant's budget is a gauge, and an unset budget has no series."""
    Eco2CallbackHandler(registry=registry, budgets={"acme": {"monthly_usd": 100.5}})

    assert sample(registry, "tenant_monthly_budget_usd", tenant_id="acme") == 100.5
    assert sample(registry, "tenant_daily_budget_usd", tenant_id="acme") is None


def test_a_registry_that_holds_the_names_already_is_refused(registry: CollectorRegistry) -> None:
    """A metric of the same name is a ConfigError that says what to do, and leaves the registry unchanged."""
    Counter("llm_tokens_total", "Another metric.", registry=registry)

    with pytest.raises(ConfigError) as refused:
        Eco2CallbackHandler(registry=registry)

    assert str(refused.value) == (
        "The registry holds 'llm_tokens' and 2 other names of the handler's metrics already; pass another registry=."
    )
    assert "llm_calls_total" not in generate_latest(registry).decode()


async def test_queued_records_are_counted_at_every_read(registry: CollectorRegistry) -> None:
    """A scrape, a restricted scrape and a single sample each include every record."""
    handler = Eco2CallbackHandler(registry=registry)

    await FakeModel().ainvoke("hello", config={"callbacks": [handler]})
    assert 'status="success"} 1.0' in generate_latest(registry).decode()
    await FakeModel().ainvoke("hello", config={"callbacks": [handler]})
    only = registry.restricted_registry(["llm_tokens_total"])
    assert 'token_type="input"} 2000.0' in generate_latest(only).decode()
    await FakeModel().ainvoke("hello", config={"callbacks": [handler]})
    labels = {"provider": "openai", "model": "gpt-5.2", "tenant_id": "", "token_type": "input"}
    assert sample(registry, "llm_tokens_total", **labels) == 3000


def test_a_deleted_handlers_records_are_counted(registry: CollectorRegistry) -> None:
    """Queued records are counted after their handler is gone."""
    Eco2CallbackHandler(registry=registry).emit(a_call())

    labels = {"provider": "openai", "model": "gpt-5.2", "tenant_id": "", "token_type": "input"}
    assert sample(registry, "llm_tokens_total", **labels) == 10


def test_scraping_while_counting_never_lets_a_counter_fall(registry: CollectorRegistry) -> None:
    """Scrapes on other threads see rising counters and, at the end, the exact sum."""
    handler = Eco2CallbackHandler(registry=registry)
    labels = {"provider": "openai", "model": "gpt-5.2", "tenant_id": "", "token_type": "input"}
    seen: list[float] = []
    done = threading.Event()

    def scrape() -> None:
        while not done.is_set():
            seen.append(sample(registry, "llm_tokens_total", **labels) or 0)
            time.sleep(0.001)

    scraper = threading.Thread(target=scrape)
    scraper.start()
    for _ in range(2000):
        handler.emit(a_call())
    done.set()
    scraper.join()

    assert seen == sorted(seen)
    assert sample(registry, "llm_tokens_total", **labels) == 20_000


def test_workers_of_one_service_add_up(tmp_path: Path) -> None:
    """In multiprocess mode each worker's counts are in the files at once, and a scrape is their sum."""
    worker = (
        "import uuid\n"
        "from datetime import UTC, datetime\n"
        "from prometheus_client import CollectorRegistry\n"
        "from eco2_callbacks import Eco2CallbackHandler, LLMCall, TokenUsage\n"
        "handler = Eco2CallbackHandler(registry=CollectorRegistry())\n"
        "handler.emit(LLMCall(run_id=uuid.uuid4(), trace_id=uuid.uuid4(), provider='openai', model='gpt-5.2',\n"
        "    started_at=datetime.now(UTC), duration_seconds=1.0, usage=TokenUsage(input_tokens=7)))\n"
        "import os; os._exit(0)\n"
    )
    reader = (
        "from prometheus_client import CollectorRegistry\n"
        "from prometheus_client.multiprocess import MultiProcessCollector\n"
        "registry = CollectorRegistry(); MultiProcessCollector(registry)\n"
        "print(registry.get_sample_value('llm_tokens_total',\n"
        "    {'provider': 'openai', 'model': 'gpt-5.2', 'tenant_id': '', 'token_type': 'input'}))\n"
    )
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}

    for _ in range(2):
        subprocess.run([sys.executable, "-c", worker], env=environment, check=True)
    read = subprocess.run([sys.executable, "-c", reader], env=environment, check=True, capture_output=True, text=True)

    assert read.stdout.strip() == "14.0"


async def test_promtool_accepts_the_exposition(registry: CollectorRegistry) -> None:
    """Prometheus's own checker finds nothing in the exposition but creation times."""
    promtool = program("promtool", package="prometheus")
    handler = Eco2CallbackHandler(registry=registry, agent_name="eco2")
    await graph_of(intent, answer).compile().ainvoke({"answers": []}, {"callbacks": [handler]})

    checked = subprocess.run(
        [promtool, "check", "metrics"], input=generate_latest(registry), capture_output=True, check=False
    )

    assert (checked.stdout + checked.stderr).decode().splitlines() == []


async def test_a_real_scrape_over_http_shows_the_call(registry: CollectorRegistry, records: Records) -> None:
    """A scrape over HTTP holds the same dollars as the record."""
    import urllib.request

    handler = Eco2CallbackHandler(registry=registry, sinks=[records])
    server, thread = start_http_server(0, "127.0.0.1", registry=registry)

    await FakeModel().ainvoke("hello", config={"callbacks": [handler]})
    with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics") as response:
        text = response.read().decode()
    server.shutdown()
    server.server_close()
    thread.join()

    line = 'llm_cost_dollars_total{model="gpt-5.2",provider="openai",tenant_id=""}'
    assert records.call.cost is not None
    assert f"{line} {float(records.call.cost.total_usd)}" in text

"""Recorded provider traffic through the official models: tokens and dollars equal what was billed."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from importlib.metadata import version
from types import ModuleType
from typing import Any

import pytest
from genai_prices import Usage, calc_price
from langchain_core.callbacks import BaseCallbackHandler
from prometheus_client import CollectorRegistry

from eco2_callbacks import Eco2CallbackHandler, TokenUsage
from eco2_callbacks.langsmith.usage_payload import usage_metadata
from tests.support.langsmith_server import LangSmithServer
from tests.support.record_sink import Records, exposed
from tests.support.recordings import MARKS, player
from tests.support.tracing_modes import activate
from tests.support.two_kinds import handlers_of_two_kinds

pytestmark = MARKS
__all__ = ["player"]  # a fixture

MODES = ("invoke", "ainvoke", "stream", "astream")
# The reference's names where they differ from ours.
NAMES = {
    "cache_write_tokens": "cache_creation_tokens",
    "cache_audio_read_tokens": "cache_read_audio_tokens",
    "storage_searches": "file_searches",
}
COUNTED = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "input_audio_tokens",
    "cache_audio_read_tokens",
    "output_audio_tokens",
    "output_image_tokens",
    "web_searches",
    "storage_searches",
)
UNBILLED_THERE = ("code_interpreter", "maps_grounding")


def counts(usage: TokenUsage) -> dict[str, int]:
    return {name: getattr(usage, NAMES.get(name, name)) for name in COUNTED}


def usd(truth: dict[str, Any]) -> Decimal:
    """Return the reference's dollars, computed again where it used other price data."""
    if version("genai-prices") == "0.2.3":
        return Decimal(truth["usd"])
    context = {"service_tier": truth["tier"]} if truth["tier"] else None
    provider = "azure" if truth["azure"] else truth["provider"]
    priced = calc_price(Usage(**truth["units"]), truth["price_model"], provider_id=provider, price_context=context)
    return priced.total_price


def play(player: ModuleType, case: Any, handlers: Sequence[BaseCallbackHandler], mode: str) -> bool:
    """Return whether the case can be replayed; an exception of the model is part of the case."""
    try:
        player.replay(case, handlers, mode=mode)
    except player.NotReplayable:
        return False
    except Exception:
        return True
    return True


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["ainvoke", "stream"])
def test_a_recorded_exchange_counts_the_same_at_once_and_later(player: ModuleType, mode: str) -> None:
    """With and without a sink that needs its record at once, the exposition is equal after each exchange."""
    at_once, later = handlers_of_two_kinds()
    for case in player.load_cases():
        play(player, case, [at_once.handler, later.handler], mode)

        assert later.exposition() == at_once.exposition(), case["name"]


@pytest.mark.parametrize(
    "mode", [mode if mode == "astream" else pytest.param(mode, marks=pytest.mark.slow) for mode in MODES]
)
def test_every_recorded_exchange_costs_what_it_was_billed(player: ModuleType, mode: str) -> None:
    """Tokens and dollars equal the reference where it is exact; other cases are marked as estimates."""
    expected = player.expected()
    registry = CollectorRegistry()
    records = Records()
    handler = Eco2CallbackHandler(registry=registry, sinks=[records])
    wrong = []
    billed = 0
    for case in player.load_cases():
        before = len(records.calls)
        if not play(player, case, [handler], mode):
            continue
        (call,) = records.calls[before:]
        truth = expected.get(case["name"])
        if truth is None:
            continue
        hidden = truth["hidden"]
        if "LangChain raises on the answer" in hidden:
            assert (call.status, call.usage, call.cost, call.unpriced_reason) == ("error", None, None, "no_usage")
            continue
        assert call.usage is not None
        assert call.cost is not None
        assert sum(call.cost.parts.values()) == call.cost.total_usd
        if any("image tool" in fact for fact in hidden):
            assert call.estimated, case["name"]
        if hidden:
            continue
        billed += 1
        units = {**dict.fromkeys(COUNTED, 0), **truth["units"]}
        compared = call.cost.total_usd - sum(call.cost.parts.get(part, Decimal(0)) for part in UNBILLED_THERE)
        if (
            counts(call.usage) != units
            or call.usage.reasoning_tokens != truth["reasoning_tokens"]
            or abs(compared - usd(truth)) > Decimal("1e-9")
        ):
            wrong.append((case["name"], counts(call.usage), units, compared, usd(truth)))

    assert wrong == []
    assert billed == sum(not truth["hidden"] for truth in expected.values())
    costs = [call.cost.total_usd for call in records.calls if call.cost is not None]
    tokens = [call.usage.total_tokens for call in records.calls if call.usage is not None]
    assert exposed(registry, "llm_cost_dollars_total") == pytest.approx(float(sum(costs)), abs=1e-9)
    assert exposed(registry, "graph_node_cost_dollars_total") == pytest.approx(float(sum(costs)), abs=1e-9)
    assert exposed(registry, "llm_cost_parts_dollars_total") == pytest.approx(float(sum(costs)), abs=1e-9)
    assert exposed(registry, "llm_tokens_total") == exposed(registry, "graph_node_tokens_total") == sum(tokens)
    assert exposed(registry, "llm_calls_total") == len(records.calls)
    assert exposed(registry, "eco2_callbacks_errors_total") == 0


@pytest.mark.parametrize("output_version", ["v0", "responses/v1", "v1"])
def test_every_shape_of_openai_tool_calls_is_counted_alike(player: ModuleType, output_version: str) -> None:
    """An exchange costs the same in every output_version of LangChain."""
    expected = player.expected()
    wrong = []
    for case in player.load_cases("openai-responses-*"):
        truth = expected.get(case["name"])
        if truth is None or truth["hidden"]:
            continue
        records = Records()
        handler = Eco2CallbackHandler(registry=CollectorRegistry(), sinks=[records])

        player.replay(case, [handler], output_version=output_version)

        usage = records.call.usage
        assert usage is not None
        units = {**dict.fromkeys(COUNTED, 0), **truth["units"]}
        if counts(usage) != units:
            wrong.append((case["name"], counts(usage), units))
    assert wrong == []


@pytest.mark.parametrize(("tracing_mode", "mode"), [("environment", "ainvoke"), ("tracer_before", "stream")])
@pytest.mark.slow
def test_langsmith_gets_what_was_counted(player: ModuleType, tracing_mode: str, mode: str) -> None:
    """For every exchange LangSmith gets the record's dollars, and their sum equals the counter."""
    registry = CollectorRegistry()
    records = Records()
    handler = Eco2CallbackHandler(registry=registry, sinks=[records])

    with handler, LangSmithServer() as server:
        with activate(tracing_mode, server, handler) as active:
            for case in player.load_cases():
                play(player, case, active.callbacks, mode)
        runs = server.runs()

    assert len(records.calls) == len(runs) > 150
    on_the_wire = Decimal(0)
    for call in records.calls:
        run = runs[str(call.run_id)]
        assert run["end_time"]
        assert len(server.patches(run["id"])) <= 1
        metadata = run["extra"]["metadata"]
        assert metadata.get("cost_estimated", False) == call.estimated
        if call.usage is None:
            assert "usage_metadata" not in metadata
            continue
        assert metadata["usage_metadata"] == usage_metadata(call.usage, call.cost)
        if call.cost is not None:
            assert metadata["cost_usd"] == metadata["usage_metadata"]["total_cost"] == float(call.cost.total_usd)
            on_the_wire += Decimal(repr(metadata["cost_usd"]))
    assert float(on_the_wire) == pytest.approx(exposed(registry, "llm_cost_dollars_total"), abs=1e-9)
    assert exposed(registry, "eco2_callbacks_errors_total") == 0

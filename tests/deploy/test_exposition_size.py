"""The size of /metrics, as the page on operations states it."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from eco2_callbacks.prometheus import LEDGER_FAMILIES
from eco2_callbacks.prometheus.families import BUDGET_FAMILIES, FAMILIES
from graph.cli import QUESTIONS
from traffic import BUDGETS, Conversation, make_handler, worker

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
TENANTS = tuple(BUDGETS)


async def ten_requests(registry: CollectorRegistry) -> None:
    with make_handler(registry) as handler:
        async with worker(handler) as running:
            for number, intent in enumerate(QUESTIONS):
                provider, tenant = ("openai", "google")[number % 2], TENANTS[number % 3]
                await running.play(Conversation(intent=intent, provider=provider, tenant=tenant), speed=1000)


@pytest.mark.slow
def test_ten_requests_cost_few_series() -> None:
    """Ten requests of the demo expose less than 3,000 samples, about as many as the page says, by family."""
    registry = CollectorRegistry()
    asyncio.run(ten_requests(registry))
    page = PAGE.read_text(encoding="utf-8")
    stated = {name: int(count) for name, count in re.findall(r"^\| `(\w+)` \| (\d+) \|$", page, re.MULTILINE)}

    families = text_string_to_metric_families(generate_latest(registry).decode())
    counted = {
        family.name + ("_total" if family.type == "counter" else ""): len(family.samples)
        for family in families
        if family.samples
    }

    assert len(QUESTIONS) == 10
    assert sum(counted.values()) < 3000
    assert counted.keys() == {name for name, count in stated.items() if count}
    # A new child of a closed set does not make the page wrong.
    assert sum(counted.values()) == pytest.approx(sum(stated.values()), rel=0.02)


def test_every_family_is_listed() -> None:
    """The page lists every family of the handler, its budgets and its ledger."""
    listed = set(re.findall(r"^\| `(\w+)` \| \d+ \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE))

    assert listed == {family.name for family in (*FAMILIES, *BUDGET_FAMILIES, *LEDGER_FAMILIES)}

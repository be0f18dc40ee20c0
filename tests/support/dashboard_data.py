"""Real data for the dashboards: the demo with a queue and a ledger, and an application of deepagents."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from deepagents import create_deep_agent
from langchain_core.messages import AIMessage, ToolCall
from langchain_core.outputs import ChatResult
from prometheus_client import CollectorRegistry

from eco2_callbacks import Eco2CallbackHandler, run_config
from graph.cli import QUESTIONS
from graph.jobs import JobMetrics
from tests.support.fake_model import FakeModel
from traffic import BUDGETS, Conversation, Fault, make_handler, worker

__all__ = ["SUBAGENT", "play_deep_agent", "play_demo"]

SUBAGENT = "researcher"
_SPEED = 100  # times the recorded pace
_TENANTS = tuple(BUDGETS)


def play_demo(
    registry: CollectorRegistry, scraped: Callable[[], None], *, ledger: str = "", with_faults: bool = True
) -> None:
    """Play every conversation of the demo twice, as the jobs of a queue, the second time with every fault.

    Args:
        registry: Registry of the metrics.
        scraped: Waits until Prometheus has seen the metrics.
        ledger: URL of the ledger.
        with_faults: Whether conversations fail, too.
    """
    jobs = JobMetrics(registry, slots=4)
    jobs.set_ready(ready=True)
    with make_handler(registry, **({"ledger": ledger} if ledger else {})) as handler:
        scraped()
        asyncio.run(_conversations(handler, jobs, []))
        scraped()
        asyncio.run(_conversations(handler, jobs, [*Fault] if with_faults else []))
        if with_faults:
            jobs.redelivered()
            handler.stream_metrics.recovered("catch_up", "success")
        scraped()


async def _conversations(handler: Eco2CallbackHandler, jobs: JobMetrics, faults: list[Fault]) -> None:
    async with worker(handler) as running:
        for number, intent in enumerate(QUESTIONS):
            provider, tenant = ("openai", "google")[number % 2], _TENANTS[number % 3]
            jobs.started(0.02)
            await running.play(Conversation(intent=intent, provider=provider, tenant=tenant), speed=_SPEED)
            jobs.ended(intent, "success", 2.5)
        for fault in faults:
            await running.play(Conversation(fault=fault, tenant=_TENANTS[-1]), speed=_SPEED)


class _Boss(FakeModel):
    """Asks the subagent once, then answers."""

    def _generate(self, messages: Any, *arguments: Any, **options: Any) -> ChatResult:
        result = super()._generate(messages)
        if messages[-1].text == "go":
            task = {"description": "look it up", "subagent_type": SUBAGENT}
            result.generations[0].message = AIMessage(
                "",
                tool_calls=[ToolCall(name="task", args=task, id="1")],
                usage_metadata=self.usage,
                response_metadata=self._response_metadata(),
            )
        return result


def play_deep_agent(registry: CollectorRegistry, scraped: Callable[[], None]) -> None:
    """Run an agent of deepagents with one subagent, before and after a scrape."""
    helper: Any = {"name": SUBAGENT, "description": "Looks it up.", "system_prompt": "Look.", "tools": []}
    agent = create_deep_agent(_Boss(), [], subagents=[helper], name="boss")
    with Eco2CallbackHandler(registry=registry, agent_name="boss", subagents=[SUBAGENT]) as handler:
        for number in range(2):
            config = run_config(handler, job_id=str(number), tenant_id="acme")
            agent.invoke({"messages": [("user", "go")]}, config)  # type: ignore[arg-type]
            scraped()

"""Calls that were let pass and are never sent: they keep no reservation, are billed nowhere, and leave no open run."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable
from decimal import Decimal
from types import FrameType
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseLLM
from langchain_core.outputs import Generation, LLMResult
from prometheus_client import CollectorRegistry

from eco2_callbacks import BudgetExceeded, BudgetRule, Budgets, Eco2CallbackHandler
from eco2_callbacks.budgets import enforcer as enforcer_module
from eco2_callbacks.budgets import reservations as reservations_module
from tests.support.fake_model import FakeModel
from tests.support.record_sink import Records, exposed
from tests.support.redis_process import RedisProcess

# What a call reserves and costs: 400 bytes of prompt count as 400 tokens, and 16 for the message, at 1.75 USD per
# million; 100 tokens of output at 14 USD per million.
PROMPT = "x" * 400
WORST = Decimal("0.002128")
MODEL = FakeModel(usage={"input_tokens": 416, "output_tokens": 100, "total_tokens": 516})


class Team:
    """A handler with a budget, a registry and a sink of its own."""

    def __init__(self, *rules: BudgetRule, **settings: Any) -> None:
        self.registry = CollectorRegistry()
        self.records = Records()
        budgets = Budgets(rules=rules, **{"assumed_output_tokens": 100, **settings})
        self.handler = Eco2CallbackHandler(registry=self.registry, sinks=[self.records], budgets=budgets)

    @property
    def left_behind(self) -> tuple[float, float, int]:
        """Dollars that are spent or reserved, open runs, and recorded calls."""
        spent = exposed(self.registry, "budget_spent_dollars")
        return spent, exposed(self.registry, "eco2_callbacks_open_runs"), len(self.records.calls)


def rule(limit_usd: Decimal | str = "1", **changed: Any) -> BudgetRule:
    return BudgetRule(**{"name": "r", "limit_usd": Decimal(limit_usd), "warn_at": (), **changed})


class Completion(BaseLLM):
    """A text-completion model that keeps what reaches the provider, and decides on each prompt in a task of its own."""

    sent: list[str] = []

    @property
    def _llm_type(self) -> str:
        return "kept"

    def _get_ls_params(self, stop: Any = None, **kwargs: Any) -> Any:
        return {"ls_provider": "openai", "ls_model_name": "gpt-5.2", "ls_model_type": "llm"}

    def _generate(self, prompts: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> LLMResult:
        self.sent.extend(prompts)
        return LLMResult(generations=[[Generation(text="text")] for _ in prompts])

    async def _agenerate(self, prompts: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> LLMResult:
        return self._generate(prompts)


ORDERS: dict[str, Callable[[Team, Team], list[BaseCallbackHandler]]] = {
    "gates first": lambda one, other: [
        *(gate for gate in (one.handler.budget_gate, other.handler.budget_gate) if gate is not None),
        one.handler,
        other.handler,
    ],
    "one after the other": lambda one, other: [*one.handler.callbacks, *other.handler.callbacks],
    "handlers alone": lambda one, other: [one.handler, other.handler],
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
async def test_a_refusal_of_one_handler_holds_for_all(order: str, *, is_async: bool) -> None:
    """A call that a second handler's budget refuses is reserved, billed and open in the first one no longer."""
    team, company = Team(rule()), Team(rule("0.0001"))
    config: Any = {"callbacks": ORDERS[order](team, company)}

    for _ in range(3):
        with pytest.raises(BudgetExceeded):
            await MODEL.ainvoke(PROMPT, config) if is_async else MODEL.invoke(PROMPT, config)

    assert team.left_behind == (0, 0, 0)
    assert company.left_behind == (0, 0, 0)


def test_a_handler_without_budgets_bills_no_refused_call(records: Records, registry: CollectorRegistry) -> None:
    """It stands before the gate of another handler, and opened the call before that one was refused."""
    plain, company = Eco2CallbackHandler(registry=registry, sinks=[records]), Team(rule("0.0001"))

    with pytest.raises(BudgetExceeded):
        MODEL.invoke(PROMPT, {"callbacks": [plain, *company.handler.callbacks]})

    assert exposed(registry, "eco2_callbacks_open_runs") == 0
    assert records.calls == []
    assert plain.totals().llm_calls == 0


class Stopping(BaseCallbackHandler):
    """A handler of the application that stops every call at its start."""

    raise_error = True

    def on_chat_model_start(self, *_: Any, **__: Any) -> None:
        raise ValueError("stopped")


@pytest.fixture
def lost_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call is lost as soon as its run is not open."""
    monkeypatch.setattr(reservations_module, "_LOST_AFTER_SECONDS", 0.0)
    monkeypatch.setattr(reservations_module, "_SWEEP_SECONDS", 0.0)


@pytest.mark.usefixtures("lost_at_once")
def test_a_call_that_another_handler_stops_makes_room_for_the_next() -> None:
    """Between the gate and the handler a third one raises: the reservation goes when its room is needed."""
    team = Team(rule(WORST + Decimal("0.0001")))
    gate, handler = team.handler.callbacks
    with pytest.raises(ValueError, match="stopped"):
        MODEL.invoke(PROMPT, {"callbacks": [gate, Stopping(), handler]})

    MODEL.invoke(PROMPT, {"callbacks": team.handler.callbacks})

    assert team.left_behind == (pytest.approx(float(WORST)), 0, 1)


@pytest.mark.usefixtures("lost_at_once")
async def test_an_open_call_keeps_its_reservation() -> None:
    """A call that takes long is not lost: the next one, which does not fit beside it, is refused."""
    team = Team(rule(WORST + Decimal("0.0001")))
    slow = asyncio.create_task(FakeModel(pause_seconds=3600).ainvoke(PROMPT, {"callbacks": team.handler.callbacks}))
    while not exposed(team.registry, "eco2_callbacks_open_runs"):
        await asyncio.sleep(0)

    for _ in range(3):
        with pytest.raises(BudgetExceeded):
            MODEL.invoke(PROMPT, {"callbacks": team.handler.callbacks})

    slow.cancel()
    await asyncio.gather(slow, return_exceptions=True)


INTERRUPTED = ("take", "release", "settle", "_try")
_FILES = (enforcer_module.__file__, reservations_module.__file__)


def interrupted_at(function: str, number: int, call: Callable[[], object]) -> bool:
    """Make a call with an interrupt before the so-manyth line of a function; return whether it has so many."""
    lines, previous = 0, sys.gettrace()

    def trace(frame: FrameType, _: str, __: Any) -> Any:
        code = frame.f_code
        return on_line if code.co_filename in _FILES and code.co_name == function else None

    def on_line(_: FrameType, event: str, __: Any) -> Any:
        nonlocal lines
        if event == "line":
            lines += 1
            if lines == number:
                raise KeyboardInterrupt
        return on_line

    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(previous)
    return False


@pytest.mark.usefixtures("lost_at_once")
@pytest.mark.parametrize("function", INTERRUPTED)
def test_an_interrupt_leaves_nothing_reserved(function: str) -> None:
    """Whatever the line before which an interrupt comes, no budget keeps a part of the call's reservation."""
    number = 0
    while True:
        number += 1
        team = Team(rule(name="one"), rule(name="other", window="rolling 24h"))
        attempt = {"callbacks": team.handler.callbacks}
        MODEL.invoke(PROMPT, attempt)  # type: ignore[arg-type]  # mypy reads a plain dict

        if not interrupted_at(function, number, lambda attempt=attempt: MODEL.invoke(PROMPT, attempt)):
            break

        states = {
            sample.labels["budget"]: round(sample.value / float(WORST), 6)
            for family in team.registry.collect()
            for sample in family.samples
            if sample.name == "budget_spent_dollars"
        }
        # The first call, and the interrupted one where its cost was counted already.
        assert set(states.values()) <= {1.0, 2.0}, (function, number, states)

    assert number > 3


AT_ONCE = rule("5", name="at once", window="run", match={"tenant_id": "ann"})
STOP = rule("0", name="stop", window="run", match={"tenant_id": "poor"})
SHARED = rule("5", name="shared", match={"tenant_id": "bob"})


def abatch(model: Completion, team: Team, *tenants: str) -> Any:
    """Send a prompt for each tenant, all in one batch: ann's passes at once, bob's waits for the store."""
    configs: Any = [{"callbacks": team.handler.callbacks, "metadata": {"tenant_id": tenant}} for tenant in tenants]
    return model.abatch([f"for {tenant}" for tenant in tenants], configs)


async def test_batches_at_once_do_not_end_each_other(redis_server: RedisProcess) -> None:
    """The refusal of one batch on a loop takes nothing from another one whose prompts are decided on meanwhile."""
    redis_server.client.flushall()
    team = Team(AT_ONCE, STOP, SHARED, store=redis_server.url, wait_seconds=20)
    model = Completion()

    answers, refusal = await asyncio.gather(
        abatch(model, team, "ann", "bob", "bob"), abatch(model, team, "poor", "poor"), return_exceptions=True
    )

    assert isinstance(refusal, BudgetExceeded)
    assert answers == ["text"] * 3
    assert model.sent == ["for ann", "for bob", "for bob"]
    assert [call.tenant_id for call in team.records.calls] == ["ann", "bob", "bob"]
    assert all(call.cost for call in team.records.calls)
    assert exposed(team.registry, "eco2_callbacks_open_runs") == 0
    team.handler.close()


async def _until_no_other_task() -> None:
    while len(asyncio.all_tasks()) > 1:
        await asyncio.sleep(0)


async def test_prompts_that_are_decided_on_after_a_refusal_are_not_sent_either(redis_server: RedisProcess) -> None:
    """The first prompt is refused at once, while the others wait for the store: they are forgotten when they pass."""
    redis_server.client.flushall()
    team = Team(STOP, SHARED, store=redis_server.url, wait_seconds=20)
    model = Completion()

    with pytest.raises(BudgetExceeded, match="'stop'"):
        await abatch(model, team, "poor", "bob", "bob")
    await _until_no_other_task()

    assert model.sent == []
    assert team.left_behind == (0, 0, 0)
    assert exposed(team.registry, "budget_refused_calls_total") == 1
    team.handler.close()


async def test_a_batch_that_is_cancelled_while_one_prompt_waits_is_forgotten_whole() -> None:
    """The first prompt was let pass; the second one waits for a store that does not answer, and is cancelled."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        team = Team(AT_ONCE, SHARED, store=url, wait_seconds=120)
        model = Completion()
        task = asyncio.create_task(abatch(model, team, "ann", "bob"))
        while not exposed(team.registry, "eco2_callbacks_open_runs"):
            await asyncio.sleep(0)

        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await _until_no_other_task()

        assert model.sent == []
        assert exposed(team.registry, "eco2_callbacks_open_runs") == 0
        assert team.records.calls == []
    team.handler.close()

"""Fixtures of the tests that run the graph on scripted models and services."""

from __future__ import annotations

from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from eco2_callbacks import Eco2CallbackHandler, run_config
from graph import build_graph, models
from graph.clients import BulkWaste, Characters, Kakao, Keco, Kma, RecyclablePrices
from graph.state import State, turn
from tests.support.fake_graph import FakeServices, Script, ScriptedModel


@pytest.fixture
def script() -> Script:
    return Script(
        fields={"feedback": {"score": 0.9}, "web_search": {"queries": ["무엇"]}, "character": {"item": "페트병"}}
    )


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> FakeServices:
    services = FakeServices()
    for client in (BulkWaste, Characters, Kakao, Keco, Kma, RecyclablePrices):
        monkeypatch.setattr(client, "from_env", lambda: services)
    return services


@pytest.fixture(autouse=True)
def scripted(script: Script, services: FakeServices, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "chat", lambda node, **options: ScriptedModel(node=node, script=script))


@pytest.fixture
def ask(handler: Eco2CallbackHandler) -> Any:
    graph = build_graph(checkpointer=InMemorySaver(), summarize_tokens=100_000)

    async def ask(message: str, *, image: str = "", session_id: str = "s") -> State:
        config = run_config(handler, job_id=1, session_id=session_id)
        return await graph.ainvoke(turn(message, image=image), config)  # type: ignore[return-value]

    return ask

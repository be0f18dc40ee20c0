"""Show what an agent and its subagent cost, each on its own; runs without keys."""

from __future__ import annotations

from deepagents import create_deep_agent
from langchain_core.messages import AIMessage
from prometheus_client import CollectorRegistry

from eco2_callbacks import Eco2CallbackHandler
from eco2_callbacks.testing import FakeChatModel, RecordingSink

task = {"name": "task", "args": {"description": "find a source", "subagent_type": "researcher"}, "id": "1"}
boss_model = FakeChatModel(answers=[AIMessage("", tool_calls=[task]), "Glass can be melted again and again."])
researcher = {
    "name": "researcher",
    "description": "finds sources",
    "system_prompt": "Find sources.",
    "model": FakeChatModel(model="gpt-4.1-mini", answers=["a source"]),
}

if __name__ == "__main__":
    sink = RecordingSink()
    with Eco2CallbackHandler(registry=CollectorRegistry(), sinks=[sink], subagents=["researcher"]) as handler:
        boss = create_deep_agent(boss_model, [], subagents=[researcher], name="boss")
        boss.invoke({"messages": [("user", "Write about glass.")]}, {"callbacks": [handler]})
    for call in sink.calls:
        print(f"{call.path:32} {call.model:14} {call.cost}")

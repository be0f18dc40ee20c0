"""The application: the handler's arguments, the checkpointers, and the graph of ``langgraph.json``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from prometheus_client import CollectorRegistry

from eco2_callbacks import Eco2CallbackHandler, Settings, run_config
from graph import app, models
from graph.errors import GraphConfigError
from graph.routing import BRANCHES
from graph.state import turn
from tests.support.fake_graph import Script, ScriptedModel, fields
from tests.support.record_sink import Records

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    script = Script(fields={"intent": fields("waste"), "feedback": {"score": 0.9}})
    monkeypatch.setattr(models, "chat", lambda node, **options: ScriptedModel(node=node, script=script))
    return script


def test_the_features_are_the_routing_table() -> None:
    """Each intent's subagents are its branches. They are marked parallel if there are several."""
    assert {intent: feature.subagents for intent, feature in app.FEATURES.items()} == BRANCHES
    for feature in app.FEATURES.values():
        assert feature.parallel == (len(feature.subagents) > 1)
        assert feature.description.endswith("다.")
    assert set(app.SUBAGENTS) == {node for nodes in BRANCHES.values() for node in nodes}


async def test_the_handler_measures_the_graph(script: Script, registry: CollectorRegistry, records: Records) -> None:
    """The metrics contain the nodes by file name, the subagents, the score and the agent's name."""
    files = {path.stem for path in (ROOT / "graph" / "nodes").glob("*.py")}

    with app.make_handler(Settings(), sinks=[records], registry=registry) as handler:
        async with app.open_graph() as graph:
            await graph.ainvoke(turn("페트병 어떻게 버려?"), run_config(handler, job_id=1, session_id="s"))

    assert set(records.nodes) <= files
    assert records.nodes["feedback"].feedback == {"rag_quality": 0.9}
    assert {call.node for call in records.calls} == {"intent", "waste_rag", "weather", "feedback", "answer"}
    calls = "chat_subagent_calls_total"
    for node in ("waste_rag", "weather"):
        assert registry.get_sample_value(calls, {"subagent": node, "status": "success"}) == 1
    assert registry.get_sample_value("chat_feedback_score_sum", {"node": "feedback", "key": "rag_quality"}) == 0.9
    assert registry.get_sample_value("agent_llm_calls_per_request_sum", {"agent_name": "eco2"}) == 5


def test_langgraph_json_names_the_graph_with_its_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file names a graph that has the handler and is created once for all requests."""
    registry = CollectorRegistry()
    monkeypatch.setattr(app, "make_handler", lambda settings: _store_handler(handlers, registry))
    handlers: list[Any] = []
    app._graph_with_handler.cache_clear()
    named = json.loads((ROOT / "langgraph.json").read_text())["graphs"]["eco2"]
    path, _, function = named.partition(":")

    graph = getattr(app, function)({})

    assert (ROOT / path).resolve() == Path(app.__file__).resolve()
    assert graph.name == "eco2"
    (opened,) = graph.config["callbacks"]
    assert type(opened).__name__ == "Eco2CallbackHandler"
    assert app.make_graph({}) is app.make_graph({})
    for handler in handlers:
        handler.close()
    app._graph_with_handler.cache_clear()


async def test_conversations_are_kept_in_memory_by_default() -> None:
    """Without a setting, the checkpointer keeps conversations in memory."""
    async with app.checkpoints() as saver:
        assert isinstance(saver, InMemorySaver)


@pytest.mark.slow
async def test_a_conversation_in_sqlite_survives_the_process(
    script: Script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A new process finds the thread in its last state."""
    pytest.importorskip("langgraph.checkpoint.sqlite.aio")
    setting = f"sqlite:///{tmp_path / 'talks.db'}"
    monkeypatch.setenv("ECO2_CHECKPOINTS", setting)
    config: Any = {"configurable": {"thread_id": "s"}}
    async with app.open_graph() as graph:
        await graph.ainvoke(turn("페트병 어떻게 버려?"), config)

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _READ],
        cwd=ROOT,
        env={"ECO2_CHECKPOINTS": setting, "PYTHONUTF8": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "페트병 어떻게 버려? / answer의 답 \n"


_READ = """
import asyncio
from graph.app import open_graph

async def main():
    async with open_graph() as graph:
        state = await graph.aget_state({"configurable": {"thread_id": "s"}})
        print(*[message.text for message in state.values["messages"]], sep=" / ")

asyncio.run(main())
"""


@pytest.mark.parametrize("setting", ["mysql://user:hunter2@host/db", "sqlite://", "sqlite:///", "disk"])
async def test_unknown_checkpoints_are_refused(monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    """The message names the allowed values and shows no password."""
    monkeypatch.setenv("ECO2_CHECKPOINTS", setting)

    with pytest.raises(GraphConfigError) as error:
        async with app.checkpoints():
            pass

    kind = setting.partition(":")[0]
    assert str(error.value) == (
        f"ECO2_CHECKPOINTS begins with {kind!r}, wanted 'memory', 'sqlite:///path' or 'postgresql://...'; "
        "correct it or unset it."
    )


@pytest.mark.parametrize(
    ("setting", "extra"), [("sqlite:///talks.db", "sqlite"), ("postgresql://user:hunter2@host/db", "postgres")]
)
async def test_a_missing_extra_is_one_sentence(monkeypatch: pytest.MonkeyPatch, setting: str, extra: str) -> None:
    """The message says how to install the extra."""
    monkeypatch.setenv("ECO2_CHECKPOINTS", setting)
    monkeypatch.setitem(sys.modules, f"langgraph.checkpoint.{extra}.aio", None)

    with pytest.raises(GraphConfigError) as error:
        async with app.checkpoints():
            pass

    assert str(error.value) == (
        f"ECO2_CHECKPOINTS needs the extra {extra!r}; install it: pip install 'eco2-callbacks[{extra}]'."
    )


@pytest.mark.parametrize(
    ("name", "sqlite_error"),
    [
        pytest.param("missing/talks.db", "unable to open database file", id="no_folder"),
        pytest.param("notes.txt", "file is not a database", id="no_database"),
    ],
)
async def test_an_unusable_sqlite_path_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, sqlite_error: str
) -> None:
    """The error comes before the first request and names the setting and SQLite's reason."""
    pytest.importorskip("langgraph.checkpoint.sqlite.aio")
    (tmp_path / "notes.txt").write_text("Not a database. " * 75, encoding="utf-8")
    monkeypatch.setenv("ECO2_CHECKPOINTS", f"sqlite:///{tmp_path / name}")

    with pytest.raises(GraphConfigError) as error:
        async with app.checkpoints():
            pass

    assert str(error.value) == (
        f"ECO2_CHECKPOINTS is {str(tmp_path / name)!r} (SQLite: {sqlite_error}), wanted a writable database in an "
        "existing folder; correct it or unset it."
    )


def _store_handler(handlers: list[Any], registry: CollectorRegistry) -> Any:
    handlers.append(Eco2CallbackHandler(registry=registry))
    return handlers[-1]

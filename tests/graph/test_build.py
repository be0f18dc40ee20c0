"""The graph's structure: node names, telemetry isolation, prompts and topology."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from graph import build_graph
from graph.errors import GraphConfigError

ROOT = Path(__file__).parent.parent.parent
NODES = sorted(path for path in (ROOT / "graph" / "nodes").glob("*.py") if path.stem != "__init__")
WITHOUT_MODEL = {"router", "aggregator"}


def test_nodes_have_the_name_of_their_file() -> None:
    """All seventeen nodes have the name of their file and of their function."""
    nodes = build_graph().nodes.keys() - {"__start__"}

    assert len(nodes) == 17
    assert nodes == {path.stem for path in NODES}
    for path in NODES:
        module = ast.parse(path.read_text(encoding="utf-8"))
        functions = [node.name for node in module.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        assert [name for name in functions if not name.startswith("_")] == [path.stem]


@pytest.mark.parametrize("path", NODES, ids=lambda path: path.stem)
def test_nodes_are_independent_of_telemetry(path: Path) -> None:
    """No node's file names the library or its outputs: the handler observes nodes from outside."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    named = set(_imports(tree)) | {node.value for node in ast.walk(tree) if _is_string(node)}  # strings cover importlib

    assert not {name.split(".")[0] for name in named} & {"eco2_callbacks", "prometheus_client", "langsmith"}
    assert not {name for name in named if name.startswith("graph.app")}


@pytest.mark.parametrize("node", sorted({path.stem for path in NODES} - WITHOUT_MODEL))
def test_prompts_begin_with_the_name_of_their_node(node: str) -> None:
    """Every node with a model has a Korean prompt file."""
    text = (ROOT / "graph" / "prompts" / f"{node}.txt").read_text(encoding="utf-8")

    assert text.startswith(f"# {node}\n\n")
    assert any("가" <= sign <= "힣" for sign in text)


def test_the_topology() -> None:
    """The graph has exactly these edges."""
    drawn = build_graph().get_graph()
    branches = ("bulk_waste", "character", "collection_point", "general", "image_generation", "location")
    branches += ("recyclable_price", "waste_rag", "weather", "web_search")

    assert {(edge.source, edge.target) for edge in drawn.edges} == {
        ("__start__", "intent"),
        ("__start__", "vision"),
        ("vision", "intent"),
        ("intent", "router"),
        *(("router", branch) for branch in branches),
        *((branch, "aggregator") for branch in branches if branch != "waste_rag"),
        ("waste_rag", "feedback"),
        ("feedback", "aggregator"),
        ("feedback", "web_search"),
        ("aggregator", "answer"),
        ("answer", "summarize"),
        ("answer", "__end__"),
        ("summarize", "__end__"),
    }


@pytest.mark.parametrize("value", ["0", "-1", "many", "1.5"])
def test_an_invalid_limit_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """The message contains the value and the wanted range."""
    monkeypatch.setenv("ECO2_SUMMARIZE_TOKENS", value)

    with pytest.raises(GraphConfigError) as error:
        build_graph()

    assert str(error.value) == f"ECO2_SUMMARIZE_TOKENS is {value!r}, wanted a whole number above 0; correct it."


def _imports(module: ast.Module) -> Iterator[str]:
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _is_string(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)

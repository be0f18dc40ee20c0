"""The structure that the package promises: floors, public names, and what the wheel would hold."""

from __future__ import annotations

import ast
import importlib
from graphlib import TopologicalSorter
from pathlib import Path

import eco2_callbacks

PACKAGE = Path(eco2_callbacks.__file__).parent
FLOORS = tuple(
    set(modules.split())
    for modules in (
        "background config diagnosis errors frozen langsmith_env media otlp outage spans streams usage",
        "families features function_tokens image_tokens pricing rates records",
        "attribution estimation extraction feedback gemini outcomes runs server_tools sinks traced",
        "attempts forsaken instruments langsmith metering prometheus publishing recorder series tracker",
        "handler runconfig",
    )
)
FLOOR = {module: number for number, modules in enumerate(FLOORS) for module in modules}


def imports(module: str) -> set[str]:
    """Return what a module imports, wherever in it, as full dotted names."""
    tree = ast.parse((PACKAGE / f"{module}.py").read_text())
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            if node.module == "eco2_callbacks":
                found |= {f"eco2_callbacks.{alias.name}" for alias in node.names}
            else:
                found.add(node.module)
    return found


def own(module: str) -> set[str]:
    return {name.split(".")[1] for name in imports(module) if name.startswith("eco2_callbacks.")}


def test_every_module_stands_on_a_floor() -> None:
    """A new module is given its place, or this fails."""
    modules = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}

    assert set(FLOOR) == modules


def test_imports_point_downward_and_never_in_a_circle() -> None:
    """A module imports from its own floor or a lower one, and no two need each other."""
    upward = {(module, other) for module in FLOOR for other in own(module) if FLOOR[other] > FLOOR[module]}

    assert upward == set()
    TopologicalSorter({module: own(module) for module in FLOOR}).prepare()


def test_the_lower_floors_know_neither_langchain_nor_prometheus() -> None:
    """Counting and pricing can be used without either."""
    named = {(module, name.split(".")[0]) for module in FLOORS[0] | FLOORS[1] for name in imports(module)}

    assert not {name for _, name in named} & {"langchain_core", "langgraph", "langsmith", "prometheus_client"}


def test_the_library_never_imports_the_application() -> None:
    """``graph`` uses the library, not the other way round."""
    assert not [module for module in FLOOR if any(name.split(".")[0] == "graph" for name in imports(module))]


def test_the_public_names_are_sorted_complete_and_importable() -> None:
    """``__all__`` says what can be imported, no more and no less."""
    modules = {path.stem for path in PACKAGE.glob("*.py")}
    public = {name for name in vars(eco2_callbacks) if not name.startswith("_")} - modules - {"annotations"}

    assert sorted(public) == eco2_callbacks.__all__


def test_every_module_names_what_it_offers() -> None:
    """Each module's ``__all__`` is importable and holds no private name."""
    for module in FLOOR:
        loaded = importlib.import_module(f"eco2_callbacks.{module}")

        assert loaded.__all__
        assert all(hasattr(loaded, name) and not name.startswith("_") for name in loaded.__all__), module


def test_the_package_is_typed() -> None:
    """Type checkers of applications read our annotations."""
    assert (PACKAGE / "py.typed").is_file()

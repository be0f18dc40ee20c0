"""The structure that the package promises: rooms with doors, public names, and what the wheel holds."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import subprocess
import typing
from pathlib import Path

import pytest

import eco2_callbacks
from eco2_callbacks import budgets

PACKAGE = Path(eco2_callbacks.__file__).parent
ROOT = Path(__file__).parents[1]
_FRAME_NAMES = frozenset(
    {
        *("_getframe", "_getframemodulename", "_current_frames", "currentframe", "getouterframes", "getinnerframes"),
        *("f_locals", "f_globals", "f_back", "f_code", "gi_frame", "cr_frame", "ag_frame", "tb_frame"),
        *("gc", "settrace", "setprofile"),
    }
)
_MADE_BY_THE_HANDLER = frozenset({"SDKCall", "StreamMetrics", "ToolRun"})
MODULES = sorted(
    module.name for module in pkgutil.walk_packages([str(PACKAGE)], "eco2_callbacks.") if "__" not in module.name
)


def test_imports_point_downward_and_pass_the_doors() -> None:
    """The import contracts in pyproject.toml hold."""
    # A process of its own: import-linter configures logging.
    linted = subprocess.run(["lint-imports", "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)

    assert linted.returncode == 0, linted.stdout


def test_the_public_names_are_sorted_complete_and_importable() -> None:
    """``__all__`` names what can be imported, no more and no less."""
    names = {name for name in dir(eco2_callbacks) if not name.startswith("_")}
    modules = {name for name in names if inspect.ismodule(getattr(eco2_callbacks, name))}

    assert sorted(names - modules - {"Any", "TYPE_CHECKING", "annotations", "import_module"}) == eco2_callbacks.__all__


@pytest.mark.parametrize("name", MODULES)
def test_every_module_names_what_it_offers(name: str) -> None:
    """Each module's ``__all__`` can be imported and holds no private name."""
    module = importlib.import_module(name)

    assert module.__all__
    assert all(hasattr(module, offered) and not offered.startswith("_") for offered in module.__all__)


def _own_types(annotation: object) -> set[type]:
    found = (
        {annotation} if isinstance(annotation, type) and annotation.__module__.startswith("eco2_callbacks") else set()
    )
    for inner in typing.get_args(annotation):
        found |= _own_types(inner)
    return typing.cast("set[type]", found)


def _public_signatures() -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    for name in eco2_callbacks.__all__:
        public = getattr(eco2_callbacks, name)
        if inspect.isclass(public):
            methods = [
                method
                for label, method in inspect.getmembers(public, inspect.isfunction)
                if (not label.startswith("_") or (label == "__init__" and name not in _MADE_BY_THE_HANDLER))
                and method.__module__.startswith("eco2_callbacks")
            ]
            found += [(f"{name}.{method.__name__}", method) for method in methods]
            if public.__module__.startswith("eco2_callbacks"):
                found.append((name, public))
        elif inspect.isfunction(public):
            found.append((name, public))
    return found


@pytest.mark.parametrize(("name", "public"), _public_signatures(), ids=[name for name, _ in _public_signatures()])
def test_every_type_in_a_public_signature_can_be_imported_from_the_root(name: str, public: object) -> None:
    """A reader of a signature finds each of its types where the function came from."""
    # Types that only a signature needs are not imported where it stands.
    names = {offered: getattr(door, offered) for door in (budgets, eco2_callbacks) for offered in door.__all__}

    hints = typing.get_type_hints(public, localns=names)
    hints = [hint for label, hint in hints.items() if not label.startswith("_")]

    own = set().union(*map(_own_types, hints))
    assert {kind.__name__ for kind in own if not kind.__name__.startswith("_")} <= set(eco2_callbacks.__all__)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_reads_frames_or_follows_the_garbage_collector(path: Path) -> None:
    """The package never walks the call stack, and installs nothing in the garbage collector."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    names |= {node.id for node in nodes if isinstance(node, ast.Name)}
    names |= {node.name for node in nodes if isinstance(node, ast.alias)}
    # A name that is looked up by its text.
    names |= {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}

    assert not _FRAME_NAMES & names


def test_the_package_is_typed() -> None:
    """Type checkers of applications read our annotations."""
    assert (PACKAGE / "py.typed").is_file()

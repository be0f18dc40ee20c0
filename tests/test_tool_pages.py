"""The pages of the tools: their code can be run, and their tables name what exists."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = ("terminal", "testing", "embeddings", "opentelemetry", "doctor", "migrate", "limits")


def page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text()


@pytest.mark.parametrize("name", PAGES)
def test_the_code_of_a_page_is_python_and_imports_what_exists(name: str) -> None:
    """A reader who pastes a block finds every import and every name of ours."""
    for block in re.findall(r"```python\n(.*?)```", page(name), re.DOTALL):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("eco2_callbacks"):
                module = importlib.import_module(node.module or "")
                assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


@pytest.mark.parametrize("name", PAGES)
def test_a_page_names_programs_and_pages_that_exist(name: str) -> None:
    """Each page's example and links are there."""
    text = page(name)

    assert [path for path in re.findall(r"examples/\w+\.py", text) if not (ROOT / path).is_file()] == []
    links = [link.partition("#")[0] for link in re.findall(r"\]\((?!http)([^)]+)\)", text)]
    assert [link for link in links if link and not (ROOT / "docs" / link).is_file()] == []


def test_every_check_of_the_doctor_is_in_its_table() -> None:
    """The names that --json prints are documented."""
    sources = "".join(path.read_text() for path in (ROOT / "eco2_callbacks" / "doctor").glob("*.py"))
    checks = set(re.findall(r'check="([a-z-]+)"', sources)) | set(re.findall(r'_found\((?:\w+, )?"([a-z-]+)"', sources))

    assert len(checks) >= 15
    assert sorted(checks - set(re.findall(r"`([a-z-]+)`", page("doctor"))) - {"source"}) == []


def test_every_option_of_the_plugin_is_documented(pytestconfig: pytest.Config) -> None:
    """The options, ini settings and markers of the pytest plugin are on its page."""
    text = page("testing")

    for option in ("--llm-costs", "--llm-costs-top", "--cost-snapshot"):
        assert option in text
        pytestconfig.getoption(option)
    for marker in ("limit_cost", "limit_tokens"):
        assert marker in text
        assert any(line.startswith(f"{marker}(") for line in pytestconfig.getini("markers"))
    assert pytestconfig.getini("cost_snapshot") == "check"

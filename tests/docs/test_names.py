"""The pages of the tools name every check, option and marker."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import eco2_callbacks
from eco2_callbacks import errors

ROOT = Path(__file__).parents[2]


def page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text()


def test_every_public_name_is_in_the_reference() -> None:
    """The API reference has each name that can be imported from the package; errors stand together."""
    named = re.findall(r"^::: eco2_callbacks\.(\w+)$", page("api"), re.MULTILINE)

    # A star import loads no optional output, so these two are left out of it.
    public = {*eco2_callbacks.__all__, "OtelMetricsSink", "TerminalSink"}
    assert {*named, *errors.__all__} - {"errors", "testing", "doctor"} == public
    assert len(named) == len(set(named))


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

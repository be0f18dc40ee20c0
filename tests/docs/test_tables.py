"""The tables of the pages equal what the package and the reference application do."""

from __future__ import annotations

import logging
import os
import re
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from eco2_callbacks import Eco2CallbackHandler, PriceBook, Settings, TokenUsage
from eco2_callbacks.langsmith.key_guard import withhold_langsmith_key
from eco2_callbacks.pricing.rates import PRICE_KEYS
from eco2_callbacks.prometheus.families import FAMILIES
from graph.cli import CONVERSATIONS
from tests.support.tree_picture import PICTURE, draw, tree_as_text

ROOT = Path(__file__).parents[2]


def page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")


def blocks(language: str, name: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page(name), re.DOTALL | re.MULTILINE)


def rows(name: str, heading: str) -> list[list[str]]:
    """Return the cells of the tables below a heading."""
    section = page(name).split(f"\n## {heading}\n")[1].split("\n## ", maxsplit=1)[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_the_metric_table_equals_the_exposition() -> None:
    """Name, type and labels of every family, in the contract's order."""
    table = [(name.strip("`"), kind, labels.strip()) for name, kind, _, labels, _ in rows("metrics", "Every metric")]

    assert table == [(family.name, family.kind, ", ".join(family.labels)) for family in FAMILIES]


def test_the_argument_table_equals_the_constructor() -> None:
    """Every argument is explained and none that does not exist."""
    named = [name for first, *_ in rows("handler", "Arguments") for name in re.findall(r"`(\w+)`", first)]
    wanted = list(Eco2CallbackHandler.__init__.__kwdefaults__ or {})

    assert named == wanted


def test_every_setting_is_in_the_table() -> None:
    """Each variable that is read is explained under its newer name, and none that is not read."""
    read = set()

    class Environment(dict[str, str]):
        def get(self, name: str, default: Any = None) -> Any:
            read.add(name.replace("LANGCHAIN_", "LANGSMITH_"))
            return super().get(name, default)

    for environ in (
        {},
        {"LANGSMITH_OTEL_ENABLED": "true", "LANGSMITH_TRACING": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"},
    ):
        Settings.from_env(Environment(environ))
        withhold_langsmith_key(Environment(environ))
    table = page("settings").split("\n## ")[0]
    named = {name for line in table.splitlines() if line.startswith("| `") for name in _variables(line)}

    assert named == read - {"LANGSMITH_HANDLER"}
    assert "`LANGCHAIN_HANDLER`" in page("settings")


def _variables(text: str) -> list[str]:
    return re.findall(r"`([A-Z0-9_]{6,})`", text)


def test_every_setting_of_the_graph_is_in_its_table() -> None:
    """Each variable that the chat worker or a server reads is explained, and none that it does not read."""
    code = "".join(path.read_text() for path in sorted((ROOT / "graph").rglob("*.py")))
    read = set(re.findall(r"\b(?:ECO2_[A-Z_]*[A-Z]|[A-Z_]+_(?:API|SERVICE)_KEY)\b", code))
    tables = [*rows("chat-worker", "Settings"), *rows("serving", "Settings")]
    named = {name for first, *_ in tables for name in _variables(first)}

    assert named == read - {"LANGSMITH_API_KEY"}  # which the demo prints
    assert "`ECO2_PROVIDER_<NODE>`" in page("chat-worker")


def test_the_nodes_are_the_graph_s() -> None:
    """Every node is in the table, and each is a file."""
    named = [first.strip("`") for first, *_ in rows("chat-worker", "Nodes")]

    assert sorted(named) == sorted(path.stem for path in (ROOT / "graph" / "nodes").glob("[!_]*.py"))


def test_the_options_of_the_demo_are_the_command_s() -> None:
    """The conversations and languages that the page names can be played."""
    text = page("chat-worker").split("\n## Nodes")[0]

    assert all(f"`{name}`" in text for name in ("vision", "summarize", "--lang en", "ko"))
    assert set(CONVERSATIONS) == {"en", "ko"}
    assert len(CONVERSATIONS["ko"]) == 12
    assert "Twelve recorded conversations" in text


def test_the_tree_is_the_demo_s() -> None:
    """Nodes, seconds, tokens and dollars of the request shown are what the demo plays, to the last digit."""
    (tree,) = re.findall(r"^```\n(> .*?)\n```$", page("chat-worker"), re.DOTALL | re.MULTILINE)

    assert tree == tree_as_text("ko")


def test_the_picture_is_the_demo_s() -> None:
    """The README's tree is drawn from the demo; ``python -m tests.support.tree_picture`` draws it anew."""
    if os.environ.get("UPDATE_GOLDEN"):
        PICTURE.write_text(draw(), encoding="utf-8")

    assert PICTURE.read_text(encoding="utf-8") == draw()
    assert "url(http" not in draw()


def test_the_log_is_what_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The lines shown are those of an environment without a key."""
    environ = {"LANGSMITH_TRACING": "true", "LANGSMITH_PROJECT": "eco2", "ECO2_ENVIRONMENT": "production"}

    with caplog.at_level(logging.INFO):
        Settings.from_env(environ)

    logged = "".join(f"{record.levelname}: {record.getMessage()}\n" for record in caplog.records)
    assert f"```\n{logged}```\n" in page("settings")


def test_the_rates_file_is_read_and_wins(tmp_path: Path) -> None:
    """The example's rates price the model they name, dated name included."""
    (example,) = blocks("toml", "prices")
    path = tmp_path / "rates.toml"
    path.write_text(example)

    cost = PriceBook.from_toml(path).price(
        TokenUsage(input_tokens=1_000_000), provider="openai", model="gpt-5.2-2025-12-11"
    )

    assert cost.total_usd == Decimal("1.40")
    assert tomllib.loads(example)["rates"][0]["source"] == "contract 2026-17"


def test_the_record_shown_costs_what_it_says() -> None:
    """The example's parts and total are those of the published rates."""
    (shown,) = blocks("text", "records")
    counts = {name: int(number) for name, number in re.findall(r"usage\.(\w+)=(\d+)", shown)}

    cost = PriceBook().price(TokenUsage(**counts), provider="openai", model="gpt-5.2-2025-12-11")

    assert f"cost.total_usd={cost.total_usd!r}" in shown
    assert f"cost.parts={dict(cost.parts)!r}" in shown


def test_every_price_key_is_named() -> None:
    """The keys that a custom rate can have stand in the text."""
    assert {key for key in PRICE_KEYS if f"`{key}`" not in page("prices")} == set()

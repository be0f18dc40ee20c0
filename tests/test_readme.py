"""The README: its code runs, its tables equal what the package does, and its figures are the demo's."""

from __future__ import annotations

import json
import logging
import re
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from eco2_callbacks import Eco2CallbackHandler, PriceBook, Settings, TokenUsage
from eco2_callbacks.langsmith.key_guard import withhold_langsmith_key
from eco2_callbacks.pricing.rates import PRICE_KEYS
from eco2_callbacks.prometheus.families import FAMILIES
from graph.cli import main
from tests.support.fake_model import FakeModel

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def rows(heading: str, page: str = README) -> list[list[str]]:
    """Return the cells of the tables below a heading."""
    section = page.split(f"\n## {heading}\n")[1].split("\n## ", maxsplit=1)[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_the_metric_table_equals_the_exposition() -> None:
    """Name, type and labels of every family, in the contract's order."""
    table = [(name.strip("`"), kind, labels) for name, kind, _, labels, _ in rows("Metrics")]

    assert table == [(family.name, family.kind, ", ".join(family.labels)) for family in FAMILIES]


def test_the_argument_table_equals_the_constructor() -> None:
    """Every argument is explained and none that does not exist."""
    named = [name for first, *_ in rows("What is measured") for name in re.findall(r"`(\w+)`", first)]
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
    named = {name for row in rows("Settings") for cell in row for name in re.findall(r"`([A-Z0-9_]{6,})`", cell)}

    assert named == read - {"LANGSMITH_HANDLER"}
    assert "`LANGCHAIN_HANDLER`" in README


def test_every_setting_of_the_graph_is_in_its_table() -> None:
    """Each variable that the chat worker or a server reads is explained, and none that it does not read."""
    code = "".join(path.read_text() for path in sorted((ROOT / "graph").rglob("*.py")))
    read = set(re.findall(r"\b(?:ECO2_[A-Z_]*[A-Z]|[A-Z_]+_(?:API|SERVICE)_KEY)\b", code))
    serving = rows("Settings", (ROOT / "docs" / "serving.md").read_text())
    tables = [*rows("The chat worker"), *serving]
    named = {name for first, *_ in tables for name in re.findall(r"`([A-Z0-9_]{6,})`", first)}

    assert named == read - {"LANGSMITH_API_KEY"}  # which the demo prints
    assert "`ECO2_PROVIDER_<NODE>`" in README


def test_the_nodes_are_the_graph_s() -> None:
    """Every node is in the table, and each is a file."""
    named = [first.strip("`") for first, *_ in rows("The chat worker") if first.strip("`").islower()]

    assert sorted(named) == sorted(path.stem for path in (ROOT / "graph" / "nodes").glob("[!_]*.py"))


def test_the_tree_is_the_demo_s(capsys: pytest.CaptureFixture[str]) -> None:
    """Nodes, tokens and dollars of the request shown are what the demo plays; seconds differ from run to run."""
    (tree,) = re.findall(r"^```\n> (.*?)^```$", README, re.DOTALL | re.MULTILINE)

    assert main(["demo", "--intent", "waste", "--json", "--speed", "50"]) == 0

    played = json.loads(capsys.readouterr().out)
    (request,) = played["requests"]
    nodes = [node for node in request["nodes"] if node["node"] != "__start__"]
    assert re.findall(r"^[ │]*[├╰]─ ([a-z_]+) ", tree, re.MULTILINE) == [node["node"] for node in nodes]
    for name, figures in (*played["totals"]["intents"].items(), *((node["node"], node) for node in nodes)):
        if figures["cost_usd"]:
            counts = rf"{figures['input_tokens']:,} +{figures['output_tokens']:,} +{figures['cost_usd']:.8f}"
            assert re.search(rf"^[ │├╰─]*{name} .* {counts}$", tree, re.MULTILINE)


def test_the_log_is_what_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The lines shown are those of an environment without a key."""
    environ = {"LANGSMITH_TRACING": "true", "LANGSMITH_PROJECT": "eco2", "ECO2_ENVIRONMENT": "production"}

    with caplog.at_level(logging.INFO):
        Settings.from_env(environ)

    logged = "".join(f"{record.levelname}: {record.getMessage()}\n" for record in caplog.records)
    assert f"```\n{logged}```\n" in README


class Graph:
    """What the examples call ``graph``: one model call, and the configs that it was given."""

    def __init__(self) -> None:
        self.configs: list[Any] = []

    def invoke(self, state: Any, config: Any) -> Any:
        self.configs.append(config)
        return FakeModel().invoke(state["message"], config=config)


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[list[Any]]:
    """Run every Python block by itself, and return the configs that each gave to its graph."""
    monkeypatch.setenv("ECO2_ENVIRONMENT", "production")
    configs = []
    for example in blocks("python"):
        scope: dict[str, Any] = {"graph": Graph()}
        exec(example, scope)
        assert scope["answer"].content == "sort it well"
        configs.append(scope["graph"].configs)
    return configs


def test_the_examples_run_and_move_the_metrics(request: pytest.FixtureRequest) -> None:
    """The first six lines attach the handler, and the default registry counts what they cost."""
    labels = {"provider": "openai", "model": "gpt-5.2", "tenant_id": "acme"}
    before = REGISTRY.get_sample_value("llm_cost_dollars_total", labels) or 0

    request.getfixturevalue("ran")

    after = REGISTRY.get_sample_value("llm_cost_dollars_total", labels) or 0
    assert after - before == pytest.approx(0.00315, rel=1e-12)


def test_the_configs_of_the_examples_hold_what_the_text_says(ran: list[list[Any]]) -> None:
    """Name, thread, metadata and tags of the function, of the port, and of the port without telemetry."""
    _, [config], [measured, unmeasured] = ran

    assert (config["run_name"], config["configurable"]) == ("chat:42", {"thread_id": "s-1"})
    assert config["metadata"] == {
        "job_id": "42",
        "user_id": "u-7",
        "session_id": "s-1",
        "tenant_id": "demo",
        "intent": "waste",
    }
    assert (measured["run_name"], measured["tags"]) == ("chat:43", ["env:production", "eco2", "beta"])
    assert unmeasured == {key: measured[key] for key in ("run_name", "metadata", "configurable")}


def test_the_rates_file_of_the_readme_is_read_and_wins(tmp_path: Path) -> None:
    """The example's rates price the model they name, dated name included."""
    (example,) = blocks("toml")
    path = tmp_path / "rates.toml"
    path.write_text(example)

    cost = PriceBook.from_toml(path).price(
        TokenUsage(input_tokens=1_000_000), provider="openai", model="gpt-5.2-2025-12-11"
    )

    assert cost.total_usd == Decimal("1.40")
    assert tomllib.loads(example)["rates"][0]["source"] == "contract 2026-17"


def test_every_price_key_is_named() -> None:
    """The keys that an own rate can have stand in the text."""
    assert {key for key in PRICE_KEYS if f"`{key}`" not in README} == set()


def test_commands_and_files_that_are_named_exist() -> None:
    """What the README tells a reader to open or run is there."""
    for path in (
        *(
            ".ci/run",
            "eco2_callbacks/pricing/builtin_fees.toml",
            "graph/app.py",
            "graph/build.py",
            "graph/clients/character_server.py",
        ),
        *(
            "langgraph.json",
            "tests/support/provider_standin.py",
            "tests/support/record_cassettes.py",
            "tests/support/service_standins.py",
        ),
    ):
        assert path in README
        assert (ROOT / path).is_file()
    assert "uv run python -m graph demo" in README
    assert "\n    uv run pytest\n" in README
    assert re.search(r"^uv run pytest$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)


def test_nothing_is_left_to_fill_in() -> None:
    """No marker of a draft remains."""
    assert "@@" not in README

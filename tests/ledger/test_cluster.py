"""A ClickHouse cluster, as far as one engine in process can tell: the statements, and an unknown cluster."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from eco2_callbacks.errors import LedgerError
from eco2_callbacks.ledger import Schema, backend_of
from eco2_callbacks.ledger.backends.clickhouse import ENGINES, ClickHouseBackend
from eco2_callbacks.ledger.migrations import ddl, versions

pytestmark = pytest.mark.slow


@pytest.fixture
def parse(clickhouse: Any) -> Callable[[str], str]:
    """Return what ClickHouse's parser makes of a statement; it raises where that is none."""
    backend = backend_of(clickhouse.new_database())
    assert isinstance(backend, ClickHouseBackend)
    client = backend.client("default")

    def parse(statement: str) -> str:
        return str(client.command(f"EXPLAIN AST {statement}"))

    return parse


@pytest.mark.parametrize("engine", ENGINES)
def test_every_migration_names_cluster_and_engine(
    engine: str, parse: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each statement of each migration is valid SQL of the engine, for all servers of the cluster."""
    statements: list[str] = []
    attributes = {"cluster": "eco2", "table_engine": engine}
    stand_in = SimpleNamespace(
        get_bind=lambda: SimpleNamespace(dialect=SimpleNamespace(name="clickhousedb")),
        get_context=lambda: SimpleNamespace(config=SimpleNamespace(attributes=attributes)),
        execute=lambda statement: statements.append(str(statement).replace("\\:", ":")),
    )
    monkeypatch.setattr(ddl, "op", stand_in)

    names = sorted(path.stem for folder in versions.__path__ for path in Path(folder).glob("v*.py"))
    for name in names:
        import_module(f"{versions.__name__}.{name}").upgrade()

    assert len(statements) > len(names)
    for statement in statements:
        assert "ON CLUSTER `eco2`" in statement
        assert "Query" in parse(statement)
    tables = [statement for statement in statements if statement.startswith("CREATE TABLE")]
    assert all(f"ENGINE = {engine} " in statement for statement in tables)


def test_pruning_and_forgetting_reach_all_servers(parse: Callable[[str], str], monkeypatch: Any) -> None:
    """Deletions and erasures run on the whole cluster."""
    commands: list[str] = []
    rows = SimpleNamespace(result_rows=[("202001",)])
    client = SimpleNamespace(
        query=lambda statement, *_: rows if "DISTINCT partition" in statement else SimpleNamespace(result_rows=[(1,)]),
        command=lambda statement, *_, **__: commands.append(statement),
    )
    backend = backend_of("clickhouse://localhost/eco2?cluster=eco2")
    monkeypatch.setattr(backend, "client", lambda: client)

    backend.delete_before(datetime(2021, 1, 1, tzinfo=UTC))
    backend.forget("mallory")

    assert {command.split()[6] for command in commands} == {"DELETE", "UPDATE", "DROP"}
    for command in commands:
        assert "ON CLUSTER `eco2`" in command
        assert "Query" in parse(command.replace("{at:DateTime64(6, 'UTC')}", "now()").replace("{user:String}", "'a'"))


def test_a_cluster_that_the_server_does_not_know_is_an_error(clickhouse: Any) -> None:
    """The server is asked for the cluster of the URL, and its refusal names it."""
    backend = backend_of(f"{clickhouse.new_database()}&cluster=nowhere")

    with pytest.raises(LedgerError, match="nowhere"):
        Schema(backend).open()
    backend.close()

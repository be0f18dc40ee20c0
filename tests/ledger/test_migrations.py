"""An old ledger is migrated with every row it has, on every backend."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from alembic import command

from eco2_callbacks.ledger import Backend, Period, Schema, backend_of, make_report, read_calls
from eco2_callbacks.ledger.columns import TABLES, parse_columns
from eco2_callbacks.ledger.migrations.versions import v0001_first_schema as first
from eco2_callbacks.ledger.migrations.views import VIEWS
from eco2_callbacks.ledger.sql_types import ColumnType

AT = datetime(2026, 11, 2, 9, 30, tzinfo=UTC)
_HOUR = AT.replace(minute=0)
# Two calls: one with every column, one with NULL wherever the first schema allows it.
_CALLS = 2
_MONEY = Decimal("0.001000000001")
_VALUES: Mapping[str, Any] = {
    "series": 1,
    "id": 1,
    "hour": _HOUR,
    "status": "success",
    "tenant_id": "acme",
    "model": "gpt-5.2",
    "unpriced_reason": None,
    "estimated": False,
    "from_cache": False,
    "tags": ["a", "b"],
    "image_sizes": [[1024, 1024]],
    "rates": {"usd": {"input_mtok": "1.75"}},
    "currency": "USD",
}


def _table(name: str) -> sa.Table:
    """Return a table as the first schema made it."""
    columns = next(columns for table, columns, _, _ in first._TABLES if table == name)
    made = [sa.Column(column.name, ColumnType.of(column)) for column in parse_columns(columns)]
    return sa.Table(name, sa.MetaData(), *made)


def _rows(name: str, columns: str, key: Sequence[str], *, is_json_text: bool) -> list[dict[str, Any]]:
    rows = []
    for number in range(_CALLS):
        row: dict[str, Any] = {}
        for column in parse_columns(columns):
            value = {
                "time": AT + timedelta(minutes=number),
                "uuid": str(UUID(int=number + 1)),
                "code": column.name,
                "text": f"{column.name} {number}",
                "int": number + 1,
                "float": 0.5 + number,
                "bool": True,
                "money": _MONEY * (number + 1),
                "json": {},
            }[column.kind]
            value = _VALUES.get(column.name, value)
            if number and column.is_nullable and column.name != "contracted_cost":
                value = None
            if column.kind == "json" and value is not None and is_json_text:
                value = json.dumps(value)
            row[column.name] = value
        rows.append(row)
    if name == "ratings":
        # A second, newer rating of the first call.
        rows.append({**rows[0], "computed_at": AT + timedelta(hours=1), "contracted_cost": 7 * _MONEY})
    # One row for each key: some tables' keys have the values above alone.
    return list({tuple(row[column] for column in key): row for row in rows}.values())


@pytest.fixture
def old(ledger_url: str) -> Iterator[Backend]:
    """Yield a ledger of the first schema with rows in every table."""
    backend = backend_of(ledger_url)
    schema = Schema(backend)
    schema._prepare()
    with schema._connect() as connection:
        config = schema._config()
        config.attributes["connection"] = connection
        command.upgrade(config, first.revision)
        connection.commit()
    with backend.engine().connect() as connection:
        for name, columns, key, time_column in first._TABLES:
            if backend.name == "postgres" and time_column == "started_at":
                months = "FROM ('2026-11-01T00:00Z') TO ('2026-12-01T00:00Z')"
                connection.exec_driver_sql(f"CREATE TABLE {name}_2026_11 PARTITION OF {name} FOR VALUES {months}")
            rows = _rows(name, columns, key, is_json_text=backend.name != "postgres")
            connection.execute(sa.insert(_table(name)), rows)
        connection.commit()
    yield backend
    backend.close()


def _stored(backend: Backend, name: str) -> list[tuple[Any, ...]]:
    """Return a table's rows, the first schema's columns in its order."""
    table = _table(name)
    key = next(key for found, _, key, _ in first._TABLES if found == name)
    with backend.engine().connect() as connection:
        found = connection.execute(sa.select(table).order_by(*(table.c[column] for column in key))).all()
    return [tuple(row) for row in found]


def test_every_row_of_the_first_schema_stays_as_it_is(old: Backend) -> None:
    """No row of any table is lost or changed, and columns that came later are unknown, which is NULL."""
    names = [name for name, _, _, _ in first._TABLES]
    before = {name: _stored(old, name) for name in names}
    assert all(before.values())

    revisions = Schema(old).migrate()

    assert revisions == (first.revision, Schema(old).newest())
    assert {name: _stored(old, name) for name in names} == before
    assert set(names) == set(TABLES)
    for name, columns, _, _ in first._TABLES:
        later = set(TABLES[name].names) - {column.name for column in parse_columns(columns)}
        with old.engine().connect() as connection:
            for column in sorted(later):
                number = connection.exec_driver_sql(f"SELECT count(*) FROM {name} WHERE {column} IS NOT NULL").scalar()
                assert number == 0, f"{name}.{column}"


def test_reports_and_exports_read_a_migrated_ledger(old: Backend) -> None:
    """Its calls cost what the first schema's ratings say, the newest one of each call."""
    Schema(old).migrate()
    period = Period(AT - timedelta(days=1), AT + timedelta(days=1), "UTC")

    by_tenant = make_report(old, ["tenant"], period)
    by_user = make_report(old, ["user"], period)
    calls = [call for _, found in read_calls(old, period.since, period.until) for call in found]

    expected = 7 * _MONEY + 2 * _MONEY
    assert [(group.key, group.figures.calls, group.figures.cost) for group in by_tenant.groups] == [
        (("acme",), _CALLS, expected)
    ]
    assert {group.key: group.figures.cost for group in by_user.groups} == {
        ("user_id 0",): 7 * _MONEY,
        ("",): 2 * _MONEY,
    }
    assert [call.newest.contracted_cost for call in calls if call.newest] == [7 * _MONEY, 2 * _MONEY]
    assert [(len(call.ratings), call.labels["sdk_retries"]) for call in calls] == [(2, None), (1, None)]
    assert (calls[0].usage is not None, calls[1].usage) == (True, None)


def test_views_show_a_migrated_ledger(old: Backend) -> None:
    """The views that came later count the calls, requests and scores of the first schema."""
    Schema(old).migrate()

    with old.engine().connect() as connection:
        counts = {view: connection.exec_driver_sql(f"SELECT count(*) FROM {view}").scalar() for view in VIEWS}
        usd, margin = connection.exec_driver_sql("SELECT sum(usd), sum(margin_usd) FROM rated_calls").one()

    assert counts["rated_calls"] == _CALLS
    assert all(counts.values())
    assert (float(usd), float(margin)) == (pytest.approx(float(9 * _MONEY)), 0)

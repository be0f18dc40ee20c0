"""The columns' kinds as types of each backend, and the few SQL functions that differ between them."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from eco2_callbacks.ledger.cells import picodollars
from eco2_callbacks.ledger.columns import MONEY_DIGITS, Column
from eco2_callbacks.pricing import EXACT

__all__ = ["CLICKHOUSE", "ColumnType", "as_float", "bucket_of_time", "hour_of", "period_of"]

CLICKHOUSE = "clickhousedb"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_POSTGRES: dict[str, Any] = {
    "time": sa.DateTime(timezone=True),
    "uuid": sa.Uuid(),
    "code": sa.Text(),
    "text": sa.Text(),
    "int": sa.BigInteger(),
    "float": sa.Double(),
    "bool": sa.Boolean(),
    "money": sa.Numeric(38, MONEY_DIGITS),
    "json": postgresql.JSONB(),
}
_SQLITE: dict[str, Any] = {
    "time": sa.BigInteger(),
    "uuid": sa.Text(),
    "code": sa.Text(),
    "text": sa.Text(),
    "int": sa.BigInteger(),
    "float": sa.Double(),
    "bool": sa.Boolean(),
    "money": sa.BigInteger(),
    "json": sa.Text(),
}
_CLICKHOUSE = {
    "time": "DateTime64(6, 'UTC')",
    "uuid": "UUID",
    "code": "LowCardinality(String)",
    "text": "String",
    "int": "Int64",
    "float": "Float64",
    "bool": "Bool",
    "money": f"Decimal(38, {MONEY_DIGITS})",
    "json": "String",
}


class ColumnType(sa.types.TypeDecorator[Any]):
    """The type of a column.

    ======  ==============================  ======================  ========================
    kind    SQLite                          PostgreSQL              ClickHouse
    ======  ==============================  ======================  ========================
    time    integer, microseconds           timestamptz             DateTime64(6, 'UTC')
    money   integer, 1e-12 dollars          numeric(38, 12)         Decimal(38, 12)
    uuid    text                            uuid                    UUID
    json    text                            jsonb                   String
    ======  ==============================  ======================  ========================
    """

    impl = sa.Text
    cache_ok = True

    def __init__(self, kind: str, is_nullable: bool = False) -> None:
        super().__init__()
        self.kind = kind
        self.is_nullable = is_nullable

    @classmethod
    def of(cls, column: Column) -> ColumnType:
        """Return the type of a column."""
        return cls(column.kind, column.is_nullable)

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        """Return the backend's own type."""
        if dialect.name == CLICKHOUSE:
            from clickhouse_connect.cc_sqlalchemy.datatypes.base import sqla_type_from_name  # noqa: PLC0415  an extra

            return sqla_type_from_name(clickhouse_type(self.kind, self.is_nullable))
        return dialect.type_descriptor((_POSTGRES if dialect.name == "postgresql" else _SQLITE)[self.kind])

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """Return the value as the backend takes it."""
        if value is None:
            return None
        if dialect.name == "sqlite":
            if self.kind == "time" and isinstance(value, datetime):
                return (value - _EPOCH) // _MICROSECOND
            if self.kind == "money":
                return picodollars(Decimal(value))
            if self.kind == "uuid":
                return str(value)
        elif dialect.name == "postgresql" and self.kind == "uuid" and isinstance(value, str):
            return uuid.UUID(value)
        return value

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """Return the value as Python has it: a time in UTC, a ``Decimal`` of dollars, an id as text."""
        if value is None:
            return None
        if self.kind == "time":
            if isinstance(value, int):
                return _EPOCH + timedelta(microseconds=value)
            return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        if self.kind == "money":
            return EXACT.scaleb(value, -MONEY_DIGITS) if isinstance(value, int) else Decimal(value)
        if self.kind == "uuid":
            return str(value)
        return value


def clickhouse_type(kind: str, is_nullable: bool) -> str:
    """Return ClickHouse's type of a kind of column."""
    name = _CLICKHOUSE[kind]
    if not is_nullable:
        return name
    # A nullable value lies inside the dictionary's type, not around it.
    return "LowCardinality(Nullable(String))" if kind == "code" else f"Nullable({name})"


def _in_the_sql(literal: sa.BindParameter[Any]) -> sa.ColumnClause[Any]:
    """Return a literal as a part of the SQL, which some backends need.

    SQLAlchemy's key of a cached statement has its text, and not the value of a bound parameter: a value that a
    compiler writes into the SQL itself would stand in all later statements.
    """
    value = literal.value
    text = str(value) if isinstance(value, int) else "'{}'".format(str(value).replace("'", "''"))
    return sa.literal_column(text)


class hour_of(FunctionElement[Any]):  # noqa: N801  it reads as SQL
    """The hour that a time lies in."""

    type = ColumnType("time")
    inherit_cache = True
    name = "hour_of"


class bucket_of_time(FunctionElement[int]):  # noqa: N801  it reads as SQL
    """The number of the stretch of some seconds since 1970 that a time lies in: ``bucket_of_time(time, seconds)``."""

    type = sa.BigInteger()
    inherit_cache = True
    name = "bucket_of_time"

    def __init__(self, time: Any, seconds: sa.BindParameter[int]) -> None:
        super().__init__(time, _in_the_sql(seconds))


class period_of(FunctionElement[str]):  # noqa: N801  it reads as SQL
    """The first day of the day, week or month that a time lies in: ``period_of(time, unit, zone)``, as YYYY-MM-DD."""

    type = sa.Text()
    inherit_cache = True
    name = "period_of"

    def __init__(self, time: Any, unit: sa.BindParameter[str], zone: sa.BindParameter[str]) -> None:
        super().__init__(time, _in_the_sql(unit), _in_the_sql(zone))


class as_float(FunctionElement[float]):  # noqa: N801  it reads as SQL
    """A number as a float, for statistics; money in dollars."""

    type = sa.Double()
    inherit_cache = True
    name = "as_float"


@compiles(hour_of)
def _hour(element: Any, compiler: Any, **kw: Any) -> str:
    time = compiler.process(element.clauses, **kw)
    return f"(({time}) - ({time}) % 3600000000)"


@compiles(hour_of, "postgresql")
def _hour_postgres(element: Any, compiler: Any, **kw: Any) -> str:
    return f"date_trunc('hour', {compiler.process(element.clauses, **kw)}, 'UTC')"


@compiles(hour_of, CLICKHOUSE)
def _hour_clickhouse(element: Any, compiler: Any, **kw: Any) -> str:
    return f"toDateTime64(toStartOfHour({compiler.process(element.clauses, **kw)}), 6, 'UTC')"


@compiles(bucket_of_time)
def _bucket(element: Any, compiler: Any, **kw: Any) -> str:
    time, seconds = _parts(element, compiler, kw)
    return f"(({time}) / ({seconds} * 1000000))"


@compiles(bucket_of_time, "postgresql")
def _bucket_postgres(element: Any, compiler: Any, **kw: Any) -> str:
    time, seconds = _parts(element, compiler, kw)
    return f"floor(extract(epoch from {time}) / {seconds})::bigint"


@compiles(bucket_of_time, CLICKHOUSE)
def _bucket_clickhouse(element: Any, compiler: Any, **kw: Any) -> str:
    time, seconds = _parts(element, compiler, kw)
    return f"intDiv(toUnixTimestamp({time}), {seconds})"


def _parts(element: Any, compiler: Any, kw: dict[str, Any]) -> list[str]:
    return [compiler.process(clause, **kw) for clause in element.clauses]


@compiles(period_of)
def _period(element: Any, compiler: Any, **kw: Any) -> str:
    # The connection has this function; see backends/sqlite.py.
    time, unit, zone = _parts(element, compiler, kw)
    return f"eco2_period({time}, {unit}, {zone})"


@compiles(period_of, "postgresql")
def _period_postgres(element: Any, compiler: Any, **kw: Any) -> str:
    time, unit, zone = _parts(element, compiler, kw)
    return f"to_char(date_trunc({unit}, ({time}) AT TIME ZONE {zone}), 'YYYY-MM-DD')"


@compiles(period_of, CLICKHOUSE)
def _period_clickhouse(element: Any, compiler: Any, **kw: Any) -> str:
    time, unit, zone = _parts(element, compiler, kw)
    function = {"'day'": "toDate", "'week'": "toMonday", "'month'": "toStartOfMonth"}[unit]
    return f"toString({function}({time}, {zone}))"


@compiles(as_float)
def _float(element: Any, compiler: Any, **kw: Any) -> str:
    (number,) = element.clauses
    text = f"CAST({compiler.process(number, **kw)} AS REAL)"
    return f"({text} / 1e{MONEY_DIGITS})" if getattr(number.type, "kind", "") == "money" else text


@compiles(as_float, "postgresql")
def _float_postgres(element: Any, compiler: Any, **kw: Any) -> str:
    return f"CAST({compiler.process(element.clauses, **kw)} AS double precision)"


@compiles(as_float, CLICKHOUSE)
def _float_clickhouse(element: Any, compiler: Any, **kw: Any) -> str:
    return f"toFloat64({compiler.process(element.clauses, **kw)})"

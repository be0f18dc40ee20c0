"""record.to_dict(): every record as JSON, by a documented schema."""

from __future__ import annotations

import json
import os
from collections import UserDict
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eco2_callbacks import (
    Cost,
    GraphRun,
    LLMCall,
    NodeRun,
    RatesUsed,
    Record,
    RetrieverCall,
    TokenUsage,
    ToolCall,
)
from tests.support.record_schema import record_schema

SCHEMA = Path(__file__).parents[1] / "docs" / "records.schema.json"
COMMON: dict[str, Any] = {
    "trace_id": UUID(int=2),
    "started_at": datetime(2026, 11, 1, 12, tzinfo=UTC),
    "duration_seconds": 1.5,
    "tenant_id": "acme",
    "user_id": "7",
    "feature": "search",
    "path": "boss/tools",
}
USAGE = TokenUsage(input_tokens=10, output_tokens=5, images=1, image_sizes=("1K",))
COST = Cost(input_usd=Decimal("0.1"), output_usd=Decimal("1E-7"), parts={"input": Decimal("0.1")})
RATES = RatesUsed(version="0.2.3", source="genai-prices", checked_on=date(2026, 3, 31), usd={"input_mtok": Decimal(2)})
RECORDS: list[Record] = [
    LLMCall(run_id=UUID(int=1), usage=USAGE, cost=COST, rates=RATES, tags=("a",), metadata={"k": [1]}, **COMMON),
    LLMCall(run_id=UUID(int=1), **COMMON),
    NodeRun(run_id=UUID(int=1), node="answer", feedback={"score": 0.5}, **COMMON),
    ToolCall(run_id=UUID(int=1), tool_name="search", **COMMON),
    RetrieverCall(run_id=UUID(int=1), retriever="bm25", **COMMON),
    GraphRun(usage=USAGE, cost=COST, **COMMON),
]
every_record = pytest.mark.parametrize(
    "record", RECORDS, ids=["call", "empty_call", "node", "tool", "retriever", "request"]
)


class Color(Enum):
    GREEN = "green"


class Hostile:
    """Raises whatever is done with it."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__


class HostileMapping(UserDict[str, Any]):
    def items(self) -> Any:
        raise RuntimeError


def call(metadata: dict[Any, Any]) -> LLMCall:
    return LLMCall(run_id=UUID(int=1), metadata=metadata, **COMMON)


@every_record
def test_a_record_is_valid_json_by_its_schema(record: Record) -> None:
    """The dict of every record passes json.dumps and the documented schema, which allows no further keys."""
    text = json.dumps(record.to_dict(), allow_nan=False)

    jsonschema.validate(json.loads(text), json.loads(SCHEMA.read_text()))


@every_record
def test_a_record_can_be_read_back(record: Record) -> None:
    """msgspec reads the JSON of a record back to an equal record of the same class."""
    again: Any = msgspec.convert(json.loads(json.dumps(record.to_dict())), Record)

    assert again == record
    assert type(again) is type(record)


def test_the_documented_schema_is_that_of_the_records() -> None:
    """docs/records.schema.json is what the records give; UPDATE_GOLDEN=1 writes it anew."""
    schema = json.dumps(record_schema(), indent=2) + "\n"
    if os.environ.get("UPDATE_GOLDEN"):
        SCHEMA.write_text(schema)

    assert SCHEMA.read_text() == schema


def test_ids_decimals_and_times_are_texts() -> None:
    """Money loses no digit, and ids and times are as ISO and RFC write them."""
    record = RECORDS[0].to_dict()

    assert (record["record"], record["run_id"]) == ("LLMCall", "00000000-0000-0000-0000-000000000001")
    assert record["started_at"] == "2026-11-01T12:00:00+00:00"
    assert record["cost"]["output_usd"] == "1E-7"
    # 0.1 + 0.0000001
    assert record["cost"]["total_usd"] == "0.1000001"
    assert record["usage"]["total_tokens"] == 15
    assert record["rates"] == {
        "version": "0.2.3",
        "source": "genai-prices",
        "checked_on": "2026-03-31",
        "usd": {"input_mtok": "2"},
        "list_usd": {},
        "context": {},
        "model": "",
        "samplings": 1,
        "window": None,
        "other_models": [],
    }


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (UUID(int=3), "00000000-0000-0000-0000-000000000003"),
        (Decimal("1.50"), "1.50"),
        (float("inf"), "inf"),
        (float("nan"), "nan"),
        (Color.GREEN, "green"),
        (date(2026, 1, 2), "2026-01-02"),
        ((1, {2}), [1, [2]]),
        ({1: "a", ("b",): "c"}, {"1": "a", "<tuple>": "c"}),
        ("\ud800", "?"),
        (10**400, "<int>"),
        (Hostile(), "<Hostile>"),
        (HostileMapping(), "<HostileMapping>"),
        (b"bytes", "<bytes>"),
    ],
    ids=[
        *("uuid", "decimal", "infinite", "nan", "enum", "date", "nested", "keys", "surrogate", "huge"),
        *("hostile", "hostile_mapping", "bytes"),
    ],
)
def test_metadata_becomes_json(value: object, wanted: object) -> None:
    """A value of metadata keeps its meaning where JSON can hold it, else its type's name stands there."""
    assert call({"key": value}).to_dict()["metadata"] == {"key": wanted}


def test_metadata_that_contains_itself_is_cut() -> None:
    """A mapping inside itself ends after eight levels."""
    metadata: dict[str, Any] = {}
    metadata["self"] = metadata

    assert json.dumps(call(metadata).to_dict()).count("self") <= 8


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.decimals() | st.uuids(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner),
)


@given(st.dictionaries(st.text() | st.integers(), ANYTHING))
def test_any_metadata_is_valid_json(metadata: dict[Any, Any]) -> None:
    """No metadata makes json.dumps fail."""
    json.dumps(call(metadata).to_dict(), allow_nan=False).encode()

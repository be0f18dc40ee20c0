"""The records are real frozen dataclasses, although they are built in one step."""

from __future__ import annotations

import copy
import pickle
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pytest

from eco2_callbacks import Cost, GraphRun, LLMCall, NodeRun, RetrieverCall, TokenUsage, ToolCall

RUN, TRACE = UUID(int=1), UUID(int=2)
START = datetime(2026, 11, 1, tzinfo=UTC)

CALL = LLMCall(
    run_id=RUN,
    trace_id=TRACE,
    provider="openai",
    model="gpt-5.2",
    started_at=START,
    duration_seconds=1.5,
    usage=TokenUsage(input_tokens=10, output_tokens=5),
    cost=Cost(input_usd=Decimal("0.1"), output_usd=Decimal("0.2"), parts={"input": Decimal("0.1")}),
    tags=("seq:step:1",),
    metadata={"tenant": "acme"},
)
RECORDS = [
    CALL,
    NodeRun(run_id=RUN, trace_id=TRACE, node="answer", started_at=START, duration_seconds=1.0),
    ToolCall(run_id=RUN, trace_id=TRACE, tool_name="search", started_at=START, duration_seconds=1.0),
    RetrieverCall(run_id=RUN, trace_id=TRACE, retriever="bm25", started_at=START, duration_seconds=1.0),
    GraphRun(trace_id=TRACE, started_at=START, duration_seconds=1.0),
    Cost(input_usd=Decimal(1), parts={"input": Decimal(1)}),
    TokenUsage(input_tokens=1, image_sizes=("1K",)),
]
every_record = pytest.mark.parametrize("record", RECORDS, ids=[type(record).__name__ for record in RECORDS])


@every_record
def test_fields_are_those_of_the_class(record: Any) -> None:
    """msgspec.structs.fields lists every annotated field in order."""
    names = [field.name for field in msgspec.structs.fields(record)]

    classes = [
        kind for kind in type(record).__mro__[::-1] if issubclass(kind, msgspec.Struct) and kind != msgspec.Struct
    ]
    assert names == [name for kind in classes for name in kind.__annotations__]


@every_record
def test_no_field_can_be_set(record: Any) -> None:
    """Setting a field raises AttributeError, for given values and defaults."""
    for field in msgspec.structs.fields(record):
        before = getattr(record, field.name)

        with pytest.raises(AttributeError) as raised:
            setattr(record, field.name, None)

        assert str(raised.value) == f"immutable type: '{type(record).__name__}'"
        assert getattr(record, field.name) is before


@every_record
def test_no_field_can_be_deleted(record: Any) -> None:
    """Deleting a field raises AttributeError."""
    name = msgspec.structs.fields(record)[0].name

    with pytest.raises(AttributeError) as raised:
        delattr(record, name)

    assert str(raised.value) == f"immutable type: '{type(record).__name__}'"


@every_record
def test_pickling_keeps_every_field(record: Any) -> None:
    """A record comes back from pickle equal, of the same class, and frozen."""
    again = pickle.loads(pickle.dumps(record))

    assert type(again) is type(record)
    assert again == record
    assert msgspec.structs.asdict(again) == msgspec.structs.asdict(record)
    with pytest.raises(AttributeError):
        setattr(again, msgspec.structs.fields(record)[0].name, None)


@every_record
def test_copies_are_equal(record: Any) -> None:
    """copy, deepcopy and an empty replace give an equal record."""
    assert copy.copy(record) == copy.deepcopy(record) == msgspec.structs.replace(record) == record


@every_record
def test_repr_names_every_field(record: Any) -> None:
    """The repr shows each field with its value, defaults included."""
    shown = ", ".join(f"{field.name}={getattr(record, field.name)!r}" for field in msgspec.structs.fields(record))

    assert repr(record) == f"{type(record).__name__}({shown})"


def test_asdict_holds_defaults_and_nested_records() -> None:
    """asdict keeps nested records and includes fields with default values."""
    values = msgspec.structs.asdict(CALL)

    assert values["run_id"] == RUN
    assert values["usage"] == TokenUsage(input_tokens=10, output_tokens=5)
    assert msgspec.structs.asdict(values["cost"]) == {
        "input_usd": Decimal("0.1"),
        "output_usd": Decimal("0.2"),
        "parts": {"input": Decimal("0.1")},
    }
    assert (values["status"], values["error_type"], values["intent"]) == ("success", None, "unclassified")
    assert values["metadata"] == {"tenant": "acme"}


def test_replace_changes_one_field_of_a_new_record() -> None:
    """replace() gives a new record with one field changed and leaves the old one unchanged."""
    failed = msgspec.structs.replace(CALL, status="error")

    assert failed.status == "error"
    assert CALL.status == "success"
    assert msgspec.structs.asdict(failed) == msgspec.structs.asdict(CALL) | {"status": "error"}


def test_asdict_rebuilds_an_equal_record() -> None:
    """The values of a flat record build the same one again."""
    usage = TokenUsage(input_tokens=3, reasoning_tokens=0, image_sizes=("2K",))

    assert TokenUsage(**msgspec.structs.asdict(usage)) == usage


def test_equal_values_are_equal_and_hash_alike() -> None:
    """A given default and an omitted default make equal usages."""
    given, left_out = TokenUsage(input_tokens=1, output_tokens=0), TokenUsage(input_tokens=1)

    assert given == left_out
    assert hash(given) == hash(left_out)
    assert given != TokenUsage(input_tokens=2)
    assert given != msgspec.structs.asdict(given)


def test_an_unknown_argument_is_a_type_error() -> None:
    """A misspelt field is refused."""
    with pytest.raises(TypeError) as raised:
        TokenUsage(input_token=1)  # type: ignore[call-arg]

    assert str(raised.value) == "Unexpected keyword argument 'input_token'"


def test_a_missing_argument_is_a_type_error() -> None:
    """A record without its required fields is refused, and the error names the first of them."""
    with pytest.raises(TypeError) as raised:
        ToolCall(run_id=RUN, trace_id=TRACE, tool_name="search")  # type: ignore[call-arg]

    assert str(raised.value) == "Missing required argument 'started_at'"


def test_a_positional_argument_is_a_type_error() -> None:
    """Fields are keyword-only."""
    with pytest.raises(TypeError):
        TokenUsage(1)  # type: ignore[misc]


def test_an_empty_cost_is_zero_dollars() -> None:
    """An empty cost is zero dollars for input and output, without parts."""
    cost = Cost()

    assert (cost.input_usd, cost.output_usd, cost.total_usd, dict(cost.parts)) == (0, 0, 0, {})


def test_cost_total_is_input_plus_output() -> None:
    """The total is input plus output, to the last decimal."""
    cost = Cost(input_usd=Decimal("0.1"), output_usd=Decimal("0.2"))

    assert cost.total_usd == Decimal("0.3")


def test_costs_add_up_part_by_part() -> None:
    """The sum of costs adds input, output and each part, and changes none of the costs."""
    text = Cost(
        input_usd=Decimal("0.1"), output_usd=Decimal("0.2"), parts={"input": Decimal("0.1"), "output": Decimal("0.2")}
    )
    search = Cost(
        input_usd=Decimal("0.3"),
        output_usd=Decimal("0.01"),
        parts={"input": Decimal("0.3"), "web_search": Decimal("0.01")},
    )

    total = Cost.sum(iter([text, search]))

    assert total == Cost(
        input_usd=Decimal("0.4"),
        output_usd=Decimal("0.21"),
        parts={"input": Decimal("0.4"), "output": Decimal("0.2"), "web_search": Decimal("0.01")},
    )
    assert dict(text.parts) == {"input": Decimal("0.1"), "output": Decimal("0.2")}


def test_costs_of_no_calls_are_zero_dollars() -> None:
    """The sum of no costs is an empty cost, and the sum of one cost is that cost."""
    cost = Cost(input_usd=Decimal(1))

    assert Cost.sum([]) == Cost()
    assert Cost.sum([cost]) is cost


def test_defaults_are_not_shared() -> None:
    """Changing one record's default mapping changes no other record."""
    Cost().parts["input"] = Decimal(1)  # type: ignore[index]

    assert Cost().parts == {}

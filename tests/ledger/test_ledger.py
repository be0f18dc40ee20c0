"""The ledger on its three backends: every record is one durable row, and sums are exact."""

from __future__ import annotations

import uuid
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from prometheus_client import CollectorRegistry

from eco2_callbacks import Cost, Eco2CallbackHandler, LedgerSink, TokenUsage
from eco2_callbacks.ledger import Period, Rating, Schema, append_ratings, backend_of, forget_user, make_report, prune
from eco2_callbacks.ledger.columns import TABLES
from eco2_callbacks.ledger.rows import Batch
from eco2_callbacks.ledger.schema import table
from tests.support.fake_model import COST, FakeModel
from tests.support.ledger_records import AT, call, count, one_request, query, total_usd
from tests.support.record_sink import Records, exposed

_NOVEMBER = Period.parse("2026-11-01", "2026-11-30", "UTC")
_COUNTED = ("calls", "ratings", "node_runs", "tool_calls", "retriever_calls", "requests", "feedback")


def _write(url: str, records: list[Any]) -> None:
    with LedgerSink(url) as sink:
        for record in records:
            sink.emit(record)


def _report(url: str, *by: str) -> Any:
    backend = backend_of(url)
    try:
        return make_report(backend, by, _NOVEMBER)
    finally:
        backend.close()


def test_every_record_becomes_a_row(ledger_url: str) -> None:
    """Calls with their ratings, nodes, tools, retrievers, requests and feedback are all kept."""
    _write(ledger_url, [*one_request(tenant_id="t1"), *one_request(tenant_id="t2")])

    assert {name: count(ledger_url, name) for name in _COUNTED} == dict.fromkeys(_COUNTED, 2)


def test_a_record_sent_twice_is_stored_once(ledger_url: str) -> None:
    """The key of a row is its start and its run id, so that a repeated batch changes nothing."""
    records = one_request()

    _write(ledger_url, records)
    _write(ledger_url, records)

    assert {name: count(ledger_url, name) for name in _COUNTED} == dict.fromkeys(_COUNTED, 1)
    assert _report(ledger_url).total.cost == COST


def test_sums_are_exact(ledger_url: str) -> None:
    """The sum of the ledger equals the sum of the records, digit by digit."""
    usages = [TokenUsage(input_tokens=7 * n, output_tokens=n, cache_read_tokens=3 * n) for n in range(1, 60)]
    records = [call(usage=usage, tenant_id=f"t{n % 3}") for n, usage in enumerate(usages)]

    _write(ledger_url, records)

    report = _report(ledger_url, "tenant")
    assert report.total.cost == total_usd(records)
    for group in report.groups:
        assert group.figures.cost == total_usd([each for each in records if each.tenant_id == group.key[0]])


def test_a_handler_writes_its_records(ledger_url: str, registry: CollectorRegistry, records: Records) -> None:
    """``ledger=`` of the handler keeps what the sinks and Prometheus get."""
    with Eco2CallbackHandler(registry=registry, ledger=ledger_url, sinks=[records]) as handler:
        for _ in range(3):
            FakeModel().invoke("hello", {"callbacks": [handler], "metadata": {"tenant_id": "t1"}})
        assert handler.flush(60)

        assert exposed(registry, "ledger_rows_total") == 3
    stored = query(ledger_url, "SELECT run_id FROM calls")
    assert {str(run_id) for (run_id,) in stored} == {str(each.run_id) for each in records.calls}
    found = sum(usd for (usd,) in query(ledger_url, "SELECT contracted_cost FROM newest_ratings"))
    assert found in (3 * COST, 3 * int(COST.scaleb(12)))


def test_repricing_appends_a_rating_and_the_newest_one_counts(ledger_url: str) -> None:
    """A new rating stands beside the old one; reports use the newest, also where they had summed up before."""
    priced = call()
    _write(ledger_url, [priced])
    assert _report(ledger_url).total.cost == COST

    backend = backend_of(ledger_url)
    append_ratings(
        backend,
        [Rating(AT, str(priced.run_id), Cost(input_usd=Decimal("0.002")), list_usd=Decimal("0.00315"))],
        at=AT + timedelta(days=1),
    )
    backend.close()

    assert count(ledger_url, "ratings") == 2
    assert count(ledger_url, "newest_ratings") == 1
    assert _report(ledger_url).total.cost == Decimal("0.002")


def test_a_late_row_reaches_the_hourly_sums(ledger_url: str) -> None:
    """A row that arrives after its hour was summed up is in the next report."""
    _write(ledger_url, [call()])
    assert _report(ledger_url).total.calls == 1

    _write(ledger_url, [call(), call(started_at=AT + timedelta(hours=5))])

    assert _report(ledger_url).total.calls == 3
    assert _report(ledger_url).total.cost == 3 * COST


def test_forgetting_a_user_erases_ids_and_keeps_the_dollars(ledger_url: str) -> None:
    """No table holds the user's ids any more, and no sum changes."""
    owner = {"user_id": "mallory", "session_id": "s-mallory", "job_id": "j-mallory"}
    _write(ledger_url, [*one_request(**owner), *one_request(user_id="bob", session_id="s-bob")])
    before = _report(ledger_url, "tenant").total.cost

    backend = backend_of(ledger_url)
    assert forget_user(backend, "mallory") == 1
    backend.close()

    for name, columns in TABLES.items():
        if "user_id" in columns.names:
            found = set(query(ledger_url, f"SELECT user_id, session_id, job_id FROM {name}"))
            assert found == {(None, None, None), ("bob", "s-bob", None)}
    assert _report(ledger_url, "user").total.cost == before
    assert "mallory" not in _bytes_of(ledger_url)


def _bytes_of(url: str) -> str:
    """Return a file's bytes as text; nothing of a server."""
    path = Path(url)
    files = path.parent.glob(f"{path.name}*") if "://" not in url else ()
    return "".join(file.read_bytes().decode("latin-1") for file in files)


def test_pruning_deletes_what_is_older(ledger_url: str) -> None:
    """Rows before the moment go with their hourly sums; the others stay."""
    old, new = one_request(started_at=AT - timedelta(days=40)), one_request()
    _write(ledger_url, [*old, *new])
    assert _report(ledger_url).total.calls == 1

    backend = backend_of(ledger_url)
    before, deleted = prune(backend, timedelta(days=30), now=AT + timedelta(days=1))
    backend.close()

    assert deleted == 1
    assert before.hour == AT.hour
    assert {name: count(ledger_url, name) for name in _COUNTED} == dict.fromkeys(_COUNTED, 1)
    assert _report(ledger_url).total.cost == COST


def test_the_migrations_make_the_tables_that_the_code_uses(ledger_url: str) -> None:
    """Every table has the columns of the schema, in their order of kinds."""
    backend = backend_of(ledger_url)
    Schema(backend).open()

    inspector = sa.inspect(backend.engine())
    for name in (*TABLES, "newest_ratings"):
        made = {column["name"] for column in inspector.get_columns(name)}
        assert made == {column.name for column in table(name).columns}
    assert Schema(backend).current() == Schema(backend).newest()
    assert Schema(backend).migrate() == (Schema(backend).newest(), Schema(backend).newest())
    backend.close()


def test_postgres_is_partitioned_by_month(postgres: Any) -> None:
    """Each month of starts is a partition of its own, from the first row."""
    url = postgres.new_database()
    _write(url, [call(), call(started_at=AT + timedelta(days=40))])

    partitions = query(url, "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'calls'::regclass")
    assert sorted(name for (name,) in partitions) == ["calls_2026_11", "calls_2026_12"]


def test_a_call_without_a_price_is_counted_and_not_charged(ledger_url: str) -> None:
    """An unpriced call is in the number of calls; its cost stays unknown."""
    _write(ledger_url, [call(), call(cost=None, rates=None, unpriced_reason="unknown_model")])

    total = _report(ledger_url).total
    assert (total.calls, total.unpriced_calls, total.cost) == (2, 1, COST)
    assert count(ledger_url, "ratings") == 1


def test_an_answer_from_the_cache_consumed_nothing(ledger_url: str) -> None:
    """A hit of LangChain's cache is a call without tokens and dollars."""
    _write(ledger_url, [call(), call(from_cache=True, cost=None, rates=None)])

    total = _report(ledger_url).total
    assert (total.calls, total.input_tokens, total.cost) == (2, 1000, COST)


def test_a_shared_sink_serves_two_handlers(ledger_url: str) -> None:
    """Two handlers on one sink write to one ledger, and closing one leaves the other working."""
    with LedgerSink(ledger_url) as sink:
        first = Eco2CallbackHandler(registry=CollectorRegistry(), ledger=sink)
        second = Eco2CallbackHandler(registry=CollectorRegistry(), ledger=sink)
        FakeModel().invoke("hello", {"callbacks": [first]})
        first.close()
        FakeModel().invoke("hello", {"callbacks": [second]})
        second.close()

    assert count(ledger_url, "calls") == 2


def test_a_batch_keeps_rows_of_another_version_of_the_package(tmp_path: Path) -> None:
    """Spooled rows name their columns: an older version's rows lack the newer ones."""
    import msgspec

    from eco2_callbacks.ledger.row_encoding import decode_rows

    names = TABLES["calls"].names
    (row,) = Batch([call()]).rows["calls"]
    place = names.index("tags")
    older = {"columns": [name for name in names if name != "tags"], "rows": [row[:place] + row[place + 1 :]]}

    (decoded,) = decode_rows(msgspec.msgpack.encode({"calls": older, "gone": {"columns": ["x"], "rows": [[1]]}}))[
        "calls"
    ]
    assert decoded == (*row[:place], None, *row[place + 1 :])


def test_rows_of_one_key_in_two_batches_stay_one(ledger_url: str) -> None:
    """The same call in one batch twice, with other calls around, is stored once."""
    same = call(run_id=uuid.uuid4())

    _write(ledger_url, [call(), same, call(), same])

    assert count(ledger_url, "calls") == 3

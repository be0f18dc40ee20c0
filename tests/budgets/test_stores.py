"""The stores: both lease slices by one rule, at one moment, and count each report once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eco2_callbacks.budgets.stores import (
    AccountRejectedError,
    BudgetStore,
    LeaseRequest,
    Raise,
    StoreError,
    open_store,
)
from eco2_callbacks.budgets.stores.protocol import leased_amount, missing_amounts
from eco2_callbacks.errors import ConfigError
from tests.support.programs import free_port

LIMIT = 1_000


@pytest.fixture
def store(store_url: str) -> Iterator[BudgetStore]:
    store = open_store(store_url)
    yield store
    store.close()


def request(spent: int = 0, sequence: int = 1, want: int = 0, need: int = 0, **changed: object) -> LeaseRequest:
    made = LeaseRequest("acct", "rule", "scope", LIMIT, 0, 0, spent, sequence, want, need, 0, int(time.time()) + 60)
    return made._replace(**changed)


def claim(store: BudgetStore, made: LeaseRequest, event: str, token: str = "") -> bool:
    return store.claim(made, event, token or uuid4().hex)


def test_a_slice_is_what_is_wanted_but_at_most_a_quarter_of_the_room(store: BudgetStore) -> None:
    """Slices become small near the limit, so that every process finds some room."""
    (first,) = store.lease("a", [request(want=200)], 60)
    (second,) = store.lease("b", [request(want=900)], 60)

    assert (first.held, first.settled, first.others, first.limit) == (200, 0, 0, LIMIT)
    assert (second.held, second.others) == (200, 200)  # (1000 - 200) / 4


def test_a_call_gets_what_it_needs_as_long_as_there_is_room(store: BudgetStore) -> None:
    """A need is met beyond the quarter; beyond the room nothing is given."""
    store.lease("a", [request(want=200)], 60)

    (met,) = store.lease("b", [request(want=700, need=700)], 60)
    (unmet,) = store.lease("c", [request(want=101, need=101)], 60)

    assert met.held == 700
    assert unmet.held == 0
    assert unmet.is_pressed


def test_a_report_moves_dollars_from_the_slice_to_what_is_spent(store: BudgetStore) -> None:
    """What is spent leaves the slice, also beyond it."""
    store.lease("a", [request(want=200)], 60)

    (within,) = store.lease("a", [request(spent=150, sequence=2, want=50)], 60)
    (beyond,) = store.lease("a", [request(spent=80, sequence=3, want=0)], 60)

    assert (within.held, within.settled) == (50, 150)
    assert (beyond.held, beyond.settled) == (0, 230)


def test_a_report_that_arrives_twice_counts_once(store: BudgetStore) -> None:
    """An answer that is lost on the way makes a process report again, and nothing is counted twice."""
    store.lease("a", [request(spent=70)], 60)

    (again,) = store.lease("a", [request(spent=70)], 60)

    assert again.settled == 70


def test_a_lease_that_is_not_renewed_is_free_again(store: BudgetStore) -> None:
    """What a killed process had reserved is free when its lease ends; what it has spent stays."""
    store.lease("killed", [request(spent=100, want=600, need=600)], 0.05)

    give_up_at = time.monotonic() + 60
    while (lease := store.lease("b", [request(want=900, need=900)], 60)[0]).held < 900:
        assert time.monotonic() < give_up_at

    assert (lease.settled, lease.others) == (100, 0)


def test_a_process_that_lacks_room_presses_the_others(store: BudgetStore) -> None:
    """The others see it with their next report, and give back what they do not use."""
    store.lease("a", [request(want=900, need=900)], 60)
    store.lease("b", [request(want=300, need=300)], 60)

    (pressed,) = store.lease("a", [request(sequence=2, want=900, need=900)], 60)

    assert pressed.is_pressed


def test_old_buckets_of_a_rolling_window_no_longer_count(store: BudgetStore) -> None:
    """Only buckets from the oldest one on are added up."""
    store.lease("a", [request(spent=40, bucket=1, oldest=1)], 60)
    store.lease("a", [request(spent=50, sequence=2, bucket=2, oldest=1)], 60)

    (lease,) = store.lease("a", [request(sequence=3, bucket=3, oldest=2)], 60)

    assert lease.settled == 50


def test_a_raise_counts_until_it_ends(store: BudgetStore) -> None:
    """A raise adds to the limit of all scopes of its rule; one whose time is over does not."""
    store.add_raise("rule", Raise("one", 500, int(time.time()) + 60))
    store.add_raise("rule", Raise("two", 700, int(time.time()) - 60))
    store.add_raise("other", Raise("three", 900, int(time.time()) + 60))

    (lease,) = store.lease("a", [request()], 60)

    assert lease.limit == LIMIT + 500
    assert [granted.raise_id for granted in store.raises("rule")] == ["one"]


def test_an_event_is_claimed_by_one_process(store: BudgetStore) -> None:
    """Of all claims of one event the first one wins."""
    claims = [claim(store, request(), "warn 0.8") for _ in range(3)]

    assert claims == [True, False, False]
    assert claim(store, request(), "exceeded")


def test_a_claim_whose_answer_was_lost_holds_when_it_is_made_again(store: BudgetStore) -> None:
    """The claimant gets its own claim again, and no other one does; after a reset it is free for all."""
    claims = [claim(store, request(), "exceeded", token) for token in ("one", "one", "two", "one")]
    claim(store, request(), "reset")
    claims += [claim(store, request(), "exceeded", token) for token in ("two", "one")]

    assert claims == [True, True, False, True, True, False]


def test_a_reset_lets_the_events_be_claimed_again(store: BudgetStore) -> None:
    """After a reset each level is announced again, and after that the next reset."""
    claims = [claim(store, request(), event) for event in ("warn 0.8", "exceeded", "reset", "reset")]

    again = [claim(store, request(), event) for event in ("warn 0.8", "warn 0.8", "exceeded", "reset")]

    assert claims == [True, True, True, False]
    assert again == [True, False, True, True]


def test_a_claim_ends_without_a_reset_too(store: BudgetStore) -> None:
    """The process that would have claimed the reset may have ended: a raised limit and a new window end claims too."""
    rolling = request(bucket=70, oldest=10)
    claim(store, rolling, "exceeded")

    claims = [
        claim(store, changed, "exceeded")
        for changed in (
            rolling._replace(bucket=130, oldest=70),
            rolling._replace(bucket=131, oldest=71),
            rolling._replace(bucket=131, oldest=71, limit=LIMIT + 1),
            rolling._replace(bucket=131, oldest=71),
        )
    ]

    assert claims == [False, True, True, False]


def test_a_claim_on_a_forgotten_account_is_forgotten_too(redis_server: Any) -> None:
    """No key of Redis stays for ever."""
    redis_server.client.flushall()
    store = open_store(redis_server.url)

    claim(store, request(keep_until=int(time.time()) - 10), "reset")

    assert [0 < redis_server.client.ttl(key) <= 60 for key in redis_server.client.keys("*")] == [True]
    store.close()


def test_postgres_forgets_what_has_ended(postgres_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases of processes that ended a day ago, raises that are over and old accounts are deleted while it runs."""
    monkeypatch.setattr("eco2_callbacks.budgets.stores.postgres_store._CLEAN_SECONDS", 0.0)
    url = postgres_server.new_database()
    store = open_store(url)
    for owner in ("a", "ended", "ended today"):
        store.lease(owner, [request(keep_until=int(time.time()) + 600)], 60)
    store.lease("a", [request(account="old")], 60)
    store.add_raise("rule", Raise("over", 1, int(time.time()) - 1))
    store.add_raise("rule", Raise("lasts", 1, int(time.time()) + 600))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "UPDATE eco2_budget_leases SET expires_at = now() - "
            "CASE owner WHEN 'ended' THEN interval '25 hours' ELSE interval '23 hours' END WHERE owner <> 'a'"
        )
        connection.execute("UPDATE eco2_budget_accounts SET keep_until = now() - interval '1 s' WHERE account = 'old'")

        store.lease("a", [request(sequence=2)], 60)

        kept = [
            connection.execute(f"SELECT {column} FROM eco2_budget_{table} ORDER BY 1").fetchall()
            for table, column in (("leases", "owner"), ("raises", "raise_id"), ("accounts", "account"))
        ]
    assert kept == [[("a",), ("ended today",)], [("lasts",)], [("acct",)]]
    store.close()


def test_data_that_a_store_cannot_keep_is_no_outage(store: BudgetStore) -> None:
    """The store rejects the account, and takes the next report on the same connection."""
    with pytest.raises(AccountRejectedError):
        store.lease("a", [request(spent=1), request(account="acct2", scope="user_id=\ud800")], 60)

    (lease,) = store.lease("a", [request(spent=1)], 60)

    assert lease.settled == 1


def test_a_lost_account_is_restored_once(store: BudgetStore) -> None:
    """Of several processes that restart, one restores what the ledger holds."""
    restored = [store.restore(request(), [(0, 30), (0, 12)]) for _ in range(2)]

    (lease,) = store.lease("a", [request()], 60)

    assert restored == [True, False]
    assert lease.settled == 42


def test_what_a_store_has_counted_is_not_restored_over(store: BudgetStore) -> None:
    """A ledger that comes later than the store does not count its dollars again."""
    store.lease("a", [request(spent=42)], 60)

    restored = store.restore(request(), [(0, 42)])

    assert not restored
    assert store.lease("a", [request(sequence=2)], 60)[0].settled == 42


def test_an_account_that_is_made_anew_takes_what_the_best_informed_process_knew(store: BudgetStore) -> None:
    """Each process adds what those before it did not know, and reports since then stay."""
    rolling = request(oldest=3, bucket=7)
    (new,) = store.lease("a", [rolling._replace(spent=5)], 60)

    added = [
        store.add_lost(rolling, "lost", known)
        for known in ({5: 30, 6: 2}, {5: 30, 6: 12}, {5: 30}, {5: 30, 6: 12, 2: 0})
    ]

    (lease,) = store.lease("a", [rolling], 60)
    assert added == [True, True, False, False]
    assert lease.buckets == {5: 30, 6: 12, 7: 5}
    assert (lease.settled, lease.generation) == (47, new.generation)


def test_what_a_ledger_restored_is_not_added_again(store: BudgetStore) -> None:
    """A ledger has a call in the bucket in which it began, a process in that of its report: the sums count."""
    rolling = request(oldest=3, bucket=7)
    store.restore(rolling, [(5, 20), (6, 10)])

    added = [store.add_lost(rolling, "lost", known) for known in ({5: 10, 6: 20}, {6: 20, 7: 14})]

    assert added == [False, True]
    assert store.lease("a", [rolling], 60)[0].settled == 34


def test_an_account_that_went_back_to_an_earlier_copy_gets_what_is_missing(store: BudgetStore) -> None:
    """Of one generation each bucket holds at least what a process knew."""
    rolling = request(oldest=3, bucket=7)
    (copy,) = store.lease("a", [rolling._replace(spent=5)], 60)

    added = [store.add_lost(rolling, copy.generation, {6: 2, 7: 8}) for _ in range(2)]

    assert added == [True, False]
    assert store.lease("a", [rolling], 60)[0].buckets == {6: 2, 7: 8}


@given(
    known=st.dictionaries(st.integers(0, 6), st.integers(1, 90)),
    present=st.dictionaries(st.integers(0, 6), st.integers(1, 90)),
)
def test_restored_sums_are_the_greater_of_two(known: dict[int, int], present: dict[int, int]) -> None:
    """Of another generation the sum becomes that of the process that knew more, and never exceeds it."""
    missing = missing_amounts(known, present, is_same_generation=False)

    total = sum(present.values()) + sum(missing.values())
    assert total == max(sum(known.values()), sum(present.values()))


def test_a_report_names_every_account(store: BudgetStore) -> None:
    """Accounts are read with their scope, what is spent and what is held."""
    store.lease("a", [request(spent=10, want=20), request(spent=5, account="acct2", scope="user_id=ann")], 60)

    readings = {reading.account: reading for reading in store.read("rule", 0)}

    assert (readings["acct"].settled, readings["acct"].leased) == (10, 20)
    assert (readings["acct2"].scope, readings["acct2"].settled) == ("user_id=ann", 5)


def test_a_report_leaves_out_what_a_rolling_window_no_longer_counts(store: BudgetStore) -> None:
    """Old buckets stay until the next lease, and count no longer."""
    store.lease("a", [request(spent=40, bucket=1)], 60)
    store.lease("a", [request(spent=50, sequence=2, bucket=2)], 60)

    settled = [store.read("rule", oldest)[0].settled for oldest in (1, 2, 3)]

    assert settled == [90, 50, 0]


def test_parallel_processes_never_hold_more_than_the_limit(store_url: str) -> None:
    """Eight owners that lease and spend at once: what is spent and held stays within the limit at every moment."""
    problems: list[object] = []

    def spend(owner: str) -> None:
        own = open_store(store_url)
        held = spent = 0
        for sequence in range(1, 40):
            spent = min(held, 7)
            (lease,) = own.lease(owner, [request(spent=spent, sequence=sequence, want=50, need=10)], 60)
            held = lease.held
            if lease.settled + lease.others + lease.held > LIMIT:
                problems.append(lease)
        own.close()

    threads = [threading.Thread(target=spend, args=(str(number),)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert problems == []
    store = open_store(store_url)
    assert store.read("rule", 0)[0].settled <= LIMIT
    store.close()


@pytest.mark.parametrize("scheme", ["redis", "postgresql"])
def test_a_store_that_is_not_there_raises_a_store_error_without_its_password(scheme: str) -> None:
    """The error tells what failed and never the password in the address."""
    store = open_store(f"{scheme}://user:secret@127.0.0.1:{free_port()}/0", timeout_seconds=1)

    with pytest.raises(StoreError) as raised:
        store.lease("a", [request()], 60)

    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("url", ["mysql://host/db", "localhost:6379", ""])
def test_an_address_of_no_store_is_refused(url: str) -> None:
    """Only the scheme is shown: the address may hold a password."""
    with pytest.raises(ConfigError, match="wanted redis, rediss, unix or postgresql"):
        open_store(url)


@given(st.integers(0, 100), st.integers(-50, 100), st.integers(0, 200), st.integers(0, 200), st.integers(0, 100))
def test_the_leasing_rule_stays_within_the_room(lease: int, room: int, want: int, more: int, keep: int) -> None:
    """A process never gets more than the room or its wish, and loses nothing that it still wants."""
    need = keep + more
    want = max(want, need)

    held = leased_amount(lease=lease, room=room, want=want, need=need, keep=keep)

    assert held <= max(want, 0)
    assert held - lease <= max(room, 0)
    assert held >= min(lease, keep)
    assert held >= need or need > lease + max(room, 0)

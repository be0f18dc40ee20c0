"""PostgresStore: budgets in PostgreSQL, one transaction for each report."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

import psycopg

from eco2_callbacks.budgets.stores.protocol import (
    AccountReading,
    AccountRejectedError,
    Lease,
    LeaseRequest,
    Raise,
    StoreError,
    leased_amount,
    missing_amounts,
)

__all__ = ["PostgresStore"]

_T = TypeVar("_T")
_PRESSURE_SECONDS = 2
_CLEAN_SECONDS = 3600.0
# Classes of SQLSTATE: data, integrity, and what exceeds a limit of the program, such as the size of an index' row.
_OF_ACCOUNT = ("22", "23", "54")
# Connections of a parent process, which a forked child must not close.
_open_before_fork: list[Any] = []
# One number for this package: only one process creates the tables at a time.
_CREATE_LOCK = 7_203_117
_TABLES = """
CREATE TABLE IF NOT EXISTS eco2_budget_accounts (
    account text PRIMARY KEY, rule text NOT NULL, scope text NOT NULL, keep_until timestamptz NOT NULL,
    pressed_until timestamptz NOT NULL DEFAULT '-infinity', restored boolean NOT NULL DEFAULT false);
CREATE INDEX IF NOT EXISTS eco2_budget_accounts_rule ON eco2_budget_accounts (rule);
CREATE TABLE IF NOT EXISTS eco2_budget_buckets (
    account text REFERENCES eco2_budget_accounts ON DELETE CASCADE, bucket bigint, settled bigint NOT NULL,
    PRIMARY KEY (account, bucket));
CREATE TABLE IF NOT EXISTS eco2_budget_leases (
    account text REFERENCES eco2_budget_accounts ON DELETE CASCADE, owner text, amount bigint NOT NULL,
    sequence bigint NOT NULL, expires_at timestamptz NOT NULL, PRIMARY KEY (account, owner));
CREATE TABLE IF NOT EXISTS eco2_budget_events (
    account text REFERENCES eco2_budget_accounts ON DELETE CASCADE, event text, PRIMARY KEY (account, event));
CREATE TABLE IF NOT EXISTS eco2_budget_raises (
    raise_id text PRIMARY KEY, rule text NOT NULL, amount bigint NOT NULL, until timestamptz NOT NULL);
ALTER TABLE eco2_budget_accounts ADD COLUMN IF NOT EXISTS generation text NOT NULL
    DEFAULT md5(random()::text || clock_timestamp()::text);
ALTER TABLE eco2_budget_buckets ADD COLUMN IF NOT EXISTS restored bigint NOT NULL DEFAULT 0;
ALTER TABLE eco2_budget_events ADD COLUMN IF NOT EXISTS limit_nano bigint NOT NULL DEFAULT 9223372036854775807;
ALTER TABLE eco2_budget_events ADD COLUMN IF NOT EXISTS bucket bigint NOT NULL DEFAULT 0;
ALTER TABLE eco2_budget_events ADD COLUMN IF NOT EXISTS token text NOT NULL DEFAULT '';
"""
# Whether the tables are there, as they are made now: to make them again would wait for everyone who uses them.
_HAS_TABLES = """
SELECT EXISTS (SELECT 1 FROM pg_attribute WHERE attrelid = to_regclass('eco2_budget_events') AND attname = 'token')
"""
# Rows that another process uses at this moment are left to the next time.
_CLEAN = """
DELETE FROM eco2_budget_accounts WHERE account IN
    (SELECT account FROM eco2_budget_accounts WHERE keep_until < clock_timestamp() FOR UPDATE SKIP LOCKED);
DELETE FROM eco2_budget_leases WHERE (account, owner) IN
    (SELECT account, owner FROM eco2_budget_leases WHERE expires_at < clock_timestamp() - interval '1 day'
        FOR UPDATE SKIP LOCKED);
DELETE FROM eco2_budget_raises WHERE raise_id IN
    (SELECT raise_id FROM eco2_budget_raises WHERE until < clock_timestamp() FOR UPDATE SKIP LOCKED);
"""
_CLAIM = """
INSERT INTO eco2_budget_events AS e (account, event, limit_nano, bucket, token) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (account, event) DO UPDATE
    SET limit_nano = excluded.limit_nano, bucket = excluded.bucket, token = excluded.token
    WHERE e.limit_nano < excluded.limit_nano OR e.bucket < %s OR e.token = excluded.token
RETURNING 1
"""
_ACCOUNT = """
INSERT INTO eco2_budget_accounts (account, rule, scope, keep_until) VALUES (%s, %s, %s, to_timestamp(%s))
ON CONFLICT (account) DO UPDATE SET keep_until = excluded.keep_until
RETURNING pressed_until > clock_timestamp(), generation
"""
# A late report may still come from a process whose lease ended less than a day ago.
_LEASES = """
SELECT owner, CASE WHEN expires_at > clock_timestamp() THEN amount ELSE 0 END, sequence,
    expires_at < clock_timestamp() - interval '1 day'
FROM eco2_budget_leases WHERE account = %s
"""
_END_LEASES = """
DELETE FROM eco2_budget_leases
WHERE account = %s AND owner <> %s AND expires_at < clock_timestamp() - interval '1 day'
"""
_SPEND = """
INSERT INTO eco2_budget_buckets (account, bucket, settled, restored) VALUES (%s, %s, %s, %s)
ON CONFLICT (account, bucket) DO UPDATE SET settled = eco2_budget_buckets.settled + excluded.settled,
    restored = eco2_budget_buckets.restored + excluded.restored
"""
_BUCKETS = "SELECT bucket, settled, restored FROM eco2_budget_buckets WHERE account = %s AND bucket >= %s"
_RAISED = "SELECT coalesce(sum(amount), 0) FROM eco2_budget_raises WHERE rule = %s AND until > clock_timestamp()"
_HOLD = """
INSERT INTO eco2_budget_leases VALUES (%s, %s, %s, %s, clock_timestamp() + make_interval(secs => %s))
ON CONFLICT (account, owner) DO UPDATE SET amount = excluded.amount, sequence = excluded.sequence,
    expires_at = excluded.expires_at
"""
_PRESS = """
UPDATE eco2_budget_accounts SET pressed_until = clock_timestamp() + make_interval(secs => %s) WHERE account = %s
"""
_READ = """
SELECT account, scope,
    (SELECT coalesce(sum(settled), 0) FROM eco2_budget_buckets b WHERE b.account = a.account
        AND b.bucket >= %s),
    (SELECT coalesce(sum(amount), 0) FROM eco2_budget_leases l WHERE l.account = a.account
        AND expires_at > clock_timestamp())
FROM eco2_budget_accounts a WHERE rule = %s AND keep_until > clock_timestamp() ORDER BY account
"""


class PostgresStore:
    """Keeps budgets in PostgreSQL 12 or later; it creates its tables, ``eco2_budget_*``, with its first use.

    Args:
        url: ``postgresql://``.
        timeout_seconds: How long one statement may take.
    """

    def __init__(self, url: str, *, timeout_seconds: float) -> None:
        self._url = url
        self._timeout_seconds = timeout_seconds
        self._connection: psycopg.Connection[Any] | None = None
        self._lock = threading.Lock()
        self._cleaned_at = 0.0

    def lease(self, owner: str, requests: Sequence[LeaseRequest], lease_seconds: float) -> list[Lease]:
        """As the protocol says, all accounts in one transaction."""

        def run(connection: psycopg.Connection[Any]) -> list[Lease]:
            # In one order, so that two processes do not wait for each other.
            order = sorted(range(len(requests)), key=lambda index: requests[index].account)
            leases: dict[int, Lease] = {}
            for index in order:
                leases[index] = _lease(connection, owner, requests[index], lease_seconds)
            return [leases[index] for index in range(len(requests))]

        if self._connection is not None and time.monotonic() - self._cleaned_at >= _CLEAN_SECONDS:
            self._guarded(self._clean)
        return self._guarded(run)

    def _clean(self, connection: psycopg.Connection[Any]) -> None:
        connection.execute(_CLEAN)
        self._cleaned_at = time.monotonic()

    def claim(self, request: LeaseRequest, event: str, token: str) -> bool:
        """As the protocol says."""

        def run(connection: psycopg.Connection[Any]) -> bool:
            _open_account(connection, request)
            values = (request.account, event, request.limit, request.bucket, token, request.oldest)
            row = connection.execute(_CLAIM, values).fetchone()
            if row is not None:
                connection.execute(
                    "DELETE FROM eco2_budget_events WHERE account = %s AND (event = 'reset') <> %s",
                    (request.account, event == "reset"),
                )
            return row is not None

        return self._guarded(run)

    def knows(self, request: LeaseRequest) -> bool:
        """As the protocol says."""

        def run(connection: psycopg.Connection[Any]) -> bool:
            row = connection.execute(
                "SELECT EXISTS (SELECT 1 FROM eco2_budget_buckets WHERE account = %s) OR EXISTS "
                "(SELECT 1 FROM eco2_budget_accounts WHERE account = %s AND restored)",
                (request.account, request.account),
            ).fetchone()
            return row is not None and bool(row[0])

        return self._guarded(run)

    def restore(self, request: LeaseRequest, spent: Sequence[tuple[int, int]]) -> bool:
        """As the protocol says: of several processes only the first one restores."""

        def run(connection: psycopg.Connection[Any]) -> bool:
            _open_account(connection, request)
            row = connection.execute(
                "UPDATE eco2_budget_accounts SET restored = true WHERE account = %s AND NOT restored "
                "AND NOT EXISTS (SELECT 1 FROM eco2_budget_buckets WHERE account = %s) RETURNING 1",
                (request.account, request.account),
            ).fetchone()
            if row is not None:
                for bucket, cost in spent:
                    connection.execute(_SPEND, (request.account, bucket, cost, cost))
            return row is not None

        return self._guarded(run)

    def add_lost(self, request: LeaseRequest, generation: str, known: Mapping[int, int]) -> bool:
        """As the protocol says."""

        def run(connection: psycopg.Connection[Any]) -> bool:
            is_same = _open_account(connection, request).generation == generation
            rows = connection.execute(_BUCKETS, (request.account, request.oldest)).fetchall()
            present = {bucket: settled if is_same else restored for bucket, settled, restored in rows}
            missing = missing_amounts(known, present, is_same_generation=is_same)
            for bucket, amount in missing.items():
                connection.execute(_SPEND, (request.account, bucket, amount, 0 if is_same else amount))
            return bool(missing)

        return self._guarded(run)

    def read(self, rule: str, oldest: int) -> list[AccountReading]:
        """As the protocol says."""

        def run(connection: psycopg.Connection[Any]) -> list[AccountReading]:
            return [
                AccountReading(account, scope, int(settled), int(leased))
                for account, scope, settled, leased in connection.execute(_READ, (oldest, rule))
            ]

        return self._guarded(run)

    def add_raise(self, rule: str, granted: Raise) -> None:
        """As the protocol says."""

        def run(connection: psycopg.Connection[Any]) -> None:
            connection.execute(
                "INSERT INTO eco2_budget_raises VALUES (%s, %s, %s, to_timestamp(%s))",
                (granted.raise_id, rule, granted.amount, granted.until),
            )

        self._guarded(run)

    def raises(self, rule: str) -> list[Raise]:
        """As the protocol says."""

        def run(connection: psycopg.Connection[Any]) -> list[Raise]:
            rows = connection.execute(
                "SELECT raise_id, amount, extract(epoch FROM until)::bigint FROM eco2_budget_raises "
                "WHERE rule = %s AND until > clock_timestamp() ORDER BY until",
                (rule,),
            )
            return [Raise(*row) for row in rows]

        return self._guarded(run)

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._drop()

    def after_fork_in_child(self) -> None:
        """Leave the parent's connection alone: closing it here would end the parent's session."""
        if self._connection is not None:
            _open_before_fork.append(self._connection)
        self._connection, self._lock = None, threading.Lock()

    def _guarded(self, run: Callable[[psycopg.Connection[Any]], _T]) -> _T:
        with self._lock:
            try:
                if self._connection is None or self._connection.closed:
                    self._connection = self._connect()
                with self._connection.transaction():
                    return run(self._connection)
            except (psycopg.Error, UnicodeError) as error:
                state = getattr(error, "sqlstate", None) or ""
                # Its text can hold the address, and with it a password.
                message = f"PostgreSQL: {type(error).__name__} {state}".rstrip()
                if isinstance(error, psycopg.DataError | UnicodeError) or state[:2] in _OF_ACCOUNT:
                    raise AccountRejectedError(message) from error
                self._drop()
                raise StoreError(message) from error

    def _connect(self) -> psycopg.Connection[Any]:
        milliseconds = round(self._timeout_seconds * 1000)
        connection = psycopg.connect(
            self._url,
            autocommit=True,
            connect_timeout=max(1, round(self._timeout_seconds)),
            options=f"-c statement_timeout={milliseconds} -c lock_timeout={milliseconds}",
        )
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (_CREATE_LOCK,))
            if not _number(connection, _HAS_TABLES, ()):
                connection.execute("SET LOCAL client_min_messages = warning")
                connection.execute(_TABLES)
            self._clean(connection)
        return connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()


class _AccountRow(NamedTuple):
    is_pressed: bool
    generation: str


def _open_account(connection: psycopg.Connection[Any], request: LeaseRequest) -> _AccountRow:
    """Create an account or lock its row until the transaction ends."""
    keep_until = max(request.keep_until, int(time.time()) + 60)
    row = connection.execute(_ACCOUNT, (request.account, request.rule, request.scope, keep_until)).fetchone()
    assert row is not None  # noqa: S101  it returns the row that it wrote
    return _AccountRow(*row)


def _lease(connection: psycopg.Connection[Any], owner: str, request: LeaseRequest, lease_seconds: float) -> Lease:
    account = request.account
    is_pressed, generation = _open_account(connection, request)
    lease = last = others = 0
    has_ended = False
    for name, amount, sequence, is_old in connection.execute(_LEASES, (account,)):
        if name == owner:
            lease, last = amount, sequence
        else:
            others += amount
            has_ended = has_ended or is_old
    if has_ended:
        connection.execute(_END_LEASES, (account, owner))
    if request.sequence > last:
        last = request.sequence
        lease = max(0, lease - request.spent)
        if request.spent:
            connection.execute(_SPEND, (account, request.bucket, request.spent, 0))
    connection.execute("DELETE FROM eco2_budget_buckets WHERE account = %s AND bucket < %s", (account, request.oldest))
    buckets = {bucket: amount for bucket, amount, _ in connection.execute(_BUCKETS, (account, request.oldest))}
    settled = sum(buckets.values())
    limit = request.limit + _number(connection, _RAISED, (request.rule,))
    room = limit - settled - others - lease
    held = leased_amount(lease=lease, room=room, want=request.want, need=request.need, keep=request.keep)
    if held < request.need and settled + request.need <= limit:
        is_pressed = True
        connection.execute(_PRESS, (_PRESSURE_SECONDS, account))
    connection.execute(_HOLD, (account, owner, held, last, lease_seconds))
    return Lease(held, settled, others, limit, is_pressed, generation, buckets)


def _number(connection: psycopg.Connection[Any], query: str, arguments: tuple[Any, ...]) -> int:
    row = connection.execute(query, arguments).fetchone()
    return int(row[0]) if row else 0

"""RedisStore: budgets in Redis, a Lua script changes each account at one moment.

The keys of a rule share a hash tag, so that a cluster keeps them together.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from typing import Any, TypeVar, cast
from uuid import uuid4

import redis

from eco2_callbacks.budgets.stores.protocol import (
    AccountReading,
    AccountRejectedError,
    Lease,
    LeaseRequest,
    Raise,
    StoreError,
)

__all__ = ["RedisStore"]

_T = TypeVar("_T")
_PREFIX = "eco2:budget"
# What Redis answers where the keys of one account hold what they should not.
_OF_ACCOUNT = ("WRONGTYPE", "not an integer", "would overflow", "attempt to ")
# Clients of a parent process, which a forked child must not close.
_open_before_fork: list[Any] = []


class RedisStore:
    """Keeps budgets in Redis 7.0 or later.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``.
        timeout_seconds: How long one answer may take.
    """

    def __init__(self, url: str, *, timeout_seconds: float) -> None:
        self._url = url
        self._timeout_seconds = timeout_seconds
        self._texts = [
            files("eco2_callbacks.budgets.stores").joinpath(f"{name}.lua").read_text("utf-8")
            for name in ("lease", "claim", "restore", "add_lost")
        ]
        self._open()

    def _open(self) -> None:
        self._client = redis.Redis.from_url(
            self._url,
            decode_responses=True,
            socket_timeout=self._timeout_seconds,
            socket_connect_timeout=self._timeout_seconds,
            protocol=2,
        )
        self._lease, self._claim, self._restore, self._add_lost = map(self._client.register_script, self._texts)

    def lease(self, owner: str, requests: Sequence[LeaseRequest], lease_seconds: float) -> list[Lease]:
        """As the protocol says; each account changes at one moment."""

        def run() -> list[Lease]:
            with self._client.pipeline(transaction=False) as pipeline:
                for request in requests:
                    keys = [*_keys(request.rule, request.account), _raises(request.rule), _index(request.rule)]
                    arguments: list[Any] = [owner, request.limit, request.bucket, request.oldest, request.spent]
                    arguments += [request.sequence, request.want, request.need, request.keep_until]
                    arguments += [round(lease_seconds * 1000), request.account, request.scope, request.keep]
                    arguments.append(uuid4().hex)
                    self._lease(keys=keys, args=arguments, client=pipeline)
                answers = pipeline.execute()
            return [
                Lease(
                    int(held),
                    int(settled),
                    int(others),
                    int(limit),
                    bool(int(is_pressed)),
                    generation,
                    dict(zip(map(int, buckets[::2]), map(int, buckets[1::2]), strict=True)),
                )
                for held, settled, others, limit, is_pressed, generation, buckets in answers
            ]

        return _guarded(run)

    def claim(self, request: LeaseRequest, event: str, token: str) -> bool:
        """As the protocol says."""
        arguments = [event, request.limit, request.bucket, request.oldest, request.keep_until, token]
        return self._changes(self._claim, request, arguments)

    def knows(self, request: LeaseRequest) -> bool:
        """As the protocol says."""

        def run() -> bool:
            fields: list[Any] = self._client.hkeys(_keys(request.rule, request.account)[0])
            return any(field[:1] == "b" or field == "restored" for field in fields)

        return _guarded(run)

    def restore(self, request: LeaseRequest, spent: Sequence[tuple[int, int]]) -> bool:
        """As the protocol says: of several processes only the first one restores."""
        arguments: list[Any] = [request.keep_until]
        for bucket, cost in spent:
            arguments += [bucket, cost]
        return self._changes(self._restore, request, arguments)

    def add_lost(self, request: LeaseRequest, generation: str, known: Mapping[int, int]) -> bool:
        """As the protocol says."""
        arguments: list[Any] = [generation, uuid4().hex, request.oldest, request.keep_until]
        for bucket in sorted(known, reverse=True):
            arguments += [bucket, known[bucket]]
        return self._changes(self._add_lost, request, arguments)

    def _changes(self, script: Any, request: LeaseRequest, arguments: Sequence[Any]) -> bool:
        account, _ = _keys(request.rule, request.account)
        return _guarded(lambda: bool(script(keys=[account], args=arguments)))

    def read(self, rule: str, oldest: int) -> list[AccountReading]:
        """As the protocol says."""

        def run() -> list[AccountReading]:
            now = time.time() * 1000
            accounts: list[Any] = self._client.zrange(_index(rule), 0, -1)
            with self._client.pipeline(transaction=False) as pipeline:
                for account in accounts:
                    for key in _keys(rule, account):
                        pipeline.hgetall(key)
                answers = pipeline.execute()
            readings = []
            for account, fields, leases in zip(accounts, answers[::2], answers[1::2], strict=True):
                settled = sum(
                    int(value) for field, value in fields.items() if field[:1] == "b" and int(field[1:]) >= oldest
                )
                living = [lease.split("|") for lease in leases.values()]
                leased = sum(int(amount) for amount, expires, _ in living if int(expires) > now)
                readings.append(AccountReading(account, fields.get("scope", ""), settled, leased))
            return readings

        return _guarded(run)

    def add_raise(self, rule: str, granted: Raise) -> None:
        """As the protocol says."""
        _guarded(lambda: self._client.hset(_raises(rule), granted.raise_id, f"{granted.amount}|{granted.until}"))

    def raises(self, rule: str) -> list[Raise]:
        """As the protocol says."""

        def run() -> list[Raise]:
            found = [
                Raise(raise_id, int(amount), int(until))
                for raise_id, value in cast("dict[str, str]", self._client.hgetall(_raises(rule))).items()
                for amount, until in (value.split("|"),)
            ]
            return [granted for granted in found if granted.until > time.time()]

        return _guarded(run)

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def after_fork_in_child(self) -> None:
        """Make a new client: a thread of the parent can have held a lock of the old one."""
        _open_before_fork.append(self._client)
        self._open()


def _guarded(run: Callable[[], _T]) -> _T:
    try:
        return run()
    except (redis.DataError, UnicodeError) as error:
        raise AccountRejectedError(f"Redis: {type(error).__name__}") from error
    except (redis.RedisError, OSError) as error:
        # A pipeline puts its command, with texts of the application, before the answer.
        answer = str(error).rpartition(" caused error: ")[2]
        if isinstance(error, redis.ResponseError) and any(sign in answer for sign in _OF_ACCOUNT):
            raise AccountRejectedError(f"Redis: {type(error).__name__}: {answer}") from error
        raise StoreError(f"Redis: {type(error).__name__}: {error}") from error


def _tag(rule: str) -> str:
    return "{" + rule.replace("}", "_") + "}"


def _keys(rule: str, account: str) -> tuple[str, str]:
    return f"{_PREFIX}:{_tag(rule)}:account:{account}", f"{_PREFIX}:{_tag(rule)}:leases:{account}"


def _raises(rule: str) -> str:
    return f"{_PREFIX}:{_tag(rule)}:raises"


def _index(rule: str) -> str:
    return f"{_PREFIX}:{_tag(rule)}:accounts"

"""open_store: the store at an address."""

from __future__ import annotations

from urllib.parse import urlsplit

from eco2_callbacks.budgets.stores.protocol import BudgetStore
from eco2_callbacks.errors import ConfigError

__all__ = ["open_store"]

_REDIS = frozenset({"redis", "rediss", "unix"})
_POSTGRES = frozenset({"postgres", "postgresql"})


def open_store(url: str, *, timeout_seconds: float = 5.0) -> BudgetStore:
    """Return the store at an address; nothing is sent yet.

    Raises:
        ConfigError: If the address names no store, or its client library is missing.
    """
    scheme = urlsplit(url).scheme
    try:
        if scheme in _REDIS:
            from eco2_callbacks.budgets.stores.redis_store import RedisStore  # noqa: PLC0415  an optional library

            return RedisStore(url, timeout_seconds=timeout_seconds)
        if scheme in _POSTGRES:
            from eco2_callbacks.budgets.stores.postgres_store import PostgresStore  # noqa: PLC0415  the same

            return PostgresStore(url, timeout_seconds=timeout_seconds)
    except ImportError as error:
        extra = "redis" if scheme in _REDIS else "postgres"
        raise ConfigError(
            f"The budgets' store is a {scheme!r} address, but its client is missing ({error}); "
            f"install eco2-callbacks[{extra}]."
        ) from error
    except ValueError as error:
        raise ConfigError(f"The budgets' store cannot be opened: {error}; correct its address.") from error
    # The address may hold a password, so only its scheme is shown.
    raise ConfigError(
        f"The budgets' store has the scheme {scheme!r}, wanted redis, rediss, unix or postgresql; correct its address."
    )

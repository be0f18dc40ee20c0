"""Budgets: the rules of a handler and how they are enforced, from Python or from ``budgets.toml``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from eco2_callbacks.arguments import check_budgets
from eco2_callbacks.budgets.rules import SELECTORS, BudgetRule, read_usd
from eco2_callbacks.budgets.webhook import Webhook
from eco2_callbacks.errors import ConfigError

__all__ = ["BudgetSource", "Budgets", "read_budgets"]

UnpricedModel: TypeAlias = Literal["pass", "refuse"]
StoreUnreachable: TypeAlias = Literal["open", "closed"]
AfterRefusal: TypeAlias = Literal["reserve", "refuse"]
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "unpriced_model": get_args(UnpricedModel),
    "store_unreachable": get_args(StoreUnreachable),
    "after_refusal": get_args(AfterRefusal),
}
_RULE_KEYS = frozenset({"name", "limit_usd", "window", "timezone", "match", "per", "warn_at", "action"})
_SHORTHAND = {"monthly_usd": "month", "daily_usd": "day"}
_MAX_SLICE = Decimal("0.5")


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgets:
    """The budgets of a handler.

    Attributes:
        rules: The budgets. Each call counts in all that match it.
        store: Address of the Redis or PostgreSQL that processes share; None keeps budgets in this process.
        unpriced_model: Whether a call whose price is unknown may ``pass`` (it reserves nothing) or is refused.
        store_unreachable: What happens to a call that needs the store while it cannot be reached: ``open`` lets it
            pass, and its cost is reported later; ``closed`` refuses it.
        after_refusal: What happens to later calls of a request after a budget refused one. ``reserve`` lets them
            reserve, as a fallback to a cheaper model does; ``refuse`` refuses them too.
        max_reservation_usd: The most that is reserved for one call; None is what it can cost.
        assumed_output_tokens: Output that is reserved for a call whose request sets no maximum.
        wait_seconds: How long a call waits for the store, and for what other processes give back.
        slice_share: Share of a budget that a process takes at a time, to reserve from it without the store.
        lease_seconds: When what a killed process held is free again.
        webhook: Where events are sent.

    Raises:
        ConfigError: If an argument cannot be used, or two rules have one name.
    """

    rules: Sequence[BudgetRule] = ()
    store: str | None = None
    unpriced_model: UnpricedModel = "pass"
    store_unreachable: StoreUnreachable = "open"
    after_refusal: AfterRefusal = "reserve"
    max_reservation_usd: Decimal | None = None
    assumed_output_tokens: int = 512
    wait_seconds: float = 2.0
    slice_share: Decimal = Decimal("0.02")
    lease_seconds: float = 15.0
    webhook: Webhook | None = None

    def __post_init__(self) -> None:
        rules = tuple(self.rules)
        seen: set[str] = set()
        for rule in rules:
            if not isinstance(rule, BudgetRule):
                raise ConfigError(f"budgets hold {rule!r}, wanted objects of BudgetRule; pass those.")
            if rule.name in seen:
                raise ConfigError(f"Two budgets have the name {rule.name!r}; give each its own name.")
            seen.add(rule.name)
        for name, choices in _CHOICES.items():
            if (value := getattr(self, name)) not in choices:
                raise ConfigError(f"{name} is {value!r}, wanted one of {list(choices)!r}; correct it.")
        for name in ("wait_seconds", "lease_seconds"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float | Decimal) or not 0 <= value <= 3600:
                raise ConfigError(f"{name} is {value!r}, wanted seconds from 0 to 3600; correct it.")
        if self.lease_seconds < 1:
            raise ConfigError(f"lease_seconds is {self.lease_seconds!r}, wanted 1 or more; correct it.")
        tokens = self.assumed_output_tokens
        if isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 0:
            raise ConfigError(f"assumed_output_tokens is {tokens!r}, wanted a whole number of 0 or more; correct it.")
        share = read_usd(self.slice_share, "slice_share is")
        if not 0 < share <= _MAX_SLICE:
            raise ConfigError(
                f"slice_share is {self.slice_share!r}, wanted above 0 and up to {_MAX_SLICE}; correct it."
            )
        if self.max_reservation_usd is not None:
            usd = read_usd(self.max_reservation_usd, "max_reservation_usd is")
            object.__setattr__(self, "max_reservation_usd", usd)
        if self.store is not None and (not isinstance(self.store, str) or not self.store.strip()):
            raise ConfigError(f"store is {self.store!r}, wanted an address such as 'redis://localhost:6379/0'.")
        if self.webhook is not None and not isinstance(self.webhook, Webhook):
            raise ConfigError(f"webhook is {self.webhook!r}, wanted a Webhook; pass Webhook(url=..., secret=...).")
        object.__setattr__(self, "rules", rules)
        object.__setattr__(self, "slice_share", share)
        object.__setattr__(self, "wait_seconds", float(self.wait_seconds))
        object.__setattr__(self, "lease_seconds", float(self.lease_seconds))

    def tenants(self) -> list[str]:
        """Return the tenants that a rule names."""
        named = [exact for rule in self.rules for key, exact, _ in rule.patterns if key == "tenant_id"]
        return sorted(set().union(*named))

    @classmethod
    def from_toml(cls, path: str | Path, environ: Mapping[str, str] | None = None) -> Budgets:
        """Read ``budgets.toml``: ``[[budgets]]`` tables, the attributes above, and a ``[webhook]``.

        ``store_env`` names a variable that holds the store's address, ``secret_env`` one with the webhook's secret.

        Raises:
            ConfigError: If the file cannot be read or holds what no budget can be.
        """
        import tomllib  # noqa: PLC0415

        where = f"Budgets file {str(path)!r}"
        try:
            with open(path, "rb") as file:
                document = tomllib.load(file, parse_float=Decimal)
        except OSError as error:
            raise ConfigError(f"{where}: {error.strerror or error}; name an existing file.") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{where} is no valid TOML ({error}); correct it.") from error
        try:
            return _from_document(document, os.environ if environ is None else environ)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from error


BudgetSource: TypeAlias = Budgets | Sequence[BudgetRule] | Mapping[str, Any] | str | Path


def read_budgets(source: BudgetSource | None) -> Budgets | None:
    """Return the budgets that a handler was given; None where it was given none.

    Args:
        source: ``Budgets``, rules, the path of a file, or what tenants may spend:
            ``{"acme": {"monthly_usd": 100, "daily_usd": 5}}``.

    Raises:
        ConfigError: If it is none of these.
    """
    if source is None or isinstance(source, Budgets):
        return source
    if isinstance(source, str | Path):
        return Budgets.from_toml(source)
    if isinstance(source, Mapping):
        rules = [rule for tenant, limits in check_budgets(source).items() for rule in _tenant_rules(tenant, limits)]
        return Budgets(rules=rules) if rules else None
    if isinstance(source, list | tuple):
        if not all(isinstance(rule, BudgetRule) for rule in source):
            check_budgets(source)  # raises: a list of anything else was meant as the mapping
        return Budgets(rules=source) if source else None
    raise ConfigError(
        f"budgets is {source!r}, wanted Budgets, rules, the path of a file, or a mapping of tenants; pass one of these."
    )


def _tenant_rules(tenant_id: str, limits: Mapping[str, Any]) -> list[BudgetRule]:
    rules = []
    for key, window in _SHORTHAND.items():
        if limits.get(key) is not None:
            usd = read_usd(limits[key], f"budgets[{tenant_id!r}] has {key} =")
            # The tenant's name must not be taken for a pattern.
            match = {"tenant_id": "".join(f"[{sign}]" if sign in "*?[" else sign for sign in tenant_id)}
            rules.append(BudgetRule(name=f"{tenant_id} {window}", limit_usd=usd, window=window, match=match))
    return rules


def _from_document(document: dict[str, Any], environ: Mapping[str, str]) -> Budgets:
    known = {field.name for field in fields(Budgets)} - {"rules"} | {"budgets", "store_env"}
    if unknown := sorted(document.keys() - known):
        raise ConfigError(f"found the keys {unknown!r}, known are {sorted(known)!r}; correct them.")
    tables = document.pop("budgets", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ConfigError(f"budgets is {tables!r}, wanted [[budgets]] tables; correct it.")
    if not tables:
        raise ConfigError("found no [[budgets]] table; add one, or pass no file.")
    store_env = document.pop("store_env", None)
    if store_env is not None:
        document["store"] = _from_env(store_env, "store_env", environ)
    webhook = document.pop("webhook", None)
    if webhook is not None:
        document["webhook"] = _webhook(webhook, environ)
    return Budgets(rules=[_rule(table, number) for number, table in enumerate(tables, start=1)], **document)


def _rule(table: dict[str, Any], number: int) -> BudgetRule:
    where = f"budget {table.get('name', number)!r}"
    if unknown := sorted(table.keys() - _RULE_KEYS - set(SELECTORS)):
        raise ConfigError(
            f"{where} has the keys {unknown!r}, known are {sorted(_RULE_KEYS | set(SELECTORS))!r}; a key of "
            "the metadata stands in match = {key = 'value'}."
        )
    if missing := sorted({"name", "limit_usd"} - table.keys()):
        raise ConfigError(f"{where} lacks {missing!r}; add them.")
    match = table.pop("match", {})
    if not isinstance(match, dict):
        raise ConfigError(f"{where} has match = {match!r}, wanted a table such as {{team = 'search'}}; correct it.")
    selected = {key: table.pop(key) for key in SELECTORS if key in table}
    if twice := sorted(selected.keys() & match.keys()):
        raise ConfigError(f"{where} has {twice!r} twice, also in match; remove one.")
    return BudgetRule(match={**match, **selected}, **table)


def _webhook(table: object, environ: Mapping[str, str]) -> Webhook:
    if not isinstance(table, dict) or not {"url"} <= table.keys() <= {"url", "secret", "secret_env"}:
        raise ConfigError(f"webhook is {table!r}, wanted a table with url and secret_env; correct it.")
    secret = table.get("secret")
    if "secret_env" in table:
        secret = _from_env(table["secret_env"], "webhook.secret_env", environ)
    return Webhook(url=table["url"], secret=secret or "")


def _from_env(name: object, key: str, environ: Mapping[str, str]) -> str:
    value = environ.get(name, "").strip() if isinstance(name, str) else ""
    if not value:
        raise ConfigError(f"{key} names the variable {name!r}, which is not set; set it.")
    return value

"""Custom rates: negotiated, self-hosted or missing prices from a TOML file, each with its start date and source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal, InvalidOperation
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from eco2_callbacks.arguments import check_mapping, check_text
from eco2_callbacks.errors import ConfigError, RatesFileError
from eco2_callbacks.pricing.exchange import check_currency

__all__ = ["CONTEXT_KEYS", "PRICE_KEYS", "Price", "Rate", "rates_of", "read_document", "read_rates"]


class _Tier(Protocol):
    @property
    def start(self) -> int: ...
    @property
    def price(self) -> Decimal: ...


class _TieredPrices(Protocol):
    """``genai_prices.types.TieredPrices``, as a type that does not import it."""

    @property
    def base(self) -> Decimal: ...
    @property
    def tiers(self) -> Sequence[_Tier]: ...


Price: TypeAlias = Decimal | _TieredPrices
# No unit costs as much. A larger price would be infinite as the float of a metric.
_MAX_USD = 1_000_000_000
_MAX_SHOWN = 80

# genai-prices' own price keys, so that an entry of its data can be pasted, and keys for the units it lacks.
PRICE_KEYS = frozenset(
    {
        "attachment_searches_kcount",
        "cache_audio_read_mtok",
        "cache_read_mtok",
        "cache_write_1h_mtok",
        "cache_write_5m_mtok",
        "cache_write_mtok",
        "code_executions_kcount",
        "code_interpreter_each",
        "image_each",
        "input_audio_mtok",
        "input_mtok",
        "maps_grounding_each",
        "output_audio_mtok",
        "output_citation_mtok",
        "output_image_mtok",
        "output_mtok",
        "output_reasoning_mtok",
        "requests_kcount",
        "storage_searches_kcount",
        "web_fetches_kcount",
        "web_searches_kcount",
        "x_searches_kcount",
    }
)
# What can change a price besides model and date, as the answer or the request states it.
CONTEXT_KEYS = frozenset(
    {
        "container_memory",  # of OpenAI's code interpreter: 1g, 4g, 16g, 64g
        "inference_geo",  # Anthropic: us, global
        "processing",  # batch
        "region",  # of a regional endpoint
        "search_context_size",  # low, medium, high
        "speed",  # Anthropic: fast, standard
    }
)
_FIELDS = frozenset({"provider", "model", "start", "source", "service_tier", "currency"})
_FACTORS = frozenset({"token_factor", "cache_read_factor", "token_cost_step"})


@dataclass(frozen=True, slots=True)
class Rate:
    """Prices of a model from a day on. They win over the public ones, key by key.

    Attributes:
        provider: Its name in genai-prices or LangChain, or a pattern; ``*`` is any.
        model: Exact name, or a pattern such as ``gpt-5.2*``.
        start: First day (UTC) on which the prices hold.
        source: Where they come from: a contract, or a page and the date it was read.
        prices: USD by price key: ``_mtok`` is for a million tokens, ``_kcount`` for a thousand, ``_each`` for one.
        service_tier: The tier they hold in; None is the standard tier.
        context: Further conditions (``CONTEXT_KEYS``), each a value or a pattern: ``{"speed": "fast"}``.
        token_factor: Multiplies every price of tokens.
        cache_read_factor: Price of a cached input token as a share of the input price, where it has no price.
        token_cost_step: The dollars of input and of output tokens are each rounded to a multiple of it.
        currency: The currency of ``prices``; each call takes the exchange rate of its day.

    Raises:
        ConfigError: If a value cannot be used.
    """

    provider: str
    model: str
    start: date
    source: str
    prices: Mapping[str, Price]
    service_tier: str | None = None
    context: Mapping[str, str] = field(default_factory=dict)
    token_factor: Decimal | None = None
    cache_read_factor: Decimal | None = None
    token_cost_step: Decimal | None = None
    currency: str = "USD"

    def __post_init__(self) -> None:
        for name in ("provider", "model", "source"):
            check_text(name, getattr(self, name))
        if type(self.start) is not date:
            raise ConfigError(f"start= is {self.start!r}, wanted the first day; pass a datetime.date.")
        if self.service_tier is not None:
            check_text("service_tier", self.service_tier)
        check_currency(self.currency)
        for name, known in (("prices", PRICE_KEYS), ("context", CONTEXT_KEYS)):
            if unknown := check_mapping(name, getattr(self, name)).keys() - known:
                raise ConfigError(f"{name}= has unknown keys {sorted(unknown)!r}; known are {sorted(known)!r}.")
        for key, price in self.prices.items():
            if not (_is_usd(price) or _is_tiered(price)):
                raise ConfigError(f"prices[{key!r}] is {_shown(price)}, wanted a Decimal of 0 or more; pass one.")
        for key, value in self.context.items():
            check_text(f"context[{key!r}]", value)
        for name in ("token_factor", "cache_read_factor", "token_cost_step"):
            if (factor := getattr(self, name)) is not None and not _is_usd(factor):
                raise ConfigError(f"{name}= is {_shown(factor)}, wanted a Decimal of 0 or more; pass one.")

    def is_for(self, provider: str, model: str) -> bool:
        """Return whether the rate is for this provider and model name; case does not matter."""
        return fnmatchcase(provider.lower(), self.provider.lower()) and fnmatchcase(model.lower(), self.model.lower())

    def holds_in(self, context: Mapping[str, str]) -> bool:
        """Return whether the rate's further conditions hold in a call's context."""
        return all(fnmatchcase(context.get(key, ""), wanted) for key, wanted in self.context.items())


def read_rates(path: str | Path) -> tuple[Rate, ...]:
    """Read a TOML file of ``[[rates]]`` tables alone.

    Raises:
        ConfigError: If it is no path.
        RatesFileError: If the file is missing or not TOML, or an entry lacks a field or has an unknown one.
    """
    document = read_document(path)
    if set(document) != {"rates"}:
        raise RatesFileError(path, f"found the keys {sorted(document)!r}, wanted [[rates]] tables only.")
    return rates_of(path, document["rates"])


def read_document(path: str | Path) -> dict[str, Any]:
    """Read a TOML file; its numbers are exact.

    Raises:
        ConfigError: If it is no path.
        RatesFileError: If the file is missing or not TOML.
    """
    import tomllib  # noqa: PLC0415

    if not isinstance(path, str | Path):
        raise ConfigError(f"prices= is {path!r}, wanted a PriceBook or the path of a rates file; pass one.")
    try:
        with open(path, "rb") as file:
            return tomllib.load(file, parse_float=Decimal)
    except OSError as error:
        raise RatesFileError(path, f"{error.strerror or error}; name an existing file.") from error
    except RecursionError as error:
        raise RatesFileError(path, "no rates: brackets are nested too deep; write [[rates]] tables.") from error
    except (ValueError, ArithmeticError) as error:  # not TOML, not UTF-8, or a number with too many digits
        raise RatesFileError(path, f"no valid TOML ({error}).") from error


def rates_of(path: str | Path, entries: Any) -> tuple[Rate, ...]:
    """Return the rates of a document's ``[[rates]]``.

    Raises:
        RatesFileError: If an entry lacks a field or has an unknown one.
    """
    if not isinstance(entries, list):
        raise RatesFileError(path, "found the keys ['rates'], wanted [[rates]] tables only.")
    return tuple(_rate(path, number, entry) for number, entry in enumerate(entries, start=1))


def _rate(path: str | Path, number: int, entry: Any) -> Rate:
    if not isinstance(entry, dict):
        raise RatesFileError(path, f"entry {number} is {entry!r}, wanted a table; write it as [[rates]].")
    if missing := {"provider", "model", "start", "source"} - entry.keys():
        raise RatesFileError(path, f"entry {number} lacks {sorted(missing)!r}; give every rate its start and source.")
    if unknown := entry.keys() - _FIELDS - CONTEXT_KEYS - _FACTORS - PRICE_KEYS:
        raise RatesFileError(
            path, f"entry {number} has unknown keys {sorted(unknown)!r}; known are {sorted(PRICE_KEYS)!r}."
        )
    fields = {key: entry[key] for key in (_FIELDS | CONTEXT_KEYS) & entry.keys()}
    for key, value in fields.items():
        wanted = date if key == "start" else str
        if type(value) is not wanted or not value:
            raise RatesFileError(path, f"entry {number} has {key} = {value!r}, wanted a {wanted.__name__}.")
    prices = {key: _price(path, number, key, entry[key]) for key in PRICE_KEYS & entry.keys()}
    factors: dict[str, Any] = {key: _usd(path, number, key, entry[key]) for key in _FACTORS & entry.keys()}
    if not prices and not factors:
        raise RatesFileError(path, f"entry {number} has no price; give at least one of {sorted(PRICE_KEYS)!r}.")
    context = {key: fields.pop(key) for key in CONTEXT_KEYS & fields.keys()}
    try:
        check_currency(fields.get("currency", "USD"))
    except ConfigError as error:
        raise RatesFileError(path, f"entry {number}: {error}") from error
    return Rate(prices=prices, context=context, **factors, **fields)


def _price(path: str | Path, number: int, key: str, value: Any) -> Price:
    if isinstance(value, dict) and value.keys() == {"base", "tiers"} and isinstance(value["tiers"], list):
        from genai_prices.types import Tier, TieredPrices  # noqa: PLC0415

        tiers = []
        for tier in value["tiers"]:
            start = tier.get("start") if isinstance(tier, dict) and tier.keys() == {"start", "price"} else None
            if type(start) is not int or start < 0:
                raise RatesFileError(path, f"entry {number} has the {key} tier {tier!r}, wanted {{start, price}}.")
            tiers.append(Tier(start=start, price=_usd(path, number, key, tier["price"])))
        return TieredPrices(base=_usd(path, number, key, value["base"]), tiers=tiers)
    return _usd(path, number, key, value)


def _usd(path: str | Path, number: int, key: str, value: Any) -> Decimal:
    usd = Decimal("nan")
    if isinstance(value, int | str | Decimal) and not isinstance(value, bool):
        with suppress(InvalidOperation):
            usd = Decimal(value)
    if not _is_usd(usd):
        most = f", {_MAX_USD:,} at most" if usd.is_finite() and usd > _MAX_USD else ""
        raise RatesFileError(path, f"entry {number} has {key} = {_shown(value)}, wanted dollars of 0 or more{most}.")
    return usd


def _is_tiered(value: object) -> bool:
    from genai_prices.types import TieredPrices  # noqa: PLC0415

    return isinstance(value, TieredPrices)


def _is_usd(value: object) -> bool:
    return isinstance(value, Decimal) and value.is_finite() and 0 <= value <= _MAX_USD


def _shown(value: object) -> str:
    try:
        shown = repr(value)
    except ValueError:  # an int with too many digits
        shown = "a number with thousands of digits"
    return shown if len(shown) <= _MAX_SHOWN else f"{shown[:_MAX_SHOWN]}..."

"""PriceBook: finds the prices of a model, the public ones and the user's custom rates, and prices usages with them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from fnmatch import fnmatchcase
from functools import cache
from importlib.metadata import version
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from eco2_callbacks.arguments import check_instance, check_mapping, check_text
from eco2_callbacks.errors import ConfigError, UnknownModelError
from eco2_callbacks.forks import importing
from eco2_callbacks.log_once import is_first
from eco2_callbacks.pricing import public_prices
from eco2_callbacks.pricing.adjustments import Adjustment, adjustment_for, reduced
from eco2_callbacks.pricing.bill import (
    UNITS,
    PriceSheet,
    bill,
    cache_effect,
    compile_sheet,
    rates_used,
    round_tokens,
    shape_of,
)
from eco2_callbacks.pricing.cost import Cost
from eco2_callbacks.pricing.data_age import updated_at
from eco2_callbacks.pricing.exchange import ExchangeRates
from eco2_callbacks.pricing.price_file import read_prices
from eco2_callbacks.pricing.rates import Price, Rate, read_rates
from eco2_callbacks.pricing.rates_used import RatesUsed
from eco2_callbacks.pricing.sourced_prices import SourcedPrices, scaled
from eco2_callbacks.usage import TokenUsage, is_known_provider

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot
    from genai_prices.types import ModelInfo

__all__ = ["Context", "PriceBook", "Quote", "standard_sheet"]

_logger = logging.getLogger(__name__)
# Models that one book remembers, and tiers and days that one model remembers. A full cache starts anew.
_MAX_CACHED = 2048
_STANDARD_TIERS = frozenset({None, "", "auto", "default", "standard", "on_demand"})
# Tiers that cost more or less than the standard one wherever they are sold.
_PRICED_TIERS = frozenset({"batch", "fast", "flex", "priority"})
# Names that genai-prices' own matching takes for another provider.
_PROVIDER_IDS = {
    "anthropic-bedrock": "aws",
    "anthropic-mantle": "aws",
    "anthropicvertex": "google",
    "azure_ai": "azure",
    "azure_openai": "azure",
    "bedrock-mantle": "aws",
    "google_anthropic_vertex": "google",
    "openai-mantle": "aws",
}
_ZERO = Decimal(0)
_STANDARD = ()
# How a source is named in RatesUsed.
_PUBLIC = "genai-prices"
_BUILTIN = "built-in fees: "

# What can change a price besides model and date, as sorted pairs: ``(("service_tier", "flex"),)``.
Context = tuple[tuple[str, str], ...]


class Quote(NamedTuple):
    """What a usage costs, and how sure that is.

    Attributes:
        cost: What the units with a known rate cost.
        is_custom: Whether a custom rate sets a price.
        unpriced: The counts above 0 that have no rate, and the service tier if it has none.
        is_certain: False where it is unknown which of two rates applies.
        cache_savings_usd: What prompt-cache reads saved.
        cache_surcharge_usd: What prompt-cache writes cost above the plain input rate.
        rates: The prices that made ``cost``.
        list_cost: What the public prices give; the same as ``cost`` without custom rates and discounts, None where no
            public price is known.
        margin: The margin that is charged on top; None where there is none.
    """

    cost: Cost
    is_custom: bool = False
    unpriced: tuple[str, ...] = ()
    is_certain: bool = True
    cache_savings_usd: Decimal = _ZERO
    cache_surcharge_usd: Decimal = _ZERO
    rates: RatesUsed | None = None
    list_cost: Cost | None = None
    margin: Adjustment | None = None


class PriceBook:
    """Prices of every model that genai-prices knows, and custom rates, which win.

    Args:
        rates: Custom rates. Of two for the same price key the later start holds.
        adjustments: Discounts and margins, by provider, model and tenant. One of each kind holds for a call.
        exchange_rates: Dated exchange rates, for custom rates in another currency.

    Raises:
        ConfigError: If an item is no rate or no adjustment, or a rate's currency has no exchange rates.

    A book never uses the network. If the application keeps genai-prices' data fresh with its ``UpdatePrices``, the
    book uses the fresh data. The prices of a model, context and day are looked up once.
    """

    def __init__(
        self,
        rates: Iterable[Rate] = (),
        *,
        adjustments: Iterable[Adjustment] = (),
        exchange_rates: ExchangeRates | None = None,
    ) -> None:
        self._custom_rates = _check_rates(rates)
        self._adjustments = tuple(
            check_instance("adjustments", each, Adjustment, "make each with Adjustment(...)") for each in adjustments
        )
        self._exchange_rates = exchange_rates
        if exchange_rates is None and (foreign := [r.currency for r in self._custom_rates if r.currency != "USD"]):
            raise ConfigError(f"A custom rate is in {foreign[0]}; pass exchange_rates=ExchangeRates.from_csv(...).")
        self._snapshot: DataSnapshot | None = None
        self._updated_at: tuple[DataSnapshot, datetime] | None = None
        self._models: dict[tuple[str, str], _PricedModel | None] = {}
        if self._custom_rates:
            self._warn_of_unknown_providers()

    def load(self) -> None:
        """Load the price data, which the first price would else do: 30 ms, more without cached bytecode."""
        self._current_snapshot()
        _builtin_fees()

    @property
    def is_loaded(self) -> bool:
        """Whether the public price data is loaded."""
        return public_prices.is_loaded()

    def _current_snapshot(self) -> DataSnapshot:
        snapshot = public_prices.snapshot()
        if snapshot is not self._snapshot:
            self._models = {}
            self._snapshot = snapshot
        return snapshot

    def _warn_of_unknown_providers(self) -> None:
        snapshot = self._current_snapshot()
        for provider in dict.fromkeys(rate.provider for rate in self._custom_rates):
            if not _is_provider(snapshot, provider) and is_first("rate", provider):
                _logger.warning(
                    "Unknown provider %r in the custom rates: the rate is not used, unless a model names exactly this "
                    "provider. Known are %s; correct the name.",
                    provider,
                    ", ".join(sorted(known.id for known in snapshot.providers)),
                )

    @classmethod
    def from_toml(cls, path: str | Path) -> PriceBook:
        """Return a book with the custom rates of a file.

        Raises:
            RatesFileError: If the file cannot be read or an entry is not a rate.
        """
        found = read_prices(path)
        return cls(found.rates, adjustments=found.adjustments, exchange_rates=found.exchange_rates)

    @property
    def version(self) -> str:
        """The version of the price data that was used last, and the number of custom rates and adjustments, if any.

        ``0.2.3``, ``0.2.3+2`` with two custom rates, ``0.2.3@2026-11-29`` with data fetched on that day.
        """
        public = version("genai-prices")
        snapshot = self._snapshot or self._current_snapshot()
        if snapshot.from_auto_update:
            public = f"{public}@{snapshot.timestamp.date()}"
        custom = len(self._custom_rates) + len(self._adjustments)
        return f"{public}+{custom}" if custom else public

    @property
    def updated_at(self) -> datetime:
        """When the public price data was current: the time of the fetch, or the start of its latest price."""
        snapshot, known = self._current_snapshot(), self._updated_at
        if known is None or known[0] is not snapshot:
            known = self._updated_at = snapshot, updated_at(snapshot, datetime.now(UTC).date())
        return known[1]

    def price(
        self,
        usage: TokenUsage,
        *,
        provider: str,
        model: str,
        service_tier: str | None = None,
        context: Mapping[str, str] | None = None,
        at: datetime | None = None,
        tenant_id: str = "",
    ) -> Cost:
        """Return what a usage costs.

        Args:
            usage: What was consumed. A count inside another one is billed at its own rate only.
            provider: LangChain's ``ls_provider`` or genai-prices' id; ``""`` finds it by the model's name.
            model: The model that answered.
            service_tier: The tier that served the call; None and ``default`` are the standard one.
            context: What else changes the price: ``{"speed": "fast"}``, ``{"search_context_size": "low"}``, ...
            at: When the call started; None is now. The prices of that UTC day hold.
            tenant_id: Whose call it is, for discounts by tenant.

        Returns:
            Exact cost in USD. A token count without a price of its own is billed as the count it lies in. A fee
            without a price is left out.

        Raises:
            UnknownModelError: If no price is known.
            UsageError: If counts inside another one exceed it.
            ConfigError: If an argument has the wrong type.
        """
        check_instance("usage", usage, TokenUsage, "pass TokenUsage(input_tokens=..., output_tokens=...)")
        check_text("provider", provider, may_be_empty=True)
        check_text("model", model, may_be_empty=True)
        if at is not None:
            check_instance("at", at, datetime, "pass one with a time zone")
        pairs = dict(check_mapping("context", context))
        if service_tier not in _STANDARD_TIERS:
            pairs["service_tier"] = str(service_tier)
        quote = self.quote(
            usage, provider=provider, model=model, context=tuple(sorted(pairs.items())), at=at, tenant_id=tenant_id
        )
        return quote.cost

    def quote(
        self,
        usage: TokenUsage,
        *,
        provider: str,
        model: str,
        context: Context = _STANDARD,
        at: datetime | None = None,
        samplings: int = 1,
        window: int | None = None,
        tenant_id: str = "",
    ) -> Quote:
        """Return what a usage costs, with the units that have no rate.

        Args:
            usage: As for ``price``.
            provider: As for ``price``.
            model: As for ``price``.
            context: What changes the price, the service tier too, as sorted pairs.
            at: As for ``price``.
            samplings: How often the model was sampled, at most: the usage of a server-tool loop is their sum.
            window: The longest prompt that the request allows; by default the model's context window.
            tenant_id: Whose call it is.

        Raises:
            UnknownModelError: If no price is known.
            UsageError: If counts inside another one exceed it.
        """
        at = datetime.now(UTC) if at is None else at
        if at.tzinfo is not UTC:
            at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
        snapshot = self._current_snapshot()
        try:
            priced = self._models[provider, model]
        except KeyError:
            if len(self._models) >= _MAX_CACHED:
                self._models.clear()
            priced = self._models[provider, model] = self._find(snapshot, provider, model)
        discount = margin = None
        if self._adjustments and priced is not None:
            discount, margin = priced.adjustments(tenant_id, at.date())
        sheet = None if priced is None else priced.sheet(context, at, discount)
        if priced is None or sheet is None or not sheet.lines:
            raise UnknownModelError(provider, model, at.date().isoformat())
        prompt_tokens, is_certain = usage.input_tokens, True
        if samplings > 1 and sheet.long_prompt is not None and prompt_tokens > sheet.long_prompt:
            prompt_tokens = min(prompt_tokens, window or sheet.window or prompt_tokens)
            if prompt_tokens > sheet.long_prompt:
                # Some sampling may have been long, or none.
                prompt_tokens, is_certain = usage.input_tokens // samplings, False
        shape = shape_of(sheet, usage)
        cost, billed = bill(shape.lines, usage, prompt_tokens)
        rates = rates_used(sheet, billed, prompt_tokens)
        if sheet.token_cost_step is not None:
            cost = round_tokens(cost, sheet.token_cost_step)
        list_cost: Cost | None = cost
        if sheet.is_custom:
            list_cost = None
            if sheet.list_prices:
                list_cost = bill(priced.list_sheet(context, at).lines, usage, prompt_tokens)[0]
            if discount is not None and discount.fixed_usd:
                cost = reduced(cost, discount.fixed_usd)
        unpriced: tuple[str, ...] = (f"service tier {sheet.unpriced_tier!r}",) if sheet.unpriced_tier else ()
        if shape.unpriced:
            unpriced += shape.unpriced
        if usage.cache_read_tokens or usage.cache_creation_tokens:
            saved, extra = cache_effect(sheet, usage, prompt_tokens)
            return Quote(cost, sheet.is_custom, unpriced, is_certain, saved, extra, rates, list_cost, margin)
        return Quote(cost, sheet.is_custom, unpriced, is_certain, rates=rates, list_cost=list_cost, margin=margin)

    @property
    def custom_rates(self) -> tuple[Rate, ...]:
        """The custom rates."""
        return self._custom_rates

    @property
    def adjustments(self) -> tuple[Adjustment, ...]:
        """The discounts and margins."""
        return self._adjustments

    def _find(self, snapshot: DataSnapshot, provider: str, model: str) -> _PricedModel | None:
        from genai_prices.data_snapshot import find_provider_by_id  # noqa: PLC0415

        seller = find_provider_by_id(snapshot.providers, _PROVIDER_IDS.get(provider, provider)) if provider else None
        info: ModelInfo | None = None
        if seller is not None:
            info = seller.find_model(model, all_providers=snapshot.providers)
        elif not provider:
            with suppress(LookupError):
                seller, info = snapshot.find_provider_model(model, None, None, None)
        # A custom rate for "gpt-5.2" holds for the dated name in the answer too.
        names = {model} if info is None else {model, info.id}
        providers = {provider} if seller is None else {provider, seller.id}

        def applicable(rates: Iterable[Rate]) -> tuple[Rate, ...]:
            return tuple(rate for rate in rates if any(rate.is_for(p, m) for p in providers for m in names))

        builtin, custom = applicable(_builtin_fees()), applicable(self._custom_rates)
        if info is None and not custom and not any("input_mtok" in rate.prices for rate in builtin):
            return None
        # As in genai-prices: a provider that sells another one's model does not sell the other's tiers.
        has_tiers = info is not None and seller is not None and any(info is sold for sold in seller.models)
        adjustments = tuple(each for each in self._adjustments if each.is_for_model(providers, names))
        return _PricedModel(
            info,
            has_tiers,
            builtin,
            custom,
            self.version,
            adjustments=adjustments,
            exchange_rates=self._exchange_rates,
        )


@cache
def _builtin_fees() -> tuple[Rate, ...]:
    with importing, as_file(files("eco2_callbacks.pricing") / "builtin_fees.toml") as path:
        return read_rates(path)


def standard_sheet(book: PriceBook, *, provider: str, model: str, at: datetime) -> PriceSheet | None:
    """Return the standard price sheet of a model at a time in UTC, None where no price holds then."""
    priced = book._find(book._current_snapshot(), provider, model)
    sheet = None if priced is None else priced.sheet(_STANDARD, at)
    return sheet if sheet is not None and sheet.lines else None


class _PricedModel:
    """The prices of one model, compiled to a price sheet for each context and day."""

    def __init__(
        self,
        info: ModelInfo | None,
        has_tiers: bool,
        builtin: tuple[Rate, ...],
        custom: tuple[Rate, ...],
        version: str,
        *,
        adjustments: tuple[Adjustment, ...] = (),
        exchange_rates: ExchangeRates | None = None,
    ) -> None:
        self._adjustments = adjustments
        self._exchange_rates = exchange_rates
        self._in_force_for: dict[tuple[str, date], tuple[Adjustment | None, Adjustment | None]] = {}
        self._info = info
        self._has_tiers = has_tiers
        self._builtin = builtin
        self._custom = custom
        self._version = version
        variants = info.price_variants or [] if info is not None else []
        self._public_keys = {key for variant in variants for key in variant.when} if has_tiers else set()
        tiers = {variant.when.get("service_tier") for variant in variants} if has_tiers else set()
        self._public_tiers = tiers - _STANDARD_TIERS
        dated = [*(info.prices if info is not None and isinstance(info.prices, list) else ()), *variants]
        from genai_prices.types import TimeOfDateConstraint  # noqa: PLC0415

        self._by_minute = any(isinstance(price.constraint, TimeOfDateConstraint) for price in dated)
        self._compiled: dict[tuple[Context, object, object], PriceSheet] = {}

    def adjustments(self, tenant_id: str, day: date) -> tuple[Adjustment | None, Adjustment | None]:
        """Return the discount and the margin that hold for a tenant on a day."""
        found = self._in_force_for.get((tenant_id, day))
        if found is None:
            if len(self._in_force_for) >= _MAX_CACHED:
                self._in_force_for.clear()
            found = self._in_force_for[tenant_id, day] = (
                adjustment_for(self._adjustments, "discount", tenant_id, day),
                adjustment_for(self._adjustments, "margin", tenant_id, day),
            )
        return found

    def sheet(self, context: Context, at: datetime, discount: Adjustment | None = None) -> PriceSheet:
        """Return the price sheet at a time in UTC, one without lines where no price holds then."""
        return self._remembered(context, at, discount)

    def list_sheet(self, context: Context, at: datetime) -> PriceSheet:
        """Return the sheet of the public prices alone, without custom rates and discounts."""
        return self._remembered(context, at, "list")

    def _remembered(self, context: Context, at: datetime, variant: Adjustment | str | None) -> PriceSheet:
        key = (context, at.replace(second=0, microsecond=0) if self._by_minute else at.date(), variant)
        sheet = self._compiled.get(key)
        if sheet is None:
            if len(self._compiled) >= _MAX_CACHED:
                self._compiled.clear()
            custom = () if variant == "list" else self._in_force(self._custom, dict(context), at)
            discount = variant if isinstance(variant, Adjustment) else None
            listed = None
            if custom or discount is not None:
                listed = self.list_sheet(context, at).prices
            sheet = self._compiled[key] = self._compile(dict(context), at, custom, discount, listed)
        return sheet

    def _compile(
        self,
        context: Mapping[str, str],
        at: datetime,
        custom: Sequence[Rate],
        discount: Adjustment | None,
        listed: Mapping[str, Price] | None,
    ) -> PriceSheet:
        public: dict[str, Price] = {}
        if self._info is not None:
            found = self._info.get_prices(at, context if context and self._has_tiers else None).__dict__
            public = {key: price for key in UNITS if (price := found.get(key)) is not None}
        if (found_rates := self._in_dollars(custom, at.date())) is None:
            return compile_sheet({}, sources={}, version=self._version)
        custom = found_rates
        has_custom_price = any(rate.prices for rate in custom)
        rows = self._in_force(self._builtin, context, at)
        prices = self._with_builtin(public, rows)
        if "input_mtok" not in prices.usd and not public and not has_custom_price:
            return compile_sheet({}, sources={}, version=self._version)  # fees alone are no price
        for rate in custom:
            if "image_each" in rate.prices:
                # Priced by the piece, an image has paid for its tokens, which lie inside the output.
                prices.add({"output_image_mtok": _ZERO}, rate.source)
        prices.add_rates(custom)
        prices.apply_factors(custom)
        if discount is not None:
            prices.discount(discount.factor, discount.source)
        window = None if self._info is None else self._info.context_window
        steps = [row.token_cost_step for row in (custom or rows) if row.token_cost_step is not None]
        step = steps[-1] if steps else None
        tier = context.get("service_tier", "")
        is_known = bool(custom) or tier in self._public_tiers or any(row.service_tier == tier for row in rows)
        return compile_sheet(
            prices.usd,
            sources=prices.sources,
            version=self._version,
            is_custom=bool(custom) or discount is not None,
            window=window,
            token_cost_step=step,
            list_prices=listed,
            context=context,
            unpriced_tier=tier if tier in _PRICED_TIERS and not is_known else "",
        )

    def _in_dollars(self, custom: Sequence[Rate], day: date) -> list[Rate] | None:
        """Return custom rates with their prices in dollars; None where an exchange rate is missing."""
        found = []
        for rate in custom:
            if rate.currency == "USD" or self._exchange_rates is None:
                found.append(rate)
                continue
            try:
                factor = self._exchange_rates.usd_per_unit(rate.currency, day)
            except ConfigError as error:
                if is_first("exchange rate", rate.currency, str(day)):
                    _logger.error("%s The calls of that day count as unpriced.", error)
                return None
            prices = {key: scaled(price, factor) for key, price in rate.prices.items()}
            found.append(replace(rate, prices=prices, currency="USD"))
        return found

    def _with_builtin(self, public: Mapping[str, Price], rows: Iterable[Rate]) -> SourcedPrices:
        """Return the public prices with the built-in rows.

        A row without conditions fills in what the public prices lack. A row for a context wins over them, unless they
        know that kind of context themselves.
        """
        special = [row for row in rows if row.context or row.service_tier is not None]
        special = [row for row in special if not self._knows(row)]
        plain = [row for row in rows if not row.context and row.service_tier is None]
        prices = SourcedPrices()
        prices.add_rates(plain, prefix=_BUILTIN)
        prices.add(public, _PUBLIC)
        prices.add_rates(special, prefix=_BUILTIN)
        prices.apply_factors([*plain, *special], prefix=_BUILTIN)
        return prices

    def _knows(self, row: Rate) -> bool:
        keys = row.context.keys() | ({"service_tier"} if row.service_tier is not None else set())
        return bool(keys & self._public_keys)

    def _in_force(self, rates: tuple[Rate, ...], context: Mapping[str, str], at: datetime) -> list[Rate]:
        """Return the rates that hold in a context, the more specific last.

        Custom standard rates hold below a tier's own, unless the tier has public prices.
        """
        service_tier = context.get("service_tier")
        begun = sorted((rate for rate in rates if rate.start <= at.date()), key=lambda rate: rate.start)
        begun = sorted((rate for rate in begun if rate.holds_in(context)), key=lambda rate: len(rate.context))
        found: list[Rate] = []
        if rates is self._builtin or service_tier not in self._public_tiers:
            found += [rate for rate in begun if rate.service_tier in _STANDARD_TIERS]
        if service_tier is not None:
            found += [rate for rate in begun if rate.service_tier == service_tier]
        return found


def _check_rates(rates: Iterable[Rate]) -> tuple[Rate, ...]:
    if isinstance(rates, str | bytes | Path | Mapping) or not isinstance(rates, Iterable):
        raise ConfigError(f"rates= is {rates!r}, wanted a list of Rate; PriceBook.from_toml() reads a file.")
    found = tuple(rates)
    for rate in found:
        check_instance("rates", rate, Rate, "make each with Rate(...)")
    return found


def _is_provider(snapshot: DataSnapshot, name: str) -> bool:
    """Return whether genai-prices or this package knows a provider, or one that a pattern matches."""
    if is_known_provider(name) or name in _PROVIDER_IDS:
        return True
    from genai_prices.data_snapshot import find_provider_by_id  # noqa: PLC0415

    if find_provider_by_id(snapshot.providers, name) is not None:
        return True
    return any(fnmatchcase(known.id.lower(), name.lower()) for known in snapshot.providers)

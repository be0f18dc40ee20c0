"""PricedModel: the prices of one model, public, built-in and custom, compiled to price sheets."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from eco2_callbacks.errors import ConfigError
from eco2_callbacks.log_once import is_first
from eco2_callbacks.pricing.adjustments import Adjustment, adjustment_for
from eco2_callbacks.pricing.exchange import ExchangeRates
from eco2_callbacks.pricing.price_sheet import UNITS, PriceSheet, compile_sheet
from eco2_callbacks.pricing.rates import Price, Rate
from eco2_callbacks.pricing.sourced_prices import SourcedPrices, scaled

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo

__all__ = ["STANDARD_TIERS", "Context", "PricedModel"]

_logger = logging.getLogger(__name__)
# Contexts and days that one model remembers. A full cache starts anew.
_MAX_CACHED = 2048
STANDARD_TIERS = frozenset({None, "", "auto", "default", "standard", "on_demand"})
# Tiers that cost more or less than the standard one wherever they are sold.
_PRICED_TIERS = frozenset({"batch", "fast", "flex", "optimized", "priority"})
# The parts of a context that name one, and how a log line calls them.
_TIERS = {"service_tier": "service tier", "processing": "processing", "speed": "speed"}
_ZERO = Decimal(0)
# How a source is named in RatesUsed.
_PUBLIC = "genai-prices"
_BUILTIN = "built-in fees: "

# What can change a price besides model and date, as sorted pairs: ``(("service_tier", "flex"),)``.
Context = tuple[tuple[str, str], ...]


class PricedModel:
    """The prices of one model, compiled to a price sheet for each context and day."""

    def __init__(
        self,
        info: ModelInfo | None,
        has_tiers: bool,
        builtin: tuple[Rate, ...],
        custom: tuple[Rate, ...],
        version: str,
        *,
        model: str = "",
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
        self._model = model
        variants = info.price_variants or [] if info is not None else []
        self._public_pairs = {pair for variant in variants for pair in variant.when.items()} if has_tiers else set()
        self._public_keys = {key for key, _ in self._public_pairs}
        self._public_tiers = {value for key, value in self._public_pairs if key == "service_tier"} - STANDARD_TIERS
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
        return compile_sheet(
            prices.usd,
            sources=prices.sources,
            version=self._version,
            is_custom=bool(custom) or discount is not None,
            has_custom_rate=bool(custom),
            window=window,
            token_cost_step=step,
            list_prices=listed,
            context=context,
            model=self._model,
            unpriced_tiers=() if custom else self._unpriced_tiers(context, rows),
        )

    def _unpriced_tiers(self, context: Mapping[str, str], rows: Iterable[Rate]) -> tuple[str, ...]:
        """Return what the call was served with that costs otherwise, but has neither a public price nor a row."""
        priced = set(self._public_pairs)
        for row in rows:
            priced.update((key, context.get(key, "")) for key in row.context)
            priced.add(("service_tier", row.service_tier or ""))
        return tuple(
            f"{label} {value!r}"
            for key, label in _TIERS.items()
            if (value := context.get(key, "")) in _PRICED_TIERS and (key, value) not in priced
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

    def _is_public_tier(self, key: str, value: str | None) -> bool:
        return value in _PRICED_TIERS and (key, value) in self._public_pairs

    def _in_force(self, rates: tuple[Rate, ...], context: Mapping[str, str], at: datetime) -> list[Rate]:
        """Return the rates that hold in a context, the more specific last.

        Custom standard rates hold below a tier's own, unless the tier has public prices. So do they in a batch and in
        fast mode.
        """
        service_tier = context.get("service_tier")
        begun = sorted((rate for rate in rates if rate.start <= at.date()), key=lambda rate: rate.start)
        begun = sorted((rate for rate in begun if rate.holds_in(context)), key=lambda rate: len(rate.context))
        if rates is not self._builtin:
            public = {key for key in ("processing", "speed") if self._is_public_tier(key, context.get(key))}
            begun = [rate for rate in begun if public <= rate.context.keys()]
        found: list[Rate] = []
        if rates is self._builtin or service_tier not in self._public_tiers:
            found += [rate for rate in begun if rate.service_tier in STANDARD_TIERS]
        if service_tier is not None:
            found += [rate for rate in begun if rate.service_tier == service_tier]
        return found

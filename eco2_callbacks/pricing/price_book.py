"""PriceBook: finds the prices of a model, the public ones and the user's custom rates, and prices usages with them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from fnmatch import fnmatchcase
from functools import cache
from importlib.metadata import version
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from eco2_callbacks.arguments import check_instance, check_mapping, check_text
from eco2_callbacks.errors import ConfigError, UnknownModelError
from eco2_callbacks.forks import importing
from eco2_callbacks.log_once import is_first
from eco2_callbacks.pricing import public_prices
from eco2_callbacks.pricing.adjustments import Adjustment, reduced
from eco2_callbacks.pricing.bill import bill, cache_effect, round_tokens
from eco2_callbacks.pricing.cost import Cost
from eco2_callbacks.pricing.data_age import updated_at
from eco2_callbacks.pricing.exchange import ExchangeRates
from eco2_callbacks.pricing.price_file import read_prices
from eco2_callbacks.pricing.price_sheet import PriceSheet, rates_used, shape_of
from eco2_callbacks.pricing.priced_model import STANDARD_TIERS, Context, PricedModel
from eco2_callbacks.pricing.rates import Rate, read_rates
from eco2_callbacks.pricing.rates_used import RatesUsed
from eco2_callbacks.usage import TokenUsage, is_known_provider

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot
    from genai_prices.types import ModelInfo

__all__ = ["Context", "PriceBook", "Quote", "standard_sheet"]

_logger = logging.getLogger(__name__)
# Models that one book remembers. A full cache starts anew.
_MAX_CACHED = 2048
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


class Quote(NamedTuple):
    """What a usage costs, and how sure that is.

    Attributes:
        cost: What the units with a known rate cost.
        is_custom: Whether a custom rate or a discount sets a price.
        unpriced: The counts above 0 that have no rate, and the service tier, processing and speed without one.
        is_certain: False where it is unknown which of two rates applies.
        cache_savings_usd: What prompt-cache reads saved.
        cache_surcharge_usd: What prompt-cache writes cost above the plain input rate.
        rates: The prices that made ``cost``.
        list_cost: What the public prices give; the same as ``cost`` without custom rates and discounts, None where no
            public price is known.
        margin: The margin that is charged on top; None where there is none.
        has_custom_rate: Whether a custom rate sets a price or a factor, rather than a discount alone.
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
    has_custom_rate: bool = False


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
        self._models: dict[tuple[str, str], PricedModel] = {}
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
        if service_tier not in STANDARD_TIERS:
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
        takes_fixed: bool = True,
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
            takes_fixed: Whether the fixed dollars of a discount, which are for a whole call, are taken off. False for a
                further model of the same call.

        Raises:
            UnknownModelError: If no price is known.
            UsageError: If counts inside another one exceed it.
        """
        at = _in_utc(at)
        priced = self._priced(provider, model)
        discount = margin = None
        if self._adjustments:
            discount, margin = priced.adjustments(tenant_id, at.date())
        sheet = priced.sheet(context, at, discount)
        if not sheet.lines:
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
        if samplings > 1:
            rates = replace(rates, samplings=samplings, window=window)
        if sheet.token_cost_step is not None:
            cost = round_tokens(cost, sheet.token_cost_step)
        list_cost: Cost | None = cost
        if sheet.is_custom:
            list_cost = None
            if sheet.list_prices:
                list_cost = bill(priced.list_sheet(context, at).lines, usage, prompt_tokens)[0]
            if takes_fixed and discount is not None and discount.fixed_usd:
                cost = reduced(cost, discount.fixed_usd)
        unpriced = sheet.unpriced_tiers
        if shape.unpriced:
            unpriced += shape.unpriced
        if usage.cache_read_tokens or usage.cache_creation_tokens:
            saved, extra = cache_effect(sheet, usage, prompt_tokens)
        else:
            saved = extra = _ZERO
        return Quote(
            cost, sheet.is_custom, unpriced, is_certain, saved, extra, rates, list_cost, margin, sheet.has_custom_rate
        )

    def margin(
        self, *, provider: str, model: str, at: datetime | None = None, tenant_id: str = ""
    ) -> Adjustment | None:
        """Return the margin on a call, also of a model without a price: its provider can state what it charges.

        Args:
            provider: As for ``price``.
            model: As for ``price``.
            at: As for ``price``.
            tenant_id: Whose call it is.
        """
        if not self._adjustments:
            return None
        return self._priced(provider, model).adjustments(tenant_id, _in_utc(at).date())[1]

    @property
    def custom_rates(self) -> tuple[Rate, ...]:
        """The custom rates."""
        return self._custom_rates

    @property
    def adjustments(self) -> tuple[Adjustment, ...]:
        """The discounts and margins."""
        return self._adjustments

    def _priced(self, provider: str, model: str) -> PricedModel:
        snapshot = self._current_snapshot()
        try:
            return self._models[provider, model]
        except KeyError:
            if len(self._models) >= _MAX_CACHED:
                self._models.clear()
            found = self._models[provider, model] = self._find(snapshot, provider, model)
            return found

    def _find(self, snapshot: DataSnapshot, provider: str, model: str) -> PricedModel:
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
        # As in genai-prices: a provider that sells another one's model does not sell the other's tiers.
        has_tiers = info is not None and seller is not None and any(info is sold for sold in seller.models)
        adjustments = tuple(each for each in self._adjustments if each.is_for_model(providers, names))
        return PricedModel(
            info,
            has_tiers,
            builtin,
            custom,
            self.version,
            model=model,
            adjustments=adjustments,
            exchange_rates=self._exchange_rates,
        )


@cache
def _builtin_fees() -> tuple[Rate, ...]:
    with importing.held, as_file(files("eco2_callbacks.pricing") / "builtin_fees.toml") as path:
        return read_rates(path)


def standard_sheet(book: PriceBook, *, provider: str, model: str, at: datetime) -> PriceSheet | None:
    """Return the standard price sheet of a model at a time in UTC, None where no price holds then."""
    sheet = book._find(book._current_snapshot(), provider, model).sheet(_STANDARD, at)
    return sheet if sheet.lines else None


def _in_utc(at: datetime | None) -> datetime:
    at = datetime.now(UTC) if at is None else at
    if at.tzinfo is UTC:
        return at
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


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

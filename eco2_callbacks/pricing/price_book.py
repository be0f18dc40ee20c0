"""PriceBook: finds the prices of a model, the public ones and the user's custom rates, and prices usages with them."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from importlib.metadata import version
from importlib.resources import as_file, files
from pathlib import Path

from genai_prices.data_snapshot import DataSnapshot, find_provider_by_id, get_snapshot
from genai_prices.types import ModelInfo, TimeOfDateConstraint

from eco2_callbacks.errors import UnknownModelError
from eco2_callbacks.pricing.bill import UNITS, Line, bill, compile_lines
from eco2_callbacks.pricing.cost import Cost
from eco2_callbacks.pricing.rates import Price, Rate, read_rates
from eco2_callbacks.usage import TokenUsage

__all__ = ["PriceBook"]

# Models that one book remembers, and tiers and days that one model remembers. A full cache starts anew.
_MAX_CACHED = 2048
_STANDARD_TIERS = frozenset({None, "", "auto", "default", "standard"})
# Names that genai-prices' own matching takes for another provider.
_PROVIDER_IDS = {"azure_openai": "azure", "azure_ai": "azure", "google_anthropic_vertex": "google"}
_ZERO = Decimal(0)


class PriceBook:
    """Prices of every model that genai-prices knows, and custom rates, which win.

    Args:
        rates: Custom rates. Of two for the same price key the later start holds.

    A book never uses the network. If the application keeps genai-prices' data fresh with its ``UpdatePrices``, the
    book uses the fresh data. The prices of a model, tier and day are looked up once.
    """

    def __init__(self, rates: Iterable[Rate] = ()) -> None:
        with as_file(files("eco2_callbacks.pricing") / "builtin_fees.toml") as path:
            self._builtin_fees = read_rates(path)
        self._custom_rates = tuple(rates)
        # Loaded here, so that no callback has to wait for it.
        self._snapshot: DataSnapshot = get_snapshot()
        self._models: dict[tuple[str, str], _PricedModel | None] = {}

    @classmethod
    def from_toml(cls, path: str | Path) -> PriceBook:
        """Return a book with the custom rates of a file.

        Raises:
            RatesFileError: If the file cannot be read or an entry is not a rate.
        """
        return cls(read_rates(path))

    @property
    def version(self) -> str:
        """The version of the price data, and the number of custom rates if there are any."""
        public = version("genai-prices")
        return f"{public}+{len(self._custom_rates)}" if self._custom_rates else public

    def price(
        self,
        usage: TokenUsage,
        *,
        provider: str,
        model: str,
        service_tier: str | None = None,
        at: datetime | None = None,
    ) -> Cost:
        """Return what a usage costs.

        Args:
            usage: What was consumed. A count inside another one is billed at its own rate only.
            provider: LangChain's ``ls_provider`` or genai-prices' id; ``""`` finds it by the model's name.
            model: The model that answered.
            service_tier: The tier that served the call; None and ``default`` are the standard one.
            at: When the call started; None is now. The prices of that UTC day hold.

        Returns:
            Exact cost in USD. A token count without a price of its own is billed as the count it lies in. A fee
            without a price is left out.

        Raises:
            UnknownModelError: If no price is known.
            UsageError: If counts inside another one exceed it.
        """
        at = datetime.now(UTC) if at is None else at
        if at.tzinfo is not UTC:
            at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
        if (snapshot := get_snapshot()) is not self._snapshot:
            self._snapshot, self._models = snapshot, {}
        try:
            priced = self._models[provider, model]
        except KeyError:
            if len(self._models) >= _MAX_CACHED:
                self._models.clear()
            priced = self._models[provider, model] = self._find(snapshot, provider, model)
        lines = None if priced is None else priced.lines(service_tier or "", at)
        if not lines:
            raise UnknownModelError(provider, model, at.date().isoformat())
        return bill(lines, usage)

    def _find(self, snapshot: DataSnapshot, provider: str, model: str) -> _PricedModel | None:
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

        custom_rates = applicable(self._custom_rates)
        if info is None and not custom_rates:
            return None
        # As in genai-prices: a provider that sells another one's model does not sell the other's tiers.
        has_tiers = info is not None and seller is not None and any(info is sold for sold in seller.models)
        return _PricedModel(info, has_tiers, applicable(self._builtin_fees), custom_rates)


class _PricedModel:
    """The prices of one model, compiled to the lines of a bill for each requested tier and day."""

    def __init__(
        self,
        info: ModelInfo | None,
        has_tiers: bool,
        builtin_fees: tuple[Rate, ...],
        custom_rates: tuple[Rate, ...],
    ) -> None:
        self._info = info
        self._has_tiers = has_tiers
        self._builtin_fees = builtin_fees
        self._custom_rates = custom_rates
        variants = info.price_variants or [] if info is not None else []
        tiers = {variant.when.get("service_tier") for variant in variants} if has_tiers else set()
        self._public_tiers = tiers - _STANDARD_TIERS
        dated = [*(info.prices if info is not None and isinstance(info.prices, list) else ()), *variants]
        self._by_minute = any(isinstance(price.constraint, TimeOfDateConstraint) for price in dated)
        self._compiled: dict[tuple[str, object], tuple[Line, ...]] = {}

    def lines(self, service_tier: str, at: datetime) -> tuple[Line, ...]:
        """Return the lines of the bill at a time in UTC, none where no price holds then."""
        key = (service_tier, at.replace(second=0, microsecond=0) if self._by_minute else at.date())
        lines = self._compiled.get(key)
        if lines is None:
            if len(self._compiled) >= _MAX_CACHED:
                self._compiled.clear()
            lines = self._compiled[key] = compile_lines(self._prices(service_tier, at))
        return lines

    def _prices(self, service_tier: str, at: datetime) -> dict[str, Price]:
        custom = self._in_force(self._custom_rates, service_tier, at)
        public: dict[str, Price] = {}
        if self._info is not None:
            context = {"service_tier": service_tier} if service_tier and self._has_tiers else None
            found = self._info.get_prices(at, context).__dict__
            public = {key: price for key in UNITS if (price := found.get(key)) is not None}
        if not public and not custom:
            return {}
        if "image_each" in custom:
            # Priced by the piece, an image has paid for its tokens, which lie inside the output.
            public["output_image_mtok"] = _ZERO
        return {**self._in_force(self._builtin_fees, service_tier, at), **public, **custom}

    def _in_force(self, rates: tuple[Rate, ...], service_tier: str, at: datetime) -> dict[str, Price]:
        """Return the prices of rates in a tier.

        The standard rates hold below the tier's own, unless the tier has public prices.
        """
        begun = sorted((rate for rate in rates if rate.start <= at.date()), key=lambda rate: rate.start)
        merged: dict[str, Price] = {}
        if rates is self._builtin_fees or service_tier not in self._public_tiers:
            for rate in begun:
                if rate.service_tier in _STANDARD_TIERS:
                    merged.update(rate.prices)
        for rate in begun:
            if rate.service_tier == service_tier:
                merged.update(rate.prices)
        return merged

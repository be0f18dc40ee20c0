"""PriceBook: what a usage costs, on genai-prices' rates and own ones, in exact decimal dollars."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from importlib.metadata import version
from importlib.resources import as_file, files
from pathlib import Path
from typing import Literal, NamedTuple

from genai_prices.data_snapshot import DataSnapshot, find_provider_by_id, get_snapshot
from genai_prices.types import ModelInfo, TieredPrices, TimeOfDateConstraint

from eco2_callbacks.errors import UnknownModelError, UsageError
from eco2_callbacks.rates import Price, Rate, read_rates
from eco2_callbacks.records import EXACT, Cost
from eco2_callbacks.usage import TokenUsage

__all__ = ["PriceBook"]

# Models seen by one book, and tiers and days by one model; past it the cache starts anew.
_CACHED = 2048
_STANDARD_TIERS = frozenset({None, "", "auto", "default", "standard"})
# Names that genai-prices' own provider matching takes for another provider.
_PROVIDERS = {"azure_openai": "azure", "azure_ai": "azure", "google_anthropic_vertex": "google"}
_MTOK = 1_000_000
_ZERO = Decimal(0)
# In a context of our own: the application's may have too few digits, and a new task has to make itself one first.
_add, _subtract, _multiply = EXACT.add, EXACT.subtract, EXACT.multiply


class _Unit(NamedTuple):
    """A billed unit: how many are in its price, where its dollars go, and in which priced units it lies."""

    counted: str
    per: int
    side: Literal["input", "output"]
    part: str
    inside: tuple[str, ...] = ()


# The most specific first: what a unit holds beyond the ones inside it is billed at its own rate.
_UNITS: Mapping[str, _Unit] = {
    "cache_audio_read_mtok": _Unit(
        "cache_read_audio_tokens", _MTOK, "input", "cache_read", ("cache_read_mtok", "input_audio_mtok", "input_mtok")
    ),
    "cache_write_1h_mtok": _Unit(
        "cache_creation_1h_tokens", _MTOK, "input", "cache_write", ("cache_write_mtok", "input_mtok")
    ),
    "cache_write_5m_mtok": _Unit(
        "cache_creation_5m_tokens", _MTOK, "input", "cache_write", ("cache_write_mtok", "input_mtok")
    ),
    "cache_read_mtok": _Unit("cache_read_tokens", _MTOK, "input", "cache_read", ("input_mtok",)),
    "cache_write_mtok": _Unit("cache_creation_tokens", _MTOK, "input", "cache_write", ("input_mtok",)),
    "input_audio_mtok": _Unit("input_audio_tokens", _MTOK, "input", "audio", ("input_mtok",)),
    "input_mtok": _Unit("input_tokens", _MTOK, "input", "input"),
    "output_audio_mtok": _Unit("output_audio_tokens", _MTOK, "output", "audio", ("output_mtok",)),
    "output_image_mtok": _Unit("output_image_tokens", _MTOK, "output", "image", ("output_mtok",)),
    "output_reasoning_mtok": _Unit("reasoning_tokens", _MTOK, "output", "reasoning", ("output_mtok",)),
    "output_mtok": _Unit("output_tokens", _MTOK, "output", "output"),
    "image_each": _Unit("images", 1, "output", "image"),
    "web_searches_kcount": _Unit("web_searches", 1000, "output", "web_search"),
    "storage_searches_kcount": _Unit("file_searches", 1000, "output", "file_search"),
    "code_interpreter_each": _Unit("code_interpreter_sessions", 1, "output", "code_interpreter"),
    "maps_grounding_each": _Unit("maps_groundings", 1, "output", "maps_grounding"),
    "requests_kcount": _Unit("", 1000, "input", "input"),
}


class _Line(NamedTuple):
    """One line of a bill: what is counted, at which price, and the lines whose counts lie inside it."""

    counted: str
    usd_each: Decimal
    tiers: tuple[tuple[int, Decimal], ...]
    holds: tuple[int, ...]
    is_input: bool
    part: str


class PriceBook:
    """Prices of every model that genai-prices knows, and own rates, which win.

    Args:
        rates: Own rates, appended in time: of two for the same key the later start holds.

    A book reads no network. If the application keeps genai-prices' data fresh with its ``UpdatePrices``, the book
    follows. Prices are looked up once for a model, tier and day.
    """

    def __init__(self, rates: Iterable[Rate] = ()) -> None:
        with as_file(files("eco2_callbacks") / "fees.toml") as path:
            self._fees = read_rates(path)
        self._rates = tuple(rates)
        # Loaded now and not in the first callback.
        self._snapshot: DataSnapshot = get_snapshot()
        self._models: dict[tuple[str, str], _PricedModel | None] = {}

    @classmethod
    def from_toml(cls, path: str | Path) -> PriceBook:
        """Return a book with the own rates of a file.

        Raises:
            RatesFileError: If the file cannot be read or holds something that is no rate.
        """
        return cls(read_rates(path))

    @property
    def version(self) -> str:
        """The price data's version, with the number of own rates if there are any."""
        public = version("genai-prices")
        return f"{public}+{len(self._rates)}" if self._rates else public

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
            usage: What was consumed; counts inside others are billed at their own rate only.
            provider: LangChain's ``ls_provider`` or genai-prices' id; ``""`` finds it by the model's name.
            model: The model that answered.
            service_tier: The tier of the answer; None or ``default`` is the standard one.
            at: When the call started, None is now; the prices of that day hold.

        Returns:
            Exact cost in USD. A unit that the model has no price for is billed as what it lies in, a fee not at all.

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
            if len(self._models) >= _CACHED:
                self._models.clear()
            priced = self._models[provider, model] = self._find(snapshot, provider, model)
        lines = None if priced is None else priced.lines(service_tier or "", at)
        if not lines:
            raise UnknownModelError(provider, model, at.date().isoformat())
        return _bill(lines, usage)

    def _find(self, snapshot: DataSnapshot, provider: str, model: str) -> _PricedModel | None:
        public = find_provider_by_id(snapshot.providers, _PROVIDERS.get(provider, provider)) if provider else None
        info: ModelInfo | None = None
        if public is not None:
            info = public.find_model(model, all_providers=snapshot.providers)
        elif not provider:
            with suppress(LookupError):
                public, info = snapshot.find_provider_model(model, None, None, None)
        # A negotiated rate for "gpt-5.2" is meant for the dated name in the answer too.
        names = {model} if info is None else {model, info.id}
        providers = {provider} if public is None else {provider, public.id}

        def meant(rates: Iterable[Rate]) -> tuple[Rate, ...]:
            return tuple(rate for rate in rates if any(rate.is_for(p, m) for p in providers for m in names))

        own = meant(self._rates)
        if info is None and not own:
            return None
        # As in genai-prices: a provider that sells another one's model does not sell the other's tiers.
        own_tiers = info is not None and public is not None and any(info is sold for sold in public.models)
        return _PricedModel(info, own_tiers, meant(self._fees), own)


class _PricedModel:
    """One model's prices, compiled to lines of a bill for each tier and day asked for."""

    def __init__(self, info: ModelInfo | None, has_tiers: bool, fees: tuple[Rate, ...], own: tuple[Rate, ...]) -> None:
        self._info = info
        self._has_tiers = has_tiers
        self._fees = fees
        self._own = own
        variants = info.price_variants or [] if info is not None else []
        tiers = {variant.when.get("service_tier") for variant in variants} if has_tiers else set()
        self._public_tiers = tiers - _STANDARD_TIERS
        dated = [*(info.prices if info is not None and isinstance(info.prices, list) else ()), *variants]
        self._by_minute = any(isinstance(price.constraint, TimeOfDateConstraint) for price in dated)
        self._compiled: dict[tuple[str, object], tuple[_Line, ...]] = {}

    def lines(self, service_tier: str, at: datetime) -> tuple[_Line, ...]:
        """Return the bill's lines; empty where no price holds at that time, told in UTC."""
        key = (service_tier, at.replace(second=0, microsecond=0) if self._by_minute else at.date())
        lines = self._compiled.get(key)
        if lines is None:
            if len(self._compiled) >= _CACHED:
                self._compiled.clear()
            lines = self._compiled[key] = _compile(self._prices(service_tier, at))
        return lines

    def _prices(self, service_tier: str, at: datetime) -> dict[str, Price]:
        own = self._in_force(self._own, service_tier, at)
        prices: dict[str, Price] = {}
        if self._info is not None:
            context = {"service_tier": service_tier} if service_tier and self._has_tiers else None
            public = self._info.get_prices(at, context)
            prices = {key: price for key in _UNITS if (price := public.__dict__.get(key)) is not None}
        if not prices and not own:
            return {}
        if "image_each" in own:
            # Images by the piece: their tokens, which lie inside the output, are then paid for.
            prices["output_image_mtok"] = _ZERO
        return {**self._in_force(self._fees, service_tier, at), **prices, **own}

    def _in_force(self, rates: tuple[Rate, ...], service_tier: str, at: datetime) -> dict[str, Price]:
        """Return the prices of a tier: the standard ones, unless it has public prices of its own, under its own."""
        begun = sorted((rate for rate in rates if rate.start <= at.date()), key=lambda rate: rate.start)
        merged: dict[str, Price] = {}
        if rates is self._fees or service_tier not in self._public_tiers:
            for rate in begun:
                if rate.service_tier in _STANDARD_TIERS:
                    merged.update(rate.prices)
        for rate in begun:
            if rate.service_tier == service_tier:
                merged.update(rate.prices)
        return merged


def _compile(prices: Mapping[str, Price]) -> tuple[_Line, ...]:
    if "cache_read_mtok" in prices and "input_audio_mtok" in prices and "cache_audio_read_mtok" not in prices:
        # Tokens that are both cached and audio: cached is what the provider bills them as.
        prices = {**prices, "cache_audio_read_mtok": prices["cache_read_mtok"]}
    keys = [key for key in _UNITS if key in prices]
    lines = []
    for key in keys:
        unit, price = _UNITS[key], prices[key]
        base, tiers = (price.base, price.tiers) if isinstance(price, TieredPrices) else (price, [])
        lines.append(
            _Line(
                counted=unit.counted,
                usd_each=EXACT.divide(base, unit.per),
                # The highest first; genai-prices keeps them in ascending order.
                tiers=tuple((tier.start, EXACT.divide(tier.price, unit.per)) for tier in reversed(tiers)),
                holds=tuple(index for index, other in enumerate(keys) if key in _UNITS[other].inside),
                is_input=unit.side == "input",
                part=unit.part,
            )
        )
    return tuple(lines)


def _bill(lines: tuple[_Line, ...], usage: TokenUsage) -> Cost:
    input_usd = output_usd = _ZERO
    parts: dict[str, Decimal] = {}
    counts: list[int] = []
    for name, base_usd, tiers, holds, is_input, part in lines:
        total = count = getattr(usage, name) if name else 1
        for index in holds:
            count -= counts[index]
        counts.append(count)
        if not count:
            continue
        if count < 0:
            raise UsageError(name, total, total - count)
        usd_each = base_usd
        for start, tier_usd in tiers:
            if usage.input_tokens > start:
                usd_each = tier_usd
                break
        usd = _multiply(usd_each, count)
        if is_input:
            input_usd = _add(input_usd, usd)
        else:
            output_usd = _add(output_usd, usd)
        if part == "output" and (thought := usage.reasoning_tokens) and "reasoning" not in parts:
            # Thinking without a rate of its own is billed as output; the part only shows how much of it that was.
            thought_usd = _multiply(usd_each, min(thought, count))
            parts["reasoning"] = thought_usd
            usd = _subtract(usd, thought_usd)
        parts[part] = _add(parts[part], usd) if part in parts else usd
    return Cost(input_usd=input_usd, output_usd=output_usd, parts=parts)

"""PriceSheet: the prices of one model, compiled to the lines of a bill."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Literal, NamedTuple

from eco2_callbacks.pricing.cost import EXACT
from eco2_callbacks.pricing.rates import Price
from eco2_callbacks.pricing.rates_used import RatesUsed, checked_on
from eco2_callbacks.usage import TokenUsage

__all__ = ["UNITS", "Line", "PriceSheet", "cache_differences", "compile_sheet", "rates_used", "shape_of"]

_MTOK = 1_000_000
# Combinations of billed units that one price sheet remembers.
_MAX_REMEMBERED = 64


class Unit(NamedTuple):
    """A billed unit.

    Attributes:
        counted: The field of TokenUsage that counts it; ``""`` is one for each call.
        per: The number of units that its price is for.
        side: The side of the cost that holds its dollars.
        part: The part of the cost that holds its dollars.
        inside: The price keys of the units that it lies in.
    """

    counted: str
    per: int
    side: Literal["input", "output"]
    part: str
    inside: tuple[str, ...] = ()


# By price key, the most specific first: a unit's rate bills only what the units inside it leave.
UNITS: Mapping[str, Unit] = {
    "cache_audio_read_mtok": Unit(
        "cache_read_audio_tokens", _MTOK, "input", "cache_read", ("cache_read_mtok", "input_audio_mtok", "input_mtok")
    ),
    "cache_write_1h_mtok": Unit(
        "cache_creation_1h_tokens", _MTOK, "input", "cache_write", ("cache_write_mtok", "input_mtok")
    ),
    "cache_write_5m_mtok": Unit(
        "cache_creation_5m_tokens", _MTOK, "input", "cache_write", ("cache_write_mtok", "input_mtok")
    ),
    "cache_read_mtok": Unit("cache_read_tokens", _MTOK, "input", "cache_read", ("input_mtok",)),
    "cache_write_mtok": Unit("cache_creation_tokens", _MTOK, "input", "cache_write", ("input_mtok",)),
    "input_audio_mtok": Unit("input_audio_tokens", _MTOK, "input", "audio", ("input_mtok",)),
    "input_mtok": Unit("input_tokens", _MTOK, "input", "input"),
    "output_audio_mtok": Unit("output_audio_tokens", _MTOK, "output", "audio", ("output_mtok",)),
    "output_image_mtok": Unit("output_image_tokens", _MTOK, "output", "image", ("output_mtok",)),
    "output_reasoning_mtok": Unit("reasoning_tokens", _MTOK, "output", "reasoning", ("output_mtok",)),
    "output_mtok": Unit("output_tokens", _MTOK, "output", "output"),
    "output_citation_mtok": Unit("citation_tokens", _MTOK, "output", "citation"),
    "image_each": Unit("images", 1, "output", "image"),
    "web_searches_kcount": Unit("web_searches", 1000, "output", "web_search"),
    "web_fetches_kcount": Unit("web_fetches", 1000, "output", "web_search"),
    "x_searches_kcount": Unit("x_searches", 1000, "output", "x_search"),
    "storage_searches_kcount": Unit("file_searches", 1000, "output", "file_search"),
    "attachment_searches_kcount": Unit("attachment_searches", 1000, "output", "file_search"),
    "code_interpreter_each": Unit("code_interpreter_sessions", 1, "output", "code_interpreter"),
    "code_executions_kcount": Unit("code_executions", 1000, "output", "code_execution"),
    "maps_grounding_each": Unit("maps_groundings", 1, "output", "maps_grounding"),
    "requests_kcount": Unit("", 1000, "output", "request"),
}
# Counts that lie in no other count: without a rate of their own nothing would bill them.
_FEE_COUNTS = (
    *("citation_tokens", "web_searches", "x_searches", "web_fetches", "file_searches", "attachment_searches"),
    *("code_interpreter_sessions", "code_executions", "maps_groundings"),
)


class Line(NamedTuple):
    """One line of a bill.

    Attributes:
        key: The price key.
        counted: As the unit's.
        usd_each: Price of one.
        tiers: Input tokens above which one costs more, and that price; the highest first.
        holds: Indexes of the lines whose counts lie inside this one.
        is_input: Whether its dollars belong to the input.
        part: As the unit's.
    """

    key: str
    counted: str
    usd_each: Decimal
    tiers: tuple[tuple[int, Decimal], ...]
    holds: tuple[int, ...]
    is_input: bool
    part: str


class Shape(NamedTuple):
    """What applies to all usages with the same counts above 0.

    Attributes:
        lines: The lines that can bill them.
        unpriced: Those of the counts that have no rate.
    """

    lines: tuple[Line, ...]
    unpriced: tuple[str, ...]


class PriceSheet(NamedTuple):
    """The prices of one model in one context on one day.

    Attributes:
        unpriced_tiers: The service tier, processing and speed without a known rate: the standard ones stand in.
        lines: The lines of a bill.
        version: Version of the price data.
        prices: The prices that the lines are compiled from, by price key.
        sources: Where each price comes from, by price key.
        used: Remembers ``rates_used``.
        shapes: Remembers ``shape_of``.
        unpriced: The counts of tools and citations that have no rate.
        long_prompt: Input tokens above which a price rises; None where none does.
        is_custom: Whether a custom rate or a discount sets a price.
        has_custom_rate: Whether a custom rate does.
        window: The model's context window in tokens, where it is known.
        token_cost_step: As a rate's.
        cache_differences: What one token read from or written to the cache costs above the plain input rate: read,
            written, written for five minutes, for an hour. None without a plain input rate.
        list_prices: The public prices, where ``prices`` are others; None where they are the same.
        context: As the call's.
        model: The name that the prices were found under.
    """

    lines: tuple[Line, ...]
    version: str
    prices: Mapping[str, Price]
    sources: Mapping[str, tuple[str, ...]]
    used: dict[tuple[object, ...], RatesUsed]
    shapes: dict[tuple[str, ...], Shape]
    unpriced: tuple[str, ...] = ()
    long_prompt: int | None = None
    is_custom: bool = False
    has_custom_rate: bool = False
    window: int | None = None
    token_cost_step: Decimal | None = None
    cache_differences: tuple[Decimal, Decimal, Decimal, Decimal] | None = None
    unpriced_tiers: tuple[str, ...] = ()
    list_prices: Mapping[str, Price] | None = None
    context: Mapping[str, str] = {}
    model: str = ""


def compile_sheet(
    prices: Mapping[str, Price],
    *,
    sources: Mapping[str, tuple[str, ...]],
    version: str,
    is_custom: bool = False,
    has_custom_rate: bool = False,
    window: int | None = None,
    token_cost_step: Decimal | None = None,
    unpriced_tiers: tuple[str, ...] = (),
    list_prices: Mapping[str, Price] | None = None,
    context: Mapping[str, str] | None = None,
    model: str = "",
) -> PriceSheet:
    """Return the price sheet of these prices and their sources, by price key."""
    if "cache_read_mtok" in prices and "input_audio_mtok" in prices and "cache_audio_read_mtok" not in prices:
        # Providers bill tokens that are both cached and audio as cached.
        prices = {**prices, "cache_audio_read_mtok": prices["cache_read_mtok"]}
        sources = {**sources, "cache_audio_read_mtok": sources.get("cache_read_mtok", ())}
    lines = _compile_lines(prices)
    priced = {line.counted for line in lines}
    starts = [start for line in lines for start, _ in line.tiers]
    unpriced = tuple(name for name in _FEE_COUNTS if name not in priced)
    if "input_tokens" in priced and "output_tokens" not in priced:
        unpriced += ("output_tokens",)  # prices of embeddings, which have no output
    return PriceSheet(
        lines=lines,
        unpriced=unpriced,
        long_prompt=min(starts) if starts else None,
        is_custom=is_custom,
        has_custom_rate=has_custom_rate,
        window=window,
        token_cost_step=token_cost_step,
        cache_differences=cache_differences(lines),
        unpriced_tiers=unpriced_tiers,
        version=version,
        prices=prices,
        sources=sources,
        used={},
        shapes={},
        list_prices=list_prices,
        context=context or {},
        model=model,
    )


def cache_differences(lines: tuple[Line, ...]) -> tuple[Decimal, Decimal, Decimal, Decimal] | None:
    """Return ``PriceSheet.cache_differences`` of these lines."""
    usd = {line.counted: line.usd_each for line in lines}
    plain = usd.get("input_tokens")
    if plain is None:
        return None
    written = usd.get("cache_creation_tokens", plain)
    prices = (
        usd.get("cache_read_tokens", plain),
        written,
        usd.get("cache_creation_5m_tokens", written),
        usd.get("cache_creation_1h_tokens", written),
    )
    read, created, five_minutes, one_hour = (EXACT.subtract(price, plain) for price in prices)
    return read, created, five_minutes, one_hour


def shape_of(sheet: PriceSheet, usage: TokenUsage) -> Shape:
    """Return what applies to a usage by the counts that it has: most have three or four of twenty."""
    names = tuple(dict(usage.nonzero()))
    shape = sheet.shapes.get(names)
    if shape is None:
        if len(sheet.shapes) >= _MAX_REMEMBERED:
            sheet.shapes.clear()
        unpriced = tuple(name for name in sheet.unpriced if name in names)
        shape = sheet.shapes[names] = Shape(_lines_of(sheet.lines, names), unpriced)
    return shape


def rates_used(sheet: PriceSheet, billed: tuple[str, ...], prompt_tokens: int) -> RatesUsed:
    """Return the prices of the billed lines, as they hold for a prompt of this length."""
    long_prompt = sheet.long_prompt
    is_long = long_prompt is not None and prompt_tokens > long_prompt
    # Beyond the first tier the prompt's length itself is in the key: a further tier may hold.
    remembered: tuple[object, ...] = (prompt_tokens, *billed) if is_long else billed
    used = sheet.used.get(remembered)
    if used is None:
        sources = dict.fromkeys(source for key in billed for source in sheet.sources.get(key, ()))
        listed = sheet.list_prices or {}
        used = RatesUsed(
            version=sheet.version,
            source="; ".join(sources),
            checked_on=checked_on(sources),
            usd={key: _usd_of(sheet.prices[key], prompt_tokens) for key in billed},
            list_usd={key: _usd_of(listed[key], prompt_tokens) for key in billed if key in listed},
            context=dict(sheet.context),
            model=sheet.model,
        )
        if len(sheet.used) >= _MAX_REMEMBERED:
            sheet.used.clear()
        sheet.used[remembered] = used
    return used


def _compile_lines(prices: Mapping[str, Price]) -> tuple[Line, ...]:
    keys = [key for key in UNITS if key in prices]
    lines = []
    for key in keys:
        unit, price = UNITS[key], prices[key]
        base, tiers = (price, ()) if isinstance(price, Decimal) else (price.base, price.tiers)
        lines.append(
            Line(
                key=key,
                counted=unit.counted,
                usd_each=EXACT.divide(base, unit.per),
                # genai-prices keeps them in ascending order.
                tiers=tuple((tier.start, EXACT.divide(tier.price, unit.per)) for tier in reversed(tiers)),
                holds=tuple(index for index, other in enumerate(keys) if key in UNITS[other].inside),
                is_input=unit.side == "input",
                part=unit.part,
            )
        )
    return tuple(lines)


def _lines_of(lines: tuple[Line, ...], names: tuple[str, ...]) -> tuple[Line, ...]:
    """Return the lines whose own count, or one inside it, is among the names; a fee of each call always is."""
    kept: dict[int, int] = {}
    found: list[Line] = []
    for index, line in enumerate(lines):
        if not line.counted or line.counted in names or any(held in kept for held in line.holds):
            kept[index] = len(found)
            found.append(line._replace(holds=tuple(kept[held] for held in line.holds if held in kept)))
    return tuple(found)


def _usd_of(price: Price, prompt_tokens: int) -> Decimal:
    if isinstance(price, Decimal):
        return price
    # genai-prices keeps them in ascending order.
    return next((tier.price for tier in reversed(price.tiers) if prompt_tokens > tier.start), price.base)

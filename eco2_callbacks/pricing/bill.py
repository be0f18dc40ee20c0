"""Computes the bill of a usage, in exact dollars."""

from __future__ import annotations

from collections.abc import Collection
from decimal import ROUND_HALF_UP, Decimal

from eco2_callbacks.errors import UsageError
from eco2_callbacks.pricing.cost import EXACT, Cost
from eco2_callbacks.pricing.price_sheet import UNITS, Line, PriceSheet, cache_differences
from eco2_callbacks.usage import TokenUsage

__all__ = ["bill", "billed_counts", "cache_effect", "round_tokens"]

_ZERO = Decimal(0)
# The application's context may have too few digits, and a new task would first have to make one.
_add, _subtract, _multiply = EXACT.add, EXACT.subtract, EXACT.multiply


def bill(lines: tuple[Line, ...], usage: TokenUsage, prompt_tokens: int | None = None) -> tuple[Cost, tuple[str, ...]]:
    """Return what a usage costs, and the price keys of the lines that were billed.

    Args:
        lines: As compiled.
        usage: What was consumed.
        prompt_tokens: The longest prompt of one sampling, by which long-context prices are chosen; by default the
            input tokens.

    Raises:
        UsageError: If counts inside another one exceed it.
    """
    input_usd = output_usd = _ZERO
    parts: dict[str, Decimal] = {}
    counts: list[int] = []
    billed: list[str] = []
    if prompt_tokens is None:
        prompt_tokens = usage.input_tokens
    for key, name, base_usd, tiers, holds, is_input, part in lines:
        total = count = getattr(usage, name) if name else 1
        for index in holds:
            count -= counts[index]
        counts.append(count)
        if not count:
            continue
        if count < 0:
            raise UsageError(name, total, total - count)
        billed.append(key)
        usd_each = base_usd
        for start, tier_usd in tiers:
            if prompt_tokens > start:
                usd_each = tier_usd
                break
        usd = _multiply(usd_each, count)
        if is_input:
            input_usd = _add(input_usd, usd)
        else:
            output_usd = _add(output_usd, usd)
        if part == "output" and (reasoning := usage.reasoning_tokens) and "reasoning" not in parts:
            # Reasoning without a rate of its own is billed as output. Its part only shows its share.
            reasoning_usd = _multiply(usd_each, min(reasoning, count))
            parts["reasoning"] = reasoning_usd
            usd = _subtract(usd, reasoning_usd)
        parts[part] = _add(parts[part], usd) if part in parts else usd
    return Cost(input_usd=input_usd, output_usd=output_usd, parts=parts), tuple(billed)


def billed_counts(usage: TokenUsage, keys: Collection[str]) -> dict[str, tuple[int, int]]:
    """Return, of each price key that billed something, how many units it billed and how many one price is for."""
    ordered = [key for key in UNITS if key in keys]
    counts: dict[str, int] = {}
    for key in ordered:
        unit = UNITS[key]
        total = getattr(usage, unit.counted) if unit.counted else 1
        counts[key] = total - sum(counts[other] for other in counts if key in UNITS[other].inside)
    return {key: (count, UNITS[key].per) for key, count in counts.items() if count > 0}


def round_tokens(cost: Cost, step: Decimal) -> Cost:
    """Return a cost whose dollars of input and of output tokens are each rounded to a multiple of ``step``."""
    parts = dict(cost.parts)
    changes = {}
    for part, names in (("input", ("input", "cache_read", "cache_write")), ("output", ("output", "reasoning"))):
        exact = sum((parts[name] for name in names if name in parts), _ZERO)
        change = changes[part] = _subtract(exact.quantize(step, ROUND_HALF_UP, EXACT), exact)
        if change:
            parts[part] = max(_ZERO, _add(parts.get(part, _ZERO), change))
    if sum(parts.values(), _ZERO) != _add(_add(cost.total_usd, changes["input"]), changes["output"]):
        return cost  # the change exceeds the part
    return Cost(
        input_usd=_add(cost.input_usd, changes["input"]),
        output_usd=_add(cost.output_usd, changes["output"]),
        parts=parts,
    )


def cache_effect(sheet: PriceSheet, usage: TokenUsage, prompt_tokens: int) -> tuple[Decimal, Decimal]:
    """Return what cache reads saved and what cache writes cost extra, in USD, compared with uncached input."""
    differences = sheet.cache_differences
    if sheet.long_prompt is not None and prompt_tokens > sheet.long_prompt:
        lines = tuple(line._replace(usd_each=_usd_each(line, prompt_tokens)) for line in sheet.lines)
        differences = cache_differences(lines)
    if differences is None:
        return _ZERO, _ZERO
    read, created, five_minutes, one_hour = differences
    saved = _multiply(-read, usage.cache_read_tokens)
    extra = _ZERO
    if written := usage.cache_creation_tokens:
        for_5m, for_1h = usage.cache_creation_5m_tokens, usage.cache_creation_1h_tokens
        extra = _multiply(created, written - for_5m - for_1h)
        extra = _add(extra, _add(_multiply(five_minutes, for_5m), _multiply(one_hour, for_1h)))
    return max(saved, _ZERO), max(extra, _ZERO)


def _usd_each(line: Line, prompt_tokens: int) -> Decimal:
    return next((usd for start, usd in line.tiers if prompt_tokens > start), line.usd_each)

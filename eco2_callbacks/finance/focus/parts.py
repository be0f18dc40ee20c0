"""The parts of a call: what each billed unit cost at list and contracted prices."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import NamedTuple

from eco2_callbacks.ledger import StoredCall, StoredRating
from eco2_callbacks.pricing import EXACT, billed_counts

__all__ = ["METERS", "CallPart", "Meter", "parts_of"]

_ZERO = Decimal(0)
# Less than one token of any price: what rounding leaves.
_ONE_UNIT = Decimal("1e-9")


class Meter(NamedTuple):
    """How a billed unit is named.

    Attributes:
        name: FOCUS' ``SkuMeter``.
        unit: The unit that is consumed, in the plural.
        per: How many of them one price is for.
    """

    name: str
    unit: str
    per: int

    @property
    def pricing_unit(self) -> str:
        """The unit that the price is for."""
        return self.unit if self.per == 1 else f"{self.per} {self.unit}"


_MTOK = 1_000_000
METERS: Mapping[str, Meter] = {
    "input_mtok": Meter("Input Tokens", "Tokens", _MTOK),
    "cache_read_mtok": Meter("Cached Input Tokens", "Tokens", _MTOK),
    "cache_write_mtok": Meter("Cache Write Tokens", "Tokens", _MTOK),
    "cache_write_5m_mtok": Meter("Cache Write Tokens (5 minutes)", "Tokens", _MTOK),
    "cache_write_1h_mtok": Meter("Cache Write Tokens (1 hour)", "Tokens", _MTOK),
    "cache_audio_read_mtok": Meter("Cached Audio Input Tokens", "Tokens", _MTOK),
    "input_audio_mtok": Meter("Audio Input Tokens", "Tokens", _MTOK),
    "output_mtok": Meter("Output Tokens", "Tokens", _MTOK),
    "output_audio_mtok": Meter("Audio Output Tokens", "Tokens", _MTOK),
    "output_image_mtok": Meter("Image Output Tokens", "Tokens", _MTOK),
    "output_reasoning_mtok": Meter("Reasoning Tokens", "Tokens", _MTOK),
    "output_citation_mtok": Meter("Citation Tokens", "Tokens", _MTOK),
    "image_each": Meter("Images", "Images", 1),
    "web_searches_kcount": Meter("Web Searches", "Searches", 1000),
    "web_fetches_kcount": Meter("Web Fetches", "Fetches", 1000),
    "x_searches_kcount": Meter("X Searches", "Searches", 1000),
    "storage_searches_kcount": Meter("File Searches", "Searches", 1000),
    "attachment_searches_kcount": Meter("Attachment Searches", "Searches", 1000),
    "code_interpreter_each": Meter("Code Interpreter Sessions", "Sessions", 1),
    "code_executions_kcount": Meter("Code Executions", "Executions", 1000),
    "maps_grounding_each": Meter("Maps Groundings", "Groundings", 1),
    "requests_kcount": Meter("Requests", "Requests", 1000),
    # A cost without a price list, such as one that the provider stated.
    "": Meter("Model Calls", "Calls", 1),
}


class CallPart(NamedTuple):
    """One billed unit of a call, or of several calls at the same prices.

    Attributes:
        key: The price key; ``""`` for a cost that has no price list.
        units: Their number.
        list_price: Public price, for as many units as the meter says.
        price: Contracted price.
        list_usd: What the units cost at the public price.
        usd: What they cost at the contracted one.
        margin_usd: What is charged on top.
        estimated_usd: The part of both that rests on an estimate of the usage.
    """

    key: str
    units: int
    list_price: Decimal
    price: Decimal
    list_usd: Decimal
    usd: Decimal
    margin_usd: Decimal
    estimated_usd: Decimal


def parts_of(call: StoredCall, rating: StoredRating | None) -> list[CallPart]:
    """Return the parts of a call by one of its ratings; their sums are the rating's dollars. Empty without a cost.

    Where the cost is not the usage times the prices (a cost that the provider stated, several models in one call, a
    fixed discount), every part bears its share. Without a public price the list price is the contracted one: what such
    a unit costs stands beside the rating's list cost.
    """
    if rating is None or rating.contracted_cost is None:
        return []
    paid, margin = rating.contracted_cost, rating.margin
    listed = paid if rating.list_cost is None else rating.list_cost
    counts = {} if call.usage is None else billed_counts(call.usage, rating.usd)
    if not counts:
        estimated = _estimated(call, paid, margin)
        return [CallPart("", 1, listed, paid, listed, paid, margin, estimated)] if paid or listed or margin else []
    has_list = rating.list_cost is not None
    keys = list(counts)
    prices = {key: rating.usd[key] for key in keys}
    # Where there is no public price, the contracted one stands for it.
    list_prices = {key: rating.list_usd.get(key, prices[key]) if has_list else prices[key] for key in keys}
    others = {key for key in keys if rating.list_usd and key not in rating.list_usd} if has_list else set()
    if "image_each" in others:
        others.add("output_image_mtok")  # priced by the piece, an image has paid for its tokens
    costs = _shares({key: _cost(counts[key], prices[key]) for key in keys}, paid)
    public_costs = {key: _cost(counts[key], list_prices[key]) for key in keys if key not in others}
    list_costs = _list_costs(public_costs, {key: _cost(counts[key], prices[key]) for key in others}, listed)
    margins = _shares(costs, margin)
    return [
        CallPart(
            *(key, counts[key][0], list_prices[key], prices[key], list_costs[key], costs[key], margins[key]),
            _estimated(call, costs[key], margins[key]),
        )
        for key in keys
    ]


def _estimated(call: StoredCall, usd: Decimal, margin_usd: Decimal) -> Decimal:
    return EXACT.add(usd, margin_usd) if call.labels["estimated"] else _ZERO


def _list_costs(public: Mapping[str, Decimal], others: Mapping[str, Decimal], listed: Decimal) -> Mapping[str, Decimal]:
    """Return the list costs of a call's parts.

    Args:
        public: Cost at public prices of the units that have one.
        others: Cost at contracted prices of the units that only a contract prices.
        listed: The public cost of the whole call.
    """
    if not others:
        return _shares(public, listed)
    rest = EXACT.subtract(listed, sum(public.values(), _ZERO))
    if rest > _ONE_UNIT:
        # Publicly they are priced as something else: cached tokens as input, images by their tokens.
        return {**public, **_shares(others, rest)}
    return {**_shares(public, listed), **others} if public else others


def _cost(counted: tuple[int, int], price: Decimal) -> Decimal:
    count, per = counted
    return EXACT.divide(EXACT.multiply(price, Decimal(count)), Decimal(per))


def _shares(weights: Mapping[str, Decimal], total: Decimal) -> dict[str, Decimal]:
    """Return a total divided by weights; the largest part takes what rounding leaves."""
    whole = sum(weights.values(), _ZERO)
    if whole == total:
        return dict(weights)
    if not whole:
        equal = EXACT.divide(total, Decimal(len(weights)))
        shares = dict.fromkeys(weights, equal)
    else:
        shares = {key: EXACT.divide(EXACT.multiply(weight, total), whole) for key, weight in weights.items()}
    shares = {key: share.quantize(Decimal("1e-15"), context=EXACT) for key, share in shares.items()}
    largest = max(shares, key=lambda key: shares[key])
    others = sum((share for key, share in shares.items() if key != largest), _ZERO)
    shares[largest] = EXACT.subtract(total, others)
    return shares

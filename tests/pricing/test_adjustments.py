"""Discounts, margins and prices in other currencies: list and contracted cost are kept apart."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from eco2_callbacks import ConfigError, ExchangeRates, PriceBook, Quote, TokenUsage, UnknownModelError
from eco2_callbacks.pricing import unused_rates

AT = datetime(2026, 11, 2, 9, 30, tzinfo=UTC)
# gpt-5.2: 1,000 x 1.75 + 100 x 14 USD per million = 0.00315.
USAGE = TokenUsage(input_tokens=1000, output_tokens=100)
LIST = Decimal("0.00315")


def book(tmp_path: Path, text: str) -> PriceBook:
    path = tmp_path / "prices.toml"
    path.write_text(text)
    return PriceBook.from_toml(path)


def quote(prices: PriceBook, *, tenant_id: str = "", at: datetime = AT, model: str = "gpt-5.2") -> Quote:
    return prices.quote(USAGE, provider="openai", model=model, at=at, tenant_id=tenant_id)


DISCOUNTS = """
[[discounts]]
provider = "openai"
start = 2026-11-01
percent = 10
source = "contract 1"

[[discounts]]
provider = "openai"
model = "gpt-5*"
tenant = "acme"
start = 2026-11-01
percent = "25"
source = "contract 2"

[[discounts]]
provider = "openai"
start = 2026-12-01
percent = 50
source = "contract 3"

[[margins]]
start = 2026-11-01
percent = 20
fixed_usd = 0.001
source = "price list of ours"
"""


def test_a_discount_lowers_the_contracted_cost_and_leaves_the_list_cost(tmp_path: Path) -> None:
    """The percentage applies to each price, and the list prices stand beside the contracted ones."""
    found = quote(book(tmp_path, DISCOUNTS))

    assert found.cost.total_usd == LIST * Decimal("0.9")
    assert sum(found.cost.parts.values()) == found.cost.total_usd
    assert found.list_cost is not None
    assert found.list_cost.total_usd == LIST
    assert found.rates is not None
    assert found.rates.usd == {"input_mtok": Decimal("1.575"), "output_mtok": Decimal("12.6")}
    assert found.rates.list_usd == {"input_mtok": Decimal("1.75"), "output_mtok": Decimal(14)}
    assert found.rates.source == "genai-prices; contract 1"


@pytest.mark.parametrize(
    ("tenant", "day", "share"),
    [
        ("", datetime(2026, 10, 31, 23, 59, tzinfo=UTC), "1"),
        ("", datetime(2026, 11, 1, tzinfo=UTC), "0.9"),
        ("acme", AT, "0.75"),
        ("zoo", AT, "0.9"),
        ("", datetime(2026, 12, 1, tzinfo=UTC), "0.5"),
        ("acme", datetime(2026, 12, 1, tzinfo=UTC), "0.75"),
    ],
    ids=["before", "first day", "tenant", "other tenant", "later contract", "the tenant's own wins"],
)
def test_the_most_specific_discount_in_force_holds(tmp_path: Path, tenant: str, day: datetime, share: str) -> None:
    """A discount holds from its first day on; the tenant's own wins over a later one for all."""
    assert quote(book(tmp_path, DISCOUNTS), tenant_id=tenant, at=day).cost.total_usd == LIST * Decimal(share)


def test_a_margin_stands_beside_the_cost(tmp_path: Path) -> None:
    """What is charged on top is no part of what the call costs."""
    found = quote(book(tmp_path, DISCOUNTS))

    assert found.margin is not None
    # 20 % of 0.002835, and 0.001 a call.
    assert found.margin.usd_on(found.cost.total_usd) == Decimal("0.001567")
    assert quote(PriceBook()).margin is None


@pytest.mark.parametrize(("fixed", "left"), [("0.00015", "0.003"), ("1", "0")], ids=["part", "more than the cost"])
def test_a_fixed_discount_never_makes_a_cost_negative(tmp_path: Path, fixed: str, left: str) -> None:
    """Fixed dollars are taken from each call, every part bears its share, and the parts still sum to the cost."""
    found = quote(book(tmp_path, f'[[discounts]]\nstart = 2026-01-01\nsource = "x"\nfixed_usd = {fixed}\n'))

    assert found.cost.total_usd == Decimal(left)
    assert sum(found.cost.parts.values(), Decimal(0)) == found.cost.total_usd
    assert min(found.cost.parts.values(), default=Decimal(0)) >= 0


def test_a_custom_rate_keeps_the_public_price_as_list_price(tmp_path: Path) -> None:
    """A negotiated price is contracted; the list cost is what the public price gives, unknown where there is none."""
    rate = EUROS.partition("\n\n")[2].replace('currency = "EUR"\n', "").replace("gpt-5.2", "{}")

    found = quote(book(tmp_path, rate.format("gpt-5.2")))
    own = quote(book(tmp_path, rate.format("our-own")), model="our-own")

    assert (found.cost.total_usd, found.list_cost and found.list_cost.total_usd) == (Decimal("0.002"), LIST)
    assert (own.cost.total_usd, own.list_cost) == (Decimal("0.002"), None)


EUROS = """
exchange_rates = "rates.csv"

[[rates]]
provider = "openai"
model = "gpt-5.2"
start = 2026-01-01
source = "contract in euros"
currency = "EUR"
input_mtok = 1
output_mtok = 10
"""


def test_prices_in_another_currency_take_the_exchange_rate_of_the_day(tmp_path: Path) -> None:
    """There is no rate for all dates: a day takes its own, or the last one before a weekend."""
    (tmp_path / "rates.csv").write_text("date,currency,usd_per_unit\n2026-11-02,EUR,1.10\n2026-11-06,EUR,1.20\n")
    prices = book(tmp_path, EUROS)

    assert quote(prices).cost.total_usd == Decimal("0.0022")
    assert quote(prices, at=datetime(2026, 11, 8, tzinfo=UTC)).cost.total_usd == Decimal("0.0024")
    for day in (datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 14, tzinfo=UTC)):
        with pytest.raises(UnknownModelError):
            quote(prices, at=day)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("day,currency,usd\n", "has the columns ['day', 'currency', 'usd'], wanted date,currency,usd_per_unit"),
        ("date,currency,usd_per_unit\n2026-11-02,EUR,abc\n", "line 2"),
        ("date,currency,usd_per_unit\n2026-11-02,EURO,1.1\n", "The currency is 'EURO', wanted a code of ISO 4217"),
        ("date,currency,usd_per_unit\n2026-11-02,EUR,0\n", "wanted a Decimal above 0"),
        ("date,currency,usd_per_unit\n2026-11-02,EUR,1\n2026-11-02,EUR,2\n", "a second rate for 2026-11-02"),
        (f"date,currency,usd_per_unit\n2026-11-02,EUR,{'1' * 140_000}\n", "field larger than field limit"),
    ],
    ids=["columns", "number", "currency", "zero", "twice", "long"],
)
def test_a_bad_file_of_exchange_rates_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """Each mistake ends with a message that names the place and what was wanted."""
    path = tmp_path / "rates.csv"
    path.write_text(text)

    with pytest.raises(ConfigError) as raised:
        ExchangeRates.from_csv(path)

    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[discounts]]\nstart = 2026-01-01\npercent = 5\n", "discount 1 lacks ['source']"),
        ('[[discounts]]\nstart = 2026-01-01\nsource = "x"\npercent = 101\n', "wanted a Decimal from 0 to 100"),
        ('[[discounts]]\nstart = 2026-01-01\nsource = "x"\n', "changes nothing; give it percent or fixed_usd"),
        ('[[margins]]\nstart = 2026-01-01\nsource = "x"\npercentage = 5\n', "margin 1 has unknown keys ['percentage']"),
        ('[[margins]]\nstart = "2026"\nsource = "x"\npercent = 5\n', "margin 1 has start = '2026', wanted a date"),
        ("discounts = 1\n", "discounts is 1, wanted [[discounts]] tables"),
        (EUROS.replace('exchange_rates = "rates.csv"', ""), "a rate is in EUR; add exchange_rates"),
    ],
    ids=["source", "percent", "nothing", "key", "start", "table", "no exchange rates"],
)
def test_a_bad_adjustment_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """The message names the entry and what was wanted."""
    with pytest.raises(ConfigError) as raised:
        book(tmp_path, text)

    assert message in str(raised.value)


def test_an_adjustment_that_applies_to_nothing_is_named(tmp_path: Path) -> None:
    """A misspelt provider and a start that is still ahead are found, as with rates."""
    text = DISCOUNTS + '[[discounts]]\nprovider = "opneai"\nstart = 2026-01-01\npercent = 5\nsource = "contract 9"\n'

    found = [(each.rate.source, each.reason) for each in unused_rates(book(tmp_path, text), at=AT)]

    assert found == [("contract 3", "starts later"), ("contract 9", "matches nothing")]


@pytest.mark.parametrize(
    ("tenant", "holds"),
    [("acme [prod]", True), ("acme p", False), ("acme [x]", False), ("zoo [eu] 7", True), ("zoo e 7", False)],
)
def test_brackets_belong_to_a_tenants_name(tmp_path: Path, tenant: str, holds: bool) -> None:
    """A discount for ``acme [prod]`` is that tenant's alone; ``*`` stands for any text beside brackets."""
    text = "\n".join(
        f'[[discounts]]\ntenant = "{pattern}"\nstart = 2026-01-01\npercent = 50\nsource = "contract"'
        for pattern in ("acme [prod]", "zoo [eu]*")
    )

    found = quote(book(tmp_path, text), tenant_id=tenant)

    assert found.cost.total_usd == (LIST / 2 if holds else LIST)

"""The rows of a FOCUS file, from the charges of a period."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from eco2_callbacks.errors import ConfigError
from eco2_callbacks.finance.focus.charges import Charge, ChargeKey, Charges
from eco2_callbacks.finance.focus.columns import CURRENCIES, CUSTOM_COLUMNS
from eco2_callbacks.finance.focus.parts import METERS
from eco2_callbacks.pricing import EXACT, ExchangeRates

__all__ = ["FOCUS_COLUMNS", "Account", "focus_rows"]

_STEP = Decimal("1e-12")
_PROVIDERS: Mapping[str, tuple[str, str]] = {
    "openai": ("OpenAI", "OpenAI API"),
    "anthropic": ("Anthropic", "Claude API"),
    "google_genai": ("Google Cloud", "Gemini API"),
    "google": ("Google Cloud", "Gemini API"),
    "google_vertexai": ("Google Cloud", "Vertex AI"),
    "azure": ("Microsoft", "Azure OpenAI"),
    "azure_openai": ("Microsoft", "Azure OpenAI"),
    "bedrock": ("AWS", "Amazon Bedrock"),
    "aws": ("AWS", "Amazon Bedrock"),
    "amazon_bedrock": ("AWS", "Amazon Bedrock"),
    "mistralai": ("Mistral AI", "La Plateforme"),
    "xai": ("xAI", "xAI API"),
    "self_hosted": ("Self-hosted", "Self-hosted models"),
}
FOCUS_COLUMNS = (
    *("BilledCost", "BillingAccountId", "BillingAccountName", "BillingAccountType", "BillingCurrency"),
    *("BillingPeriodEnd", "BillingPeriodStart", "ChargeCategory", "ChargeClass", "ChargeDescription"),
    *("ChargeFrequency", "ChargePeriodEnd", "ChargePeriodStart", "ConsumedQuantity", "ConsumedUnit"),
    *("ContractedCost", "ContractedUnitPrice", "EffectiveCost", "InvoiceId", "InvoiceIssuerName", "ListCost"),
    *("ListUnitPrice", "PricingCategory", "PricingCurrency", "PricingCurrencyContractedUnitPrice"),
    *("PricingCurrencyEffectiveCost", "PricingCurrencyListUnitPrice", "PricingQuantity", "PricingUnit"),
    *("ProviderName", "PublisherName", "RegionId", "RegionName", "ResourceId", "ResourceName", "ResourceType"),
    *("ServiceCategory", "ServiceName", "ServiceSubcategory", "SkuId", "SkuMeter", "SkuPriceDetails", "SkuPriceId"),
    *("SubAccountId", "SubAccountName", "SubAccountType", "Tags"),
    *CUSTOM_COLUMNS,
)


@dataclass(frozen=True, slots=True)
class Account:
    """Whose bill it is.

    Attributes:
        billing_account: The account that is billed.
        name: Its name.
        issuer: Who issues the invoice; ``""`` for the provider.
        currency: The currency of the bill.
        exchange_rates: Its dated rates, unless it is USD.

    Raises:
        ConfigError: If the currency is none, or has no rates.
    """

    billing_account: str = "default"
    name: str = ""
    issuer: str = ""
    currency: str = "USD"
    exchange_rates: ExchangeRates | None = None

    def __post_init__(self) -> None:
        if self.currency not in CURRENCIES:
            raise ConfigError(f"--currency is {self.currency!r}, wanted a code of ISO 4217 such as 'EUR'.")
        if self.currency != "USD" and self.exchange_rates is None:
            raise ConfigError(f"--currency {self.currency} needs --exchange-rates FILE with its dated rates.")
        if not self.billing_account.strip():
            raise ConfigError("--billing-account is empty, wanted the account's id.")

    def amount(self, usd: Decimal, at: datetime) -> Decimal:
        """Return dollars in the bill's currency at the rate of a day."""
        if self.exchange_rates is not None:
            usd = self.exchange_rates.from_usd(usd, self.currency, at.date())
        return usd.quantize(_STEP, context=EXACT)


def focus_rows(charges: Charges, account: Account) -> Iterator[dict[str, str | None]]:
    """Yield the rows, in the order of their periods; all values are texts, as in a CSV file.

    Raises:
        ConfigError: If there is no exchange rate for a day.
    """
    for key, charge in sorted(charges.by_key.items(), key=lambda item: _order(item[0])):
        yield _row(key, charge, account)


def _order(key: ChargeKey) -> tuple[Any, ...]:
    return (
        *(key.billing_month, key.start, key.is_correction, key.tenant_id, key.provider, key.model, key.meter),
        *(
            key.list_price or 0,
            key.price or 0,
            key.context,
            key.agent_name,
            key.feature,
            key.prompt_version,
            key.run_id,
        ),
    )


def _row(key: ChargeKey, charge: Charge, account: Account) -> dict[str, str | None]:
    meter = METERS[key.meter]
    provider, service = _PROVIDERS.get(key.provider, (key.provider or "unknown", key.provider or "unknown"))
    context = dict(key.context)
    region = context.get("region") or context.get("inference_geo")
    quantity = None if charge.count is None else EXACT.divide(Decimal(charge.count), Decimal(meter.per))
    paid = EXACT.add(charge.usd, charge.margin_usd)
    list_price, price = (_unit_price(usd, quantity) for usd in (charge.list_usd, charge.usd))
    sku = f"{key.provider}/{key.model}/{key.meter or 'call'}"
    details = {"ModelName": key.model, **{f"x_{name}": value for name, value in context.items()}}
    tags = {
        name: value
        for name, value in (
            ("agent", key.agent_name),
            ("feature", key.feature),
            ("prompt_version", key.prompt_version),
        )
        if value
    }
    what = f"{meter.name} of {key.model or 'an unknown model'}"

    def billed(usd: Decimal | None) -> str | None:
        return None if usd is None else _text(account.amount(usd, key.start))

    values: dict[str, str | None] = {
        "BilledCost": billed(paid),
        "BillingAccountId": account.billing_account,
        "BillingAccountName": account.name or None,
        "BillingAccountType": "Billing Account",
        "BillingCurrency": account.currency,
        "BillingPeriodStart": _time(key.billing_month),
        "BillingPeriodEnd": _time((key.billing_month + timedelta(days=32)).replace(day=1)),
        "ChargeCategory": "Usage",
        "ChargeClass": "Correction" if key.is_correction else None,
        "ChargeDescription": f"Correction: {what}" if key.is_correction else what,
        "ChargeFrequency": "Usage-Based",
        "ChargePeriodStart": _time(key.start),
        "ChargePeriodEnd": _time(key.end),
        "ConsumedQuantity": None if charge.count is None else str(charge.count),
        "ConsumedUnit": None if charge.count is None else meter.unit,
        "ContractedCost": billed(charge.usd),
        "ContractedUnitPrice": billed(price),
        "EffectiveCost": billed(paid),
        "InvoiceId": None,
        "InvoiceIssuerName": account.issuer or provider,
        "ListCost": billed(charge.list_usd),
        "ListUnitPrice": billed(list_price),
        "PricingCategory": "Standard",
        "PricingCurrency": "USD",
        "PricingCurrencyContractedUnitPrice": None if price is None else _text(price),
        "PricingCurrencyEffectiveCost": _text(paid.quantize(_STEP, context=EXACT)),
        "PricingCurrencyListUnitPrice": None if list_price is None else _text(list_price),
        "PricingQuantity": None if quantity is None else _text(quantity),
        "PricingUnit": None if quantity is None else meter.pricing_unit,
        "ProviderName": provider,
        "PublisherName": provider,
        "RegionId": region,
        "RegionName": region,
        "ResourceId": key.run_id or None,
        "ResourceName": key.model if key.run_id else None,
        "ResourceType": "Model Call" if key.run_id else None,
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": service,
        "ServiceSubcategory": "Generative AI",
        "SkuId": sku,
        "SkuMeter": meter.name,
        "SkuPriceDetails": _json(details),
        "SkuPriceId": "/".join((sku, *(f"{name}={value}" for name, value in key.context))),
        "SubAccountId": key.tenant_id or None,
        "SubAccountName": key.tenant_id or None,
        "SubAccountType": "Tenant" if key.tenant_id else None,
        "Tags": _json(tags),
        "x_EstimatedCost": billed(charge.estimated_usd),
    }
    return {name: values[name] for name in FOCUS_COLUMNS}


def _unit_price(usd: Decimal, quantity: Decimal | None) -> Decimal | None:
    """Return the price of one pricing unit: the charge by its quantity, which is the price list's own."""
    return EXACT.divide(usd, quantity).quantize(_STEP, context=EXACT) if quantity else None


def _text(number: Decimal) -> str:
    text = f"{number:f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) or "0"


def _time(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _json(values: Mapping[str, str]) -> str:
    return json.dumps(values, ensure_ascii=False, sort_keys=True)

"""The columns of FOCUS 1.2, the FinOps Open Cost and Usage Specification.

Source: https://focus.finops.org, one page a column, version 1.2 of 2025-05, read 2026-11-30.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, TypeAlias

__all__ = ["COLUMNS", "CURRENCIES", "CUSTOM_COLUMNS", "SUBCATEGORIES", "FocusColumn"]

Level: TypeAlias = Literal["mandatory", "recommended", "conditional"]
DataType: TypeAlias = Literal["text", "decimal", "time", "json"]
Format: TypeAlias = Literal["", "number", "currency", "time", "unit", "key_values"]


# Columns of our own, and the kind of their values.
CUSTOM_COLUMNS: Mapping[str, DataType] = {"x_EstimatedCost": "decimal"}


class FocusColumn(NamedTuple):
    """One column.

    Attributes:
        level: Whether it must be there; ``recommended`` and ``conditional`` ones may be left out.
        allows_nulls: Whether a row may leave it empty.
        format: How its values are written.
        allowed: Its values, where the set is closed.
    """

    name: str
    level: Level
    allows_nulls: bool
    data_type: DataType
    format: Format
    allowed: tuple[str, ...] = ()


# Service category -> its subcategories.
SUBCATEGORIES: Mapping[str, tuple[str, ...]] = {
    "AI and Machine Learning": (
        *("AI Platforms", "Bots", "Generative AI", "Machine Learning", "Natural Language Processing"),
        "Other (AI and Machine Learning)",
    ),
    "Analytics": (
        *("Analytics Platforms", "Business Intelligence", "Data Processing", "Search", "Streaming Analytics"),
        "Other (Analytics)",
    ),
    "Business Applications": ("Productivity and Collaboration", "Other (Business Applications)"),
    "Compute": (
        *("Containers", "End User Computing", "Quantum Compute", "Serverless Compute", "Virtual Machines"),
        "Other (Compute)",
    ),
    "Databases": (
        *("Caching", "Data Warehouses", "Ledger Databases", "NoSQL Databases", "Relational Databases"),
        *("Time Series Databases", "Other (Databases)"),
    ),
    "Developer Tools": (
        *("Developer Platforms", "Continuous Integration and Deployment", "Development Environments"),
        *("Source Code Management", "Quality Assurance", "Other (Developer Tools)"),
    ),
    "Identity": ("Identity and Access Management", "Other (Identity)"),
    "Integration": ("API Management", "Messaging", "Workflow Orchestration", "Other (Integration)"),
    "Internet of Things": ("IoT Analytics", "IoT Platforms", "Other (Internet of Things)"),
    "Management and Governance": (
        *("Architecture", "Compliance", "Cost Management", "Data Governance", "Disaster Recovery"),
        *("Endpoint Management", "Observability", "Support", "Other (Management and Governance)"),
    ),
    "Media": ("Content Creation", "Gaming", "Media Streaming", "Mixed Reality", "Other (Media)"),
    "Migration": ("Data Migration", "Resource Migration", "Other (Migration)"),
    "Mobile": ("Other (Mobile)",),
    "Multicloud": ("Multicloud Integration", "Other (Multicloud)"),
    "Networking": (
        *("Application Networking", "Content Delivery", "Network Connectivity", "Network Infrastructure"),
        *("Network Routing", "Network Security", "Other (Networking)"),
    ),
    "Security": (
        *("Secret Management", "Security Posture Management", "Threat Detection and Response", "Other (Security)"),
    ),
    "Storage": (
        *("Backup Storage", "Block Storage", "File Storage", "Object Storage", "Storage Platforms"),
        "Other (Storage)",
    ),
    "Web": ("Application Platforms", "Other (Web)"),
    "Other": ("Other (Other)",),
}

_ALL_SUBCATEGORIES = tuple(name for names in SUBCATEGORIES.values() for name in names)

# ISO 4217, the currencies in use.
_CODES = (
    "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN "
    "BZD CAD CDF CHF CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS "
    "GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW "
    "KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD "
    "NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD "
    "SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VED "
    "VES VND VUV WST XAF XCD XCG XOF XPF YER ZAR ZMW ZWG "
)
CURRENCIES = frozenset(_CODES.split())

COLUMNS: tuple[FocusColumn, ...] = (
    FocusColumn("AvailabilityZone", "recommended", True, "text", ""),
    FocusColumn("BilledCost", "mandatory", False, "decimal", "number"),
    FocusColumn("BillingAccountId", "mandatory", False, "text", ""),
    FocusColumn("BillingAccountName", "mandatory", True, "text", ""),
    FocusColumn("BillingAccountType", "conditional", False, "text", ""),
    FocusColumn("BillingCurrency", "mandatory", False, "text", "currency"),
    FocusColumn("BillingPeriodEnd", "mandatory", False, "time", "time"),
    FocusColumn("BillingPeriodStart", "mandatory", False, "time", "time"),
    FocusColumn("CapacityReservationId", "conditional", True, "text", ""),
    FocusColumn("CapacityReservationStatus", "conditional", True, "text", "", ("Used", "Unused")),
    FocusColumn("ChargeCategory", "mandatory", False, "text", "", ("Usage", "Purchase", "Tax", "Credit", "Adjustment")),
    FocusColumn("ChargeClass", "mandatory", True, "text", "", ("Correction",)),
    FocusColumn("ChargeDescription", "mandatory", True, "text", ""),
    FocusColumn("ChargeFrequency", "recommended", False, "text", "", ("One-Time", "Recurring", "Usage-Based")),
    FocusColumn("ChargePeriodEnd", "mandatory", False, "time", "time"),
    FocusColumn("ChargePeriodStart", "mandatory", False, "time", "time"),
    FocusColumn("CommitmentDiscountCategory", "conditional", True, "text", "", ("Spend", "Usage")),
    FocusColumn("CommitmentDiscountId", "conditional", True, "text", ""),
    FocusColumn("CommitmentDiscountName", "conditional", True, "text", ""),
    FocusColumn("CommitmentDiscountQuantity", "conditional", True, "decimal", "number"),
    FocusColumn("CommitmentDiscountStatus", "conditional", True, "text", "", ("Used", "Unused")),
    FocusColumn("CommitmentDiscountType", "conditional", True, "text", ""),
    FocusColumn("CommitmentDiscountUnit", "conditional", True, "text", "unit"),
    FocusColumn("ConsumedQuantity", "conditional", True, "decimal", "number"),
    FocusColumn("ConsumedUnit", "conditional", True, "text", ""),
    FocusColumn("ContractedCost", "mandatory", False, "decimal", "number"),
    FocusColumn("ContractedUnitPrice", "conditional", True, "decimal", "number"),
    FocusColumn("EffectiveCost", "mandatory", False, "decimal", "number"),
    FocusColumn("InvoiceId", "recommended", True, "text", ""),
    FocusColumn("InvoiceIssuerName", "mandatory", False, "text", ""),
    FocusColumn("ListCost", "mandatory", False, "decimal", "number"),
    FocusColumn("ListUnitPrice", "conditional", True, "decimal", "number"),
    FocusColumn("PricingCategory", "conditional", True, "text", "", ("Standard", "Dynamic", "Committed", "Other")),
    FocusColumn("PricingCurrency", "conditional", True, "text", "currency"),
    FocusColumn("PricingCurrencyContractedUnitPrice", "conditional", True, "decimal", "number"),
    FocusColumn("PricingCurrencyEffectiveCost", "conditional", True, "decimal", "number"),
    FocusColumn("PricingCurrencyListUnitPrice", "conditional", True, "decimal", "number"),
    FocusColumn("PricingQuantity", "mandatory", True, "decimal", "number"),
    FocusColumn("PricingUnit", "mandatory", True, "text", "unit"),
    FocusColumn("ProviderName", "mandatory", False, "text", ""),
    FocusColumn("PublisherName", "mandatory", False, "text", ""),
    FocusColumn("RegionId", "conditional", True, "text", ""),
    FocusColumn("RegionName", "conditional", True, "text", ""),
    FocusColumn("ResourceId", "conditional", True, "text", ""),
    FocusColumn("ResourceName", "conditional", True, "text", ""),
    FocusColumn("ResourceType", "conditional", True, "text", ""),
    FocusColumn("ServiceCategory", "mandatory", False, "text", "", tuple(SUBCATEGORIES)),
    FocusColumn("ServiceName", "mandatory", False, "text", ""),
    FocusColumn(
        "ServiceSubcategory",
        "recommended",
        False,
        "text",
        "",
        tuple(name for names in SUBCATEGORIES.values() for name in names),
    ),
    FocusColumn("SkuId", "conditional", True, "text", ""),
    FocusColumn("SkuMeter", "conditional", True, "text", ""),
    FocusColumn("SkuPriceDetails", "conditional", True, "json", "key_values"),
    FocusColumn("SkuPriceId", "conditional", True, "text", ""),
    FocusColumn("SubAccountId", "conditional", True, "text", ""),
    FocusColumn("SubAccountName", "conditional", True, "text", ""),
    FocusColumn("SubAccountType", "conditional", True, "text", ""),
    FocusColumn("Tags", "conditional", True, "json", "key_values"),
)

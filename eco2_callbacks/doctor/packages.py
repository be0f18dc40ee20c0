"""Checks of the installed packages: contradicting versions, duplicate installations, and the age of the prices."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.requirements import InvalidRequirement, Requirement

from eco2_callbacks.doctor.findings import Finding
from eco2_callbacks.pricing import PriceBook

__all__ = ["check_packages", "check_price_age"]

# The packages whose requirements are checked, where they are installed.
_CHECKED = (
    *("eco2-callbacks", "langchain", "langchain-core", "langgraph", "langsmith", "deepagents"),
    *("langchain-openai", "langchain-anthropic", "langchain-google-genai", "langchain-aws", "langchain-mistralai"),
    *("openai", "anthropic", "google-genai", "prometheus-client", "genai-prices"),
    *("opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"),
)
_OLD_DAYS = 90


def check_packages() -> Iterator[Finding]:
    """Yield requirements of our packages that the installed versions do not meet."""
    for name in _CHECKED:
        try:
            package = distribution(name)
        except PackageNotFoundError:
            continue
        yield from _unmet(package)


def _unmet(package: Distribution) -> Iterator[Finding]:
    for line in package.requires or ():
        try:
            needed = Requirement(line)
        except InvalidRequirement:
            continue
        if needed.marker is not None and not needed.marker.evaluate({"extra": ""}):
            continue
        try:
            found = distribution(needed.name).version
        except PackageNotFoundError:
            found = None
        if found is None or not needed.specifier.contains(found, prereleases=True):
            has = "is not installed" if found is None else f"is {found}"
            yield Finding(
                check="versions",
                level="error",
                message=f"{package.name} {package.version} needs {needed.name}{needed.specifier}, which {has}.",
                remedy=f"pip install '{needed.name}{needed.specifier}'",
            )


def check_price_age(now: datetime | None = None) -> Iterator[Finding]:
    """Yield whether the public prices are old."""
    book = PriceBook()
    days = ((now or datetime.now(UTC)) - book.updated_at).days
    if days > _OLD_DAYS:
        yield Finding(
            check="price-age",
            level="warning",
            message=f"The public prices ({book.version}) are {days} days old; newer models have no price.",
            remedy="pip install --upgrade genai-prices, or add rates to the file named by ECO2_PRICES.",
        )

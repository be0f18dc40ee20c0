"""Each rule of each provider on one small answer: the dollars are right, or the record says why they may not be."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.support.provider_cases import CASES, ProviderCase, bill
from tests.support.provider_docs import PAGE, page
from tests.support.unreported_cases import UNREPORTED


@pytest.mark.parametrize("case", [*CASES, *UNREPORTED], ids=lambda case: case.name)
def test_a_providers_rule_gives_its_dollars(case: ProviderCase) -> None:
    """Provider, dollars and mark are those of the rule; the parts sum to the dollars."""
    call = bill(case)

    assert call.provider == case.provider
    assert (call.estimate_reason or call.unpriced_reason) == case.mark
    assert (None if call.cost is None else call.cost.total_usd) == (None if case.usd is None else Decimal(case.usd))
    if call.cost is not None:
        assert sum(call.cost.parts.values()) == call.cost.total_usd


def test_the_page_of_providers_is_generated_from_the_cases() -> None:
    """docs/providers.md is up to date; write it with ``python -m tests.support.provider_docs``."""
    assert PAGE.read_text() == page()

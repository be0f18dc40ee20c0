"""The limits of tenants on a real Redis."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from graph.api.limits import TenantLimits
from graph.api.problems import ProblemError
from graph.streams import StoreUnavailableError
from tests.support.redis_process import redis_process


async def test_a_burst_of_questions_waits_for_connections(tmp_path: Path) -> None:
    """A burst larger than any pool is counted as a whole: only what exceeds the limit is refused, and with 429."""
    with redis_process(tmp_path) as server:
        limits = TenantLimits(redis_url=server.url, requests_per_minute=500, max_streams=1)
        burst = (limits.count_question("acme") for _ in range(400))
        answers = await asyncio.gather(*burst, return_exceptions=True)
        later = await asyncio.gather(*(limits.count_question("acme") for _ in range(200)), return_exceptions=True)
        await limits.close()

    assert answers == [None] * 400
    refused = [answer for answer in later if answer is not None]
    assert len(refused) == 100
    assert all(isinstance(answer, ProblemError) and answer.status == 429 for answer in refused)


async def test_a_redis_that_is_away_is_an_unavailable_store(tmp_path: Path) -> None:
    """The API answers it with 503, as for any part that is away."""
    with redis_process(tmp_path) as server:
        limits = TenantLimits(redis_url=server.url, requests_per_minute=5, max_streams=1)

    with pytest.raises(StoreUnavailableError):
        await limits.count_question("acme")
    await limits.close()

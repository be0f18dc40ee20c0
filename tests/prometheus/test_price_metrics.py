"""The version of the price data on the exposition, over the life of a process."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from eco2_callbacks import Eco2CallbackHandler, PriceBook


def _shown(registry: CollectorRegistry) -> dict[str, float]:
    return {
        sample.labels["prices_version"]: sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "eco2_callbacks_info"
    }


@pytest.mark.parametrize(
    ("multiprocess", "rest"), [(False, {}), (True, {"0.2.3": 0.0})], ids=["one_process", "multiprocess"]
)
def test_a_refresh_changes_the_version_that_is_shown(
    registry: CollectorRegistry,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    multiprocess: bool,
    rest: dict[str, float],
) -> None:
    """The version in use is 1, as in the records; the old one is gone, or 0 where no series can be removed."""
    if multiprocess:
        monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    versions = ["0.2.3"]
    monkeypatch.setattr(PriceBook, "version", property(lambda book: versions[-1]))
    # The second one's prices are refreshed too: it removes what is gone already.
    handlers = [Eco2CallbackHandler(registry=registry) for _ in range(2)]
    before = _shown(registry)

    versions.append("0.2.3@2026-11-30")

    assert before == {"0.2.3": 1}
    assert _shown(registry) == {**rest, "0.2.3@2026-11-30": 1}
    for handler in handlers:
        handler.close()

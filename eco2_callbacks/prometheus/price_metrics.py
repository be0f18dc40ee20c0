"""PriceMetrics: the versions in use, and the age of the price data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from eco2_callbacks.prometheus.instruments import Instruments

__all__ = ["PriceMetrics"]


class PriceMetrics:
    """Shows the versions and the age at each flush.

    Where the price data is not loaded yet, the first flush loads it. A refresh changes the version of the price data.

    Args:
        instruments: The registry's.
        version: Version of this package.
        prices_version: Returns the version of the price data.
        age_seconds: Returns the age of the price data.
        is_loaded: Whether the price data is loaded.
    """

    def __init__(
        self,
        instruments: Instruments,
        *,
        version: str,
        prices_version: Callable[[], str],
        age_seconds: Callable[[], float],
        is_loaded: bool,
    ) -> None:
        self._instruments = instruments
        self._version = version
        self._prices_version = prices_version
        self._shown_version: str | None = None
        self._age_seconds = age_seconds
        self._age = instruments.gauge("eco2_callbacks_prices_age_seconds")
        if is_loaded or not instruments.waits:
            self.show()

    def show(self) -> None:
        """Show the versions and the age."""
        self._instruments.enqueue(self._set_info, self._prices_version())
        self._instruments.enqueue(self._set_age, self._age_seconds())

    def _set_info(self, versions: Sequence[str]) -> None:
        info = self._instruments.gauge("eco2_callbacks_info")
        before, self._shown_version = self._shown_version, versions[-1]
        if before is not None and before != versions[-1]:
            if self._instruments.waits:
                with suppress(KeyError):  # another handler's metrics have removed it
                    info.remove(self._version, before)
            else:
                # Nothing can be removed in multiprocess mode.
                info.labels(version=self._version, prices_version=before).set(0)
        info.labels(version=self._version, prices_version=versions[-1]).set(1)

    def _set_age(self, ages: Sequence[float]) -> None:
        self._age.set(ages[-1])

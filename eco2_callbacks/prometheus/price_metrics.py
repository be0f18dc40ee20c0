"""PriceMetrics: the versions in use, and the age of the price data."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from eco2_callbacks.prometheus.instruments import Instruments

__all__ = ["PriceMetrics"]


class PriceMetrics:
    """Shows the versions once, and the age at each flush.

    Where the price data is not loaded yet, the first flush loads it. In multiprocess mode none follows.

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
        # None once both versions are shown.
        self._prices_version: Callable[[], str] | None = prices_version
        self._age_seconds = age_seconds
        self._age = instruments.gauge("eco2_callbacks_prices_age_seconds")
        if is_loaded or not instruments.waits:
            self.show()

    def show(self) -> None:
        """Show the versions, if they are not shown yet, and the age."""
        if self._prices_version is not None:
            prices_version, self._prices_version = self._prices_version, None
            self._instruments.enqueue(self._set_info, prices_version())
        self._instruments.enqueue(self._set_age, self._age_seconds())

    def show_age(self) -> None:
        """Show the age at once; call it while the instruments count."""
        self._set_age((self._age_seconds(),))

    def _set_info(self, versions: Sequence[str]) -> None:
        info = self._instruments.gauge("eco2_callbacks_info")
        for prices_version in versions:
            info.labels(version=self._version, prices_version=prices_version).set(1)

    def _set_age(self, ages: Sequence[float]) -> None:
        self._age.set(ages[-1])

"""PriceRefresh: fetches genai-prices' data while it runs, one thread for the whole process."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from eco2_callbacks.errors import ConfigError
from eco2_callbacks.log_once import is_first

__all__ = ["PriceRefresh", "start_refresh"]

_logger = logging.getLogger(__name__)


class PriceRefresh:
    """Keeps the public prices fresh, once an hour. What was fetched stays in use after the end.

    Args:
        on_failure: Called, while the exception is handled, for each fetch that failed.
        url: Where the data is; None is genai-prices' own address.
        interval_seconds: Time between two fetches.
    """

    def __init__(
        self, *, on_failure: Callable[[], None], url: str | None = None, interval_seconds: float = 3600.0
    ) -> None:
        from genai_prices import UpdatePrices  # noqa: PLC0415  imports an HTTP client

        class Update(UpdatePrices):
            def fetch(self) -> Any:
                try:
                    return super().fetch()
                except Exception:
                    on_failure()
                    if is_first("prices", "refresh"):
                        _logger.exception("The public prices could not be fetched; those at hand stay in use.")
                    raise

        self._update = Update(update_interval=interval_seconds)
        if url is not None:
            self._update.url = url

    def start(self) -> None:
        """Begin to fetch; return at once."""
        self._update.start()

    def stop(self) -> None:
        """End it, if no other refresh of this process runs."""
        self._update.stop()  # type: ignore[no-untyped-call]


def start_refresh(wanted: bool | str, on_failure: Callable[[], None]) -> PriceRefresh | None:
    """Start a refresh, None where none is wanted.

    Args:
        wanted: Whether to fetch, or the URL to fetch from.
        on_failure: As ``PriceRefresh``'s.

    Raises:
        ConfigError: If it is neither.
    """
    if wanted is False:
        return None
    if wanted is not True and not (isinstance(wanted, str) and wanted.startswith(("http://", "https://"))):
        raise ConfigError(f"refresh_prices= is {wanted!r}, wanted True, False or the URL of genai-prices' data.")
    refresh = PriceRefresh(on_failure=on_failure, url=None if wanted is True else wanted)
    refresh.start()
    return refresh

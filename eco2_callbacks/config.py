"""Settings: what an application reads from its environment, once, at its start."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from eco2_callbacks.errors import ConfigError

__all__ = ["Settings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the environment says.

    Attributes:
        prices: The file of own rates, ``ECO2_PRICES``; None are public rates only.
    """

    prices: Path | None = None

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the settings; an empty variable counts as unset.

        Raises:
            ConfigError: If a variable names a file that does not exist.
        """
        environ = os.environ if environ is None else environ
        prices = Path(value) if (value := environ.get("ECO2_PRICES", "").strip()) else None
        if prices is not None and not prices.is_file():
            raise ConfigError(f"ECO2_PRICES is {str(prices)!r}, wanted an existing file; correct it or unset it.")
        return cls(prices=prices)

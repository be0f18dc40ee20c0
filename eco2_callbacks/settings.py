"""Settings: what an application reads from its environment once, at its start."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from eco2_callbacks.errors import ConfigError
from eco2_callbacks.langsmith import (
    HOSTED,
    Otel,
    api_key_of,
    check_environment,
    display_url,
    endpoint_of,
    is_tracing,
    otel_of,
    otlp_endpoint_of,
    project_of,
    traces_url,
)

__all__ = ["Settings"]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings from the environment; LangSmith's variables are read as its SDK reads them.

    The SDK's profile file (``~/.langsmith/config.json``) and its agent addresses are not read.

    Attributes:
        prices: File of custom rates, ``ECO2_PRICES``; None for public rates only.
        environment: Where the application runs, ``ECO2_ENVIRONMENT``; its runs get the tag ``env:<environment>``.
        tracing: Whether LangChain traces its runs.
        langsmith_api_key: LangSmith's key; never shown or logged.
        langsmith_endpoint: Address of LangSmith's API. It and ``otlp_endpoint`` can hold a password and are not shown.
        project: LangSmith project of the runs.
        otel: Whether traced runs also (``hybrid``) or only (``only``) go over OTLP.
        otlp_endpoint: OTLP address of spans; None for LangSmith's own.
    """

    prices: Path | None = None
    environment: str = ""
    tracing: bool = False
    langsmith_api_key: str | None = field(default=None, repr=False)
    langsmith_endpoint: str = field(default=HOSTED, repr=False)
    project: str = "default"
    otel: Otel = "off"
    otlp_endpoint: str | None = field(default=None, repr=False)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the settings and log what is on and what is missing; a blank variable counts as unset.

        Raises:
            ConfigError: If a variable names a file that does not exist.
        """
        environ = os.environ if environ is None else environ
        prices = Path(value) if (value := environ.get("ECO2_PRICES", "").strip()) else None
        if prices is not None and not prices.is_file():
            raise ConfigError(f"ECO2_PRICES is {str(prices)!r}, wanted an existing file; correct it or unset it.")
        settings = cls(
            prices=prices,
            environment=environ.get("ECO2_ENVIRONMENT", "").strip(),
            tracing=is_tracing(environ),
            langsmith_api_key=api_key_of(environ),
            langsmith_endpoint=endpoint_of(environ),
            project=project_of(environ),
            otel=otel_of(environ),
            otlp_endpoint=otlp_endpoint_of(environ),
        )
        _logger.info(
            "Settings: %s; %s; %s.",
            _destination(settings),
            f"custom rates from {prices}" if prices else "public rates",
            f"environment {settings.environment!r}" if settings.environment else "no environment tag",
        )
        for warning in check_environment(environ):
            _logger.warning("%s", warning)
        return settings


def _destination(settings: Settings) -> str:
    """Return where runs are sent, for the log."""
    if not settings.tracing:
        return "tracing off, although a LangSmith key is set" if settings.langsmith_api_key else "tracing off"
    langsmith = f"LangSmith (project {settings.project!r}, {display_url(settings.langsmith_endpoint)})"
    otlp = f"OTLP ({display_url(settings.otlp_endpoint or traces_url(f'{settings.langsmith_endpoint}/otel'))})"
    return {
        "off": f"tracing to {langsmith}",
        "hybrid": f"tracing to {langsmith} and {otlp}",
        "only": f"tracing to {otlp} alone",
    }[settings.otel]

"""Settings: what an application reads from its environment once, at its start."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from eco2_callbacks.arguments import check_instance, check_mapping, check_text
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

__all__ = ["Settings", "budgets_of", "ledger_of", "prices_of", "refresh_of"]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings from the environment; LangSmith's variables are read as its SDK reads them.

    The SDK's profile file (``~/.langsmith/config.json``) and its agent addresses are not read.

    Attributes:
        prices: File of custom rates, ``ECO2_PRICES``; None for public rates only.
        refresh_prices: Whether to fetch the public prices anew, or from which URL, ``ECO2_REFRESH_PRICES``.
        ledger: URL or path of the ledger, ``ECO2_LEDGER``; None for none. It can hold a password and is not shown.
        budgets: The ``budgets.toml``, ``ECO2_BUDGETS``; None for no budgets.
        environment: Where the application runs, ``ECO2_ENVIRONMENT``; its runs get the tag ``env:<environment>``.
        tracing: Whether LangChain traces its runs.
        langsmith_api_key: LangSmith's key; never shown or logged.
        langsmith_endpoint: Address of LangSmith's API. It and ``otlp_endpoint`` can hold a password and are not shown.
        project: LangSmith project of the runs.
        otel: Whether traced runs also (``hybrid``) or only (``only``) go over OTLP.
        otlp_endpoint: OTLP address of spans; None for LangSmith's own.

    Raises:
        ConfigError: If a value cannot be used.
    """

    prices: Path | None = None
    refresh_prices: bool | str = False
    ledger: str | None = field(default=None, repr=False)
    budgets: Path | None = None
    environment: str = ""
    tracing: bool = False
    langsmith_api_key: str | None = field(default=None, repr=False)
    langsmith_endpoint: str = field(default=HOSTED, repr=False)
    project: str = "default"
    otel: Otel = "off"
    otlp_endpoint: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name, path in (("prices", self.prices), ("budgets", self.budgets)):
            if path is not None and not isinstance(path, str | Path):
                raise ConfigError(f"{name}= is {path!r}, wanted a path; pass a pathlib.Path or leave it out.")
        if not isinstance(self.refresh_prices, bool | str):
            raise ConfigError(f"refresh_prices= is {self.refresh_prices!r}, wanted True, False or a URL.")
        check_text("environment", self.environment, may_be_empty=True)
        check_instance("tracing", self.tracing, bool, "pass True or False")
        check_text("project", self.project)
        # Never shown: they can hold a secret.
        for name in ("ledger", "langsmith_api_key", "langsmith_endpoint", "otlp_endpoint"):
            value = getattr(self, name)
            if not isinstance(value, str) and (value is not None or name == "langsmith_endpoint"):
                raise ConfigError(f"{name}= is a {type(value).__name__}, wanted a text; pass one or leave it out.")
        if self.otel not in get_args(Otel):
            raise ConfigError(f"otel= is {self.otel!r}, wanted one of {list(get_args(Otel))!r}; correct it.")

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the settings and log what is on and what is missing; a blank variable counts as unset.

        Raises:
            ConfigError: If a variable names a file that does not exist.
        """
        environ = os.environ if environ is None else check_mapping("environ", environ)
        prices = prices_of(environ)
        settings = cls(
            prices=prices,
            refresh_prices=refresh_of(environ),
            ledger=ledger_of(environ),
            budgets=budgets_of(environ),
            environment=environ.get("ECO2_ENVIRONMENT", "").strip(),
            tracing=is_tracing(environ),
            langsmith_api_key=api_key_of(environ),
            langsmith_endpoint=endpoint_of(environ),
            project=project_of(environ),
            otel=otel_of(environ),
            otlp_endpoint=otlp_endpoint_of(environ),
        )
        _logger.info(
            "Settings: %s; %s; %s%s%s.",
            _destination(settings),
            f"custom rates from {prices}" if prices else "public rates",
            f"environment {settings.environment!r}" if settings.environment else "no environment tag",
            "; a ledger" if settings.ledger else "",
            f"; budgets from {settings.budgets}" if settings.budgets else "",
        )
        for warning in check_environment(environ):
            _logger.warning("%s", warning)
        return settings


def ledger_of(environ: Mapping[str, str]) -> str | None:
    """Return the ledger's URL or path, ``ECO2_LEDGER``; None where it is unset or blank."""
    return environ.get("ECO2_LEDGER", "").strip() or None


def budgets_of(environ: Mapping[str, str]) -> Path | None:
    """Return the ``budgets.toml`` that ``ECO2_BUDGETS`` names; None where it is unset or blank.

    Raises:
        ConfigError: If there is no such file.
    """
    return _file_of(environ, "ECO2_BUDGETS")


def prices_of(environ: Mapping[str, str]) -> Path | None:
    """Return the file of custom rates that ``ECO2_PRICES`` names; None where it is unset or blank.

    Raises:
        ConfigError: If there is no such file.
    """
    return _file_of(environ, "ECO2_PRICES")


def _file_of(environ: Mapping[str, str], variable: str) -> Path | None:
    path = Path(value) if (value := environ.get(variable, "").strip()) else None
    if path is not None and not path.is_file():
        raise ConfigError(f"{variable} is {str(path)!r}, wanted an existing file; correct it or unset it.")
    return path


def refresh_of(environ: Mapping[str, str]) -> bool | str:
    """Return whether to refresh the public prices, ``ECO2_REFRESH_PRICES``: a switch, or the URL of a mirror.

    Raises:
        ConfigError: If it is neither.
    """
    value = environ.get("ECO2_REFRESH_PRICES", "").strip()
    if value.lower() in ("", "0", "false", "no", "off"):
        return False
    if value.lower() in ("1", "true", "yes", "on"):
        return True
    if value.startswith(("http://", "https://")):
        return value
    raise ConfigError(f"ECO2_REFRESH_PRICES is {value!r}, wanted true, false or the URL of genai-prices' data.")


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

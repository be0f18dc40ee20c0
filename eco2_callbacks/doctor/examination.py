"""examine: every check of a set-up, one after another."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

from eco2_callbacks.doctor.environment import check_variables
from eco2_callbacks.doctor.findings import Finding, without_secrets
from eco2_callbacks.doctor.packages import check_packages, check_price_age
from eco2_callbacks.doctor.services import Services
from eco2_callbacks.doctor.source import check_source

__all__ = ["examine"]


def examine(
    source: Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    prometheus: str = "",
    ledger: str = "",
) -> list[Finding]:
    """Return what all checks found; a check that found nothing gives one finding of the level ``ok``.

    Args:
        source: The application's folder or file; None leaves its source out.
        environ: The variables; None takes those of the process.
        prometheus: Address of Prometheus; ``""`` takes ``ECO2_PROMETHEUS_URL``.
        ledger: Address of the ledger; ``""`` takes ``ECO2_LEDGER``.
    """
    environ = os.environ if environ is None else environ
    services = Services(environ, prometheus=prometheus, ledger=ledger)
    checks: dict[str, Callable[[], Iterable[Finding]]] = {
        "environment": partial(check_variables, environ),
        "versions": check_packages,
        "price-age": check_price_age,
        "langsmith": services.langsmith,
        "otlp": services.otlp,
        "redis": services.redis,
        "broker": services.broker,
        "ledger": services.ledger,
        "prometheus": services.prometheus,
        "clock": services.clock,
    }
    if source is not None:
        checks["source"] = partial(check_source, source)
    findings = [finding for name, check in checks.items() for finding in _run(name, check)]
    return without_secrets(findings, environ)


def _run(name: str, check: Callable[[], Iterable[Finding]]) -> list[Finding]:
    try:
        return list(check()) or [Finding(check=name, level="ok", message="Nothing found.")]
    except Exception as error:  # one broken check must not hide the others
        message = f"The check could not be made: {type(error).__name__}: {error}."
        return [Finding(check=name, level="warning", message=message, remedy="Look at this part by hand.")]

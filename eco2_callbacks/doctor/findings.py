"""Finding: one thing that a check found, with its remedy."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

import msgspec

__all__ = ["Finding", "Level", "shown_url", "without_secrets"]

Level: TypeAlias = Literal["ok", "info", "warning", "error"]
_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|HEADERS|DSN", re.IGNORECASE)
_MIN_SECRET_CHARS = 6


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What one check found.

    Attributes:
        check: The check's name, for scripts.
        level: ``error``: something does not work. ``warning``: figures can be wrong or missing. ``info``: worth a look.
            ``ok``: the check found nothing.
        message: What was found. It holds no secret.
        remedy: What to do; ``""`` for ``ok``.
        where: A file and line, where there is one.
    """

    check: str
    level: Level
    message: str
    remedy: str = ""
    where: str = ""


def shown_url(url: str) -> str:
    """Return an address without its password, path and query."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{parts.hostname or ''}{port}"
    except ValueError:
        return "an address that cannot be read"


def without_secrets(findings: Iterable[Finding], environ: Mapping[str, str]) -> list[Finding]:
    """Return findings in which no secret of the environment is left, whatever an exception's text held."""
    secrets = {value.strip() for name, value in environ.items() if _SECRET_NAME.search(name)}
    for value in environ.values():
        if "://" in value and "@" in value:
            try:
                secrets.add(urlsplit(value).password or "")
            except ValueError:
                secrets.add(value)
    hidden = sorted((secret for secret in secrets if len(secret) >= _MIN_SECRET_CHARS), key=len, reverse=True)

    def clean(text: str) -> str:
        for secret in hidden:
            text = text.replace(secret, "***")
        return text

    return [
        msgspec.structs.replace(finding, message=clean(finding.message), remedy=clean(finding.remedy))
        for finding in findings
    ]

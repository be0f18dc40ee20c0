"""Checks of the environment variables: switches, old names, keys, files, and causes of missing tokens."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from eco2_callbacks.doctor.findings import Finding, shown_url
from eco2_callbacks.errors import ConfigError
from eco2_callbacks.langsmith import check_environment, is_tracing
from eco2_callbacks.pricing import PriceBook

__all__ = ["check_variables"]

_TRUE = frozenset({"1", "true", "yes", "on"})
# Variable -> what its value begins with.
_KEY_STARTS: Mapping[str, tuple[str, ...]] = {
    "ANTHROPIC_API_KEY": ("sk-ant-",),
    "GEMINI_API_KEY": ("AIza", "AQ."),
    "GOOGLE_API_KEY": ("AIza", "AQ."),
    "LANGCHAIN_API_KEY": ("lsv2_", "ls__"),
    "LANGSMITH_API_KEY": ("lsv2_", "ls__"),
    "OPENAI_API_KEY": ("sk-",),
}
_BASE_URLS = ("OPENAI_API_BASE", "OPENAI_BASE_URL")
# Old name -> name of today.
_OLD_NAMES = {
    f"LANGCHAIN_{name}": f"LANGSMITH_{name}"
    for name in ("API_KEY", "ENDPOINT", "PROJECT", "TRACING_V2", "HIDE_INPUTS", "HIDE_OUTPUTS")
} | {"LANGCHAIN_TRACING_V2": "LANGSMITH_TRACING"}
_HIDING = ("HIDE_OUTPUTS", "HIDE_METADATA")
_ODD = re.compile(r"[\s\"'\x00-\x1f]")


def check_variables(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Yield what is wrong with these variables."""
    for sentence in check_environment(environ):
        message, _, remedy = sentence.rpartition("; ")
        level = "error" if "raises" in message or "refuses" in message else "warning"
        yield Finding(
            check="langsmith-settings",
            level=level,  # type: ignore[arg-type]
            message=(message or sentence).removesuffix(".") + ".",
            remedy=f"{remedy[:1].upper()}{remedy[1:]}" if message else "Correct the variable.",
        )
    yield from _old_names(environ)
    yield from _keys(environ)
    yield from _hidden_usage(environ)
    yield from _base_urls(environ)
    yield from _prices(environ)
    yield from _multiprocess(environ)


def _old_names(environ: Mapping[str, str]) -> Iterator[Finding]:
    for old, new in _OLD_NAMES.items():
        if environ.get(old, "").strip():
            beside = environ.get(new, "").strip()
            differs = bool(beside) and beside != environ[old].strip()
            yield Finding(
                check="old-names",
                level="warning" if differs else "info",
                message=f"{old} is set{f', and {new} has another value' if differs else ''}; it is the old name.",
                remedy=f"Set {new} alone.",
            )


def _keys(environ: Mapping[str, str]) -> Iterator[Finding]:
    is_elsewhere = any(environ.get(name, "").strip() for name in _BASE_URLS)
    for name, starts in _KEY_STARTS.items():
        value = environ.get(name, "")
        if not value:
            continue
        if _ODD.search(value):
            yield Finding(
                check="key-format",
                level="error",
                message=f"{name} holds a blank, a quote or a line break.",
                remedy="Set it again without them; files and shells add them easily.",
            )
        elif not value.startswith(starts) and not (name == "OPENAI_API_KEY" and is_elsewhere):
            other = next((known for known, begins in _KEY_STARTS.items() if value.startswith(begins)), None)
            meant = f"; it looks like a value of {other}" if other is not None else ""
            yield Finding(
                check="key-format",
                level="warning",
                message=f"{name} does not begin with {' or '.join(map(repr, starts))}{meant}.",
                remedy="Check that the right key is in the right variable.",
            )


def _hidden_usage(environ: Mapping[str, str]) -> Iterator[Finding]:
    if not is_tracing(environ):
        return
    for name in (f"{prefix}_{what}" for what in _HIDING for prefix in ("LANGSMITH", "LANGCHAIN")):
        if environ.get(name, "").strip().lower() in _TRUE:
            yield Finding(
                check="hidden-usage",
                level="warning",
                message=f"{name} is on: it also hides the tokens of exported spans, and LangSmith can show none.",
                remedy="Take tokens and dollars from Prometheus or the ledger, which are not hidden.",
            )


def _base_urls(environ: Mapping[str, str]) -> Iterator[Finding]:
    for name in _BASE_URLS:
        if value := environ.get(name, "").strip():
            yield Finding(
                check="stream-usage",
                level="warning",
                message=f"{name} is {shown_url(value)}: ChatOpenAI then asks for no usage in streams, and counts none.",
                remedy="Pass stream_usage=True to ChatOpenAI, or unset the variable.",
            )


def _prices(environ: Mapping[str, str]) -> Iterator[Finding]:
    if not (path := environ.get("ECO2_PRICES", "").strip()):
        return
    try:
        PriceBook.from_toml(path)
    except (ConfigError, OSError) as error:
        yield Finding(
            check="custom-rates",
            level="error",
            message=f"ECO2_PRICES cannot be used: {error}",
            remedy="Correct the file, or unset the variable for public rates.",
        )


def _multiprocess(environ: Mapping[str, str]) -> Iterator[Finding]:
    folder = environ.get("PROMETHEUS_MULTIPROC_DIR", environ.get("prometheus_multiproc_dir", "")).strip()
    if folder and not (Path(folder).is_dir() and os.access(folder, os.W_OK)):
        yield Finding(
            check="multiprocess",
            level="error",
            message=f"PROMETHEUS_MULTIPROC_DIR is {folder!r}, which is no folder that can be written.",
            remedy="Create it before the workers start, and empty it at each start.",
        )

"""An MCP server over the ledger, which only reads: an assistant answers what a tenant cost yesterday.

Its tools take parameters. No SQL is built from a question.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import msgspec

from eco2_callbacks.errors import Eco2CallbacksError, LedgerError
from eco2_callbacks.finance.variants import compare_variants
from eco2_callbacks.ledger import (
    DIMENSIONS,
    VARIANT_KEYS,
    Backend,
    Figures,
    Group,
    Period,
    make_read_only,
    make_report,
    models_of,
    percentile,
    read_business,
    read_status,
    read_traces,
)
from eco2_callbacks.pricing import PriceBook, list_prices, sellers_of

__all__ = ["build_server"]

_P = ParamSpec("_P")
_T = TypeVar("_T")
_MAX_GROUPS = 200
_PERIOD = (
    "since and until: a day (2026-11-30), today, yesterday, a time (2026-11-30T14:00), or a duration back from now "
    "(24h, 7d, 4w); until is included and by default now. timezone: the zone of days, such as Asia/Seoul."
)
_INSTRUCTIONS = (
    "Answers questions about the usage and cost of language models from a ledger of all calls. Dollars are exact "
    "decimal texts; null is unknown, not zero. Begin with ledger_overview, which names period, models and dimensions."
)


def build_server(backend: Backend, book: PriceBook) -> Any:
    """Return the server, an ``mcp.server.MCPServer``.

    Args:
        backend: The ledger's backend; its connections become read-only.
        book: The prices for ``model_prices``.

    Raises:
        LedgerError: If the extra is not installed.
    """
    try:
        from mcp.server import MCPServer  # noqa: PLC0415  an extra
        from mcp.types import ToolAnnotations  # noqa: PLC0415
    except ImportError as error:
        raise LedgerError("eco2 mcp needs the extra 'mcp': pip install 'eco2-callbacks[mcp]'.") from error
    make_read_only(backend)
    server = MCPServer("eco2", instructions=_INSTRUCTIONS, log_level="WARNING")
    tools = _Tools(backend, book)
    for tool, description in (
        (
            tools.ledger_overview,
            "What the ledger holds: first and last call, number of calls, models, dimensions.",
        ),
        (tools.cost_of, f"Cost, tokens and calls of one value of a dimension, such as tenant 'acme'. {_PERIOD}"),
        (
            tools.cost_report,
            f"Cost, tokens and calls by dimensions, dearest first. where narrows it: {{'tenant': 'acme'}}. {_PERIOD}",
        ),
        (tools.business_numbers, f"Active users, questions by intent, cost per active user. {_PERIOD}"),
        (
            tools.compare,
            f"Compares variants of a key, such as prompt_version, with confidence intervals. {_PERIOD}",
        ),
        (tools.request_trace, "The runs of one request with seconds, tokens and dollars, by its job id or trace id."),
        (tools.model_prices, "The public and custom prices of a model on a day (2026-11-30; today by default)."),
    ):
        server.add_tool(
            _with_clear_errors(tool), description=description, annotations=ToolAnnotations(read_only_hint=True)
        )
    return server


def _with_clear_errors(tool: Callable[_P, _T]) -> Callable[_P, _T]:
    """Have a tool answer with this package's own messages, which say what was wanted."""

    @wraps(tool)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        from mcp.server.mcpserver.exceptions import ToolError  # noqa: PLC0415

        try:
            return tool(*args, **kwargs)
        except Eco2CallbacksError as error:
            raise ToolError(str(error)) from error

    return run


class _Tools:
    """The tools; each reads the ledger anew."""

    def __init__(self, backend: Backend, book: PriceBook) -> None:
        self._backend = backend
        self._book = book

    def ledger_overview(self) -> dict[str, Any]:
        status = read_status(self._backend)
        if status.revision is None:
            raise LedgerError(f"There is no ledger at {self._backend.shown_url}; run an application with it first.")
        models = [f"{provider}/{model}" for provider, model in models_of(self._backend)]
        return _plain(
            {
                "now": datetime.now(UTC),
                "ledger": status.url,
                "first_call": status.first,
                "last_call": status.last,
                "rows": status.rows,
                "models": sorted(models)[:_MAX_GROUPS],
                "dimensions": DIMENSIONS,
                "comparable_keys": tuple(VARIANT_KEYS),
            }
        )

    def cost_of(
        self, dimension: str, value: str, since: str = "30d", until: str | None = None, timezone: str = "UTC"
    ) -> dict[str, Any]:
        found = self._groups([], {dimension: value}, since, until, timezone)
        figures = found[0].figures if found else Figures()
        return _plain({dimension: value, "since": since, "until": until, **_figures(figures)})

    def cost_report(
        self,
        by: list[str],
        since: str = "30d",
        until: str | None = None,
        timezone: str = "UTC",
        where: dict[str, str] | None = None,
        limit: int = 50,
    ) -> dict[str, Any]:
        groups = self._groups(by, where or {}, since, until, timezone)
        shown = groups[: max(1, min(limit, _MAX_GROUPS))]
        names = [*by, *(name for name in where or {} if name not in by)]
        return _plain(
            {
                "groups": [{**dict(zip(names, group.key, strict=True)), **_figures(group.figures)} for group in shown],
                "left_out": len(groups) - len(shown),
            }
        )

    def business_numbers(self, since: str = "30d", until: str | None = None, timezone: str = "UTC") -> dict[str, Any]:
        found = read_business(self._backend, Period.parse(since, until, timezone))
        return _plain(
            {
                "days": {
                    day: {**asdict(figures), "usd_per_active_user": figures.usd_per_active_user}
                    for day, figures in found.days.items()
                },
                "total": {**asdict(found.total), "usd_per_active_user": found.total.usd_per_active_user},
                "mean_daily_users": found.mean_daily_users,
                "intents": [{**asdict(intent), "change": intent.change} for intent in found.intents[:_MAX_GROUPS]],
            }
        )

    def compare(
        self,
        key: str,
        since: str = "30d",
        until: str | None = None,
        timezone: str = "UTC",
        baseline: str | None = None,
    ) -> dict[str, Any]:
        period = Period.parse(since, until, timezone)
        found = compare_variants(self._backend, key, period, baseline=baseline)
        return _plain({"confidence": found.confidence, "variants": [asdict(each) for each in found.variants[:50]]})

    def request_trace(self, job_or_trace: str) -> dict[str, Any]:
        return _plain({"traces": read_traces(self._backend, job_or_trace)})

    def model_prices(self, model: str, day: str | None = None) -> dict[str, Any]:
        at = Period.parse(day, None, "UTC").since if day is not None else datetime.now(UTC)
        found = {}
        for provider in sellers_of(self._book, model):
            if (listing := list_prices(self._book, provider=provider, model=model, at=at)) is not None:
                found[provider] = {
                    "prices": {key: str(price) for key, price in listing.usd.items()},
                    "sources": listing.sources,
                    "checked_on": listing.checked_on,
                }
        if not found:
            raise LedgerError(f"No price of {model!r} is known on {at:%Y-%m-%d}; ledger_overview names the models.")
        return _plain({"unit": "USD; _mtok a million tokens, _kcount a thousand, _each one", "providers": found})

    def _groups(
        self, by: list[str], where: dict[str, str], since: str, until: str | None, timezone: str
    ) -> list[Group]:
        names = [*by, *(name for name in where if name not in by)]
        period = Period.parse(since, until, timezone)
        made = make_report(self._backend, names, period, is_read_only=True)
        wanted = [(names.index(name), value) for name, value in where.items()]
        return [group for group in made.groups if all(group.key[place] == value for place, value in wanted)]


def _figures(figures: Figures) -> dict[str, Any]:
    return {
        "calls": figures.calls,
        "errors": figures.errors,
        "input_tokens": figures.input_tokens,
        "output_tokens": figures.output_tokens,
        "cost_usd": figures.cost,
        "estimated_cost_usd": figures.estimated_cost,
        "unpriced_calls": figures.unpriced_calls,
        "cache_savings_usd": figures.cache_savings,
        "requests": figures.requests,
        "successful_requests": figures.successful_requests,
        "seconds_p50": percentile(figures.seconds_buckets, 0.5),
        "seconds_p95": percentile(figures.seconds_buckets, 0.95),
    }


def _plain(value: dict[str, Any]) -> dict[str, Any]:
    """Return values that JSON can hold: exact dollars and times as texts."""
    found: dict[str, Any] = msgspec.to_builtins(value, str_keys=True, enc_hook=str)
    return found

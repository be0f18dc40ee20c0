"""The views that dashboards and people query: one row per call with its dollars, and sums by day."""

from __future__ import annotations

from collections.abc import Mapping

from eco2_callbacks.ledger.columns import MONEY_DIGITS
from eco2_callbacks.ledger.sql_types import CLICKHOUSE

__all__ = ["VIEWS", "views_of"]

VIEWS = ("rated_calls", "daily_costs", "daily_users", "daily_tenant_users", "daily_intents", "daily_feedback")
_ERRORS = "sum(CASE WHEN c.status = 'error' THEN 1 ELSE 0 END)"
_SUCCESSFUL = "sum(CASE WHEN status = 'success' THEN 1 ELSE 0 END)"
_UNPRICED = "sum(CASE WHEN c.unpriced_reason IS NOT NULL THEN 1 ELSE 0 END)"
_COPIED = (
    *("run_id", "trace_id", "tenant_id", "user_id", "session_id", "job_id", "feature", "prompt_version"),
    *("agent_name", "path", "intent", "node", "purpose", "provider", "model", "request_model", "operation", "status"),
    *("error_type", "retry", "sdk_retries", "duration_seconds", "time_to_first_token_seconds", "input_tokens"),
    *("output_tokens", "cache_read_tokens", "cache_creation_tokens", "reasoning_tokens", "from_cache", "estimated"),
    *("cost_source", "service_tier", "response_id"),
)


class _Dialect:
    """What differs between the backends' SQL; the arguments are our own columns."""

    def __init__(self, name: str) -> None:
        self.is_sqlite, self.is_clickhouse = name == "sqlite", name == CLICKHOUSE
        # Rows of one key are merged later; without it a query could see both.
        self.final = " FINAL" if self.is_clickhouse else ""
        self.union = "UNION DISTINCT" if self.is_clickhouse else "UNION"
        # Both sides are stored in the order of their key. A hash of all ratings takes five times as long.
        self.joined_in_order = " SETTINGS join_algorithm = 'full_sorting_merge,hash'" if self.is_clickhouse else ""
        self.newest_rating = "newest_ratings AS r ON c.started_at = r.started_at AND c.run_id = r.run_id"
        if name == "postgresql":
            # Looked up call by call: PostgreSQL does not hand a condition on the calls' time on to the other view.
            self.newest_rating = (
                "LATERAL (SELECT * FROM ratings AS rated WHERE rated.started_at = c.started_at "
                "AND rated.run_id = c.run_id ORDER BY rated.computed_at DESC LIMIT 1) AS r ON true"
            )

    def day(self, time: str) -> str:
        if self.is_sqlite:
            return f"date({time} / 1000000, 'unixepoch')"
        return f"toDate({time}, 'UTC')" if self.is_clickhouse else f"({time} AT TIME ZONE 'UTC')::date"

    def moment(self, time: str) -> str:
        return f"strftime('%Y-%m-%d %H:%M:%f', {time} / 1e6, 'unixepoch')" if self.is_sqlite else time

    def usd(self, money: str) -> str:
        return f"({money} / 1e{MONEY_DIGITS})" if self.is_sqlite else money

    def ratio(self, above: str, below: str) -> str:
        """Return dollars for each of a number, as a float."""
        kind = {(True, False): "REAL", (False, True): "Nullable(Float64)"}.get(
            (self.is_sqlite, self.is_clickhouse), "double precision"
        )
        return f"CAST({above} AS {kind}) / nullif({below}, 0)"


def views_of(dialect: str) -> Mapping[str, str]:
    """Return the queries of the views by name, in the order in which they are created.

    Days are UTC's. A sum of dollars leaves out calls without a price, which ``unpriced_calls`` counts; it is NULL where
    there is no price at all.
    """
    sql = _Dialect(dialect)
    return {
        "rated_calls": _rated_calls(sql),
        "daily_costs": _daily_costs(),
        "daily_users": _daily_users(sql, by_tenant=False),
        "daily_tenant_users": _daily_users(sql, by_tenant=True),
        "daily_intents": _daily_intents(sql),
        "daily_feedback": _daily_feedback(sql),
    }


def _rated_calls(sql: _Dialect) -> str:
    copied = ", ".join(f"c.{name} AS {name}" for name in _COPIED)
    margin = "coalesce(r.margin, 0)"
    return (
        f"SELECT {sql.day('c.started_at')} AS day, {sql.moment('c.started_at')} AS started_at, {copied}, "
        # What is unpriced belongs to the rating; one of an older version does not say it.
        "CASE WHEN r.contracted_cost IS NULL THEN c.unpriced_reason WHEN r.unpriced OR (r.unpriced IS NULL "
        "AND c.unpriced_reason = 'unpriced_unit') THEN 'unpriced_unit' END "
        f"AS unpriced_reason, r.price_version AS price_version, {sql.usd('r.list_cost')} AS list_usd, "
        f"{sql.usd('r.contracted_cost')} AS usd, {sql.usd(margin)} AS margin_usd, "
        f"{sql.usd(f'(r.contracted_cost + {margin})')} AS billed_usd "
        f"FROM calls AS c{sql.final} LEFT JOIN {sql.newest_rating}{sql.joined_in_order}"
    )


def _sums() -> str:
    """Return the sums over ``rated_calls AS c``; answers from LangChain's cache consumed no tokens."""
    tokens = ", ".join(
        f"coalesce(sum(CASE WHEN c.from_cache THEN 0 ELSE c.{name} END), 0) AS {name}"
        for name in ("input_tokens", "output_tokens", "cache_read_tokens", "reasoning_tokens")
    )
    return (
        f"count(*) AS calls, {_ERRORS} AS errors, {tokens}, sum(c.list_usd) AS list_usd, "
        "sum(c.usd) AS usd, sum(c.billed_usd) AS billed_usd, "
        f"{_UNPRICED} AS unpriced_calls, sum(c.duration_seconds) AS seconds"
    )


def _daily_costs() -> str:
    keys = "day, tenant_id, provider, model, agent_name, node, intent, feature, prompt_version"
    named = ", ".join(f"c.{key} AS {key}" for key in keys.split(", "))
    by = ", ".join(f"c.{key}" for key in keys.split(", "))
    return f"SELECT {named}, {_sums()} FROM rated_calls AS c GROUP BY {by}"


def _daily_users(sql: _Dialect, *, by_tenant: bool) -> str:
    """Return the query of active users; a user is active with a request or a model call."""
    keys = ("day", "tenant_id") if by_tenant else ("day",)
    tenant, listed = (", tenant_id" if by_tenant else ""), ", ".join(keys)
    day = sql.day("started_at")

    def on(name: str) -> str:
        return " AND ".join(f"days.{key} = {name}.{key}" for key in keys)

    usd = "CASE WHEN coalesce(spent.calls, 0) = 0 THEN 0 ELSE spent.usd END"
    return (
        f"WITH active AS (SELECT {day} AS day{tenant}, user_id FROM calls{sql.final} WHERE user_id IS NOT NULL "
        f"{sql.union} SELECT {day} AS day{tenant}, user_id FROM requests{sql.final} WHERE user_id IS NOT NULL), "
        f"users AS (SELECT {listed}, count(DISTINCT user_id) AS active_users FROM active GROUP BY {listed}), "
        f"spent AS (SELECT {listed}, count(*) AS calls, sum(c.usd) AS usd, "
        f"{_UNPRICED} AS unpriced_calls "
        f"FROM rated_calls AS c GROUP BY {listed}), "
        f"asked AS (SELECT {day} AS day{tenant}, count(*) AS requests, "
        f"{_SUCCESSFUL} AS successful_requests "
        f"FROM requests{sql.final} GROUP BY {day}{tenant}), "
        f"days AS (SELECT {listed} FROM spent {sql.union} SELECT {listed} FROM asked) "
        f"SELECT {', '.join(f'days.{key} AS {key}' for key in keys)}, "
        "coalesce(users.active_users, 0) AS active_users, coalesce(asked.requests, 0) AS requests, "
        "coalesce(asked.successful_requests, 0) AS successful_requests, coalesce(spent.calls, 0) AS calls, "
        f"coalesce(spent.unpriced_calls, 0) AS unpriced_calls, {usd} AS usd, "
        f"{sql.ratio(usd, 'users.active_users')} AS usd_per_active_user "
        f"FROM days LEFT JOIN users ON {on('users')} LEFT JOIN asked ON {on('asked')} "
        f"LEFT JOIN spent ON {on('spent')}"
    )


def _daily_intents(sql: _Dialect) -> str:
    """Return the query of questions by intent; their dollars are those of the calls with this intent."""
    keys = "day, tenant_id, intent"
    day = sql.day("started_at")
    on = " AND ".join(f"days.{key} = {{0}}.{key}" for key in keys.split(", "))
    return (
        f"WITH asked AS (SELECT {day} AS day, tenant_id, intent, count(*) AS requests, "
        f"{_SUCCESSFUL} AS successful_requests, count(DISTINCT user_id) AS users, "
        f"avg(duration_seconds) AS mean_seconds FROM requests{sql.final} GROUP BY {day}, tenant_id, intent), "
        f"spent AS (SELECT {keys}, count(*) AS calls, sum(c.usd) AS usd FROM rated_calls AS c GROUP BY {keys}), "
        f"days AS (SELECT {keys} FROM spent {sql.union} SELECT {keys} FROM asked) "
        "SELECT days.day AS day, days.tenant_id AS tenant_id, days.intent AS intent, "
        "coalesce(asked.requests, 0) AS requests, coalesce(asked.successful_requests, 0) AS successful_requests, "
        "coalesce(asked.users, 0) AS users, asked.mean_seconds AS mean_seconds, coalesce(spent.calls, 0) AS calls, "
        "CASE WHEN coalesce(spent.calls, 0) = 0 THEN 0 ELSE spent.usd END AS usd "
        f"FROM days LEFT JOIN asked ON {on.format('asked')} LEFT JOIN spent ON {on.format('spent')}"
    )


def _daily_feedback(sql: _Dialect) -> str:
    day = sql.day("started_at")
    keys = "tenant_id, prompt_version, intent, node, score_key"
    return (
        f"SELECT {day} AS day, {keys}, count(*) AS scores, avg(score) AS mean_score "
        f"FROM feedback{sql.final} GROUP BY {day}, {keys}"
    )

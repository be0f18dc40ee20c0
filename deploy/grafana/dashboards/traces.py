"""The row "Traces": single requests from the ledger, through Grafana's PostgreSQL data source."""

from __future__ import annotations

from typing import Any, Final

from grafana_foundation_sdk.builders.table import Panel as TablePanel
from grafana_foundation_sdk.cog import variants
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as models

from dashboards.dashboard import LEDGER, Row, langsmith

__all__ = ["traces"]

_SOURCE: Final = models.DataSourceRef(type_val=LEDGER, uid="${ledger}")
# A cost of a request with unpriced calls is a lower bound, and said to be one.
_COLUMNS: Final = """started_at AS "Time", coalesce(nullif(job_id, ''), trace_id::text) AS "Request",
  intent AS "Intent", tenant_id AS "Tenant", agent_name AS "Agent",
  CASE WHEN error_type IS NULL THEN status ELSE error_type END AS "End",
  duration_seconds AS "Seconds", llm_calls AS "Calls", cost AS "Cost",
  CASE WHEN unpriced_calls > 0 THEN 'at least' WHEN estimated THEN 'estimated' ELSE 'exact' END AS "Cost is\""""
_BY_JOB: Final = 'and(eq(is_root, true), eq(metadata_key, "job_id"), eq(metadata_value, "${__value.raw}"))'


class _Sql(Builder[variants.Dataquery], variants.Dataquery):
    """A query in SQL whose rows become a table."""

    def __init__(self, text: str) -> None:
        self._text = text

    def build(self) -> _Sql:
        return self

    def to_json(self) -> dict[str, object]:
        return {
            "refId": "A",
            "datasource": _SOURCE,
            "format": "table",
            "rawQuery": True,
            "editorMode": "code",
            "rawSql": self._text,
        }


def traces() -> Row:
    """Return the row. It is collapsed, because an installation may have no ledger."""
    return Row(
        "Traces, from the ledger",
        [
            _requests("Recent requests", "Which requests ended last?", order="started_at DESC"),
            _requests("Slow requests", "Which requests took longest?", order="duration_seconds DESC"),
            _requests(
                "Failed requests",
                "Which requests failed, and with which exception?",
                where="status = 'error'",
                order="started_at DESC",
            ),
            _requests("Dearest requests", "Which requests cost most?", order="cost DESC"),
        ],
        is_collapsed=True,
    )


def _requests(title: str, question: str, *, order: str, where: str = "true") -> TablePanel:
    query = (
        f"SELECT {_COLUMNS}\nFROM eco2.requests\n"
        f"WHERE $__timeFilter(started_at) AND {where} AND intent ~ '^(${{intent:regex}})$'\n"
        f"ORDER BY {order}\nLIMIT 50"
    )
    panel = TablePanel().title(title).datasource(_SOURCE).span(24).height(8)
    panel.description(f"{question} Click a request to open it in LangSmith by its job id.")
    panel.with_target(_Sql(query)).unit("short")
    panel.min_width(90).override_by_name("End", [_value("custom.width", 240)])
    panel.override_by_name("Intent", [_value("custom.width", 160)])
    panel.override_by_name("Seconds", [_value("unit", "s")])
    panel.override_by_name("Cost", [_value("unit", "currencyUSD"), _value("noValue", "unknown")])
    panel.override_by_name("Calls", [_value("unit", "locale"), _value("decimals", 0)])
    panel.override_by_name("Time", [_value("unit", "dateTimeAsIso"), _value("custom.width", 180)])
    link = langsmith("The request in LangSmith", _BY_JOB).as_option()
    panel.override_by_name("Request", [_value("links", [link]), _value("custom.width", 240)])
    return panel


def _value(name: str, value: Any) -> models.DynamicConfigValue:
    return models.DynamicConfigValue(name, value)

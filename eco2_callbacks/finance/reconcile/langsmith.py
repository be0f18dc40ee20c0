"""LangSmith's runs, as ``Client.list_runs`` and bulk exports give them: JSON, JSON lines, CSV or Parquet."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from eco2_callbacks.errors import ConfigError
from eco2_callbacks.finance.reconcile.books import Book, local_day
from eco2_callbacks.finance.reconcile.files import Export, decimal_of

__all__ = ["read_langsmith", "read_langsmith_parquet"]

_KNOWN = {
    *("id", "name", "run_type", "start_time", "end_time", "status", "error", "inputs", "outputs", "extra", "metadata"),
    *("serialized", "events", "tags", "parent_run_id", "parent_run_ids", "trace_id", "dotted_order", "session_id"),
    *("session_name", "reference_example_id", "reference_dataset_id", "child_run_ids", "child_runs", "thread_id"),
    *("direct_child_run_ids", "feedback_stats", "app_path", "manifest_id", "manifest_s3_id", "total_tokens"),
    *("prompt_tokens", "completion_tokens", "total_cost", "prompt_cost", "completion_cost", "first_token_time"),
    *("latency", "in_dataset", "share_token", "attachments", "trace_tier", "ttl_seconds", "trace_upgrade"),
    *("trace_first_received_at", "last_queued_at", "price_model_id", "prompt_token_details", "messages"),
    *("completion_token_details", "prompt_cost_details", "completion_cost_details", "inputs_preview", "tenant_id"),
    *("outputs_preview", "inputs_s3_urls", "outputs_s3_urls", "s3_urls", "is_root", "execution_order", "url"),
    *("inputs_or_signed_url", "outputs_or_signed_url", "revision_id", "example_id", "trace_min_start_time"),
    *("trace_max_start_time", "received_at", "modified_at", "first_token_latency", "run_id"),
}
_NEEDED = {"run_type", "start_time"}


def read_langsmith(export: Export, zone: ZoneInfo) -> Book:
    """Return the book of LangSmith's model runs.

    Raises:
        ConfigError: If a column is unknown or missing, or a value is none.
    """
    if export.is_csv:
        return _book(export, zone, export.rows(_KNOWN, _NEEDED))
    return _book(export, zone, _checked(export, export.documents()))


def read_langsmith_parquet(path: Path, zone: ZoneInfo, export: Export) -> Book:
    """Return the book of a bulk export in Parquet.

    Raises:
        ConfigError: If the extra is missing, the file is none, or as ``read_langsmith``.
    """
    try:
        import pyarrow as pa  # noqa: PLC0415  an extra
        import pyarrow.parquet as pq  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError("Parquet needs the extra 'parquet': pip install 'eco2-callbacks[parquet]'.") from error
    try:
        rows = pq.read_table(path).to_pylist()
    except (OSError, pa.ArrowInvalid) as error:
        raise export.error(f"it cannot be read ({error})") from error
    return _book(export, zone, _checked(export, rows))


def _checked(export: Export, rows: list[Any]) -> Iterator[Mapping[str, Any]]:
    for row in rows:
        if not isinstance(row, dict):
            raise export.error(f"found {type(row).__name__}, wanted runs")
        export.check(row, _KNOWN, _NEEDED)
        yield row


def _book(export: Export, zone: ZoneInfo, rows: Iterator[Mapping[str, Any]]) -> Book:
    book = Book("langsmith", counts_cached="tokens")
    for row in rows:
        if row["run_type"] != "llm":
            continue
        outputs, extra = _object(row.get("outputs")), _object(row.get("extra"))
        metadata = {**_object(row.get("metadata")), **_object(extra.get("metadata"))}
        model = metadata.get("ls_model_name") or _object(extra.get("invocation_params")).get("model") or ""
        usage = _object(outputs.get("usage_metadata")) or _object(metadata.get("usage_metadata"))
        entry = book.at(local_day(export.moment(row["start_time"], "start_time"), zone), str(model))
        read, written = (
            decimal_of(row.get(column)) or decimal_of(usage.get(field))
            for column, field in (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens"))
        )
        entry.add(
            calls=1,
            input_tokens=int(read or 0),
            output_tokens=int(written or 0),
            usd=decimal_of(row.get("total_cost")) or decimal_of(usage.get("total_cost")),
        )
    return book


def _object(value: Any) -> Mapping[str, Any]:
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = json.loads(value)
        except ValueError:
            return {}
    return value if isinstance(value, dict) else {}

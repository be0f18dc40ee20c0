"""A report as a Parquet file."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

from eco2_callbacks.cli.reporters.report_rows import group_rows, row_of
from eco2_callbacks.errors import LedgerError
from eco2_callbacks.ledger import Figures, Report

__all__ = ["write_parquet"]


def write_parquet(report: Report, path: Path) -> None:
    """Write one row per group; dollars are decimals with twelve places.

    Raises:
        LedgerError: If the extra is not installed.
    """
    try:
        import pyarrow as pa  # noqa: PLC0415  an extra
        import pyarrow.parquet as pq  # noqa: PLC0415
    except ImportError as error:
        raise LedgerError(
            "The format parquet needs the extra 'parquet': pip install 'eco2-callbacks[parquet]'."
        ) from error

    def type_of(value: Any) -> Any:
        if isinstance(value, Decimal):
            return pa.decimal128(38, 12)
        return pa.int64() if isinstance(value, int) else pa.float64()

    # The types of a group without calls: an unknown figure has none.
    typical = row_of(Figures())
    exact = {"cost_per_successful_request_usd": Decimal(0)}
    fields = [pa.field(name, pa.string()) for name in report.by]
    fields += [pa.field(name, type_of(exact.get(name, value))) for name, value in typical.items()]
    rows = [
        {name: value.quantize(Decimal("1e-12")) if isinstance(value, Decimal) else value for name, value in row.items()}
        for row in group_rows(report)
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema(fields)), path)

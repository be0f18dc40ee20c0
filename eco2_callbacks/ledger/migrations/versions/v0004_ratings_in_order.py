"""The newest ratings in ClickHouse without a hash of all of them in memory.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

from eco2_callbacks.ledger.migrations.ddl import create_newest_view, dialect_name
from eco2_callbacks.ledger.sql_types import CLICKHOUSE

__all__ = ["branch_labels", "depends_on", "down_revision", "downgrade", "revision", "upgrade"]

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_RATING = (
    *("started_at", "run_id", "computed_at", "price_version", "rates", "currency", "list_cost", "discount"),
    *("contracted_cost", "parts", "cache_savings", "cache_surcharge", "cost_bucket", "margin"),
)


def upgrade() -> None:
    """Replace the view; the other backends' stays as it is."""
    if dialect_name() == CLICKHOUSE:
        create_newest_view("newest_ratings", "ratings", _RATING, ("started_at", "run_id"), "computed_at")


def downgrade() -> None:
    """Refuse: a ledger is never made older."""
    raise NotImplementedError("A ledger keeps its schema; install the newer package again to use it.")

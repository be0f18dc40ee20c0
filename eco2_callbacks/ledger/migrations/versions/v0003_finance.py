"""Margins, and retries inside SDKs.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

from eco2_callbacks.ledger.columns import Column
from eco2_callbacks.ledger.migrations.ddl import add_column, create_newest_view

__all__ = ["branch_labels", "depends_on", "down_revision", "downgrade", "revision", "upgrade"]

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# PostgreSQL adds columns to a view at its end only.
_RATING = (
    *("started_at", "run_id", "computed_at", "price_version", "rates", "currency", "list_cost", "discount"),
    *("contracted_cost", "parts", "cache_savings", "cache_surcharge", "cost_bucket", "margin"),
)


def upgrade() -> None:
    """Add the columns; the views that dashboards query are made by the newest migration that changes them."""
    add_column("ratings", Column("margin", "money", is_nullable=True))
    add_column("calls", Column("sdk_retries", "int", is_nullable=True))
    create_newest_view("newest_ratings", "ratings", _RATING, ("started_at", "run_id"), "computed_at")


def downgrade() -> None:
    """Refuse: a ledger is never made older."""
    raise NotImplementedError("A ledger keeps its schema; install the newer package again to use it.")

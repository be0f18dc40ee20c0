"""Which ratings leave out a unit that has no rate, and the views that dashboards query.

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

from eco2_callbacks.ledger.columns import Column
from eco2_callbacks.ledger.migrations.ddl import add_column, create_newest_view, create_view, dialect_name
from eco2_callbacks.ledger.migrations.views import views_of

__all__ = ["branch_labels", "depends_on", "down_revision", "downgrade", "revision", "upgrade"]

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# PostgreSQL adds columns to a view at its end only.
_RATING = (
    *("started_at", "run_id", "computed_at", "price_version", "rates", "currency", "list_cost", "discount"),
    *("contracted_cost", "parts", "cache_savings", "cache_surcharge", "cost_bucket", "margin", "unpriced"),
)


def upgrade() -> None:
    """Add the column, and make all views."""
    add_column("ratings", Column("unpriced", "bool", is_nullable=True))
    create_newest_view("newest_ratings", "ratings", _RATING, ("started_at", "run_id"), "computed_at")
    for name, query in views_of(dialect_name()).items():
        create_view(name, query)


def downgrade() -> None:
    """Refuse: a ledger is never made older."""
    raise NotImplementedError("A ledger keeps its schema; install the newer package again to use it.")

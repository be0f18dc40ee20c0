"""Values of the metadata that a budget's rule names, so that its window can be rebuilt.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

from eco2_callbacks.ledger.columns import Column
from eco2_callbacks.ledger.migrations.ddl import add_column

__all__ = ["branch_labels", "depends_on", "down_revision", "downgrade", "revision", "upgrade"]

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    add_column("calls", Column("metadata", "json", is_nullable=True))


def downgrade() -> None:
    """Refuse: a ledger is append only."""
    raise NotImplementedError("A ledger's schema only grows; keep the newer package.")

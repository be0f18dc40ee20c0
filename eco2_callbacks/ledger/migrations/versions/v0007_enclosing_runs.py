"""Which run encloses another one, so that the tree of a request is exact where branches run side by side.

Revision ID: 0007
Revises: 0006
"""

from __future__ import annotations

from eco2_callbacks.ledger.columns import Column
from eco2_callbacks.ledger.migrations.ddl import add_column

__all__ = ["branch_labels", "depends_on", "down_revision", "downgrade", "revision", "upgrade"]

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column to every table of runs below a request."""
    for name in ("calls", "node_runs", "tool_calls", "retriever_calls"):
        add_column(name, Column("enclosing_run_id", "uuid", is_nullable=True))


def downgrade() -> None:
    """Refuse: a ledger is never made older."""
    raise NotImplementedError("A ledger keeps its schema; install the newer package again to use it.")

"""Indexes of PostgreSQL that take texts of any length.

Revision ID: 0006
Revises: 0005
"""

from __future__ import annotations

from alembic import op

from eco2_callbacks.ledger.migrations.ddl import dialect_name

__all__ = ["branch_labels", "depends_on", "down_revision", "downgrade", "revision", "upgrade"]

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Replace two B-trees, whose entries take 2,704 bytes: a text of 1,000 characters can have 4,000."""
    if dialect_name() != "postgresql":
        return
    op.drop_index("requests_by_job", "requests")
    op.create_index("requests_by_job", "requests", ["job_id"], postgresql_using="hash")
    # Hours are deleted and filled as a whole, under a lock: nothing looks up a row by its labels.
    op.drop_constraint("hourly_requests_pkey", "hourly_requests", type_="primary")
    op.create_index("hourly_requests_by_hour", "hourly_requests", ["hour"])


def downgrade() -> None:
    """Refuse: a ledger is never made older."""
    raise NotImplementedError("A ledger keeps its schema; install the newer package again to use it.")

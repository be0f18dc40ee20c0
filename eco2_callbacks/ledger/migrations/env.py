"""Alembic's environment: runs the migrations on the connection that ``Schema`` passes."""

from __future__ import annotations

from alembic import context

__all__ = ["run"]


def run() -> None:
    """Run the migrations that Alembic has chosen."""
    attributes = context.config.attributes
    context.configure(connection=attributes["connection"], version_table=attributes["version_table"])
    with context.begin_transaction():
        context.run_migrations()


if __name__ != "eco2_callbacks.ledger.migrations.env":
    # Alembic runs this file under a name of its own.
    run()

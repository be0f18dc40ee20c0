"""The ledger's schema: opened, created and upgraded by Alembic, on all backends."""

from __future__ import annotations

from eco2_callbacks.ledger.migrations.upgrade import Schema

__all__ = ["Schema"]

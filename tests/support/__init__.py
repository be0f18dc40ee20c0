"""What tests share; no test stands here."""

from __future__ import annotations

import pytest

# Before the module is imported, so that its assertions show their values.
pytest.register_assert_rewrite("tests.support.ledger_checks")

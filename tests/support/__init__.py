"""Helpers that tests share; there are no tests here."""

from __future__ import annotations

import pytest

# Before the modules are imported, so that their assertions show their values.
pytest.register_assert_rewrite("tests.support.langsmith_runs", "tests.support.ledger_checks")

"""The pytest plugin: what each test's model calls cost, with limits and snapshots. Loaded by entry point."""

from __future__ import annotations

from eco2_callbacks.pytest_plugin.costs import LLMCosts
from eco2_callbacks.pytest_plugin.plugin import llm_costs, pytest_addoption, pytest_configure

__all__ = ["LLMCosts", "llm_costs", "pytest_addoption", "pytest_configure"]

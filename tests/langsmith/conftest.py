"""Fixture for the tests of LangSmith: a local server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.langsmith_server import LangSmithServer


@pytest.fixture
def server() -> Iterator[LangSmithServer]:
    with LangSmithServer() as server:
        yield server

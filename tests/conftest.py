"""Fixtures of all tests: a registry, a handler and a sink of their own, and a clean environment."""

from __future__ import annotations

import gc
import os
import re
import sys
from collections.abc import AsyncIterator, Generator, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
import pytest_asyncio
from packaging.version import Version
from prometheus_client import CollectorRegistry

from eco2_callbacks import Eco2CallbackHandler, log_once
from tests.support.examples import examples
from tests.support.record_sink import Records

if TYPE_CHECKING:
    from tests.support.failing_provider import FailingProvider
    from tests.support.langsmith_server import LangSmithServer
    from tests.support.ledger_checks import LedgerChecks
    from tests.support.official_models import OfficialModels

PREFIXES = (
    *("ECO2_", "LANGSMITH_", "LANGCHAIN_", "OTEL_", "OPENAI_", "GOOGLE_", "GEMINI_"),
    *("BULK_WASTE_", "KAKAO_", "KECO_", "KMA_", "RECYCLABLE_PRICE_"),
)
# No test depends on how fast the machine is.
hypothesis.settings.register_profile(
    "any machine", deadline=None, max_examples=examples(100), suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")
CASSETTES = Path(__file__).parents[1] / "cassettes"
_CORE = Version(version("langchain-core"))
# Without bytecode on the disk each of the suite's processes compiles two thousand modules anew.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# The environment before a fixture cleans it.
_SHELL = dict(os.environ)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--record-mode",
        choices=("none", "standin", "all"),
        default="none",
        help="none: replay the cassettes (default); standin: record them from the stand-ins; all: record them from "
        "the real providers and services, with OPENAI_API_KEY, GOOGLE_API_KEY and the services' keys that are set. A "
        "recording runs only tests with a cassette.",
    )


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> Generator[None, int, int]:
    """Start two workers more than there are cores: most of a test's time is waiting for other processes."""
    workers = yield
    # Slow tests start browsers and many processes, which need the cores and the memory.
    is_default = config.option.markexpr.strip() == "not slow"
    return workers + 2 if is_default and "PYTEST_XDIST_AUTO_NUM_WORKERS" not in os.environ else workers


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what needs a newer langchain-core; deselect tests without a cassette when recording."""
    for item in items:
        if (needed := item.get_closest_marker("needs_core")) is not None and Version(needed.args[0]) > _CORE:
            reason = f"needs langchain-core {needed.args[0]}, this is {_CORE}"
            item.add_marker(pytest.mark.skip(reason=reason))
    if config.getoption("--record-mode") == "none":
        return
    without = [item for item in items if "cassette" not in getattr(item, "fixturenames", ())]
    config.hook.pytest_deselected(items=without)
    items[:] = [item for item in items if item not in without]


@pytest.fixture
def cassette(
    request: pytest.FixtureRequest, clean_environment: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """Answer the test's HTTP from ``cassettes/<test_module>/<test_name>.yaml``, or record it there."""
    from graph.replay import KEYS, record, replay  # the handler's own tests run without it

    name = re.sub(r"\[(.*)\]", r"-\1", request.node.name)
    path = CASSETTES / request.node.path.stem / f"{name}.yaml"
    mode = request.config.getoption("--record-mode")
    if mode == "none":
        with replay(path):
            yield path
    elif mode == "standin":
        from tests.support.record_cassettes import upstream  # beside the tests that have cassettes

        with upstream() as (hosts, keys), record(path, upstream=hosts, **keys):
            yield path
    else:
        keys = {name: value for name in KEYS if (value := _SHELL.get(name, "").strip())}
        missing = [name for name in ("OPENAI_API_KEY", "GOOGLE_API_KEY") if name not in keys]
        if missing:
            pytest.fail(f"--record-mode=all asks the real providers: set {' and '.join(missing)}.", pytrace=False)
        for name, value in keys.items():
            monkeypatch.setenv(name, value)
        with record(path):
            yield path


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the developer's variables for tracing, prices and keys."""
    for name in set(os.environ) - {"ECO2_RECORDINGS", "ECO2_CRD_SCHEMAS"}:
        if name.startswith(PREFIXES):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def fresh_log() -> None:
    """Let each test see the lines that a process logs once."""
    log_once._seen.clear()


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def records() -> Records:
    return Records()


@pytest.fixture
def handler(registry: CollectorRegistry, records: Records) -> Iterator[Eco2CallbackHandler]:
    with Eco2CallbackHandler(registry=registry, sinks=[records], agent_name="eco2") as handler:
        yield handler


@pytest.fixture(scope="module")
def provider() -> Iterator[FailingProvider]:
    """Yield a provider that fails as its plans say."""
    from tests.support.failing_provider import (
        FailingProvider,  # the handler's own tests run without the official models
    )

    with FailingProvider() as provider:
        yield provider


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def official_models(provider: FailingProvider) -> AsyncIterator[OfficialModels]:
    """Yield the official models, connected to that provider on one loop for all tests of a module."""
    from tests.support.official_models import OfficialModels

    # These tests run full garbage collections, which then skip the objects that existed before.
    gc.freeze()
    official_models = OfficialModels(provider.url)
    yield official_models
    await official_models.aclose()
    gc.unfreeze()
    gc.collect()


@pytest.fixture(scope="module")
def tracing() -> Iterator[tuple[LangSmithServer, Any]]:
    """Yield a LangSmith server and a client of it, for all tests of a module."""
    from tests.support.fake_model import FakeModel
    from tests.support.langsmith_server import LangSmithServer

    # An earlier handler has installed the hooks on LangSmith's run trees, as in a process that runs for a while.
    earlier = Eco2CallbackHandler(registry=CollectorRegistry())
    FakeModel().invoke("hello", {"callbacks": [earlier]})
    # As hosted LangSmith does it; a client that does not compress waits 50 ms at each flush.
    with LangSmithServer(ingest="zstd") as server, server.client() as client:
        yield server, client
    earlier.close()


@pytest.fixture
def checks(tracing: tuple[LangSmithServer, Any]) -> Iterator[LedgerChecks]:
    """Yield ledger checks for one test."""
    from tests.support.ledger_checks import LedgerChecks

    server, client = tracing
    checks = LedgerChecks(client, server)
    with checks.handler:
        yield checks

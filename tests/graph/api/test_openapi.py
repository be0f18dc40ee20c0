"""Generated requests against the API's own description."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from graph.api import ApiSettings
from tests.support.api_server import api_server
from tests.support.examples import examples

_SECONDS_TO_START = 60


@pytest.fixture(scope="module")
def api_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the API on a thread of its own: the generated requests are synchronous."""
    ready, addresses, loops = threading.Event(), [], []

    async def serve() -> None:
        folder = tmp_path_factory.mktemp("api")
        tokens = folder / "tokens.toml"
        digest = hashlib.sha256(b"alice").hexdigest()
        tokens.write_text(f'[[token]]\nsha256 = "{digest}"\ntenant_id = "acme"')
        settings = ApiSettings(tokens_file=tokens, requests_per_minute=100_000, max_active_jobs=10_000)
        async with api_server(folder, settings) as server:
            stop = asyncio.Event()
            loops.append((asyncio.get_running_loop(), stop))
            addresses.append(server.url)
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(_SECONDS_TO_START)
    yield addresses[0]
    ((loop, stop),) = loops
    loop.call_soon_threadsafe(stop.set)
    thread.join()


_CHAT = "/api/v1/chat"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisDeprecationWarning")  # schemathesis' own strategies
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", _CHAT),
        ("GET", f"{_CHAT}/{{job_id}}"),
        ("GET", f"{_CHAT}/{{job_id}}/events"),
        ("DELETE", f"{_CHAT}/{{job_id}}"),
        ("POST", f"{_CHAT}/{{job_id}}/feedback"),
    ],
)
def test_the_api_keeps_to_its_description(api_url: str, method: str, path: str) -> None:
    """No generated request, valid or not, gets an answer that the description does not name, or a server error."""
    schema = schemathesis.openapi.from_url(f"{api_url}/api/v1/openapi.json")

    operation = schema[path][method]
    cases = operation.as_strategy() | operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)

    @settings(max_examples=examples(40), deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=cases)
    def check(case: Case) -> None:
        # A JSON schema cannot say what an image's content must be.
        case.call_and_validate(headers={"Authorization": "Bearer alice"}, excluded_checks=[positive_data_acceptance])

    check()

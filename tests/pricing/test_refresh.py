"""The refresh of the public prices: off by default, its age and its failures shown."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import genai_prices.data_snapshot as snapshots
import pytest
from genai_prices import wait_prices_updated_sync
from prometheus_client import CollectorRegistry

from eco2_callbacks import ConfigError, Eco2CallbackHandler, PriceBook

MODEL = {
    "id": "brand-new",
    "match": {"equals": "brand-new"},
    "prices": {"input_mtok": 1, "output_mtok": 2},
}
DATA = [
    {
        "id": "openai",
        "name": "OpenAI",
        "api_pattern": "https://api\\.openai\\.com",
        "model_match": {"contains": "brand"},
        "models": [MODEL],
    }
]


@pytest.fixture
def mirror() -> Iterator[tuple[str, list[bytes]]]:
    """Serve price data; an empty list of answers makes the server fail."""
    answers = [json.dumps(DATA).encode()]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if answers else 503)
            self.end_headers()
            self.wfile.write(answers[0] if answers else b"")

        def log_message(self, *args: object) -> None:
            """Stay silent."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    before = snapshots.get_snapshot()
    try:
        yield f"http://127.0.0.1:{server.server_port}/data.json", answers
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        snapshots.set_custom_snapshot(before)


def test_fetched_prices_are_used_and_their_age_is_shown(
    mirror: tuple[str, list[bytes]], registry: CollectorRegistry
) -> None:
    """With the setting the handler takes what the address offers, and the age is that of the fetch."""
    url, _ = mirror
    with Eco2CallbackHandler(registry=registry, prices=PriceBook(), refresh_prices=url) as handler:
        assert wait_prices_updated_sync(60)

        handler.flush()
        age = registry.get_sample_value("eco2_callbacks_prices_age_seconds")

    assert snapshots.get_snapshot().from_auto_update
    assert PriceBook().version.partition("@")[2]
    assert age is not None
    assert 0 <= age < 3600


def test_a_failed_fetch_is_counted_and_leaves_the_prices_at_hand(
    mirror: tuple[str, list[bytes]], registry: CollectorRegistry
) -> None:
    """The application goes on with the prices that it has."""
    url, answers = mirror
    answers.clear()
    with Eco2CallbackHandler(registry=registry, prices=PriceBook(), refresh_prices=url) as handler:
        with pytest.raises(Exception, match="503"):
            wait_prices_updated_sync(60)
        handler.flush()

        assert registry.get_sample_value("eco2_callbacks_errors_total", {"callback": "prices"}) == 1
    assert not snapshots.get_snapshot().from_auto_update


@pytest.mark.parametrize("wanted", ["yes please", "ftp://x", 3], ids=["text", "scheme", "number"])
def test_the_setting_is_a_switch_or_a_url(registry: CollectorRegistry, wanted: object) -> None:
    """The message says what came and what was wanted."""
    with pytest.raises(ConfigError, match="wanted True, False or the URL"):
        Eco2CallbackHandler(registry=registry, refresh_prices=wanted)  # type: ignore[arg-type]


def test_the_environment_names_it(registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    """``ECO2_REFRESH_PRICES`` is the setting's default, and a bad value is an error."""
    monkeypatch.setenv("ECO2_REFRESH_PRICES", "maybe")

    with pytest.raises(ConfigError, match="ECO2_REFRESH_PRICES is 'maybe'"):
        Eco2CallbackHandler(registry=registry)

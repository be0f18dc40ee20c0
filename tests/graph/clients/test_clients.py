"""Common behaviour of all HTTP clients: every failure is a ``ServiceError``, and no error shows a key."""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
import threading
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any, get_args
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graph.clients import (
    BulkWaste,
    Kakao,
    Keco,
    Kma,
    RecyclablePrices,
    ServiceAnswerError,
    ServiceError,
    ServiceRefused,
    ServiceUnavailable,
    ServiceUnconfigured,
)
from tests.support.examples import examples
from tests.support.langsmith_server import refused_url
from tests.support.service_standins import KAKAO_KEY, PORTAL_KEY, Fault, Service, Services

CLIENTS: dict[Service, Any] = {
    "kakao": Kakao,
    "kma": Kma,
    "keco": Keco,
    "bulk_waste": BulkWaste,
    "recyclable_price": RecyclablePrices,
}
CALLS: dict[Service, Callable[[Any], Awaitable[Any]]] = {
    "kakao": lambda client: client.search("강남역"),
    "kma": lambda client: client.forecast(37.5665, 126.9780),
    "keco": lambda client: client.collection_points(kind="폐휴대폰"),
    "bulk_waste": lambda client: client.fees("소파", district="강남구"),
    "recyclable_price": lambda client: client.prices("PET"),
}
NAMES = {
    "kakao": ("KAKAO_REST_API_KEY", "ECO2_KAKAO_URL"),
    "kma": ("KMA_SERVICE_KEY", "ECO2_KMA_URL"),
    "keco": ("KECO_SERVICE_KEY", "ECO2_KECO_URL"),
    "bulk_waste": ("BULK_WASTE_SERVICE_KEY", "ECO2_BULK_WASTE_URL"),
    "recyclable_price": ("RECYCLABLE_PRICE_SERVICE_KEY", "ECO2_RECYCLABLE_PRICE_URL"),
}
every_service = pytest.mark.parametrize("service", get_args(Service))


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    with Services() as services:
        for name, value in services.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("ECO2_CLIENT_TIMEOUT_SECONDS", "60")
        yield services


async def call(service: Service, **arguments: Any) -> Any:
    client = CLIENTS[service](**arguments) if arguments else CLIENTS[service].from_env()
    return await CALLS[service](client)


@every_service
async def test_each_client_gets_an_answer(services: Services, service: Service) -> None:
    """A client configured by the environment alone gets an answer from its service."""
    assert await call(service)
    assert [request.service for request in services.requests] == [service]


@every_service
@pytest.mark.parametrize(
    ("fault", "kind", "message"),
    [
        (
            "down",
            ServiceUnavailable,
            "got RemoteProtocolError, wanted an answer; try again later or check {url}.",
        ),
        ("slow", ServiceUnavailable, "got no answer, wanted one within 0.2 s; try again later or raise"),
        ("drip", ServiceUnavailable, "got no answer, wanted one within 0.2 s; try again later or raise"),
        ("500", ServiceUnavailable, "got HTTP 500, wanted 200; try again later."),
        ("garbage", ServiceAnswerError, "Service maintenance</title></html>', wanted JSON; check {url}."),
    ],
    ids=["down", "slow", "drip", "500", "garbage"],
)
async def test_a_fault_is_an_error_that_says_what_to_do(
    services: Services,
    monkeypatch: pytest.MonkeyPatch,
    service: Service,
    fault: Fault,
    kind: type[ServiceError],
    message: str,
) -> None:
    """Each kind of fault has its error class and message; one that never ends meets the time limit."""
    monkeypatch.setenv("ECO2_CLIENT_TIMEOUT_SECONDS", "0.2" if fault in {"slow", "drip"} else "60")
    services.fail(service, fault)

    with pytest.raises(kind) as raised:
        await call(service)

    assert message.format(url=NAMES[service][1]) in str(raised.value)


@every_service
async def test_a_refused_connection_says_so(monkeypatch: pytest.MonkeyPatch, service: Service) -> None:
    """A refused connection is ServiceUnavailable."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with refused_url() as url, pytest.raises(ServiceUnavailable) as raised:
        await call(service, key="key", url=url)

    assert raised.value.why == (f"got ConnectError, wanted an answer; try again later or check {NAMES[service][1]}.")


async def test_the_environments_proxy_is_used(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client uses the environment's proxy, and refuses an invalid one."""
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    with refused_url() as url:
        monkeypatch.setenv("http_proxy", url.removeprefix("http://"))
        with pytest.raises(ServiceUnavailable, match="got ConnectError"):
            await call("kakao")

    monkeypatch.setenv("http_proxy", "gopher://proxy")
    with pytest.raises(ServiceUnconfigured, match=r"got an invalid proxy .* check HTTP_PROXY"):
        await call("kakao")
    assert services.requests == []


@every_service
async def test_a_broken_compression_is_an_error(services: Services, service: Service) -> None:
    """An answer that cannot be decompressed is an error."""
    services.set_answer(service, b"no gzip", content_encoding="gzip")

    with pytest.raises(ServiceAnswerError, match="got an answer that cannot be decompressed"):
        await call(service)


@every_service
async def test_a_wrong_key_is_refused_and_not_shown(
    services: Services, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    """The error names the key's variable but never the key, even if the service repeats it."""
    caplog.set_level(logging.DEBUG)
    key = "wr0ng+key/with=signs"

    with pytest.raises(ServiceRefused) as raised:
        await call(service, key=key, url=services.url)

    assert NAMES[service][0] in str(raised.value)
    shown = "".join(traceback.format_exception(raised.value)) + caplog.text + repr(raised.value)
    assert not {secret for secret in (key, quote(key, safe=""), quote(key)) if secret in shown}


@every_service
async def test_a_good_answer_leaves_no_key_in_the_log(
    services: Services, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    """httpx logs each URL without the key."""
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="httpx")  # an earlier import of langfuse raises the level

    await call(service)

    assert "HTTP Request: GET http://127.0.0.1" in caplog.text
    assert not {key for key in (KAKAO_KEY, PORTAL_KEY, quote(PORTAL_KEY, safe=""), "sErv1ce") if key in caplog.text}


@every_service
@pytest.mark.parametrize("status", [401, 403, 404, 429])
async def test_a_client_error_is_a_refusal(services: Services, service: Service, status: int) -> None:
    """A gateway's 4xx status is ServiceRefused."""
    services.set_answer(service, b"Unauthorized", status=status, content_type="text/plain")

    with pytest.raises(ServiceRefused, match=f"got HTTP {status}, wanted 200; check "):
        await call(service)


@every_service
async def test_a_redirect_is_not_followed(services: Services, service: Service) -> None:
    """The key is not sent to another host."""
    services.set_answer(service, b"", status=302)

    with pytest.raises(ServiceAnswerError, match="got HTTP 302, wanted 200"):
        await call(service)


@every_service
async def test_an_endless_answer_is_cut_off(services: Services, service: Service) -> None:
    """The client stops reading an answer that is too long."""
    services.set_answer(service, b" " * 8_000_001)

    with pytest.raises(ServiceAnswerError, match="got more than 8,000,000 bytes"):
        await call(service)


@every_service
@pytest.mark.parametrize("key", ["", "  "], ids=["unset", "blank"])
def test_a_missing_key_is_one_clear_sentence(monkeypatch: pytest.MonkeyPatch, service: Service, key: str) -> None:
    """The error names the variable and where to get the key."""
    monkeypatch.setenv(NAMES[service][0], key)

    with pytest.raises(ServiceUnconfigured, match=f"{NAMES[service][0]} is not set, wanted .*; set it.$"):
        CLIENTS[service].from_env()


@every_service
@pytest.mark.parametrize("key", ["two words", "줄임", "a\nb", "a\x00"])
def test_a_malformed_key_is_neither_sent_nor_shown(service: Service, key: str) -> None:
    """A malformed key is refused, and the error does not show it."""
    with pytest.raises(ServiceUnconfigured) as raised:
        CLIENTS[service](key=key)

    assert NAMES[service][0] in str(raised.value)
    assert key not in str(raised.value)


@every_service
@pytest.mark.parametrize("url", ["dapi.kakao.com", "ftp://x", "http://", "http://x?serviceKey=secret", "http://x:port"])
def test_a_malformed_address_is_refused(service: Service, url: str) -> None:
    """The error names the variable."""
    with pytest.raises(ServiceUnconfigured) as raised:
        CLIENTS[service](key="key", url=url)

    assert f"{NAMES[service][1]} is not a web address" in str(raised.value)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "soon"])
def test_an_invalid_time_limit_is_refused(monkeypatch: pytest.MonkeyPatch, seconds: str) -> None:
    """A time limit must be a number above 0."""
    monkeypatch.setenv("KAKAO_REST_API_KEY", "key")
    monkeypatch.setenv("ECO2_CLIENT_TIMEOUT_SECONDS", seconds)

    with pytest.raises(ServiceUnconfigured, match="wanted seconds above 0"):
        Kakao.from_env()


def test_one_client_serves_several_event_loops(services: Services) -> None:
    """Several event loops can use one client, one after another or at the same time."""
    client = Kakao.from_env()
    found: list[Any] = []

    def run() -> None:
        found.append(asyncio.run(client.search("강남역")))

    run()
    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 5
    assert len(set(found)) == 1


async def test_a_cancelled_request_ends(services: Services) -> None:
    """A cancelled request leaves no open connection, which would fail this test with a warning."""
    services.fail("kakao", "slow")
    task = asyncio.create_task(call("kakao"))
    await asyncio.sleep(0.05)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


def test_an_error_survives_a_checkpoint() -> None:
    """A checkpoint can pickle an error."""
    error = pickle.loads(pickle.dumps(ServiceRefused("KMA", "got no, wanted yes; ask.")))

    assert (str(error), error.service) == ("KMA: got no, wanted yes; ask.", "KMA")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
# The documented structure with arbitrary values.
ROWS = st.lists(
    st.dictionaries(
        st.sampled_from(
            [
                *("place_name", "x", "y", "distance", "phone", "category", "fcstDate", "fcstTime", "fcstValue", "item"),
                *("conmNm", "addr", "ctpvNm", "sggNm", "larWasNm", "fee", "crtrYmd"),
                *("itemNm", "stdgNm", "exmnYmd", "mrktPrc"),
            ]
        ),
        JSON | st.sampled_from(["소파", "강남구", "PET", "20261121", "0900", "TMP", "1e999", "-0", "١٢"]),
    ),
    max_size=3,
)
HEADERS = st.fixed_dictionaries({"resultCode": st.sampled_from(["00", "03", "30", "99", 0, "²"]) | JSON})
BODIES = st.fixed_dictionaries({"items": ROWS | st.fixed_dictionaries({"item": ROWS | JSON}) | JSON})
ENVELOPES = st.fixed_dictionaries({"header": HEADERS | JSON, "body": BODIES | JSON})
ANSWERS = st.one_of(
    st.binary(),
    JSON.map(lambda body: json.dumps(body).encode()),
    ROWS.map(lambda rows: json.dumps({"documents": rows}).encode()),
    ENVELOPES.map(lambda body: json.dumps(body).encode()),
    ENVELOPES.map(lambda body: json.dumps({"response": body}).encode()),
    st.sampled_from([b"[" * 100_000, b"9" * 5000, b'{"documents": ["\\ud800"]}', b"<resultCode>9</resultCode>"]),
)


@every_service
@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(answer=ANSWERS, status=st.sampled_from([200, 200, 200, 400, 401, 500, 999]))
def test_no_answer_raises_any_other_error(services: Services, service: Service, answer: bytes, status: int) -> None:
    """For any answer, the client returns a result or raises a ``ServiceError``."""
    services.set_answer(service, answer, status=status)

    with suppress(ServiceError):
        asyncio.run(call(service))

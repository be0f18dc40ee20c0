"""What all clients promise alike: any failure is a ``ServiceError`` that says what to do, and no key is ever shown."""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any, get_args
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graph.clients.bulk_waste import BulkWaste
from graph.clients.errors import (
    ServiceAnswerError,
    ServiceError,
    ServiceRefused,
    ServiceUnavailable,
    ServiceUnconfigured,
)
from graph.clients.kakao import Kakao
from graph.clients.keco import Keco
from graph.clients.kma import Kma
from graph.clients.recyclable_price import RecyclablePrices
from tests.support.langsmith_server import refused_url
from tests.support.service_standins import KAKAO_KEY, PORTAL_KEY, Fault, Service, Services

CLIENTS: dict[Service, Any] = {
    "kakao": Kakao,
    "kma": Kma,
    "keco": Keco,
    "bulk_waste": BulkWaste,
    "recyclable_price": RecyclablePrices,
}
QUESTIONS: dict[Service, Callable[[Any], Awaitable[Any]]] = {
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
        yield services


async def ask(service: Service, **arguments: Any) -> Any:
    client = CLIENTS[service](**arguments) if arguments else CLIENTS[service].from_env()
    return await QUESTIONS[service](client)


@every_service
async def test_an_answer_comes_typed(services: Services, service: Service) -> None:
    """Each client, made from the environment alone, gets something from its service."""
    assert await ask(service)
    assert [request.service for request in services.requests] == [service]


@every_service
@pytest.mark.parametrize(
    ("fault", "kind", "says"),
    [
        (
            "down",
            ServiceUnavailable,
            "RemoteProtocolError came, wanted an answer; try again later or see whether {url}",
        ),
        ("slow", ServiceUnavailable, "no answer came, wanted one within 0.2 s; try again later or raise"),
        ("drip", ServiceUnavailable, "no answer came, wanted one within 0.2 s; try again later or raise"),
        ("500", ServiceUnavailable, "HTTP 500 came, wanted 200; try again later."),
        ("rubbish", ServiceAnswerError, "Service maintenance</title></html>' came, wanted JSON; see whether {url} is"),
    ],
    ids=["down", "slow", "drip", "500", "rubbish"],
)
async def test_a_fault_is_an_error_that_says_what_to_do(
    services: Services,
    monkeypatch: pytest.MonkeyPatch,
    service: Service,
    fault: Fault,
    kind: type[ServiceError],
    says: str,
) -> None:
    """A service that is down, slow, failing or talking rubbish is told apart, within the time limit."""
    monkeypatch.setenv("ECO2_CLIENT_TIMEOUT_SECONDS", "0.2" if fault in {"slow", "drip"} else "3")
    services.fail(service, fault)

    started = time.monotonic()
    with pytest.raises(kind) as raised:
        await ask(service)

    assert time.monotonic() - started < 2
    assert says.format(url=NAMES[service][1]) in str(raised.value)


@every_service
async def test_a_refused_connection_says_so(monkeypatch: pytest.MonkeyPatch, service: Service) -> None:
    """Nobody listening is a service that is not available."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with refused_url() as url, pytest.raises(ServiceUnavailable) as raised:
        await ask(service, key="key", url=url)

    assert raised.value.why == (
        f"ConnectError came, wanted an answer; try again later or see whether {NAMES[service][1]} is right."
    )


async def test_the_environments_proxy_is_used(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only a proxy leads out, it is asked; one that is none is said."""
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    with refused_url() as url:
        monkeypatch.setenv("http_proxy", url.removeprefix("http://"))
        with pytest.raises(ServiceUnavailable, match="ConnectError came"):
            await ask("kakao")

    monkeypatch.setenv("http_proxy", "gopher://proxy")
    with pytest.raises(ServiceUnconfigured, match=r"a proxy that cannot be used came .* see HTTP_PROXY"):
        await ask("kakao")
    assert services.requests == []


@every_service
async def test_a_broken_compression_is_an_error(services: Services, service: Service) -> None:
    """What cannot be unpacked is no answer."""
    services.script(service, b"no gzip", content_encoding="gzip")

    with pytest.raises(ServiceAnswerError, match="a broken compression came"):
        await ask(service)


@every_service
async def test_a_wrong_key_is_refused_and_not_repeated(
    services: Services, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    """Kakao's 401 repeats the key, the portal's 200 holds XML; the error names the variable, not its value."""
    caplog.set_level(logging.DEBUG)
    key = "wr0ng+key/with=signs"

    with pytest.raises(ServiceRefused) as raised:
        await ask(service, key=key, url=services.url)

    assert NAMES[service][0] in str(raised.value)
    shown = "".join(traceback.format_exception(raised.value)) + caplog.text + repr(raised.value)
    assert not {secret for secret in (key, quote(key, safe=""), quote(key)) if secret in shown}


@every_service
async def test_a_good_answer_leaves_no_key_in_the_log(
    services: Services, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    """httpx logs each URL; the one it knows has no key."""
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="httpx")  # langfuse, where it was imported before, quiets it

    await ask(service)

    assert "HTTP Request: GET http://127.0.0.1" in caplog.text
    assert not {key for key in (KAKAO_KEY, PORTAL_KEY, quote(PORTAL_KEY, safe=""), "sErv1ce") if key in caplog.text}


@every_service
@pytest.mark.parametrize("status", [401, 403, 404, 429])
async def test_a_client_error_is_a_refusal(services: Services, service: Service, status: int) -> None:
    """What the gateway answers with a status of its own is refused, not rubbish."""
    services.script(service, b"Unauthorized", status=status, content_type="text/plain")

    with pytest.raises(ServiceRefused, match=f"HTTP {status} came, wanted 200; see whether "):
        await ask(service)


@every_service
async def test_a_redirect_is_not_followed(services: Services, service: Service) -> None:
    """The key goes nowhere else."""
    services.script(service, b"", status=302)

    with pytest.raises(ServiceAnswerError, match="HTTP 302 came, wanted 200"):
        await ask(service)


@every_service
async def test_an_endless_answer_is_cut_off(services: Services, service: Service) -> None:
    """Nobody's memory is filled from outside."""
    services.script(service, b" " * 8_000_001)

    with pytest.raises(ServiceAnswerError, match="more than 8,000,000 bytes came"):
        await ask(service)


@every_service
@pytest.mark.parametrize("key", ["", "  "], ids=["unset", "blank"])
def test_a_missing_key_is_one_clear_sentence(monkeypatch: pytest.MonkeyPatch, service: Service, key: str) -> None:
    """It names the variable and where its value is got."""
    monkeypatch.setenv(NAMES[service][0], key)

    with pytest.raises(ServiceUnconfigured, match=f"{NAMES[service][0]} is not set, wanted .*; set it.$"):
        CLIENTS[service].from_env()


@every_service
@pytest.mark.parametrize("key", ["two words", "줄임", "a\nb", "a\x00"])
def test_a_key_that_cannot_be_one_is_not_sent_nor_shown(service: Service, key: str) -> None:
    """A key with a line break would end up in an error of the HTTP library."""
    with pytest.raises(ServiceUnconfigured) as raised:
        CLIENTS[service](key=key)

    assert NAMES[service][0] in str(raised.value)
    assert key not in str(raised.value)


@every_service
@pytest.mark.parametrize("url", ["dapi.kakao.com", "ftp://x", "http://", "http://x?serviceKey=secret", "http://x:port"])
def test_an_address_that_is_none_is_said(service: Service, url: str) -> None:
    """The error names the variable."""
    with pytest.raises(ServiceUnconfigured) as raised:
        CLIENTS[service](key="key", url=url)

    assert f"{NAMES[service][1]} is not a web address" in str(raised.value)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "soon"])
def test_a_time_limit_that_is_none_is_said(monkeypatch: pytest.MonkeyPatch, seconds: str) -> None:
    """Zero would be no limit for some, no time for others."""
    monkeypatch.setenv("KAKAO_REST_API_KEY", "key")
    monkeypatch.setenv("ECO2_CLIENT_TIMEOUT_SECONDS", seconds)

    with pytest.raises(ServiceUnconfigured, match="wanted seconds above 0"):
        Kakao.from_env()


def test_one_client_serves_several_event_loops(services: Services) -> None:
    """One after the other and at the same time, on threads."""
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


async def test_a_question_that_is_given_up_ends(services: Services) -> None:
    """A cancelled request leaves no connection behind; warnings would fail this test."""
    services.fail("kakao", "slow")
    question = asyncio.create_task(ask("kakao"))
    await asyncio.sleep(0.05)
    question.cancel()

    with pytest.raises(asyncio.CancelledError):
        await question


def test_an_error_survives_a_checkpoint() -> None:
    """Errors travel between processes."""
    error = pickle.loads(pickle.dumps(ServiceRefused("KMA", "no came, wanted yes; ask.")))

    assert (str(error), error.service) == ("KMA: no came, wanted yes; ask.", "KMA")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
# The documented structure with anything in its places.
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
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(answer=ANSWERS, status=st.sampled_from([200, 200, 200, 400, 401, 500, 999]))
def test_no_answer_whatever_raises_anything_else(
    services: Services, service: Service, answer: bytes, status: int
) -> None:
    """Whatever a service answers, there is a result or a ``ServiceError``."""
    services.script(service, answer, status=status)

    with suppress(ServiceError):
        asyncio.run(ask(service))

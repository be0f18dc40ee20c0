"""Budget events: to sinks, and to a signed webhook that is retried."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from eco2_callbacks import BudgetEvent, BudgetExceeded, BudgetRule, Budgets, Eco2CallbackHandler, Webhook
from eco2_callbacks.budgets import webhook as webhook_module
from tests.support.fake_model import FakeModel
from tests.support.loopback import Loopback
from tests.support.record_sink import Records, exposed

START = datetime(2026, 3, 5, 12, tzinfo=UTC)
KEY = b"a key of thirty-two bytes, or so"
SECRET = "whsec_" + base64.b64encode(KEY).decode()


class Receiver(Loopback):
    """Takes webhooks; answers with the statuses that a test queues, then with 204."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.requests: list[tuple[dict[str, str], bytes]] = []

    def _open(self) -> ThreadingHTTPServer:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.requests.append(({name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(receiver.statuses.pop(0) if receiver.statuses else 204)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None: ...

        return ThreadingHTTPServer(("127.0.0.1", 0), Handler)


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_module, "_BACKOFF_SECONDS", 0.001)


@pytest.fixture
def make(registry: CollectorRegistry, records: Records) -> Iterator[Callable[..., Eco2CallbackHandler]]:
    handlers = []

    def make(url: str | None, **rule: Any) -> Eco2CallbackHandler:
        budgets = Budgets(
            rules=[BudgetRule(**{"name": "acme", "limit_usd": Decimal("0.01"), "window": "day", **rule})],
            webhook=None if url is None else Webhook(url=url, secret=SECRET),
        )
        now = datetime(2026, 3, 5, 12, tzinfo=UTC)
        handlers.append(Eco2CallbackHandler(registry=registry, sinks=[records], budgets=budgets, now=lambda: now))
        return handlers[-1]

    yield make
    for handler in handlers:
        handler.close()


def spend(handler: Eco2CallbackHandler, calls: int) -> None:
    for _ in range(calls):
        try:
            FakeModel().invoke("x", {"callbacks": handler.callbacks})
        except BudgetExceeded:
            return


def test_sinks_get_each_level_once(make: Any, records: Records) -> None:
    """Every warning level is an event, and so is the first refused call."""
    handler = make(None, warn_at=("0.3", "0.6"), limit_usd="0.0129")

    spend(handler, 10)
    spend(handler, 10)

    events = records.of(BudgetEvent)
    # Each call costs 0.00315 USD: the second one passes 30 %, the third 60 %; the fourth would reserve 0.0072.
    assert [(event.event, event.level, event.spent_usd) for event in events] == [
        ("warn", Decimal("0.3"), Decimal("0.0063")),
        ("exceeded", None, Decimal("0.0063")),
    ]
    assert events[0].to_dict() == {
        "record": "BudgetEvent",
        "event": "warn",
        "budget": "acme",
        "scope": "",
        "window": "day",
        "level": "0.3",
        "spent_usd": "0.0063",
        "limit_usd": "0.0129",
        "at": "2026-03-05T12:00:00+00:00",
        "until": "2026-03-06T00:00:00+00:00",
    }


def test_a_webhook_is_signed_as_standard_webhooks_says(make: Any) -> None:
    """A receiver can check with the shared secret who sent it, and when."""
    with Receiver() as receiver:
        handler = make(receiver.url)
        spend(handler, 10)
        assert handler.flush(60)

    headers, body = receiver.requests[0]
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    signature = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{signature}"
    message = json.loads(body)
    assert message["type"] == "budget.exceeded"
    assert message["data"]["budget"] == "acme"
    assert message["timestamp"] == "2026-03-05T12:00:00+00:00"


def test_a_webhook_is_retried_until_it_is_taken(make: Any, registry: CollectorRegistry) -> None:
    """A receiver that restarts loses no event; it sees the same id again."""
    with Receiver(500, 503, 429) as receiver:
        handler = make(receiver.url)
        spend(handler, 10)
        assert handler.flush(60)

    assert len(receiver.requests) == 4
    assert len({headers["webhook-id"] for headers, _ in receiver.requests}) == 1
    assert exposed(registry, "eco2_callbacks_errors_total") == 0


@pytest.mark.parametrize("statuses", [[400], [500] * 20], ids=["refused", "never up"])
def test_a_webhook_that_is_not_taken_is_logged_and_counted(
    statuses: list[int], make: Any, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """The application goes on, and the loss shows."""
    with Receiver(*statuses) as receiver:
        handler = make(receiver.url)
        spend(handler, 10)
        assert handler.flush(60)

    assert len(receiver.requests) == (1 if statuses == [400] else 9)
    assert exposed(registry, "eco2_callbacks_errors_total") == 1
    assert any("did not take the event exceeded of budget 'acme'" in message for message in caplog.messages)
    assert SECRET not in caplog.text


def test_a_call_never_waits_for_the_webhook(make: Any) -> None:
    """The event is sent on a thread of its own."""
    entered, release = threading.Event(), threading.Event()

    class Hanging(Receiver):
        def _open(self) -> ThreadingHTTPServer:
            server = super()._open()
            take = server.RequestHandlerClass.do_POST  # type: ignore[attr-defined]

            def do_post(handler: Any) -> None:
                entered.set()
                release.wait(60)
                take(handler)

            server.RequestHandlerClass.do_POST = do_post  # type: ignore[attr-defined]
            return server

    with Hanging() as receiver:
        handler = make(receiver.url)
        spend(handler, 10)  # returns while the receiver hangs
        assert entered.wait(60)
        release.set()
        assert handler.flush(60)


def test_gauges_follow_the_rules_of_one_tenant(registry: CollectorRegistry) -> None:
    """``tenant_monthly_budget_usd`` and ``tenant_daily_budget_usd`` show the rules that are for one tenant alone."""
    rules = [
        BudgetRule(name="a", limit_usd=Decimal(100), match={"tenant_id": "acme"}),
        BudgetRule(name="b", limit_usd=Decimal(5), window="day", match={"tenant_id": "acme"}),
        BudgetRule(name="c", limit_usd=Decimal(7), match={"tenant_id": "acme", "model": "gpt-5.2"}),
        BudgetRule(name="d", limit_usd=Decimal(9), match={"tenant_id": ["x", "y"]}),
        BudgetRule(name="e", limit_usd=Decimal(1), per=("user_id",)),
    ]
    Eco2CallbackHandler(registry=registry, budgets=rules)

    assert registry.get_sample_value("tenant_monthly_budget_usd", {"tenant_id": "acme"}) == 100
    assert registry.get_sample_value("tenant_daily_budget_usd", {"tenant_id": "acme"}) == 5
    assert exposed(registry, "tenant_monthly_budget_usd") == 100
    labels = {sample.labels["budget"] for f in registry.collect() for sample in f.samples if "budget" in sample.labels}
    assert labels == {"a", "b", "c", "d", "e"}


def test_a_sink_may_use_a_model_with_the_event_of_a_refusal(registry: CollectorRegistry) -> None:
    """No lock is held while an event is sent: the sink waits for a call of another thread, and gets its answer."""
    answered: list[str] = []

    class Asking:
        def emit(self, record: object) -> None:
            if isinstance(record, BudgetEvent):
                asking = threading.Thread(target=ask, daemon=True)
                asking.start()
                asking.join(60)

    def ask() -> None:
        config: Any = {"callbacks": handler.callbacks, "metadata": {"tenant_id": "other"}}
        answered.append(FakeModel().invoke("x", config).text)

    stop = BudgetRule(name="stop", limit_usd=Decimal(0), match={"tenant_id": "acme"})
    budgets = Budgets(rules=[stop, BudgetRule(name="all", limit_usd=Decimal(1))])
    with Eco2CallbackHandler(registry=registry, sinks=[Asking()], budgets=budgets) as handler:
        with pytest.raises(BudgetExceeded):
            FakeModel().invoke("x", {"callbacks": handler.callbacks, "metadata": {"tenant_id": "acme"}})

        assert answered == ["sort it well"]


def test_a_rule_per_user_shows_the_highest_spender(registry: CollectorRegistry) -> None:
    """Users are no label: the gauge shows the one who spent most."""
    rule = BudgetRule(name="each", limit_usd=Decimal(1), window="day", per=("user_id",))
    with Eco2CallbackHandler(registry=registry, budgets=[rule]) as handler:
        for user, calls in (("ann", 1), ("bob", 3), ("cy", 2)):
            for _ in range(calls):
                FakeModel().invoke("x", {"callbacks": handler.callbacks, "metadata": {"user_id": user}})

        spent = registry.get_sample_value("budget_spent_dollars", {"budget": "each", "window": "day"})

    assert spent == pytest.approx(3 * 0.00315)


@pytest.mark.parametrize("window", ["day", "rolling 1h"])
def test_a_window_that_is_over_no_longer_shows_its_spending(window: str, registry: CollectorRegistry) -> None:
    """In a new window without a call the gauge of a rule per user is 0, not the last window's figure."""
    now = START
    rule = BudgetRule(name="each", limit_usd=Decimal(1), window=window, per=("user_id",))
    with Eco2CallbackHandler(registry=registry, budgets=[rule], now=lambda: now) as handler:

        def spent() -> float | None:
            return registry.get_sample_value("budget_spent_dollars", {"budget": "each", "window": window})

        before = spent()
        FakeModel().invoke("x", {"callbacks": handler.callbacks, "metadata": {"user_id": "ann"}})
        during = spent()
        now += timedelta(days=1)

        assert (before, during, spent()) == (None, pytest.approx(0.00315), 0)

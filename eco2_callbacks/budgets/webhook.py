"""Webhook and WebhookSender: budget events over HTTP, signed and retried.

The request follows the Standard Webhooks specification: ``webhook-id``, ``webhook-timestamp`` and ``webhook-signature``
(HMAC-SHA256 over ``id.timestamp.body``), so that its libraries verify it. Source: https://www.standardwebhooks.com
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import urlsplit
from uuid import uuid4

import urllib3

from eco2_callbacks.budgets.events import BudgetEvent
from eco2_callbacks.errors import ConfigError
from eco2_callbacks.sinks import BatchWorker

__all__ = ["Webhook", "WebhookSender"]

_logger = logging.getLogger(__name__)
_RETRIES = 8
_BACKOFF_SECONDS = 0.5
_MAX_BACKOFF_SECONDS = 30.0
_TIMEOUT_SECONDS = 10.0
_RETRIED_STATUSES = (408, 425, 429, *range(500, 600))
_MAX_WAITING = 1000
_SECRET_PREFIX = "whsec_"  # noqa: S105  the prefix of every secret, not one


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """Where budget events are sent.

    Attributes:
        url: An ``http`` or ``https`` address.
        secret: The key of the signature: ``whsec_`` and base64, as receivers' libraries expect it.

    Raises:
        ConfigError: If one of them cannot be used.
    """

    url: str
    secret: str = field(repr=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url) if isinstance(self.url, str) else None
        if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"webhook.url is {self.url!r}, wanted an http or https address; correct it.")
        if not isinstance(self.secret, str) or not self.key:
            raise ConfigError(
                "webhook.secret is no secret of Standard Webhooks, wanted 'whsec_' and base64; make one with: "
                'echo "whsec_$(openssl rand -base64 32)"'
            )

    @property
    def key(self) -> bytes:
        """The bytes of the secret; empty where it is none."""
        try:
            return base64.b64decode(self.secret.removeprefix(_SECRET_PREFIX), validate=True)
        except (binascii.Error, ValueError):
            return b""


class WebhookSender:
    """Sends events in order on a thread of its own. What the receiver does not take is retried, then counted.

    A failed connection and the statuses 408, 425, 429 and 5xx are retried eight times, up to 30 s apart.

    Args:
        webhook: Where to.
        on_failure: Called for each event that was given up.
    """

    def __init__(self, webhook: Webhook, *, on_failure: Callable[[], None]) -> None:
        self._webhook = webhook
        self._on_failure = on_failure
        retries = urllib3.Retry(
            total=_RETRIES,
            redirect=0,
            status_forcelist=_RETRIED_STATUSES,
            allowed_methods=None,
            backoff_factor=_BACKOFF_SECONDS,
            backoff_max=_MAX_BACKOFF_SECONDS,
            raise_on_status=False,
        )
        self._pool = urllib3.PoolManager(retries=retries, timeout=_TIMEOUT_SECONDS)
        self._worker = BatchWorker(
            "eco2-budget-webhook", on_failure=on_failure, on_dropped=on_failure, max_waiting=_MAX_WAITING
        )

    def send(self, event: BudgetEvent) -> None:
        """Queue one event."""
        self._worker.submit(partial(self._post, event))

    def flush(self, timeout_seconds: float) -> bool:
        """Wait until every event so far was sent or given up; return whether the time sufficed."""
        return self._worker.flush(timeout_seconds)

    def close(self, timeout_seconds: float) -> None:
        """Send what waits, as far as the time allows."""
        self._worker.close(timeout_seconds)
        self._pool.clear()

    def _post(self, event: BudgetEvent) -> None:
        body = json.dumps({"type": f"budget.{event.event}", "timestamp": event.at.isoformat(), "data": event.to_dict()})
        message_id, timestamp = f"msg_{uuid4().hex}", str(int(time.time()))
        digest = hmac.new(self._webhook.key, f"{message_id}.{timestamp}.{body}".encode(), hashlib.sha256).digest()
        headers = {
            "content-type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": timestamp,
            "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
        }
        try:
            answer = self._pool.request("POST", self._webhook.url, body=body.encode(), headers=headers)
        except urllib3.exceptions.HTTPError as error:
            problem = type(error).__name__
        else:
            if answer.status < 300:
                return
            problem = f"HTTP status {answer.status}"
        _logger.error(
            "The webhook did not take the event %s of budget %r (%s); it is given up and counted in "
            'eco2_callbacks_errors_total{callback="budget_webhook"}.',
            event.event,
            event.budget,
            problem,
        )
        self._on_failure()

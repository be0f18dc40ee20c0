"""Errors of external services.

ServiceError                a node catches it, and the request continues without the service
├── ServiceUnconfigured     a key or an address is missing or malformed
├── ServiceUnavailable      the service is down, too slow, or reports a failure of its own
├── ServiceRefused          the service rejects the key, the quota or the request
│   └── WrongArguments      the arguments can have no answer; the model that chose them may correct them
└── ServiceAnswerError      the answer is not as documented
"""

from __future__ import annotations

__all__ = [
    "ServiceAnswerError",
    "ServiceError",
    "ServiceRefused",
    "ServiceUnavailable",
    "ServiceUnconfigured",
    "WrongArguments",
]


class ServiceError(Exception):
    """An external service failed. ``str()`` says what was received, what was wanted and what to do, without keys.

    Args:
        service: The service's name, for example ``KMA``.
        why: What was received, what was wanted, what to do.
    """

    def __init__(self, service: str, why: str) -> None:
        super().__init__(service, why)
        self.service = service
        self.why = why

    def __str__(self) -> str:
        return f"{self.service}: {self.why}"


class ServiceUnconfigured(ServiceError, ValueError):  # noqa: N818 # these names describe the service's state
    """A setting is missing or malformed. No request was sent."""


class ServiceUnavailable(ServiceError):  # noqa: N818
    """The service is unreachable, does not answer in time, or reports a failure of its own."""


class ServiceRefused(ServiceError):  # noqa: N818
    """The service rejects the key, the quota or the request."""


class WrongArguments(ServiceRefused):
    """The arguments can have no answer, such as a place outside Korea. No request was sent."""


class ServiceAnswerError(ServiceError, ValueError):
    """The service's answer is not as documented."""

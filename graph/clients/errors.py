"""What goes wrong with an outside service.

ServiceError                what a node catches: the request goes on without the service
├── ServiceUnconfigured     a key or an address is missing or malformed
├── ServiceUnavailable      down, too slow, or failing by its own account
├── ServiceRefused          the key, the quota or the request is not accepted
└── ServiceAnswerError      answered, but not with what is documented
"""

from __future__ import annotations

__all__ = ["ServiceAnswerError", "ServiceError", "ServiceRefused", "ServiceUnavailable", "ServiceUnconfigured"]


class ServiceError(Exception):
    """An outside service could not be used; ``str()`` says what came, what was wanted and what to do, without keys.

    Args:
        service: The service's name, as in ``KMA``.
        why: What came, what was wanted, what to do.
    """

    def __init__(self, service: str, why: str) -> None:
        super().__init__(service, why)
        self.service = service
        self.why = why

    def __str__(self) -> str:
        return f"{self.service}: {self.why}"


class ServiceUnconfigured(ServiceError, ValueError):  # noqa: N818 # the tree names states of a service
    """A setting is missing or malformed; nothing was sent."""


class ServiceUnavailable(ServiceError):  # noqa: N818
    """The service cannot be reached, does not answer in time, or says that it fails."""


class ServiceRefused(ServiceError):  # noqa: N818
    """The service does not accept the key, the quota or what it was asked for."""


class ServiceAnswerError(ServiceError, ValueError):
    """The service answered something else than its documentation says."""

"""outcome_of: the HTTP status of a refusal, wherever the client library keeps it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from eco2_callbacks.runs.outcomes import outcome_of


class ClientLibraryError(Exception):
    def __init__(self, **attributes: object) -> None:
        super().__init__("refused")
        self.__dict__.update(attributes)


@pytest.mark.parametrize(
    ("attributes", "rate_limited", "refused"),
    [
        ({"response": {"ResponseMetadata": {"HTTPStatusCode": 429}}}, True, True),
        ({"response": {"ResponseMetadata": {"HTTPStatusCode": 403}}}, False, True),
        ({"response": {"ResponseMetadata": {"HTTPStatusCode": 200}}}, False, False),
        ({"response": {"ResponseMetadata": None}}, False, False),
        ({"response": SimpleNamespace(status_code=429)}, True, True),
        ({"response": SimpleNamespace(status_code=401)}, False, True),
        ({"response": None, "status_code": 404}, False, True),
        ({}, False, False),
    ],
    ids=["botocore_429", "botocore_403", "botocore_200", "botocore_none", "httpx_429", "httpx_401", "own", "none"],
)
def test_a_refusal_is_recognised_by_its_status(
    attributes: dict[str, object], rate_limited: bool, refused: bool
) -> None:
    """Botocore keeps the status in a mapping, httpx in the response: 429 is a rate limit, 4xx bills nothing."""
    outcome = outcome_of(ClientLibraryError(**attributes))

    assert (outcome.status, outcome.rate_limited, outcome.refused) == ("error", rate_limited, refused)

"""Finds recorded answers to requests, and describes requests that have none."""

from __future__ import annotations

import difflib
import itertools
from typing import Any

from vcr.errors import CannotOverwriteExistingCassetteException
from vcr.request import Request

__all__ = ["MATCH_ON", "describe_refusal", "identity"]

MATCH_ON = ("method", "scheme", "host", "port", "path", "query", "body")
"""vcrpy's matchers. Headers are ignored: they hold keys and the SDKs' versions."""

_MAX_DIFF_LINES, _MAX_LINE_CHARS = 40, 400


def identity(request: Request) -> tuple[str, str, bytes]:
    """Return what makes two recorded requests the same."""
    return request.method, request.uri, request.body


def describe_refusal(cassette: Any, request: Request) -> str:
    """Return the request and its difference from the most similar recorded request, without secrets."""
    search = CannotOverwriteExistingCassetteException(cassette=cassette, failed_request=request)
    refused = cassette.filter_request(request)
    lines = [f"{refused.method} {refused.uri}"]
    if search.reason == "already_played":
        lines.append("All recorded answers to it were replayed already.")
    elif search.similar_requests:
        closest = search.similar_requests[0][0]
        lines.append(f"Most similar: {closest.method} {closest.uri}")
        before, now = ((one.body or b"").decode(errors="replace").splitlines() for one in (closest, refused))
        difference = difflib.unified_diff(before, now, "recorded", "requested", n=1, lineterm="")
        lines += [line[:_MAX_LINE_CHARS] for line in itertools.islice(difference, _MAX_DIFF_LINES)]
    return "\n".join(lines)

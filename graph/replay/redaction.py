"""Removes secrets from requests and answers before they are written to a cassette."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

from vcr.request import Request

from graph.replay.pacing import Timing, last_offset_seconds

__all__ = ["environment_secrets", "redact_request", "redact_response"]

_REDACTED = "REDACTED"
# Other headers are secret (keys, cookies, organisation) or differ in each run (request ids, dates, SDK versions).
_KEPT_HEADERS = frozenset({"accept", "content-type", "retry-after"})
_SECRET_PARAMETERS = frozenset(
    {"access_token", "api_key", "apikey", "appid", "appkey", "auth", "client_secret", "key", "servicekey", "token"}
)
_SECRET_FIELDS = _SECRET_PARAMETERS - {"auth", "key", "token"} | {"authorization", "password", "secret"}
_SECRET_VARIABLES = re.compile(r".*(KEY|TOKEN|SECRET|PASSWORD)|OPENAI_(ORG|ORGANIZATION|PROJECT)(_ID)?")
_MIN_SECRET_CHARS = 8  # a shorter value may be an ordinary word
_QUOTED = re.compile(r"[^\w.~:,/-]")
_IDENTITIES = re.compile(
    r"""\bBearer\s+[\w.~+/=-]+ | \bsk-[\w-]{16,} | \bAIza[\w-]{20,} | \borg-\w{16,} | \bproj_\w{16,}
    | \breq_[0-9a-zA-Z]{16,} | \buser-[0-9a-zA-Z]{20,}""",
    re.VERBOSE,
)


def environment_secrets() -> tuple[str, ...]:
    """Return the secrets in this process's environment, the longest first."""
    values = (value for name, value in os.environ.items() if _SECRET_VARIABLES.fullmatch(name))
    return tuple(sorted({value for value in values if len(value) >= _MIN_SECRET_CHARS}, key=len, reverse=True))


def redact_request(request: Request, secrets: Sequence[str]) -> Request:
    """Return the request without secrets in its address, its body and its headers."""
    request.uri = _redact_uri(request.uri, secrets)
    request.body = _redact_body(request.body or b"", secrets)
    headers = sorted((name.lower(), value) for name, value in request.headers.items())
    request.headers = {name: value for name, value in headers if name in _KEPT_HEADERS}
    return request


def redact_response(response: dict[str, Any], secrets: Sequence[str]) -> dict[str, Any]:
    """Return the response without secrets. The chunk offsets count the bytes of the redacted body."""
    headers = {name.lower(): value for name, value in sorted(response["headers"].items())}
    kept_headers = {name: value for name, value in headers.items() if name in _KEPT_HEADERS}
    before: bytes = response["body"]["string"]
    after = _redact_body(before, secrets)
    redacted = {**response, "headers": kept_headers, "body": {"string": after}}
    if "timing" in response and after != before:
        timing: Timing = response["timing"]
        if _parse_json(before) is not None:  # reformatted; clients read a JSON body as a whole
            offsets = [[last_offset_seconds(timing), len(after)]]
        else:
            # If a chunk ends within a secret, its offset moves by a few bytes.
            offsets = [
                [offset, min(len(after), len(_redact_body(before[: int(end)], secrets)))]
                for offset, end in timing["chunk_offsets"]
            ]
        redacted["timing"] = Timing(first_byte_seconds=timing["first_byte_seconds"], chunk_offsets=offsets)
    return redacted


def _redact_uri(uri: str, secrets: Sequence[str]) -> str:
    parts = urlsplit(uri)
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    # Korean stays readable: only characters with a meaning in a query are quoted.
    query = "&".join(
        "=".join(_QUOTED.sub(lambda match: quote(match[0], safe=""), _redact(part, secrets)) for part in pair)
        for pair in pairs
        if pair[0].lower() not in _SECRET_PARAMETERS
    )
    return urlunsplit((parts.scheme, parts.netloc, _redact(parts.path, secrets), query, ""))


def _redact_body(body: bytes, secrets: Sequence[str]) -> bytes:
    """Remove the secrets, write JSON with one field per line, and end lines with a line feed alone."""
    content = _parse_json(body)
    if content is not None:
        text = json.dumps(_redact_fields(content), ensure_ascii=False, indent=2) + "\n"
    else:
        try:
            text = body.decode()
        except UnicodeDecodeError:
            return body
        # YAML writes a text with carriage returns on one line. Server-sent events allow both line endings.
        text = text.replace("\r\n", "\n")
    return _redact(text, secrets).encode()


def _redact(text: str, secrets: Sequence[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, _REDACTED)
    return _IDENTITIES.sub(_REDACTED, text)


def _redact_fields(content: Any) -> Any:
    if isinstance(content, dict):
        return {
            name: _REDACTED
            if isinstance(value, str) and value and name.lower() in _SECRET_FIELDS
            else _redact_fields(value)
            for name, value in content.items()
        }
    if isinstance(content, list):
        return [_redact_fields(value) for value in content]
    return content


def _parse_json(body: bytes) -> Any:
    """Return the content of a JSON object or list; None for any other body."""
    if not body.lstrip().startswith((b"{", b"[")):
        return None
    try:
        return json.loads(body)
    except ValueError:
        return None

"""The bodies that a LangSmith client sends: multipart, a batch, or one run or feedback; plain, zstd or gzip."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping
from email.message import Message
from typing import Any, Literal

import zstandard
from requests_toolbelt import MultipartDecoder

__all__ = ["ROUTES", "Kind", "Operations", "read_operations"]

Kind = Literal["post", "patch", "feedback"]
# Each as (kind, id, payload).
Operations = list[tuple[Kind, str, dict[str, Any]]]


def read_operations(route: str, path: str, headers: Mapping[str, str], body: bytes) -> Operations:
    """Return the operations of one request as (kind, id, payload), in the order of its parts.

    Args:
        route: One of ``ROUTES``.
        path: The request's path.
        headers: The request's headers, by their lower-case names.
        body: The body as sent, possibly compressed.

    Raises:
        Exception: If the body is not in the shape that the route takes.
    """
    return ROUTES[route](_DECODERS[headers.get("content-encoding", "identity")](body), headers, path)


def _multipart(body: bytes, headers: Mapping[str, str], _: str) -> Operations:
    operations: Operations = []
    latest: dict[tuple[str, str], dict[str, Any]] = {}
    for part in MultipartDecoder(body, headers["content-type"]).parts:
        disposition = Message()
        disposition["content-disposition"] = part.headers[b"content-disposition"].decode()
        name = str(disposition.get_param("name", header="content-disposition"))
        kind, run_id, *field = name.split(".", 2)
        if kind == "attachment":
            (payload,) = [found for (_, of_run), found in latest.items() if of_run == run_id][-1:]
            payload.setdefault("attachments", {})[field[0]] = part.content
        elif field:
            latest[kind, run_id][field[0]] = json.loads(part.content)
        else:
            # A second patch of the same run in one body is an operation of its own.
            latest[kind, run_id] = json.loads(part.content)
            operations.append((_kind(kind), run_id, latest[kind, run_id]))
    return operations


def _batch(body: bytes, _: Mapping[str, str], __: str) -> Operations:
    lists = json.loads(body)
    return [(_kind(kind), run["id"], run) for kind in ("post", "patch") for run in lists.get(kind, [])]


def _single_post(body: bytes, _: Mapping[str, str], __: str) -> Operations:
    run = json.loads(body)
    return [("post", run["id"], run)]


def _single_patch(body: bytes, _: Mapping[str, str], path: str) -> Operations:
    return [("patch", path.removeprefix("/runs/"), json.loads(body))]


def _single_feedback(body: bytes, _: Mapping[str, str], __: str) -> Operations:
    feedback = json.loads(body)
    return [("feedback", feedback["id"], feedback)]


def _kind(name: str) -> Kind:
    if name not in {"post", "patch", "feedback"}:
        raise ValueError(f"Unknown operation {name!r}.")
    return name  # type: ignore[return-value]


ROUTES: dict[str, Callable[[bytes, Mapping[str, str], str], Operations]] = {
    "POST /runs/multipart": _multipart,
    "POST /runs/batch": _batch,
    "POST /runs": _single_post,
    "PATCH /runs/{id}": _single_patch,
    "POST /feedback": _single_feedback,
}
_DECODERS: dict[str, Callable[[bytes], bytes]] = {
    "identity": lambda body: body,
    "gzip": gzip.decompress,
    # Written as a stream: the frame does not hold the length of its content.
    "zstd": lambda body: zstandard.ZstdDecompressor().decompressobj().decompress(body),
}

"""Records the demo's cassette from the stand-in: ``python tests/graph/record_demo.py``."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import vcr
import yaml
from vcr.request import Request
from vcr.serializers import yamlserializer

from graph import build_graph
from graph.__main__ import CASSETTE, QUESTIONS, environment
from graph.state import State
from standin import StandIn

__all__ = ["record"]

_HOSTS = {"v1": "api.openai.com", "v1beta": "generativelanguage.googleapis.com"}
# All others are secret (keys, cookies, organisation) or change with every run (request ids, dates, the SDKs' versions).
_KEPT_HEADERS = frozenset({"accept", "content-type"})


def record(path: Path) -> None:
    """Write the demo's conversation with the stand-in into a new cassette, as if the providers had answered."""
    path.unlink(missing_ok=True)
    recorder = vcr.VCR(
        record_mode="new_episodes",
        before_record_request=_request,
        before_record_response=_response,
        decode_compressed_response=True,
        serializer="readable",
    )
    recorder.register_serializer("readable", _Readable)
    with (
        StandIn() as standin,
        environment(
            OPENAI_API_KEY="standin",
            OPENAI_API_BASE=f"{standin.url}/v1",
            GOOGLE_API_KEY="standin",
            GOOGLE_GEMINI_BASE_URL=standin.url,
            no_proxy="127.0.0.1",
        ),
        recorder.use_cassette(path),
    ):
        asyncio.run(_converse())


async def _converse() -> None:
    graph = build_graph()
    for question in QUESTIONS:
        await graph.ainvoke(State(message=question))


def _request(request: Request) -> Request:
    parts = urlsplit(request.uri)
    host = _HOSTS[parts.path.split("/")[1]]
    request.uri = urlunsplit(("https", host, parts.path, parts.query, ""))
    request.headers = {name: value for name, value in request.headers.items() if name.lower() in _KEPT_HEADERS}
    request.body = json.dumps(json.loads(request.body), ensure_ascii=False, indent=2) + "\n"
    return request


def _response(response: dict[str, Any]) -> dict[str, Any]:
    headers = {name: value for name, value in response["headers"].items() if name.lower() in _KEPT_HEADERS}
    # YAML writes a text with carriage returns on one line; server-sent events may end theirs either way.
    body = response["body"]["string"].replace(b"\r\n", b"\n")
    return {**response, "headers": headers, "body": {"string": body}}


class _Dumper(yaml.SafeDumper):
    """Writes a text of several lines as such."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


class _Readable:
    """vcrpy's YAML, for readers."""

    deserialize = staticmethod(yamlserializer.deserialize)

    @staticmethod
    def serialize(cassette: dict[str, Any]) -> str:
        return yaml.dump(cassette, Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=sys.maxsize)


if __name__ == "__main__":
    record(CASSETTE)

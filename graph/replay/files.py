"""Reads and writes cassette files: vcrpy's YAML in a readable form, with the timing of each answer."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import vcr
import yaml
from vcr.serialize import deserialize, serialize

from graph.replay.errors import CassetteError
from graph.replay.matching import MATCH_ON
from graph.replay.pacing import last_offset_seconds
from graph.replay.redaction import redact_request, redact_response

__all__ = ["cassette_recorder", "join_cassettes", "recorded_at", "recorded_seconds"]

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_FAST_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def cassette_recorder(secrets: Callable[[], Sequence[str]], now: str = "") -> Any:
    """Return a ``vcr.VCR`` for this package's files. It leaves httpx and httpx2 unpatched.

    Args:
        secrets: Returns the values to redact.
        now: The time to write as ``recorded_at``.
    """
    recorder = vcr.VCR(
        match_on=MATCH_ON,
        ignore_localhost=True,
        before_record_request=lambda request: redact_request(request, secrets()),
        before_record_response=lambda response: redact_response(response, secrets()),
        serializer="readable",
        skip_patchers=("httpx", "httpx2"),
    )
    recorder.register_serializer("readable", _ReadableYaml(now))
    recorder.register_persister(_Utf8Files)
    return recorder


def recorded_seconds(path: Path) -> float:
    """Return the sum of the answers' durations: the longest that a replay at speed 1 can take."""
    interactions = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)["interactions"]  # noqa: S506 # a safe one
    return sum(last_offset_seconds(interaction["timing"]) for interaction in interactions if "timing" in interaction)


def recorded_at(path: Path) -> str:
    """Return the fixed time of the recording; ``""`` if it had none."""
    with path.open(encoding="utf-8") as lines:
        head = yaml.safe_load("".join(itertools.islice(lines, 2)))
    return str(head.get("recorded_at") or "")


def join_cassettes(paths: Sequence[Path], target: Path) -> None:
    """Write the conversations of several recordings into one file, since a replay uses one.

    Raises:
        CassetteError: If there is none.
    """
    if not paths:
        raise CassetteError("There are no recordings to replay. Record them: python -m tests.support.record_cassettes")
    cassettes = [yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER) for path in paths]  # noqa: S506 # a safe one
    interactions = [interaction for cassette in cassettes if cassette for interaction in cassette["interactions"]]
    joined = {**(cassettes[0] or {}), "interactions": interactions}
    target.write_text(yaml.dump(joined, Dumper=_FAST_DUMPER, allow_unicode=True, sort_keys=False), encoding="utf-8")


class _Dumper(yaml.SafeDumper):  # type: ignore[misc] # untyped
    """Writes a multi-line text as a block, and a list of numbers on one line."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


def _represent_list(dumper: yaml.SafeDumper, items: list[Any]) -> yaml.Node:
    flat = bool(items) and all(isinstance(item, list) for item in items)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=flat)


_Dumper.add_representer(str, _represent_text)
_Dumper.add_representer(list, _represent_list)


class _ReadableYaml:
    """vcrpy's serializer, with the timing beside each interaction."""

    def __init__(self, now: str) -> None:
        self._now = now

    def serialize(self, cassette: dict[str, Any]) -> str:
        interactions = []
        for interaction in cassette["interactions"]:
            response = {**interaction["response"]}
            timing = response.pop("timing", None)
            interactions.append({**interaction, "response": response, **({"timing": timing} if timing else {})})
        content = {"version": cassette["version"], "recorded_at": self._now, "interactions": interactions}
        text: str = yaml.dump(content, Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=sys.maxsize)
        return text

    @staticmethod
    def deserialize(text: str) -> Any:
        cassette = yaml.load(text, Loader=_LOADER)  # noqa: S506 # a safe one
        for interaction in cassette["interactions"]:
            if "timing" in interaction:
                interaction["response"]["timing"] = interaction.pop("timing")
        return cassette


class _Utf8Files:
    """vcrpy's persister, in UTF-8 on every platform."""

    @staticmethod
    def load_cassette(path: Path, serializer: Any) -> Any:
        if not path.is_file():
            return [], []
        return deserialize(path.read_text(encoding="utf-8"), serializer)

    @staticmethod
    def save_cassette(path: Path, cassette: dict[str, Any], serializer: Any) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(serialize(cassette, serializer), encoding="utf-8")

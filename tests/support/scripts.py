"""The script of the providers' stand-in: ``script.yaml``, with a line per node and user message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from tests.support.parsed_request import ParsedRequest

__all__ = ["SCRIPT", "Answer", "Line", "Script", "Source", "answer"]


@dataclass(frozen=True)
class Source:
    """A search result. ``quote`` is the part of the answer's text that cites it."""

    title: str
    url: str
    quote: str


@dataclass(frozen=True)
class Answer:
    """The answer of one line. The request decides which parts are used.

    Attributes:
        text: The text, used unless another part is.
        calls: Function calls, used if functions are offered and none was called yet. A name that is not offered
            calls the first offered function. Arguments that it does not have are left out.
        fields: The JSON answer, used if the request has a schema. Fields that it does not have are left out.
        searches: The search queries, used if the provider's search is offered.
        sources: The search results.
        picture: Whether the model draws, used if drawing is offered or the model draws only.
    """

    text: str = ""
    calls: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)
    searches: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()
    picture: bool = False


@dataclass(frozen=True)
class Line:
    """An answer and the requests it is for.

    Attributes:
        answer: The answer.
        node: The node's name; ``None`` is any node, ``""`` is no node.
        contains: A part of the messages. If several lines match, the one whose part comes last wins.
        model: The start of the model's name.
        tool: An offered function or built-in tool.
    """

    answer: Answer
    node: str | None = None
    contains: str = ""
    model: str = ""
    tool: str = ""

    def matches(self, request: ParsedRequest) -> bool:
        return (
            self.node in {None, request.node}
            and self.contains in request.text
            and request.model.startswith(self.model)
            and (not self.tool or self.tool in request.functions or self.tool in request.builtin)
        )


Script: TypeAlias = Sequence[Line]


def answer(script: Script, request: ParsedRequest) -> Answer | None:
    """Return the script's answer to a request; None if no line matches."""
    matching = [line for line in script if line.matches(request)]
    # If several lines match equally, the first wins.
    best = max(matching, key=lambda line: request.text.rfind(line.contains) if line.contains else -1, default=None)
    return best.answer if best else None


def _line(content: Mapping[str, Any]) -> Line:
    calls = tuple((call["name"], call["arguments"]) for call in content.get("calls", ()))
    scripted = Answer(
        text=content.get("text", "").rstrip("\n"),
        calls=calls,
        fields=content.get("fields", {}),
        searches=tuple(content.get("searches", ())),
        sources=tuple(Source(**source) for source in content.get("sources", ())),
        picture=content.get("picture", False),
    )
    return Line(scripted, node=content["node"], contains=content.get("contains", ""))


_CONTENT = yaml.safe_load(Path(__file__).with_name("script.yaml").read_text(encoding="utf-8"))

SCRIPT: Script = tuple(_line(line) for line in _CONTENT["lines"])
"""The demo's lines."""

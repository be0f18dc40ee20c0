"""What the stand-ins of the providers say: ``script.yaml``, a line for each node and user's message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from tests.support.parsed_request import Question

__all__ = ["PICTURE", "SCRIPT", "Answer", "Line", "Script", "Source", "answer"]


@dataclass(frozen=True)
class Source:
    """A page that was found: ``quote`` is the part of the answer's text that rests on it."""

    title: str
    url: str
    quote: str


@dataclass(frozen=True)
class Answer:
    """All that one line has to say. What of it is said depends on what the request offers and wants.

    Attributes:
        text: The words, said unless one of the others is.
        calls: Arguments of a function call, made where functions are offered and none was called yet. A name that is
            not offered means the first function that is; arguments that it does not have are left out.
        fields: The JSON answer, where the request has a schema. Fields that it does not have are left out.
        searches: What the model searches for, where the provider's search is offered.
        sources: What it finds.
        picture: Whether it draws, where that is offered or the model does nothing else.
    """

    text: str = ""
    calls: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)
    searches: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()
    picture: bool = False


@dataclass(frozen=True)
class Line:
    """An answer, and to which requests.

    Attributes:
        answer: The answer.
        node: The node's name; ``None`` is any, ``""`` none.
        said: Part of what was said. Where several lines fit, the one whose part was said last.
        model: Start of the model's name.
        tool: A function or a tool that is offered.
    """

    answer: Answer
    node: str | None = None
    said: str = ""
    model: str = ""
    tool: str = ""

    def fits(self, question: Question) -> bool:
        return (
            self.node in {None, question.node}
            and self.said in question.text
            and question.model.startswith(self.model)
            and (not self.tool or self.tool in question.functions or self.tool in question.builtin)
        )


Script: TypeAlias = Sequence[Line]


def answer(script: Script, question: Question) -> Answer | None:
    """Return what the script has to say to a request, None where it has nothing."""
    fitting = [line for line in script if line.fits(question)]
    # Of lines that fit equally, the first.
    best = max(fitting, key=lambda line: question.text.rfind(line.said) if line.said else -1, default=None)
    return best.answer if best else None


def _line(content: Mapping[str, Any]) -> Line:
    calls = tuple((call["name"], call["arguments"]) for call in content.get("calls", ()))
    said = Answer(
        text=content.get("text", "").rstrip("\n"),
        calls=calls,
        fields=content.get("fields", {}),
        searches=tuple(content.get("searches", ())),
        sources=tuple(Source(**source) for source in content.get("sources", ())),
        picture=content.get("picture", False),
    )
    return Line(said, node=content["node"], said=content.get("said", ""))


_CONTENT = yaml.safe_load(Path(__file__).with_name("script.yaml").read_text(encoding="utf-8"))

PICTURE: str = _CONTENT["picture"]
"""What a user says to a picture."""

SCRIPT: Script = tuple(_line(line) for line in _CONTENT["lines"])
"""The demo's lines."""

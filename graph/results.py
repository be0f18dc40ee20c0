"""Builds the state update of a branch: its result, or the reason why there is none. No branch fails the others."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import wraps
from typing import TypeVar, cast

from langgraph.errors import GraphBubbleUp

from graph.clients import (
    ServiceAnswerError,
    ServiceError,
    ServiceRefused,
    ServiceUnavailable,
    ServiceUnconfigured,
)
from graph.routing import branches
from graph.state import State

__all__ = ["branch", "found", "missing"]

Node = TypeVar("Node", bound=Callable[[State], Awaitable[State]])

_logger = logging.getLogger(__name__)
# Texts for the user. The log says what the operator has to do.
_UNKNOWN = "서비스를 이용할 수 없습니다."
_REASONS: dict[type[ServiceError], str] = {
    ServiceUnconfigured: "서비스가 설정되어 있지 않습니다.",
    ServiceUnavailable: "서비스가 지금 응답하지 않습니다.",
    ServiceRefused: "서비스가 요청을 받아들이지 않았습니다.",
    ServiceAnswerError: "서비스가 알아볼 수 없는 답을 보냈습니다.",
}


def found(node: str, text: str, sources: Sequence[str] = ()) -> State:
    """Return the update with a node's result."""
    return {"results": {node: {"text": text, "failed": False, "sources": list(dict.fromkeys(sources))}}}


def missing(node: str, text: str) -> State:
    """Return the update of a node without a result; the text is shown to the user."""
    return {"results": {node: {"text": text, "failed": True, "sources": []}}}


def branch(what: str) -> Callable[[Node], Node]:
    """Return a decorator for a branch of the turn. If the branch fails, the turn goes on with the other branches.

    A failed service never fails the turn. Any other failure, such as a model's, does if the turn has no other branch.

    Args:
        what: What is missing then, for example ``날씨 정보``.
    """

    def decorate(node: Node) -> Node:
        @wraps(node)
        async def run(state: State) -> State:
            name = node.__name__
            try:
                return await node(state)
            except GraphBubbleUp:  # an interrupt is no failure
                raise
            except ServiceError as error:
                _logger.warning("%s: %s", name, error)
                reason = next((text for kind, text in _REASONS.items() if isinstance(error, kind)), _UNKNOWN)
            except Exception as error:
                if branches(state) == (name,):
                    raise
                _logger.warning("%s: %s; the turn goes on without it.", name, type(error).__name__)
                reason = _UNKNOWN
            return missing(name, f"{what}를 가져오지 못했습니다: {reason}")

        return cast("Node", run)

    return decorate

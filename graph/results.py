"""Builds the state update of a branch: its result, or the reason why there is none."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from graph.clients import (
    ServiceAnswerError,
    ServiceError,
    ServiceRefused,
    ServiceUnavailable,
    ServiceUnconfigured,
)
from graph.state import State

__all__ = ["failure", "found", "missing"]

_logger = logging.getLogger(__name__)
# Texts for the user. The log says what the operator has to do.
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


def failure(node: str, what: str, error: ServiceError) -> State:
    """Return the update of a node whose service failed; the request continues without it.

    Args:
        node: The node's name.
        what: What is missing, for example ``날씨 정보``.
        error: The client's exception.
    """
    _logger.warning("%s: %s", node, error)
    reason = next((text for kind, text in _REASONS.items() if isinstance(error, kind)), "서비스를 이용할 수 없습니다.")
    return missing(node, f"{what}를 가져오지 못했습니다: {reason}")

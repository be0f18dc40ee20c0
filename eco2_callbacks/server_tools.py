"""Calls of a provider's own tools that are billed by the piece, counted from the message in every shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from langchain_core.messages import BaseMessage

from eco2_callbacks.usage import TokenUsage

__all__ = ["count_server_tools"]

# Chat Completions models that search on every request and say nothing of it in the answer.
_ALWAYS_SEARCH = ("-search-preview", "-search-api")


def count_server_tools(
    usage: TokenUsage, messages: Sequence[BaseMessage], params: Mapping[str, Any], model: str
) -> tuple[TokenUsage, bool]:
    """Return the usage with searches, containers and images counted, and whether it then tells the whole bill.

    It does not where an image was made: the image model's own tokens are in no field of the answer.

    Shapes: content blocks of OpenAI's Responses API (``web_search_call``, ...) and of Anthropic (``server_tool_use``),
    LangChain's v1 blocks (``server_tool_call``, ``image``), and v0's ``additional_kwargs["tool_outputs"]``. Billed are
    searches (``action.type`` ``search``, not the opening of a page), file searches by the call, and containers that
    the request did not bring along.
    """
    calls = _calls(messages)
    always_searches = "-search-" in model and any(mark in model for mark in _ALWAYS_SEARCH)
    if not calls and not always_searches:
        return usage, True
    searches = sum(tool == "web_search" and _is_search(block) for tool, block in calls.values())
    if not searches and always_searches:
        searches = 1
    made = [block for tool, block in calls.values() if tool == "image_generation"]
    sizes = tuple(str(_detail(block, "size") or "") for block in made)
    containers = {str(_detail(block, "container_id")) for tool, block in calls.values() if tool == "code_interpreter"}
    return replace(
        usage,
        web_searches=searches,
        file_searches=sum(tool == "file_search" for tool, _ in calls.values()),
        code_interpreter_sessions=len(containers - _brought_along(params)),
        image_generations=len(made),
        images=len(made),
        image_sizes=sizes,
    ), not made


def _calls(messages: Sequence[BaseMessage]) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """Return tool and block of every call by its id; a streamed block can come twice."""
    calls: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for message in messages:
        extra = getattr(message, "additional_kwargs", None)
        for blocks in (
            getattr(message, "content", None),
            extra.get("tool_outputs") if isinstance(extra, dict) else None,
        ):
            if not isinstance(blocks, list):
                continue
            for number, block in enumerate(blocks):
                call = _unwrapped(block)
                if call is not None and (tool := _tool(call)) is not None:
                    calls[str(call.get("id") or f"{id(blocks)}-{number}")] = (tool, call)
    return calls


def _unwrapped(block: object) -> Mapping[str, Any] | None:
    """Return a block without LangChain's wrapping of those it has no type for."""
    if not isinstance(block, dict):
        return None
    inner = block.get("value")
    return inner if isinstance(inner, dict) else block


def _tool(block: Mapping[str, Any]) -> str | None:
    kind = block.get("type")
    if kind in ("server_tool_call", "server_tool_use"):
        return str(block.get("name"))
    if kind == "image" and str(block.get("id", "")).startswith("ig_"):
        return "image_generation"
    if isinstance(kind, str) and kind in (
        "web_search_call",
        "file_search_call",
        "code_interpreter_call",
        "image_generation_call",
    ):
        return kind.removesuffix("_call")
    return None


def _is_search(block: Mapping[str, Any]) -> bool:
    """Tell a search from the opening of a page; a call that does not say what it did was billed as a search."""
    action = block.get("action", block.get("args"))
    kind = action.get("type") if isinstance(action, Mapping) else None
    return kind is None or kind == "search"


def _detail(block: Mapping[str, Any], key: str) -> Any:
    extras = block.get("extras")
    return block.get(key) or (extras.get(key) if isinstance(extras, Mapping) else None)


def _brought_along(params: Mapping[str, Any]) -> set[str]:
    """Return the ids of containers that the request named: they were paid for when they were made."""
    tools = params.get("tools")
    named = [tool.get("container") for tool in tools if isinstance(tool, Mapping)] if isinstance(tools, list) else []
    return {container for container in named if isinstance(container, str)}

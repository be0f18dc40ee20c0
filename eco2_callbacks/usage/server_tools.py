"""Reads the calls of a provider's own tools, which are billed by the piece, from a message in every shape."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from langchain_core.messages import BaseMessage
from msgspec.structs import replace

from eco2_callbacks.usage.content import as_list, as_mapping
from eco2_callbacks.usage.token_usage import TokenUsage

__all__ = ["ServerToolCall", "add_server_tools", "is_search", "server_tool_calls"]

_RESPONSES_CALLS = frozenset(
    {"web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call", "shell_call"}
)

# Amazon Nova's name of its web search.
_SAME_TOOLS = {"nova_grounding": "web_search"}


class ServerToolCall(NamedTuple):
    """One call: the tool's name without a suffix (``web_search``), and the content block of the call."""

    tool: str
    block: Mapping[str, Any]


def server_tool_calls(messages: Sequence[BaseMessage]) -> list[ServerToolCall]:
    """Return the calls of a provider's own tools, each once: a streamed block can come twice.

    =====================================  =============================================================
    ``web_search_call``, ...               OpenAI's Responses API
    ``server_tool_use``                    Anthropic
    ``server_tool_call``, ``image``        LangChain's standard blocks (``output_version="v1"``)
    ``additional_kwargs["tool_outputs"]``  ChatOpenAI's oldest shape (``output_version="v0"``)
    ``{"value": block}``                   LangChain's wrapping of a block that it has no type for
    =====================================  =============================================================
    """
    calls: dict[str, ServerToolCall] = {}
    for message in messages:
        content = getattr(message, "content", None)
        outputs = as_mapping(getattr(message, "additional_kwargs", None)).get("tool_outputs")
        if outputs is None and type(content) is str:
            continue
        for blocks in (as_list(content), as_list(outputs)):
            for number, block in enumerate(blocks):
                if isinstance(block, dict):
                    inner = block.get("value")
                    call = inner if isinstance(inner, dict) else block
                    if (tool := _tool(call)) is not None:
                        calls[str(call.get("id") or f"{id(blocks)}-{number}")] = ServerToolCall(tool, call)
    return list(calls.values())


def add_server_tools(
    usage: TokenUsage, calls: Sequence[ServerToolCall], *, reused_containers: Collection[str] = ()
) -> TokenUsage:
    """Return the usage with the billed units of its server tool calls.

    ================  ===========================================================
    web search        each search; opening a page is free
    file search       each call
    code interpreter  each container, unless it is one of ``reused_containers``
    hosted shell      as the code interpreter; a shell of the user's own has no container
    image generation  each image, with its size
    ================  ===========================================================
    """
    sizes = tuple(str(_field(call.block, "size") or "") for call in calls if call.tool == "image_generation")
    containers = {str(_field(call.block, "container_id")) for call in calls if call.tool == "code_interpreter"}
    environments = (as_mapping(_field(call.block, "environment")) for call in calls if call.tool == "shell")
    containers |= {str(found) for environment in environments if (found := environment.get("container_id"))}
    return replace(
        usage,
        web_searches=sum(call.tool == "web_search" and is_search(call.block) for call in calls),
        file_searches=sum(call.tool == "file_search" for call in calls),
        code_interpreter_sessions=len(containers.difference(reused_containers)),
        image_generations=len(sizes),
        images=len(sizes),
        image_sizes=sizes,
    )


def is_search(block: Mapping[str, Any]) -> bool:
    """Return whether a web search call searched; a call that names no action was billed as a search."""
    action = as_mapping(block.get("action", block.get("args"))).get("type")
    return action is None or action == "search"


def _tool(block: Mapping[str, Any]) -> str | None:
    kind = block.get("type")
    if not isinstance(kind, str):
        return None
    if kind in {"server_tool_call", "server_tool_use"}:
        name = str(block.get("name"))
        return _SAME_TOOLS.get(name, name)
    if kind == "image" and str(block.get("id", "")).startswith("ig_"):
        return "image_generation"
    return kind.removesuffix("_call") if kind in _RESPONSES_CALLS else None


def _field(block: Mapping[str, Any], key: str) -> Any:
    return block.get(key) or as_mapping(block.get("extras")).get(key)

"""Recorded exchanges with real providers, stored beside the project, and the prompts of their requests."""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
    convert_to_messages,
)
from langchain_openai.chat_models import _client_utils

__all__ = ["FOLDER", "MARKS", "player", "prompt_of"]

FOLDER = Path(os.environ.get("ECO2_RECORDINGS", Path(__file__).parents[3] / "shared" / "recordings"))
MARKS = [
    pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no recordings at {FOLDER}; set ECO2_RECORDINGS"),
    # The player leaves its connections to the garbage collector, which may run during another test.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
    # LangChain warns about requests that the player only approximates.
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"),
]
# Parts of a request that cannot be rebuilt: elided contents, and data stored at the provider.
_NOT_REBUILDABLE = (
    *("elided", "REDACTED", "previous_response_id", "cachedContent", "encrypted_content", "fileData", "inlineData"),
    *("functionCall", "compaction", "input_image", "image_url"),
)
_FUNCTIONS = ("function", "functionDeclarations", "function_declarations")


@pytest.fixture(scope="module")
def player() -> Iterator[ModuleType]:
    """Yield the player, and close its connections at the end of the module instead of during another test."""
    spec = importlib.util.spec_from_file_location("recordings_player", FOLDER / "replay.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    _client_utils._cached_sync_httpx_client.cache_clear()  # they hold one client per recording
    _client_utils._cached_async_httpx_client.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    module.loop().close()
    module.server().close()


def prompt_of(case: Mapping[str, Any]) -> list[BaseMessage] | None:
    """Return the prompt of a recorded exchange, None where it cannot be rebuilt to the last token.

    It cannot for requests with a provider's own tools, with files, or with encrypted reasoning.
    """
    body = case["request"]["body"]
    if not isinstance(body, dict) or any(mark in json.dumps(body) for mark in _NOT_REBUILDABLE):
        return None
    if any(not set(tool) & set(_FUNCTIONS) and tool.get("type") not in _FUNCTIONS for tool in body.get("tools") or ()):
        return None
    if messages := body.get("messages"):
        return convert_to_messages(messages)
    if contents := body.get("contents"):
        return [_message_of_gemini(content) for content in contents]
    if inputs := body.get("input"):
        instructions = [SystemMessage(body["instructions"])] if body.get("instructions") else []
        return instructions + (
            [HumanMessage(inputs)] if isinstance(inputs, str) else [_message_of_responses(item) for item in inputs]
        )
    return None


def _message_of_gemini(content: Mapping[str, Any]) -> BaseMessage:
    text = "".join(part["text"] for part in content["parts"])
    return AIMessage(text) if content.get("role") == "model" else HumanMessage(text)


def _message_of_responses(item: Mapping[str, Any]) -> BaseMessage:
    if item.get("type") == "function_call":
        return AIMessage(
            "", tool_calls=[{"name": item["name"], "args": json.loads(item["arguments"]), "id": item["call_id"]}]
        )
    if item.get("type") == "function_call_output":
        return ToolMessage(item["output"], tool_call_id=item["call_id"])
    content = item["content"]
    text = content if isinstance(content, str) else "".join(part["text"] for part in content)
    kinds: dict[str, type[BaseMessage]] = {"user": HumanMessage, "assistant": AIMessage}
    return kinds.get(item["role"], SystemMessage)(text)

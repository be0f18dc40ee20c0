"""Decides which ended runs can be recorded later, and keeps of them only what their record needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.outputs import LLMResult

from eco2_callbacks.call_usage import reports_usage_once
from eco2_callbacks.runs import SUCCESS, OpenLLMCall, OpenRun

__all__ = ["is_plain"]

# Where ChatOpenAI and ChatGroq put the calls of a provider's own tools.
_PROVIDERS_TOOLS = frozenset({"executed_tools", "tool_outputs"})
_NO_FIELDS: Mapping[str, Any] = {}


class _HeldAnswer:
    """What billing reads of a result whose only message has no content blocks.

    It is result, choice and message in one. The dictionaries are copies: the application owns the message.
    """

    __slots__ = ("id", "llm_output", "response_metadata", "usage_metadata")
    content = ""
    additional_kwargs = _NO_FIELDS

    def __init__(self, message_id: object, usage: dict[str, Any], metadata: dict[str, Any], llm_output: object) -> None:
        self.id = message_id
        self.usage_metadata = usage.copy()
        self.response_metadata = metadata.copy()
        self.llm_output = llm_output

    @property
    def generations(self) -> list[list[_HeldAnswer]]:
        return [[self]]

    @property
    def message(self) -> _HeldAnswer:
        return self


def is_plain(run: OpenRun) -> bool:
    """Return whether an ended run can be recorded later; of a call's answer only what billing needs is then kept.

    =====================================================  ========================================================
    A run that                                             is recorded at once, since
    =====================================================  ========================================================
    failed, was cut short or interrupted                   it is rare, and its usage may rest on chunks and prompt
    is a call without one reported usage                   the same
    is a call with content blocks or several choices       its text, images or tools would have to be kept
    is a call to a provider that bills blocks of a prompt  its prompt would have to be kept
    =====================================================  ========================================================
    """
    if run.outcome is not SUCCESS:
        return False
    return not isinstance(run, OpenLLMCall) or _hold(run)


def _hold(call: OpenLLMCall) -> bool:
    """Replace the answer of a call by what billing reads of it, if that is little; return whether it was."""
    result, rules = call.output, call.served.rules
    if type(result) is not LLMResult or call.last_event is not None:
        return False
    if rules.bills_prompt_blocks and not all(type(sent.content) is str for sent in call.messages):
        return False
    generations = result.generations
    if len(generations) != 1 or len(generations[0]) != 1:
        return False
    message: Any = getattr(generations[0][0], "message", None)
    usage, metadata = getattr(message, "usage_metadata", None), getattr(message, "response_metadata", None)
    if type(usage) is not dict or type(metadata) is not dict or "total_cost" in usage:
        return False
    if type(message.content) is not str:
        return False
    input_tokens = usage.get("input_tokens")
    if type(input_tokens) is not int or input_tokens <= 0 or type(usage.get("output_tokens")) is not int:
        return False
    if message.additional_kwargs and not _PROVIDERS_TOOLS.isdisjoint(message.additional_kwargs):
        return False
    if call.chunks and not (rules.streams_parts or reports_usage_once(call.chunks)):
        return False
    call.output = _HeldAnswer(message.id, usage, metadata, result.llm_output)
    call.messages = call.prompts = ()
    call.chunks, call.texts = [], []
    return True

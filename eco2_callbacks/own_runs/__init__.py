"""Blocks that measure calls and tools which LangChain does not see."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eco2_callbacks.lazy_names import lazy_names
from eco2_callbacks.own_runs.block import OwnRunHost
from eco2_callbacks.own_runs.operations import Operation, check_operation
from eco2_callbacks.own_runs.tool_run import ToolRun

if TYPE_CHECKING:
    from eco2_callbacks.own_runs.sdk_call import SDKCall

__all__ = ["Operation", "OwnRunHost", "SDKCall", "ToolRun", "check_operation"]

# What reads answers of SDKs is imported with its first use: most applications call LangChain's models only.
__getattr__ = lazy_names(__name__, {"sdk_call": ("SDKCall",)})

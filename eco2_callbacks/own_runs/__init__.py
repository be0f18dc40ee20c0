"""Blocks that measure calls and tools which LangChain does not see."""

from __future__ import annotations

from eco2_callbacks.own_runs.block import OwnRunHost
from eco2_callbacks.own_runs.sdk_call import Operation, SDKCall, check_operation
from eco2_callbacks.own_runs.tool_run import ToolRun

__all__ = ["Operation", "OwnRunHost", "SDKCall", "ToolRun", "check_operation"]

"""A command that is imported when it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand

__all__ = ["LazyCommand"]


class LazyCommand(TyperCommand):
    """Stands for a command in the list of commands, and builds it when its arguments are parsed."""

    def __init__(self, name: str, help_: str, build: Callable[[], Any]) -> None:
        """``build`` returns click's command. Typer has a copy of click, or uses the installed one."""
        super().__init__(name, help=help_, rich_markup_mode=None)
        self._build = build

    def make_context(self, *arguments: Any, **options: Any) -> typer.Context:
        """Parse the arguments with the command itself, which the returned context then runs."""
        context: typer.Context = self._build().make_context(*arguments, **options)
        return context

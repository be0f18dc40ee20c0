"""The command line ``python -m graph``."""

from __future__ import annotations

from graph.cli.commands import main
from graph.cli.demo import PORT, QUERIES, QUESTIONS

__all__ = ["PORT", "QUERIES", "QUESTIONS", "main"]

"""The command line ``python -m graph``. A command is imported when it runs, so that the help is there at once."""

from __future__ import annotations

from graph.cli.commands import main
from graph.cli.conversations import CONVERSATIONS, QUESTIONS, SUMMARIZE_TOKENS, Conversation, cassette_folder
from graph.cli.defaults import PORT, QUERIES

__all__ = [
    "CONVERSATIONS",
    "PORT",
    "QUERIES",
    "QUESTIONS",
    "SUMMARIZE_TOKENS",
    "Conversation",
    "cassette_folder",
    "main",
]

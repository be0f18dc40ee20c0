"""Errors of recording and replay."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

__all__ = ["CassetteError", "UnknownRequestError"]


class CassetteError(RuntimeError):
    """A cassette cannot be recorded or replayed."""


class UnknownRequestError(CassetteError):
    """The cassette has no answer left for a request. ``requests`` describes all refused requests."""

    def __init__(self, path: Path, requests: Sequence[str]) -> None:
        self.path, self.requests = path, tuple(requests)
        super().__init__(
            f"The cassette {path} has no answer to this request. Did a prompt, a tool or a model change? "
            f"Record it again: python -m tests.support.record_cassettes\n{requests[0]}"
        )

"""A fixture that runs a test once with each token counter, as if the better ones were not installed."""

from __future__ import annotations

import gzip
import hashlib
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest

from eco2_callbacks.usage import tokenizers
from tests.support.parsed_request import count_tokens

__all__ = ["BOUNDS", "cache_vocabularies", "estimator", "forget_counters", "hide_bpe_openai"]

# How far an estimate may lie from the bill.
BOUNDS = {"bpe-openai": 0.10, "tiktoken": 0.10, "script": 0.25}


def forget_counters() -> None:
    """Make the next count choose its counter anew, as in a new process."""
    tokenizers._choose.cache_clear()


def hide_bpe_openai(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make bpe-openai look absent to the library; the tests' own counts still use it."""
    count_tokens("loads it")
    monkeypatch.setitem(sys.modules, "bpe_openai", None)


def cache_vocabularies(folder: Path) -> None:
    """Write the vocabularies where tiktoken caches them; bpe-openai holds the same files, compressed."""
    for name in ("o200k_base", "cl100k_base"):
        url = f"https://openaipublic.blob.core.windows.net/encodings/{name}.tiktoken"
        packed = (resources.files("bpe_openai.data") / f"{name}.tiktoken.gz").read_bytes()
        (folder / hashlib.sha1(url.encode()).hexdigest()).write_bytes(gzip.decompress(packed))


@pytest.fixture(params=["bpe-openai", "tiktoken", "script"])
def estimator(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """Yield the name of the counter that all estimates of the test use."""
    name: str = request.param
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    if name == "tiktoken":
        cache_vocabularies(tmp_path)
    if name != "bpe-openai":
        hide_bpe_openai(monkeypatch)
    forget_counters()
    yield name
    forget_counters()

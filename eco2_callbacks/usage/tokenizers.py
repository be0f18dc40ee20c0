"""Counts the tokens of a text offline."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rs_bpe.bpe.openai import Tokenizer

__all__ = ["count_tokens"]

# The models of cl100k_base; every later OpenAI model uses o200k_base. Other providers publish no tokenizer as a
# library: o200k_base stands in for them, a vocabulary of similar size that covers Korean.
_CL100K = ("gpt-4-", "gpt-3.5", "gpt-35")


def count_tokens(text: str, model: str) -> int:
    """Return how many tokens a text has for a model."""
    # A broken stream can leave a lone surrogate, which UTF-8 cannot encode.
    encodable = text.encode("utf-8", "replace").decode("utf-8")
    return int(_tokenizer(model == "gpt-4" or model.startswith(_CL100K)).count(encodable))


@cache
def _tokenizer(old: bool) -> Tokenizer:
    # Its tables are 50 MB of shared library, which most applications never need.
    from rs_bpe.bpe import openai  # noqa: PLC0415

    return openai.cl100k_base() if old else openai.o200k_base()

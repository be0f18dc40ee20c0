"""Counts the tokens of a text offline, with the best counter that this process has.

===========  =====================================================================  ============================
counter      available                                                              first use takes
===========  =====================================================================  ============================
bpe-openai   with the extra ``estimates``                                           60 ms
tiktoken     where it is installed and its vocabulary lies in its cache on disk     400 ms
script       always: a rule by script, see ``script_rule``                          nothing
===========  =====================================================================  ============================

The first count chooses, once for the process and each vocabulary. Nothing is imported before, and nothing is ever
downloaded. Both tokenizers hold OpenAI's vocabularies, so they count the same.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

from eco2_callbacks.forks import ForkLock, importing

__all__ = ["Estimator", "TokenCounter", "count_tokens", "token_counter"]

_logger = logging.getLogger(__name__)

Estimator: TypeAlias = Literal["bpe-openai", "tiktoken", "script"]
_Count: TypeAlias = Callable[[str], int]
_Encoding: TypeAlias = Literal["cl100k_base", "o200k_base"]

# The models of cl100k_base; every later OpenAI model uses o200k_base. Other providers publish no tokenizer as a
# library: o200k_base stands in for them, a vocabulary of similar size that covers Korean.
_CL100K = ("gpt-4-", "gpt-4:", "gpt-3.5", "gpt-35", "text-embedding-")
# A count holds the interpreter's lock, so other threads run between slices of this many characters. A slice takes 1 to
# 3 ms. One that ends before a space changes no count; any other end adds up to three tokens to about 8,000.
_SLICE = 32_768
# Longer texts are estimated from samples, so that a callback never works long: 131,072 characters take 4 ms with
# bpe-openai and 24 ms with the rule by script.
_MAX_COUNTED = 131_072
_SAMPLES = 16


class TokenCounter(NamedTuple):
    """Counts tokens by one vocabulary.

    Attributes:
        name: What counts.
        count: Returns the tokens of a text of at most ``_SLICE`` characters.
    """

    name: Estimator
    count: _Count


class _Vocabulary(NamedTuple):
    """One of OpenAI's vocabularies, as tiktoken downloads it.

    Attributes:
        url: Its address; the name of the cached file is the SHA-1 of it.
        sha256: The file's hash. tiktoken replaces a file with another hash by a download.
        pattern: Splits a text into the pieces that are encoded.
    """

    url: str
    sha256: str
    pattern: str


# https://github.com/openai/tiktoken/blob/main/tiktoken_ext/openai_public.py
_VOCABULARIES: Final[dict[_Encoding, _Vocabulary]] = {
    "cl100k_base": _Vocabulary(
        "https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken",
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]"""
        r"""|\s+(?!\S)|\s""",
    ),
    "o200k_base": _Vocabulary(
        "https://openaipublic.blob.core.windows.net/encodings/o200k_base.tiktoken",
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
        r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"""
        r"""|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"""
        r"""|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+""",
    ),
}
_choosing = ForkLock()


def count_tokens(text: str, model: str) -> int:
    """Return how many tokens a text has for a model.

    Up to 131,072 characters the time is linear in the text's length. Beyond that 16 evenly spaced samples of together
    as many characters are counted and scaled up, so the time is bounded.
    """
    if not text:
        return 0
    if len(text) > _MAX_COUNTED:
        size = _MAX_COUNTED // _SAMPLES
        step = (len(text) - size) / (_SAMPLES - 1)
        samples = (text[(start := round(number * step)) : start + size] for number in range(_SAMPLES))
        return round(sum(count_tokens(sample, model) for sample in samples) * len(text) / _MAX_COUNTED)
    counter = token_counter(model)
    # A broken stream can leave a lone surrogate, which UTF-8 cannot encode.
    return sum(counter.count(part.encode("utf-8", "replace").decode("utf-8")) for part in _slices(text))


def token_counter(model: str) -> TokenCounter:
    """Return the counter for a model; the first call chooses it and loads its vocabulary."""
    name = model.removeprefix("ft:")
    with _choosing.held:
        return _choose("cl100k_base" if name == "gpt-4" or name.startswith(_CL100K) else "o200k_base")


def _slices(text: str) -> Iterator[str]:
    start = 0
    while len(text) - start > _SLICE:
        end = text.rfind(" ", start + _SLICE // 2, start + _SLICE)
        end = end if end > 0 else start + _SLICE
        yield text[start:end]
        start = end
    yield text[start:]


@cache
def _choose(encoding: _Encoding) -> TokenCounter:
    loaders: tuple[tuple[Estimator, Callable[[_Encoding], _Count | None]], ...]
    loaders = (("bpe-openai", _bpe_openai), ("tiktoken", _tiktoken))
    for name, load in loaders:
        try:
            count = load(encoding)
        except Exception:
            _logger.warning("%s cannot be loaded; the next counter estimates tokens.", name, exc_info=True)
            continue
        if count is not None:
            counter = TokenCounter(name, count)
            break
    else:
        with importing.held:  # only where it counts: compiling its patterns takes 5 ms
            from eco2_callbacks.usage.script_rule import count_by_script  # noqa: PLC0415

        counter = TokenCounter("script", count_by_script)
    _logger.debug("Token estimates by %s use %s.", encoding, counter.name)
    return counter


def _bpe_openai(encoding: _Encoding) -> _Count | None:
    """Return the count of bpe-openai, None where it is not installed.

    ``import bpe_openai`` decodes three vocabularies into dictionaries that a count never reads: 0.8 s on the event
    loop, and 140 MB. So only the package's compiled module is loaded, ``_bindings``, whose tables are built in.
    Tested on 0.1.4. A version without this module is loaded by its public function.
    """
    package = find_spec("bpe_openai")
    if package is None:
        return None
    bindings = sys.modules.get("bpe_openai._bindings")
    if bindings is None and (spec := PathFinder.find_spec("bpe_openai._bindings", package.submodule_search_locations)):
        bindings = module_from_spec(spec)
        if spec.loader is not None:
            spec.loader.exec_module(bindings)
    tokenizer_for_encoding = getattr(bindings, "tokenizer_for_encoding", None)
    if tokenizer_for_encoding is not None:
        compiled: _Count = tokenizer_for_encoding(encoding).count
        return compiled
    import bpe_openai  # noqa: PLC0415

    encode = bpe_openai.get_encoding(encoding).encode_ordinary
    return lambda text: len(encode(text))


def _tiktoken(encoding: _Encoding) -> _Count | None:
    """Return the count of tiktoken, None where it or its cached vocabulary is missing.

    ``tiktoken.get_encoding`` downloads a vocabulary that it does not find, or that has another hash. So the cached file
    is read here, and tiktoken never looks for one.
    """
    vocabulary = _VOCABULARIES[encoding]
    data = _cached(vocabulary.url)
    if data is None or hashlib.sha256(data).hexdigest() != vocabulary.sha256 or find_spec("tiktoken") is None:
        return None
    import tiktoken  # noqa: PLC0415

    pairs = (line.split() for line in data.splitlines())
    ranks = {base64.b64decode(token): int(rank) for token, rank in pairs}
    encode = tiktoken.Encoding(
        encoding, pat_str=vocabulary.pattern, mergeable_ranks=ranks, special_tokens={}
    ).encode_ordinary
    return lambda text: len(encode(text))


def _cached(url: str) -> bytes | None:
    """Return the file that tiktoken cached for an address, by the rule of ``tiktoken.load``."""
    folder = os.environ.get("TIKTOKEN_CACHE_DIR", os.environ.get("DATA_GYM_CACHE_DIR"))
    if folder is None:
        folder = str(Path(tempfile.gettempdir(), "data-gym-cache"))
    if not folder:  # empty: no cache
        return None
    path = Path(folder, hashlib.sha1(url.encode(), usedforsecurity=False).hexdigest())
    return path.read_bytes() if path.is_file() else None

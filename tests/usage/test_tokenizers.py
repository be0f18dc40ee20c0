"""Token counters: the best one at hand counts, offline, in bounded steps, and none is loaded before it is needed."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import bpe_openai
import pytest

from eco2_callbacks.usage import tokenizers
from eco2_callbacks.usage.tokenizers import TokenCounter, count_tokens, token_counter
from tests.support.estimators import BOUNDS, cache_vocabularies, estimator, forget_counters, hide_bpe_openai
from tests.support.parsed_request import count_tokens as o200k_count

__all__ = ["estimator"]  # a fixture

ENGLISH = (
    "Rinse the bottle before you put it into the blue bin. Labels may stay on, but caps go into the yellow one. "
    "If you're unsure about an item, send us a photo: we'll tell you where it belongs, usually within ten seconds. "
    "Large furniture needs an appointment, and the fee depends on its volume.\n\n"
)
MARKDOWN = (
    "## How to recycle a laptop\n\n1. **Back up** your files and sign out of all accounts.\n"
    "2. Remove the battery (if it comes out without force).\n3. Take both to a collection point - see the table:\n\n"
    "| Place | Open | Fee |\n|---|---|---|\n| City Hall | 09:00-18:00 | free |\n| Depot 7 | 24 h | 3.50 EUR |\n"
)
KOREAN = (
    "투명 페트병은 라벨을 떼고 내용물을 비운 다음, 찌그러뜨려서 뚜껑을 닫아 전용 수거함에 넣어 주세요. "
    "기름이 묻은 용기는 깨끗이 씻어야 하고, 씻기 어려우면 종량제 봉투에 버려야 합니다. "
    "대형 폐기물은 구청 홈페이지에서 미리 신고하고 수수료 5,000원을 내셔야 해요. 더 궁금한 점이 있으신가요?\n"
)
CHINESE = (
    "请把可回收物、厨余垃圾、有害垃圾和其他垃圾分开投放。塑料瓶要先清空、压扁，再放进蓝色的回收桶；玻璃瓶容易碎，"
    "请用报纸包好。如果不确定某样东西属于哪一类，可以拍一张照片发给我们的助手。大件家具需要提前3天预约。\n"
)
JAPANESE = (
    "ペットボトルはラベルとキャップをはずし、中を水で洗ってから、資源ごみの日に出してください。"
    "わからないときは、写真を送っていただければ、アシスタントがお答えします。\n"
)
RUSSIAN = (
    "Сполосните бутылку, прежде чем бросить её в синий контейнер. Если вы не уверены, пришлите фотографию: мы ответим "
    "за несколько секунд. Крупную мебель вывозят по предварительной записи.\n"
)
GERMAN = (
    "Bitte spülen Sie die Flasche aus, bevor Sie sie in die blaue Tonne werfen. Für größere Möbelstücke brauchen Sie "
    "einen Termin; die Gebühr richtet sich nach dem Rauminhalt.\n"
)
CODE = '''
def nearest_points(points: list[Point], *, latitude: float, longitude: float, limit: int = 5) -> list[Point]:
    """Return the collection points closest to a place, the nearest first."""
    if not -90 <= latitude <= 90:
        raise ValueError(f"latitude must lie between -90 and 90, not {latitude!r}")
    by_distance = sorted(points, key=lambda point: haversine_km(point, latitude, longitude))
    return [point for point in by_distance[:limit] if point.is_open(datetime.now(UTC))]
'''
JSON = (
    '{"location":{"city":"Seoul","district":"Gangnam-gu","latitude":37.4979,"longitude":127.0276},'
    '"items":[{"name":"PET bottle","count":12,"recyclable":true},{"name":"battery","count":3,"recyclable":false}],'
    '"requested_at":"2026-11-29T21:18:04Z","requestId":"req_7f3a9c","note":null}'
)
INDENTED_JSON = """{
  "type": "object",
  "properties": {
    "query": {"type": "string", "description": "What to look for, in the user's own language"},
    "limit": {"type": "integer", "minimum": 1, "maximum": 50}
  },
  "required": ["query"]
}
"""
EMOJI = "Great news! 🎉🎉 Your order has shipped 🚚📦 and arrives on Friday 😀. Thanks for recycling ♻️ See you! 👋\n"
TEXTS = {
    "english": ENGLISH,
    "markdown": MARKDOWN,
    "korean": KOREAN,
    "chinese": CHINESE,
    "japanese": JAPANESE,
    "russian": RUSSIAN,
    "german": GERMAN,
    "code": CODE,
    "json": JSON,
    "indented_json": INDENTED_JSON,
    "emoji": EMOJI,
    "mixed": ENGLISH + KOREAN + CHINESE + CODE + JSON,
}


def test_a_text_is_counted_within_the_bound(estimator: str) -> None:
    """A tokenizer counts exactly; the rule by script is within a quarter, for whole texts and for their beginnings."""
    parts = {(name, share): text[: len(text) // share] for name, text in TEXTS.items() for share in (1, 2, 3)}

    counted = {key: (count_tokens(part, "gpt-5.2"), o200k_count(part)) for key, part in parts.items()}

    bound = BOUNDS[estimator] if estimator == "script" else 0
    assert {key: pair for key, pair in counted.items() if abs(pair[0] - pair[1]) > bound * pair[1]} == {}
    assert token_counter("gpt-5.2").name == estimator


def test_the_older_models_have_their_own_vocabulary(estimator: str) -> None:
    """A tokenizer counts gpt-4 and gpt-3.5 by cl100k_base, fine-tuned ones too; the rule by script knows one only."""
    models = ["gpt-4", "gpt-4-turbo", "gpt-3.5-turbo", "gpt-35-turbo", "ft:gpt-3.5-turbo:acme", "ft:gpt-4:acme"]
    encoding = "o200k_base" if estimator == "script" else "cl100k_base"

    counted = {count_tokens(KOREAN, model) for model in models}

    [tokens] = counted
    published = len(bpe_openai.get_encoding(encoding).encode_ordinary(KOREAN))
    assert tokens == pytest.approx(published, rel=BOUNDS["script"] if estimator == "script" else 0)
    assert tokens != count_tokens(KOREAN, "ft:gpt-4o:acme") or estimator == "script"


def test_anything_has_a_count(estimator: str) -> None:
    """Control tokens, lone surrogates and blanks are counted as text, by every counter."""
    texts = ["<|endoftext|>", "a\ud83d", " ", "\n", "\x00", "ไทย", "\U000e0001"]

    assert count_tokens("", "gpt-5.2") == 0
    assert all(1 <= count_tokens(text, "gpt-5.2") <= 4 * len(text) for text in texts)


@pytest.mark.parametrize(
    ("text", "most_per_slice"),
    [(ENGLISH, 0), (KOREAN, 0), (CODE, 1), (JSON, 3), (CHINESE.strip(), 3), ("0123456789", 3), ("\n ", 3)],
    ids=["english", "korean", "code", "json", "chinese", "digits", "blanks"],
)
def test_a_long_text_is_counted_in_slices(text: str, most_per_slice: int) -> None:
    """A text is counted in slices, each nearly as in the whole: exactly so where the slice ends before a word."""
    long = text * (120_000 // len(text))
    whole = token_counter("gpt-5.2").count(long)

    counted = count_tokens(long, "gpt-5.2")

    assert whole <= counted <= whole + most_per_slice * 13


@pytest.mark.parametrize("text", ["word " * 25_000, "x" * 125_000], ids=["words", "one_word"])
def test_no_slice_is_long(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text is counted once, character by character, in steps of at most 32,768 characters."""
    slices: list[str] = []
    monkeypatch.setattr(
        tokenizers, "_choose", lambda encoding: TokenCounter("script", lambda part: slices.append(part) or 1)
    )

    count_tokens(text, "gpt-5.2")

    assert "".join(slices) == text
    assert max(map(len, slices)) <= 32_768
    assert len(slices) <= 2 * len(text) / 32_768 + 1


class _NoNetwork:
    """Refuses every look-up and connection, and keeps them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.attempts: list[object] = []
        for owner, name in ((socket, "getaddrinfo"), (socket, "create_connection"), (socket.socket, "connect")):
            monkeypatch.setattr(owner, name, self._refuse)

    def _refuse(self, *args: object, **kwargs: object) -> NoReturn:
        self.attempts.append(args)
        raise OSError("no network")


@pytest.mark.parametrize(
    ("variable", "content", "expected"),
    [
        ("TIKTOKEN_CACHE_DIR", "vocabulary", "tiktoken"),
        ("DATA_GYM_CACHE_DIR", "vocabulary", "tiktoken"),
        ("TMPDIR", "vocabulary", "tiktoken"),
        ("TIKTOKEN_CACHE_DIR", "", "script"),
        ("TMPDIR", "", "script"),
        ("TIKTOKEN_CACHE_DIR", "broken", "script"),
    ],
)
def test_tiktoken_never_downloads(
    variable: str, content: str, expected: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """tiktoken counts where its own cache holds the vocabulary; else nothing is fetched, and no file changes."""
    for name in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "data-gym-cache" if variable == "TMPDIR" else tmp_path
    folder.mkdir(exist_ok=True)
    if content:
        cache_vocabularies(folder)
    if content == "broken":
        for file in folder.iterdir():
            file.write_bytes(file.read_bytes()[:-1000])
    before = {file: file.stat().st_size for file in folder.iterdir()}
    monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    hide_bpe_openai(monkeypatch)
    network = _NoNetwork(monkeypatch)
    forget_counters()

    counts = {model: count_tokens(ENGLISH, model) for model in ("gpt-5.2", "gpt-4")}
    names = {token_counter(model).name for model in counts}

    forget_counters()
    assert names == {expected}
    assert all(counts.values())
    assert network.attempts == []
    assert {file: file.stat().st_size for file in folder.iterdir()} == before


def test_an_empty_cache_folder_turns_tiktokens_cache_off(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty TIKTOKEN_CACHE_DIR means that tiktoken caches nothing, so nothing can be read."""
    cache_vocabularies(tmp_path)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")
    monkeypatch.setenv("DATA_GYM_CACHE_DIR", str(tmp_path))
    hide_bpe_openai(monkeypatch)
    forget_counters()

    name = token_counter("gpt-5.2").name

    forget_counters()
    assert name == "script"


def test_one_choice_for_all_threads(caplog: pytest.LogCaptureFixture) -> None:
    """The first counts of many threads load one vocabulary, and log once which counter it is."""
    forget_counters()

    with caplog.at_level(logging.DEBUG, "eco2_callbacks.usage.tokenizers"), ThreadPoolExecutor(8) as pool:
        counts = list(pool.map(lambda _: count_tokens(ENGLISH, "gpt-5.2"), range(64)))

    assert set(counts) == {o200k_count(ENGLISH)}
    assert [record.getMessage() for record in caplog.records] == ["Token estimates by o200k_base use bpe-openai."]


def test_a_tokenizer_that_cannot_be_loaded_is_replaced(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A broken installation of bpe-openai is logged, and the next counter counts."""
    broken = ModuleType("bpe_openai")
    monkeypatch.setitem(sys.modules, "bpe_openai", broken)  # without __spec__: find_spec raises
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    forget_counters()

    name = token_counter("gpt-5.2").name

    forget_counters()
    assert name == "script"
    assert "bpe-openai cannot be loaded" in caplog.text


def test_another_layout_of_bpe_openai_is_loaded_by_its_public_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the compiled module that 0.1.4 has, the package's own function loads the vocabulary."""
    loaded: list[str] = []
    real = bpe_openai.get_encoding("o200k_base")
    monkeypatch.setitem(sys.modules, "bpe_openai._bindings", ModuleType("bpe_openai._bindings"))
    monkeypatch.setattr(bpe_openai, "get_encoding", lambda name: loaded.append(name) or real)
    forget_counters()

    tokens = count_tokens(KOREAN, "gpt-5.2")

    forget_counters()
    assert (loaded, tokens) == (["o200k_base"], o200k_count(KOREAN))


def test_nothing_is_loaded_before_the_first_count() -> None:
    """Importing the package and making a handler load no tokenizer; the first count loads the compiled tables only."""
    program = """
import sys
from prometheus_client import CollectorRegistry
from eco2_callbacks import Eco2CallbackHandler
from eco2_callbacks.usage import tokenizers
handler = Eco2CallbackHandler(registry=CollectorRegistry())
assert not [name for name in sys.modules if name.startswith(("bpe_openai", "tiktoken"))]
count = tokenizers.count_tokens("2 + 2 = 4", "gpt-5.2")
assert "bpe_openai" not in sys.modules and "tiktoken" not in sys.modules
import bpe_openai  # an application may use it too
same = len(bpe_openai.get_encoding("o200k_base").encode_ordinary("2 + 2 = 4"))
print(count, same, tokenizers.token_counter("gpt-5.2").name)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=300)

    assert (done.stdout, done.stderr) == ("7 7 bpe-openai\n", "")


@pytest.mark.parametrize("repeated", ["How do I sort this bottle? ", "이 병은 어떻게 버려요? ", "{'a': [1, 2, 3]},\n"])
def test_a_long_text_is_estimated_from_samples(monkeypatch: pytest.MonkeyPatch, repeated: str) -> None:
    """A prompt of megabytes costs a callback no more than 131,072 characters, and is within 2 % of the full count."""
    text = repeated * 20_000
    full = len(text) / len(repeated * 1000) * tokenizers.count_tokens(repeated * 1000, "gpt-5.2")
    counted: list[int] = []
    counter = tokenizers.token_counter("gpt-5.2")

    def count(part: str) -> int:
        counted.append(len(part))
        return counter.count(part)

    monkeypatch.setattr(tokenizers, "token_counter", lambda model: counter._replace(count=count))
    estimate = tokenizers.count_tokens(text, "gpt-5.2")

    assert sum(counted) <= 131_072
    assert estimate == pytest.approx(full, rel=0.02)

"""The knowledge base: its rules, and their retrieval."""

from __future__ import annotations

import pytest
from langchain_core.embeddings import Embeddings
from prometheus_client import CollectorRegistry

from eco2_callbacks import Eco2CallbackHandler
from eco2_callbacks.testing import RecordingSink
from graph import models
from graph.errors import GraphConfigError
from graph.knowledge import DisposalRules, rules
from tests.support.openai_embeddings import TOKENS, embeddings_server

QUESTIONS = [
    ("페트병 어떻게 버려?", "투명 페트병"),
    ("맥주 페트병은 갈색인데 어디에 넣어?", "유색 페트병"),
    ("다 쓴 건전지는 어디에 버려?", "건전지"),
    ("보조배터리가 부풀었어요", "보조배터리"),
    ("형광등 깨졌어", "형광등"),
    ("우유팩 씻어서 버려야 해?", "종이팩"),
    ("택배 상자 테이프 떼야 해?", "택배 상자"),
    ("라면 국물 묻은 컵라면 용기는?", "컵라면 스티로폼 용기"),
    ("깨진 유리컵 어디에 버려?", "깨진 유리"),
    ("소주병 보증금 얼마야?", "빈용기보증금 대상 병"),
    ("아이스팩 버리는 법 알려줘", "아이스팩"),
    ("치킨 뼈는 음식물 쓰레기야?", "뼈"),
    ("배달 온 떡볶이 용기 빨갛게 물들었는데 재활용 돼?", "배달 음식 용기"),
    ("유통기한 지난 약은 어떻게 해?", "폐의약품"),
    ("헌 옷은 의류 수거함에 넣으면 돼?", "의류"),
    ("솜이불도 수거함에 넣어도 되나요?", "이불"),
    ("드라이기랑 다리미 버리고 싶어", "소형가전"),
    ("냉장고 무상 수거 신청하고 싶어", "대형가전"),
    ("부탄가스 구멍 뚫어야 해?", "부탄가스와 스프레이 캔"),
    ("스티로폼 상자에 붙은 테이프는?", "스티로폼"),
    ("영수증은 종이로 버려도 돼?", "영수증"),
    ("튀김 기름 하수구에 버려도 돼?", "폐식용유"),
    ("고양이 모래 변기에 버려도 되나", "고양이 모래"),
    ("과자 봉지는 딱지 접어서 버려?", "비닐"),
    ("침대 매트리스 버리려면?", "매트리스"),
]


@pytest.mark.parametrize(("question", "item"), QUESTIONS, ids=[item for _, item in QUESTIONS])
def test_a_question_finds_its_rule_first(question: str, item: str) -> None:
    """The best passage is about the item in the question."""
    found = DisposalRules().invoke(question)

    assert found[0].metadata["item"] == item
    assert found[0].page_content.startswith(item)


def test_passages_come_with_their_score_and_source() -> None:
    """There are at most k passages, the best first, each with score and source."""
    found = DisposalRules(k=3).invoke("유리병")

    assert len(found) == 3
    scores = [document.metadata["score"] for document in found]
    assert scores == sorted(scores, reverse=True)
    assert all(document.metadata.keys() == {"item", "category", "source", "score"} for document in found)


@pytest.mark.parametrize("question", ["", "?!", "어떻게 버려?", "qzx"])
def test_a_question_about_nothing_known_finds_nothing(question: str) -> None:
    """A question without a match returns no passage."""
    assert DisposalRules().invoke(question) == []


def test_a_retrieval_is_measured(handler: Eco2CallbackHandler, registry: object, records: object) -> None:
    """The handler records the retriever's run."""
    DisposalRules().invoke("페트병", {"callbacks": [handler]})

    (call,) = [record for record in records.all if type(record).__name__ == "RetrieverCall"]  # type: ignore[attr-defined]
    assert (call.retriever, call.status) == ("DisposalRules", "success")


def test_rules_are_complete_and_named_once() -> None:
    """Each rule has instructions, other names and a source, and no item occurs twice."""
    items = [rule.item for rule in rules()]

    assert 60 <= len(items) == len(set(items))
    assert all(rule.how.endswith("다.") and len(rule.how) > 20 and rule.also and rule.source for rule in rules())


class _ByMeaning(Embeddings):
    """Knows that a soda bottle is a PET bottle, and nothing else."""

    model = "tests"

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return [1.0, 0.0] if "soda" in text or text.startswith("페트병") else [0.0, 1.0]


def test_embeddings_find_a_rule_by_its_meaning() -> None:
    """A question that shares no word with its rule finds it where embeddings are configured."""
    query = "soda container"

    by_words = DisposalRules().invoke(query)
    by_meaning = DisposalRules(embeddings=_ByMeaning()).invoke(query)

    assert "페트병" not in [rule.metadata["item"] for rule in by_words]
    assert by_meaning[0].metadata["item"].startswith("페트병")


def test_rules_are_found_by_words_when_the_embeddings_fail() -> None:
    """An outage of the embeddings leaves the words: without a rule, every question would pay for a web search."""

    class Failing(Embeddings):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            raise RuntimeError("rate limit")

        def embed_query(self, text: str) -> list[float]:
            raise RuntimeError("rate limit")

    query = "건전지는 어디에 버려?"

    assert DisposalRules(embeddings=Failing()).invoke(query) == DisposalRules().invoke(query)


async def test_embeddings_of_waste_rag_are_paid_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """With ECO2_RAG_EMBEDDINGS the node's search reports its tokens and dollars to the handler of the request."""
    sink = RecordingSink()
    with embeddings_server() as url, Eco2CallbackHandler(registry=CollectorRegistry(), sinks=[sink]) as handler:
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        monkeypatch.setenv("OPENAI_API_KEY", "k")
        monkeypatch.setenv("ECO2_RAG_EMBEDDINGS", "text-embedding-3-small")

        await DisposalRules(embeddings=models.embeddings()).ainvoke("페트병", {"callbacks": [handler]})
        handler.install()
        await DisposalRules(embeddings=models.embeddings()).ainvoke("페트병")

    # The rules once, in one request, and the question.
    assert [call.operation for call in sink.calls] == ["embeddings"] * len(sink.calls)
    assert sink.calls[-1].usage.input_tokens == TOKENS
    assert not sink.calls[-1].estimated


def test_embeddings_need_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing key is found before the first request."""
    monkeypatch.setenv("ECO2_RAG_EMBEDDINGS", "text-embedding-3-small")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    with pytest.raises(GraphConfigError, match=r"OPENAI_API_KEY is unset, wanted a key for ECO2_RAG_EMBEDDINGS="):
        models.embeddings()

"""The conversations of the demo: one per intent, one with a picture and one that is long, in two languages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

__all__ = ["CONVERSATIONS", "QUESTIONS", "SUMMARIZE_TOKENS", "Conversation", "cassette_folder"]

SUMMARIZE_TOKENS = 500
"""``ECO2_SUMMARIZE_TOKENS`` in the demo, whose long conversation has five turns."""
_PICTURE = Path(__file__).with_name("bottle.png")


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """One question of the demo, with what came before it.

    Attributes:
        message: The question.
        picture: A picture that is sent with it; None for none.
        earlier: The earlier questions and answers of the same conversation.
    """

    message: str
    picture: Path | None = None
    earlier: tuple[tuple[str, str], ...] = ()


_KOREAN = {
    "waste": Conversation(message="페트병 어떻게 버려?"),
    "bulk_waste": Conversation(message="강남구에서 3인용 소파 버리려면 얼마야?"),
    "character": Conversation(message="오늘 페트병 분리수거했는데 캐릭터 뽑을래!"),
    "location": Conversation(message="강남역 근처 페트병 분리수거함 어디있어?"),
    "web_search": Conversation(message="2026년 일회용컵 보증금제 소식 알려줘"),
    "recyclable_price": Conversation(message="요즘 폐지랑 고철 시세 얼마야?"),
    "collection_point": Conversation(message="강남구에서 폐휴대폰 어디에 내면 돼?"),
    "image_generation": Conversation(message="분리배출하는 고양이 그림 그려줘"),
    "general": Conversation(message="미세 플라스틱이 왜 문제야?"),
    "greeting": Conversation(message="안녕!"),
    "vision": Conversation(message="이 사진에 있는 건 어떻게 버려?", picture=_PICTURE),
    "summarize": Conversation(
        message="그럼 오늘 저녁에 내놓을 것만 정리해 줘",
        earlier=(
            (
                "유리병이랑 깨진 컵은 같이 버려?",
                "같이 버리지 않습니다. 유리병은 내용물을 비우고 헹군 뒤 뚜껑을 떼어 유리병 수거함에 넣어 주세요. "
                "금속 뚜껑은 캔·고철류입니다. 깨진 컵은 재활용되지 않으니 신문지로 여러 겹 싸서 '깨진 유리'라고 "
                "적고 종량제 봉투에 넣어 주세요. 양이 많으면 불연성 폐기물 전용 마대를 사서 담습니다.",
            ),
            (
                "다 쓴 건전지랑 부푼 보조배터리는?",
                "둘 다 종량제 봉투에 넣지 않습니다. 건전지는 아파트나 주민센터, 편의점의 폐건전지 수거함에 넣고, "
                "새는 것은 단자를 테이프로 감싸 주세요. 부푼 보조배터리는 눌리면 불이 날 수 있으니 찌르거나 겹쳐 "
                "두지 말고 주민센터에 먼저 문의해 주세요. 부풀지 않았다면 방전시키고 단자를 감싸 전용 수거함에 "
                "넣으면 됩니다.",
            ),
            (
                "우유팩은 종이랑 묶으면 되지?",
                "종이와 섞지 않고 따로 모읍니다. 내용물을 비우고 물로 헹군 뒤 펼쳐 말려서 종이팩 전용 수거함에 "
                "넣어 주세요. 빨대와 비닐은 떼어 냅니다. 안쪽이 은박인 멸균팩은 일반 종이팩과도 나누어 모으는 것이 "
                "좋습니다. 주민센터에 모아서 가져가면 화장지로 바꿔 주는 곳이 많습니다.",
            ),
            (
                "택배 상자랑 아이스팩도 있어",
                "택배 상자는 테이프와 송장, 철핀을 모두 떼고 펼쳐서 접은 뒤 다른 종이와 따로 묶어 주세요. 송장에는 "
                "주소가 있으니 찢어서 버리는 것이 안전합니다. 아이스팩은 속이 물이면 물을 버리고 비닐만 비닐류로 "
                "배출합니다. 젤이 든 것은 하수구에 버리지 말고 그대로 종량제 봉투에 넣거나 주민센터의 수거함에 "
                "넣어 주세요.",
            ),
        ),
    ),
}
_ENGLISH = {
    "waste": Conversation(message="How do I throw away a PET bottle?"),
    "bulk_waste": Conversation(message="What does it cost to throw away a three-seat sofa in Gangnam-gu?"),
    "character": Conversation(message="I recycled a bottle today, let me draw a character!"),
    "location": Conversation(message="Where is a bottle collection box near Gangnam station?"),
    "web_search": Conversation(message="What is new about the cup deposit in 2026?"),
    "recyclable_price": Conversation(message="What do waste paper and scrap iron sell for now?"),
    "collection_point": Conversation(message="Where in Gangnam-gu can I hand in an old phone?"),
    "image_generation": Conversation(message="Draw a cat that sorts its waste"),
    "general": Conversation(message="Why are microplastics a problem?"),
    "greeting": Conversation(message="Hello!"),
    "vision": Conversation(message="How do I throw away what is in this picture?", picture=_PICTURE),
    "summarize": Conversation(
        message="Then list only what I can put out tonight",
        earlier=(
            (
                "Do glass bottles and a broken cup go together?",
                "No. Empty and rinse glass bottles, take off the lid and put them into the glass box; a metal lid "
                "goes to the cans. A broken cup is not recycled: wrap it in newspaper, write 'broken glass' on it "
                "and put it into a standard bag. For a larger amount, buy the sack for non-combustible waste.",
            ),
            (
                "And used batteries and a swollen power bank?",
                "Neither goes into a standard bag. Put batteries into the battery box of your building, community "
                "centre or convenience store, and tape the ends of one that leaks. A swollen power bank can catch "
                "fire when it is pressed: do not pierce or stack it, and ask the community centre first.",
            ),
            (
                "Milk cartons go with the paper, right?",
                "No, they are collected on their own. Empty them, rinse them, open them out to dry and put them "
                "into the carton box, without straws and film. Cartons with foil inside are best kept apart too. "
                "Many community centres exchange collected cartons for tissue.",
            ),
            (
                "I also have a parcel box and ice packs",
                "Take tape, label and staples off the box, fold it flat and tie it apart from other paper. Tear "
                "the label, since it shows your address. If an ice pack holds water, pour it out and put the film "
                "with the film. One with gel goes into a standard bag as it is, never into the drain.",
            ),
        ),
    ),
}

CONVERSATIONS: Mapping[str, Mapping[str, Conversation]] = MappingProxyType(
    {"ko": MappingProxyType(_KOREAN), "en": MappingProxyType(_ENGLISH)}
)
"""Language -> name -> conversation. A name is the intent that it shows, else the node."""

QUESTIONS: Mapping[str, str] = MappingProxyType(
    {name: one.message for name, one in _KOREAN.items() if one.picture is None and not one.earlier}
)
"""Intent -> its Korean question."""


def cassette_folder(root: Path, *, provider: str, language: str) -> Path:
    """Return the folder with the recordings of one provider and language, ``<name>.yaml`` each.

    Args:
        root: The folder of all recordings of the demo.
        provider: ``openai`` or ``google``.
        language: ``ko`` or ``en``.
    """
    folder = root if provider == "openai" else root / provider
    return folder if language == "ko" else folder / language

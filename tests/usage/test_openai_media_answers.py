"""Answers of OpenAI's Images, Audio and Realtime APIs: each modality has its rate."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from eco2_callbacks import Eco2CallbackHandler, LLMCall
from tests.support.record_sink import Records


def record_of(handler: Eco2CallbackHandler, records: Records, answer: dict[str, Any], model: str) -> LLMCall:
    with handler.call(provider="openai", model=model) as call:
        call.answered(answer)
    return records.call


def image(
    sent: int, received: int, *, within: dict[str, int], of_output: dict[str, int] | None = None
) -> dict[str, Any]:
    usage: dict[str, Any] = {"input_tokens": sent, "output_tokens": received, "total_tokens": sent + received}
    usage["input_tokens_details"] = within
    if of_output is not None:
        usage["output_tokens_details"] = of_output
    return {"created": 1, "size": "1024x1024", "data": [{"b64_json": "aGk="}], "usage": usage}


@pytest.mark.parametrize(
    ("answer", "usd"),
    [
        # 20 x 5 + 1000 x 32 + 50 x 10
        (
            image(20, 1050, within={"text_tokens": 20}, of_output={"image_tokens": 1000, "text_tokens": 50}),
            "0.0326",
        ),
        # 20 x 5 + 1000 x 32
        (image(20, 1000, within={"text_tokens": 20}), "0.0321"),
    ],
    ids=["split", "all image"],
)
def test_a_generated_image_is_billed_as_image(
    handler: Eco2CallbackHandler, records: Records, answer: dict[str, Any], usd: str
) -> None:
    """Output tokens of an image cost the image rate, not that of text."""
    record = record_of(handler, records, answer, "gpt-image-1.5")

    assert record.cost is not None
    assert (record.cost.total_usd, record.estimated) == (Decimal(usd), False)


@pytest.mark.parametrize(
    ("model", "sent", "reason"),
    [("gpt-image-1.5", 300, "media"), ("gpt-image-1.5", 0, None), ("gpt-4o", 300, None)],
    ids=["edited image", "text alone", "model without an image rate"],
)
def test_an_image_in_the_prompt_is_not_exact(
    handler: Eco2CallbackHandler, records: Records, model: str, sent: int, reason: str | None
) -> None:
    """Images sent to an image model have a rate of their own, which no count bills: the record says so."""
    answer = image(320, 1000, within={"text_tokens": 320 - sent, "image_tokens": sent})

    assert record_of(handler, records, answer, model).estimate_reason == reason


def test_a_transcript_is_billed_by_its_sound(handler: Eco2CallbackHandler, records: Records) -> None:
    """Audio input of a transcript costs the audio rate."""
    details = {"audio_tokens": 90, "text_tokens": 10}
    usage = {"type": "tokens", "input_tokens": 100, "input_token_details": details, "output_tokens": 40}

    record = record_of(handler, records, {"text": "in the bin", "usage": usage}, "gpt-4o-transcribe")

    # 10 x 2.5 + 90 x 6 + 40 x 10
    assert record.cost is not None
    assert (record.cost.total_usd, record.estimated) == (Decimal("0.000965"), False)


def test_a_realtime_answer_is_billed_by_its_modalities(handler: Eco2CallbackHandler, records: Records) -> None:
    """Sound in a Realtime answer costs the audio rates, in both directions."""
    usage = {
        "input_tokens": 300,
        "input_token_details": {"text_tokens": 200, "audio_tokens": 100, "image_tokens": 0, "cached_tokens": 150},
        "output_tokens": 120,
        "output_token_details": {"text_tokens": 20, "audio_tokens": 100},
    }

    record = record_of(handler, records, {"object": "realtime.response", "output": [], "usage": usage}, "gpt-realtime")

    # 50 x 4 + 150 x 0.4 + 100 x 32 + 20 x 16 + 100 x 64
    assert record.cost is not None
    assert (record.cost.total_usd, record.estimated) == (Decimal("0.01018"), False)


def test_an_embedding_with_a_total_alone_is_input(handler: Eco2CallbackHandler, records: Records) -> None:
    """Servers that state one number for an embedding are billed by it, not by an estimate of nothing."""
    answer = {"object": "list", "model": "voyage-3", "data": [], "usage": {"total_tokens": 1000}}

    with handler.call(provider="voyageai", model="voyage-3", operation="embeddings") as call:
        call.answered(answer)

    # 0.06 USD per million
    record = records.call
    assert record.cost is not None
    assert (record.cost.total_usd, record.estimated) == (Decimal("0.00006"), False)


def test_a_chat_answer_with_a_total_alone_is_estimated(handler: Eco2CallbackHandler, records: Records) -> None:
    """Only an embedding's total is its input; a chat answer's total holds the output too."""
    answer = {"choices": [{"message": {"role": "assistant", "content": "In the bin."}}], "usage": {"total_tokens": 800}}

    record = record_of(handler, records, answer, "gpt-4o-mini")

    assert (record.estimate_reason, record.usage.input_tokens < 800) == ("no_usage", True)
    assert record.usage.output_tokens > 0

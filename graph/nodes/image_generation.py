"""The image_generation node: generates an image."""

from __future__ import annotations

from langchain_core.messages import AIMessage

from graph import models
from graph.conversation import conversation
from graph.results import branch, found, missing
from graph.state import State

__all__ = ["image_generation"]


@branch("그림")
async def image_generation(state: State) -> State:
    """Generate the image that the user asks for."""
    answer = await models.with_images("image_generation").ainvoke(conversation("image_generation", state))
    images = _images(answer)
    if not images:
        return missing("image_generation", answer.text or "그림을 만들지 못했습니다.")
    text = f"그림 {len(images)}장을 만들어 사용자에게 보여 주었습니다. {answer.text}".strip()
    return {**found("image_generation", text), "images": images}


def _images(answer: AIMessage) -> list[str]:
    """Return the images as data URLs. LangChain's content blocks are the same for both providers."""
    return [
        f"data:{block.get('mime_type') or 'image/png'};base64,{block['base64']}"
        for block in answer.content_blocks
        if block["type"] == "image" and block.get("base64")
    ]

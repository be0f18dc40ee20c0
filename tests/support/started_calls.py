"""Model calls that a test starts by LangChain's callback, without a model."""

from __future__ import annotations

import uuid

from langchain_core.messages import HumanMessage

from eco2_callbacks import Eco2CallbackHandler

__all__ = ["start_call"]


def start_call(handler: Eco2CallbackHandler, parent: uuid.UUID | None = None) -> uuid.UUID:
    """Start a call of gpt-5.2 and return its run id."""
    run_id = uuid.uuid4()
    metadata = {"ls_provider": "openai", "ls_model_name": "gpt-5.2"}
    handler.on_chat_model_start(
        {}, [[HumanMessage("hello")]], run_id=run_id, parent_run_id=parent, tags=[], metadata=metadata
    )
    return run_id

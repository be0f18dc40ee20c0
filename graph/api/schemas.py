"""What the API takes and answers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from graph.jobs import MAX_IMAGE_BYTES, Identifier, Image, Message

__all__ = ["Accepted", "ChatRequest", "FeedbackRequest", "FeedbackSent", "JobAnswer"]

_IDENTIFIER = "^[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}$"


class ChatRequest(BaseModel):
    """A question, an image, or both."""

    model_config = ConfigDict(
        extra="forbid",
        hide_input_in_errors=True,
        json_schema_extra={"examples": [{"message": "페트병 어떻게 버려?", "session_id": "s-1"}]},
    )

    message: Annotated[Message, Field(description="The question.")] = ""
    image: Annotated[
        Image,
        Field(description=f"A data URL of a JPEG, PNG or WebP of at most {MAX_IMAGE_BYTES:,} bytes. Not fetched."),
    ] = ""
    session_id: Annotated[
        Identifier | None,
        Field(description="The conversation to continue.", json_schema_extra={"pattern": _IDENTIFIER}),
    ] = None

    @model_validator(mode="after")
    def _has_content(self) -> ChatRequest:
        if not self.message.strip() and not self.image:
            raise ValueError("message and image are both empty; send one")
        return self


class Accepted(BaseModel):
    """The job that answers the question."""

    job_id: str
    session_id: str
    events_url: str
    result_url: str
    otel_trace_id: str | None = Field(default=None, description="The answer's OpenTelemetry trace, if it is exported.")


class JobAnswer(BaseModel):
    """A job with what all its runs have cost so far and, once it has ended, its answer."""

    job_id: str
    session_id: str
    status: Literal["queued", "running", "done", "error", "cancelled", "dead"]
    run: int = Field(description="How often a worker has started it.")
    answer: str | None = None
    images: list[str] = Field(default_factory=list)
    intent: str | None = None
    tokens: dict[str, int] | None = Field(default=None, description="input, output and total; null while unknown.")
    usd: str | None = Field(default=None, description="The exact decimal, as text; null while unknown.")
    unpriced_calls: int = Field(default=0, description="Model calls without a known price, which usd leaves out.")
    estimated: bool = Field(default=False, description="Whether any part of tokens and usd is an estimate.")
    open_calls: int = Field(
        default=0,
        description="Model calls without an end. Once the job has ended, their worker died: usd leaves them out, and "
        "the provider may bill them.",
    )
    seconds: float | None = Field(default=None, description="Of the last run.")
    error: dict[str, Any] | None = Field(default=None, description="type, title and detail of a failure.")


class FeedbackRequest(BaseModel):
    """What the user thinks of the answer."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    score: float = Field(ge=0, le=1, description="0 is useless, 1 is perfect.", allow_inf_nan=False)
    comment: Annotated[Message, Field(max_length=2000)] = ""


class FeedbackSent(BaseModel):
    """Who has the feedback: ``langsmith``, ``ledger``."""

    job_id: str
    reached: list[str]

"""The job: one question, as the API accepts it and the queue carries it. All bounds on its content are here."""

from __future__ import annotations

import base64
import binascii
import re
import unicodedata
from datetime import UTC, datetime
from typing import Annotated, Any

import filetype
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from graph.streams import NewJob

__all__ = [
    "MAX_BODY_BYTES",
    "MAX_IMAGE_BYTES",
    "MAX_MESSAGE_CHARS",
    "Identifier",
    "Image",
    "Job",
    "Message",
    "UserId",
    "describe_invalid",
    "readable_job_id",
]

MAX_MESSAGE_CHARS = 8_000
MAX_IMAGE_BYTES = 5_000_000
MAX_BODY_BYTES = MAX_IMAGE_BYTES * 4 // 3 + 64_000  # base64, and the rest of the request
_IMAGE_TYPES = ("image/jpeg", "image/png", "image/webp")  # accepted by both providers
_DATA_URL = re.compile(r"data:image/[a-z]+;base64,", re.ASCII)
_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}", re.ASCII)
# As identity providers name users: "auth0|5f7c8e", or base64. Without "/", which separates a thread's parts.
_USER_ID = re.compile(r"[A-Za-z0-9._:@|+=-]{1,255}", re.ASCII)


def _check_identifier(value: str) -> str:
    if not _IDENTIFIER.fullmatch(value):
        raise ValueError("wanted 1 to 128 letters, digits, '.', '_', ':', '@' or '-', the first a letter or digit")
    return value


def _check_user_id(value: str) -> str:
    if not _USER_ID.fullmatch(value):
        raise ValueError("wanted 1 to 255 letters, digits, '.', '_', ':', '@', '|', '+', '=' or '-'")
    return value


def _check_message(value: str) -> str:
    if any(unicodedata.category(char) in {"Cc", "Cs"} and char not in "\n\r\t" for char in value):
        raise ValueError("it has control characters; wanted text")
    return value


def _check_image(value: str) -> str:
    if not value:
        return value
    if (head := _DATA_URL.match(value)) is None:
        raise ValueError("wanted a data URL such as 'data:image/png;base64,...'; addresses are not fetched")
    if len(value) - head.end() > MAX_IMAGE_BYTES * 4 // 3 + 4:
        raise ValueError(f"it is too large, wanted at most {MAX_IMAGE_BYTES:,} bytes; scale it down")
    try:
        content = base64.b64decode(value[head.end() :], validate=True)
    except binascii.Error as error:
        raise ValueError("its base64 cannot be read") from error
    if len(content) > MAX_IMAGE_BYTES:
        raise ValueError(f"it is too large, wanted at most {MAX_IMAGE_BYTES:,} bytes; scale it down")
    # By its content: the client's claim decides nothing.
    if (mime := filetype.guess_mime(content) if content else None) not in _IMAGE_TYPES:
        raise ValueError(f"it is {mime or 'of an unknown type'}, wanted one of {', '.join(_IMAGE_TYPES)}")
    return f"data:{mime};base64,{value[head.end() :]}"


def _text_of_number(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Identifier = Annotated[str, BeforeValidator(_text_of_number), AfterValidator(_check_identifier)]
UserId = Annotated[str, BeforeValidator(_text_of_number), AfterValidator(_check_user_id)]
Message = Annotated[str, Field(max_length=MAX_MESSAGE_CHARS), AfterValidator(_check_message)]
Image = Annotated[str, AfterValidator(_check_image)]


class Job(BaseModel):
    """One question. Identifiers may be numbers."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True, extra="ignore")

    job_id: Identifier
    message: Message = ""
    image: Image = ""
    """The data URL of an image."""
    session_id: Identifier | None = None
    """The conversation to continue; None starts a new one."""
    user_id: UserId | None = None
    tenant_id: Identifier | None = None
    accepted_at: datetime = Field(default_factory=lambda: datetime.now(UTC))
    """When the question was accepted. A producer that leaves it out counts from the job's arrival."""

    @model_validator(mode="after")
    def _has_content(self) -> Job:
        if not self.message.strip() and not self.image:
            raise ValueError("message and image are both empty")
        return self

    def described(self) -> NewJob:
        """Return what the store remembers of it."""
        accepted_at = self.accepted_at if self.accepted_at.tzinfo else self.accepted_at.replace(tzinfo=UTC)
        return NewJob(
            job_id=self.job_id,
            tenant_id=self.tenant_id or "",
            user_id=self.user_id or "",
            session_id=self.session_id or self.job_id,
            accepted_at=accepted_at,
        )

    @property
    def thread_id(self) -> str:
        """The conversation's id among all tenants and users: no user continues the conversation of another."""
        return "/".join((self.tenant_id or "", self.user_id or "", self.session_id or self.job_id))


def readable_job_id(content: Any) -> str | None:
    """Return the id of a job that is invalid otherwise, if it can be read: its reader must get an answer."""
    job_id = _text_of_number(content.get("job_id")) if isinstance(content, dict) else None
    return job_id if isinstance(job_id, str) and _IDENTIFIER.fullmatch(job_id) else None


def describe_invalid(error: ValidationError) -> str:
    """Return why a job is invalid, without its content."""
    lines = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(f"{'.'.join(map(str, line['loc'])) or 'job'}: {line['msg']}" for line in lines)

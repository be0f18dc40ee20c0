"""Which values are texts that must not become labels: words of a question, a phone number, an address."""

from __future__ import annotations

import re

__all__ = ["is_text"]

_MAX_LENGTH = 64
_MAX_WORDS = 4
# The shortest phone numbers with an area have seven digits.
_PHONE_DIGITS = 7
_SPACE_OR_CONTROL = re.compile(r"[\s\x00-\x1f\x7f@]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# A tenant's id may be a number, so only what is written as a phone number counts as one.
_PHONE = re.compile(r"(?<![\w.-])(?:\+\(?\d[\d ().-]{5,}|\(?0\d{1,3}[-.)/ ]+\d{3,4}[-. ]?\d{4})(?!\w)")


def is_text(label: str, value: str) -> bool:
    """Return whether a value looks like free text, which says more than the name that its label is for.

    =============================  ==============================================================================
    Label                          A text is
    =============================  ==============================================================================
    ``intent``, ``agent_name``     over 64 characters, or has a space, ``@`` or seven digits
    ``tenant_id``                  over 64 characters, or has a space or ``@``, or is written as a phone number
    any other                      more than four words, or has a control character or a phone number
    =============================  ==============================================================================
    """
    if label not in ("intent", "agent_name", "tenant_id"):
        words = value.split(maxsplit=_MAX_WORDS)
        return len(words) > _MAX_WORDS or _CONTROL.search(value) is not None or _PHONE.search(value) is not None
    if len(value) > _MAX_LENGTH or _SPACE_OR_CONTROL.search(value) is not None:
        return True
    if label == "tenant_id":
        return _PHONE.search(value) is not None
    return sum(map(str.isdigit, value)) >= _PHONE_DIGITS

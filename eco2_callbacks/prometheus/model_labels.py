"""model_label: one name for a model, whether its answer adds a date or version or not."""

from __future__ import annotations

import re
from functools import lru_cache

__all__ = ["model_label"]

# What an answer adds to the requested name: -2025-12-11, -20250929, -0613, -001, @20250929, -v1:0, -preview-09-2025.
_ADDITION = re.compile(
    r"(?:-(?:preview|exp|latest))?"
    r"(?:[-@](?:\d{4}-\d{2}-\d{2}|\d{2}-\d{4}|\d{2}-\d{2}|\d{3,4}|\d{6}|\d{8}))?"
    r"(?:[-@]v\d+(?:\.\d+)*)?(?::\d+)?"
)


@lru_cache(maxsize=1024)
def model_label(model: str, request_model: str) -> str:
    """Return the label of a model: the requested name where the answer only adds a date or version to it."""
    if request_model and model.startswith(request_model) and _ADDITION.fullmatch(model, len(request_model)):
        return request_model
    return model

"""The HTTP API of the chat: questions in, answers and their events out."""

from __future__ import annotations

from graph.api.app import create_app
from graph.api.auth import make_authenticator
from graph.api.context import ApiContext
from graph.api.feedback import FeedbackSender, feedback_client
from graph.api.limits import TenantLimits
from graph.api.settings import ApiSettings

__all__ = [
    "ApiContext",
    "ApiSettings",
    "FeedbackSender",
    "TenantLimits",
    "create_app",
    "feedback_client",
    "make_authenticator",
]

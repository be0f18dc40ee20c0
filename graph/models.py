"""The chat models, each made here and nowhere else."""

from __future__ import annotations

from langchain_google_genai import ChatGoogleGenerativeAI
from langchain_openai import ChatOpenAI

__all__ = ["google", "openai"]


def openai() -> ChatOpenAI:
    """Return the model that decides; its key is ``OPENAI_API_KEY``."""
    return ChatOpenAI(model="gpt-5.2")


def google() -> ChatGoogleGenerativeAI:
    """Return the model that writes; its key is ``GOOGLE_API_KEY``."""
    return ChatGoogleGenerativeAI(model="gemini-3-flash-preview")

"""The factory of models: provider, model name, keys and reuse."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_google_genai import ChatGoogleGenerativeAI
from langchain_openai import ChatOpenAI

from graph import models
from graph.errors import GraphConfigError


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("GOOGLE_API_KEY", "k")


def test_openai_is_the_default() -> None:
    """Without a setting, the model is gpt-5.2 and its streams report usage."""
    model = models.chat("answer")

    assert isinstance(model, ChatOpenAI)
    assert (model.model_name, model.stream_usage) == ("gpt-5.2", True)


def test_the_provider_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """``ECO2_PROVIDER`` applies to all nodes; ``ECO2_PROVIDER_<NODE>`` overrides it for one node."""
    monkeypatch.setenv("ECO2_PROVIDER", "google")
    monkeypatch.setenv("ECO2_PROVIDER_WASTE_RAG", "openai")

    answer = models.chat("answer")

    assert isinstance(answer, ChatGoogleGenerativeAI)
    assert answer.model.removeprefix("models/") == "gemini-3-flash-preview"
    assert (models.provider("waste_rag"), models.provider("waste")) == ("openai", "google")


def test_model_names_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting can change each provider's chat model and the image model."""
    monkeypatch.setenv("ECO2_OPENAI_MODEL", "gpt-x")
    monkeypatch.setenv("ECO2_GOOGLE_MODEL", "gemini-x")
    monkeypatch.setenv("ECO2_IMAGE_MODEL", "image-x")
    monkeypatch.setenv("ECO2_PROVIDER_GENERAL", "google")
    monkeypatch.setenv("ECO2_PROVIDER_IMAGE_GENERATION", "google")

    names: Any = models.chat("answer"), models.chat("general"), models.with_images("image_generation")

    assert names[0].model_name == "gpt-x"
    assert [model.model.removeprefix("models/") for model in names[1:]] == ["gemini-x", "image-x"]


@pytest.mark.parametrize("setting", ["ECO2_PROVIDER", "ECO2_PROVIDER_ANSWER"])
def test_an_unknown_provider_is_refused(monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    """The message contains the value and the allowed values."""
    monkeypatch.setenv(setting, "OpenAI")

    with pytest.raises(GraphConfigError) as error:
        models.chat("answer")

    assert str(error.value) == f"{setting} is 'OpenAI', wanted 'openai' or 'google'; correct it or unset it."


@pytest.mark.parametrize(
    ("provider", "names"), [("openai", "OPENAI_API_KEY"), ("google", "GOOGLE_API_KEY or GEMINI_API_KEY")]
)
def test_a_missing_key_is_one_sentence(monkeypatch: pytest.MonkeyPatch, provider: str, names: str) -> None:
    """The check fails before the first request."""
    monkeypatch.setenv("ECO2_PROVIDER", provider)
    for key in ("OPENAI_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.delenv(key)

    with pytest.raises(GraphConfigError) as error:
        models.check()

    assert str(error.value) == f"{names} is unset, wanted a key for provider '{provider}'; set it or ECO2_PROVIDER."


def test_images_come_from_gemini_unless_their_own_setting_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """``ECO2_PROVIDER`` does not change the provider of images."""
    monkeypatch.setenv("ECO2_PROVIDER", "openai")
    providers = [models.provider("image_generation")]
    monkeypatch.setenv("ECO2_PROVIDER_IMAGE_GENERATION", "openai")
    providers.append(models.provider("image_generation"))

    assert providers == ["google", "openai"]


def test_check_accepts_either_google_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Either of Google's two keys is enough."""
    monkeypatch.setenv("ECO2_PROVIDER", "google")
    monkeypatch.delenv("GOOGLE_API_KEY")
    monkeypatch.setenv("GEMINI_API_KEY", "k")

    models.check()


@pytest.mark.parametrize(
    ("provider", "search", "images"),
    [("openai", [{"type": "web_search"}], [{"type": "image_generation"}]), ("google", "google_search", None)],
)
def test_built_in_tools_are_bound(monkeypatch: pytest.MonkeyPatch, provider: str, search: Any, images: Any) -> None:
    """Web search and image generation use the provider's built-in tools."""
    monkeypatch.setenv("ECO2_PROVIDER", provider)
    monkeypatch.setenv("ECO2_PROVIDER_IMAGE_GENERATION", provider)

    searching: Any = models.with_search("web_search")
    drawing: Any = models.with_images("image_generation")

    if provider == "openai":
        assert (searching.kwargs["tools"], drawing.kwargs["tools"]) == (search, images)
    else:
        assert search in str(searching.kwargs["tools"])
        assert drawing.response_modalities == ["TEXT", "IMAGE"]


async def test_a_model_is_created_once_per_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes share a model. Other options, settings or keys create a new one."""
    first = models.chat("answer")

    assert models.chat("intent") is first
    assert models.chat("answer", temperature=0.5) is not first
    monkeypatch.setenv("OPENAI_API_KEY", "another")
    assert models.chat("answer") is not first


def test_each_event_loop_has_its_own_models() -> None:
    """A model is not reused in another event loop, because its connections belong to the first."""

    async def make() -> Any:
        return models.chat("answer")

    first, second = asyncio.run(make()), asyncio.run(make())

    assert first is not second

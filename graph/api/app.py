"""Creates the API's app."""

from __future__ import annotations

from fastapi import FastAPI

from graph.api.body_limit import BodyLimit
from graph.api.context import ApiContext, authenticate
from graph.api.page import add_page
from graph.api.problems import Problem, add_problem_handlers, problem_responses
from graph.api.routes import PREFIX, router
from graph.jobs import MAX_BODY_BYTES

__all__ = ["create_app"]


def create_app(context: ApiContext) -> FastAPI:
    """Return the API with the page at ``/``. CORS is closed: browsers of other origins get no access."""
    app = FastAPI(
        title="Eco2 chat",
        version="1",
        description="Ask a question, read the answer's events as they happen, or fetch the answer and its cost.",
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,
        redoc_url=None,
        responses=problem_responses(401, 422, 429, 500, 503) | {"default": {"model": Problem}},
    )
    app.state.context = context
    add_problem_handlers(app)
    app.add_middleware(BodyLimit, authenticate=authenticate, max_bytes=MAX_BODY_BYTES)
    app.include_router(router)
    add_page(app)
    return app

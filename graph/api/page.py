"""The page at ``/``: static files under a strict content security policy."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from fastapi import APIRouter, FastAPI
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

__all__ = ["add_page"]

_FOLDER = Path(__file__).parent / "static"
# No script, style or address but our own; nothing that came from a model can become one.
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
_HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "Content-Security-Policy": _POLICY,
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-cache",  # a browser asks each time; the ETag answers
    }
)

_router = APIRouter(include_in_schema=False)


class _Files(StaticFiles):
    """The page's files, each with the headers."""

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """Return a file, or 304 if the browser has it."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers.update(_HEADERS)
        return response


@_router.api_route("/", methods=["GET", "HEAD"])  # HEAD as monitors ask it
async def _index() -> FileResponse:
    return FileResponse(_FOLDER / "index.html", headers=dict(_HEADERS))


def add_page(app: FastAPI) -> None:
    """Serve the page at ``/`` and its files below ``/page``. Both need no credential: they hold no data."""
    app.include_router(_router)
    app.mount("/page", _Files(directory=_FOLDER), name="page")

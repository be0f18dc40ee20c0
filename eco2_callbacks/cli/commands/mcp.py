"""``eco2 mcp``: a server for assistants that only reads the ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eco2_callbacks.cli.options import LedgerUrl, open_ledger, price_book
from eco2_callbacks.errors import ConfigError
from eco2_callbacks.finance import build_server
from eco2_callbacks.ledger import Schema

__all__ = ["serve_mcp"]

_TRANSPORTS = ("stdio", "streamable-http")


def serve_mcp(
    transport: Annotated[
        str, typer.Option(metavar="|".join(_TRANSPORTS), help="How the assistant connects.")
    ] = "stdio",
    host: Annotated[str, typer.Option(help="Address of streamable-http.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of streamable-http.")] = 8000,
    rates: Annotated[
        Path | None, typer.Option("--prices", metavar="FILE", help="Custom rates; ECO2_PRICES by default.")
    ] = None,
    ledger: LedgerUrl = "",
) -> None:
    """Serve the ledger to an assistant over the Model Context Protocol, for reading only."""
    if transport not in _TRANSPORTS:
        raise ConfigError(f"--transport is {transport!r}, wanted one of {', '.join(_TRANSPORTS)}.")
    backend = open_ledger(ledger)
    try:
        Schema(backend).require()
        server = build_server(backend, price_book(rates))
        if transport == "stdio":
            server.run("stdio")
        else:
            server.run("streamable-http", host=host, port=port)
    finally:
        backend.close()

"""Reads the API's settings from the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from graph.errors import GraphConfigError
from graph.jobs import whole_number

__all__ = ["ApiSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiSettings:
    """The API's settings.

    Attributes:
        tokens_file: Bearer tokens, ``ECO2_API_TOKENS_FILE``; see :mod:`graph.api.auth`.
        jwt_issuer: The issuer of accepted JWTs, ``ECO2_JWT_ISSUER``.
        jwt_audience: Their audience, ``ECO2_JWT_AUDIENCE``.
        jwt_jwks_url: Where their keys are, ``ECO2_JWT_JWKS_URL``.
        jwt_tenant_claim: The claim that names the tenant, ``ECO2_JWT_TENANT_CLAIM``. The user is ``sub``.
        requests_per_minute: The most questions of a tenant in a minute, ``ECO2_TENANT_REQUESTS_PER_MINUTE``.
        max_active_jobs: The most unfinished jobs of a tenant, ``ECO2_TENANT_MAX_JOBS``.
        max_streams: The most open streams of a tenant in this process, ``ECO2_TENANT_MAX_STREAMS``.
        heartbeat_seconds: Pause between heartbeat comments in a stream, ``ECO2_HEARTBEAT_SECONDS``.
    """

    tokens_file: Path | None = None
    jwt_issuer: str = ""
    jwt_audience: str = ""
    jwt_jwks_url: str = ""
    jwt_tenant_claim: str = "tenant_id"
    requests_per_minute: int = 120
    max_active_jobs: int = 100
    max_streams: int = 200
    heartbeat_seconds: int = 15

    @property
    def authenticates(self) -> bool:
        """Whether requests need a credential."""
        return self.tokens_file is not None or bool(self.jwt_issuer)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> ApiSettings:
        """Read the settings. A blank variable counts as unset.

        Raises:
            GraphConfigError: If a setting is invalid or incomplete.
        """
        environ = os.environ if environ is None else environ
        default = cls()

        def text(name: str) -> str:
            return environ.get(name, "").strip()

        jwt = {name: text(name) for name in ("ECO2_JWT_ISSUER", "ECO2_JWT_AUDIENCE", "ECO2_JWT_JWKS_URL")}
        if any(jwt.values()) and not all(jwt.values()):
            missing = " and ".join(name for name, value in jwt.items() if not value)
            raise GraphConfigError(f"{missing} is unset, wanted all of {', '.join(jwt)}; set it or unset the others.")
        tokens = text("ECO2_API_TOKENS_FILE")
        if tokens and not Path(tokens).is_file():
            raise GraphConfigError(
                f"ECO2_API_TOKENS_FILE is {tokens!r}, wanted an existing file; correct it or unset it."
            )
        return cls(
            tokens_file=Path(tokens) if tokens else None,
            jwt_issuer=jwt["ECO2_JWT_ISSUER"],
            jwt_audience=jwt["ECO2_JWT_AUDIENCE"],
            jwt_jwks_url=jwt["ECO2_JWT_JWKS_URL"],
            jwt_tenant_claim=text("ECO2_JWT_TENANT_CLAIM") or default.jwt_tenant_claim,
            requests_per_minute=whole_number(
                environ, "ECO2_TENANT_REQUESTS_PER_MINUTE", default.requests_per_minute, range(1, 1_000_001)
            ),
            max_active_jobs=whole_number(environ, "ECO2_TENANT_MAX_JOBS", default.max_active_jobs, range(1, 100_001)),
            max_streams=whole_number(environ, "ECO2_TENANT_MAX_STREAMS", default.max_streams, range(1, 100_001)),
            heartbeat_seconds=whole_number(environ, "ECO2_HEARTBEAT_SECONDS", default.heartbeat_seconds, range(1, 301)),
        )

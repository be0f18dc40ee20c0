"""Who is asking: bearer tokens from a file, or JWTs. Tenant and user come from the credential only.

The token file is TOML. It holds hashes, so that it is no secret by itself::

    [[token]]
    sha256 = "..."          # printf %s TOKEN | sha256sum
    tenant_id = "acme"
    user_id = "alice"       # may be left out
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import jwt
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from graph.api.problems import ProblemError
from graph.api.settings import ApiSettings
from graph.errors import GraphConfigError
from graph.jobs import Identifier, UserId

__all__ = ["Anonymous", "Authenticator", "Caller", "make_authenticator"]

# Only signatures with a public key: the server holds no key to sign with.
_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"]
_LEEWAY_SECONDS = 30
_JWKS_TIMEOUT_SECONDS = 5
_TENANT_ID, _USER_ID = TypeAdapter(Identifier), TypeAdapter(UserId)

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is asking. Without authentication both are empty."""

    tenant_id: str = ""
    user_id: str = ""


class Authenticator(Protocol):
    """Turns a bearer token into its caller."""

    async def caller(self, token: str | None) -> Caller:
        """Return who is asking.

        Raises:
            ProblemError: 401 if the token is missing or invalid.
        """


class Anonymous:
    """Lets everybody in: for the loopback only."""

    async def caller(self, token: str | None) -> Caller:
        """Return the caller without a name."""
        del token
        return Caller()


class _Token(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    tenant_id: Identifier
    user_id: UserId | None = None


class _TokenFile(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    token: list[_Token] = Field(min_length=1)


class Tokens:
    """Accepts the tokens of a file.

    Args:
        path: The file.

    Raises:
        GraphConfigError: If it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        try:
            entries = _TokenFile.model_validate(tomllib.loads(path.read_text(encoding="utf-8"))).token
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, ValidationError) as error:
            reason = str(error).splitlines()[0]
            raise GraphConfigError(
                f"ECO2_API_TOKENS_FILE {str(path)!r} cannot be read ({reason}), wanted TOML with [[token]] tables of "
                "sha256, tenant_id and user_id; correct it."
            ) from error
        self._callers = {entry.sha256: Caller(entry.tenant_id, entry.user_id or "") for entry in entries}

    def find(self, token: str) -> Caller | None:
        """Return a token's caller; None if the file does not hold it."""
        digest = hashlib.sha256(token.encode()).hexdigest()
        # Compares the whole list: the time says nothing of a token.
        return next((caller for known, caller in self._callers.items() if hmac.compare_digest(known, digest)), None)


class Jwts:
    """Accepts JWTs of one issuer for one audience, signed with a key of its JWKS.

    Raises:
        GraphConfigError: If the address of the JWKS is none.
    """

    def __init__(self, settings: ApiSettings) -> None:
        self._settings = settings
        try:
            self._keys = jwt.PyJWKClient(settings.jwt_jwks_url, timeout=_JWKS_TIMEOUT_SECONDS, lifespan=300)
        except jwt.PyJWKClientError as error:
            raise GraphConfigError(
                f"ECO2_JWT_JWKS_URL is {settings.jwt_jwks_url!r}, wanted 'https://...' or 'http://...'; correct it."
            ) from error

    async def find(self, token: str) -> Caller | None:
        """Return a token's caller; None if it is not valid."""
        try:
            key = await asyncio.to_thread(self._keys.get_signing_key_from_jwt, token)
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=_ALGORITHMS,
                issuer=self._settings.jwt_issuer,
                audience=self._settings.jwt_audience,
                leeway=_LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
            tenant_id = _TENANT_ID.validate_python(claims.get(self._settings.jwt_tenant_claim))
            return Caller(tenant_id, _USER_ID.validate_python(claims["sub"]))
        # The last two: the answer holds no JSON, or no key.
        except (jwt.PyJWKClientConnectionError, jwt.PyJWKSetError, json.JSONDecodeError) as error:
            _logger.error("The keys of JWTs cannot be fetched: %s.", error)
            raise ProblemError(
                503, "The keys of tokens cannot be fetched now.", headers={"Retry-After": "5"}
            ) from error
        except (jwt.PyJWTError, ValidationError) as error:
            _logger.info("A JWT is refused: %s.", type(error).__name__)
            return None


class Bearer:
    """Accepts tokens of a file, JWTs, or both."""

    def __init__(self, tokens: Tokens | None, jwts: Jwts | None) -> None:
        self._tokens, self._jwts = tokens, jwts

    async def caller(self, token: str | None) -> Caller:
        """Return who is asking."""
        caller = None
        if token:
            caller = self._tokens.find(token) if self._tokens is not None else None
            if caller is None and self._jwts is not None and token.count(".") == 2:
                caller = await self._jwts.find(token)
        if caller is None:
            came = "The bearer token is not valid" if token else "No bearer token came"
            raise ProblemError(
                401,
                f"{came}; send 'Authorization: Bearer TOKEN'.",
                headers={"WWW-Authenticate": 'Bearer error="invalid_token"' if token else "Bearer"},
            )
        return caller


def make_authenticator(settings: ApiSettings) -> Authenticator:
    """Return the authenticator of the settings; everybody is let in if none is set.

    Raises:
        GraphConfigError: If the token file cannot be read, or the address of the JWKS is none.
    """
    if not settings.authenticates:
        return Anonymous()
    tokens = Tokens(settings.tokens_file) if settings.tokens_file is not None else None
    return Bearer(tokens, Jwts(settings) if settings.jwt_issuer else None)

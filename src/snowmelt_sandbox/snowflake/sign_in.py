"""Who may sign in, and by what: password, key pair, OAuth token or programmatic access token."""

import base64
import hashlib
import hmac
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from snowmelt_sandbox.snowflake.errors import SqlError

CONTROL_HEADER = "X-Snowmelt-Control"
"""Holds what only the owner of the server knows, who may load files and add users."""


@dataclass(frozen=True)
class User:
    """An account's user. What is None cannot be signed in by."""

    name: str
    password: str | None = None
    rsa_public_key: str | None = None
    """PEM text."""
    oauth_token: str | None = None
    expired_oauth_tokens: tuple[str, ...] = ()
    programmatic_access_token: str | None = None
    """Signs in by its own authenticator, and wherever a password does."""
    roles: tuple[str, ...] | None = None
    """Roles that may be named at sign-in; None allows any."""

    def fingerprint(self) -> str:
        """The public key's fingerprint as it stands in the issuer of a token."""
        key = load_pem_public_key((self.rsa_public_key or "").encode())
        der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return "SHA256:" + base64.b64encode(hashlib.sha256(der).digest()).decode()


class Users:
    """The users of one account."""

    def __init__(self, account: str, users: Iterable[User]) -> None:
        self._account = account.upper()
        self._users = {u.name.upper(): u for u in users}

    def put(self, user: User) -> None:
        """Add a user, or replace the one of that name."""
        self._users[user.name.upper()] = user

    def sign_in(self, login: dict[str, Any], role: str | None) -> User:
        """The user that a login request's data proves to be; Snowflake's own error otherwise."""
        authenticator = str(login.get("AUTHENTICATOR") or "SNOWFLAKE").upper()
        if authenticator == "SNOWFLAKE_JWT":
            user = self._by_key_pair(str(login.get("TOKEN") or ""))
        elif authenticator == "OAUTH":
            user = self._by_oauth_token(login)
        elif authenticator == "PROGRAMMATIC_ACCESS_TOKEN":
            user = self._by_programmatic_access_token(login)
        else:
            user = self._by_password(login)
        if role and user.roles is not None and role.upper() not in {r.upper() for r in user.roles}:
            raise SqlError(
                390189,
                "08004",
                f"Role '{role}' specified in the connect string does not exist or not authorized. "
                "Contact your local system administrator, or attempt to login with another role.",
            )
        return user

    def _by_password(self, login: dict[str, Any]) -> User:
        user = self._users.get(str(login.get("LOGIN_NAME") or "").upper())
        given = str(login.get("PASSWORD") or "")
        if user is not None and user.programmatic_access_token and _same(user.programmatic_access_token, given):
            return user
        if user is None or user.password is None or not _same(user.password, given):
            raise SqlError(390100, "08001", "Incorrect username or password was specified.")
        return user

    def _by_oauth_token(self, login: dict[str, Any]) -> User:
        given = str(login.get("TOKEN") or "")
        name = str(login.get("LOGIN_NAME") or "").upper()
        for user in self._users.values():
            if user.oauth_token and _same(user.oauth_token, given) and name in ("", user.name.upper()):
                return user
            if given in user.expired_oauth_tokens:
                raise SqlError(390318, "08001", f"OAuth access token expired. [{uuid.uuid4()}]")
        raise SqlError(390303, "08001", f"Invalid OAuth access token. [{uuid.uuid4()}]")

    def _by_programmatic_access_token(self, login: dict[str, Any]) -> User:
        user = self._users.get(str(login.get("LOGIN_NAME") or "").upper())
        token = user.programmatic_access_token if user else None
        if user is None or token is None or not _same(token, str(login.get("TOKEN") or "")):
            raise SqlError(394400, "08001", "Programmatic access token is invalid.")
        return user

    def _by_key_pair(self, token: str) -> User:
        refused = SqlError(390144, "08001", f"JWT token is invalid. [{uuid.uuid4()}]")
        try:
            claimed = jwt.decode(token, options={"verify_signature": False})
            user = self._users[str(claimed["sub"]).partition(".")[2]]
            if not user.rsa_public_key:
                raise refused
            claims = jwt.decode(
                token,
                user.rsa_public_key,
                algorithms=["RS256"],
                leeway=60,
                options={"require": ["iss", "sub", "iat", "exp"]},
            )
        except (jwt.PyJWTError, KeyError, ValueError) as error:
            raise refused from error
        subject = f"{self._account}.{user.name.upper()}"
        if claims["sub"] != subject or claims["iss"] != f"{subject}.{user.fingerprint()}":
            raise refused
        return user


def _same(expected: str, given: str) -> bool:
    return hmac.compare_digest(expected.encode(), given.encode())

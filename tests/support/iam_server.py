"""A PostgreSQL that signs its users in by IAM, as RDS does: a token in place of the password, over TLS alone."""

import hashlib
import hmac
import socket
import ssl
import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlsplit

from fault_injection.postgres_wire import error_response, framed, read_message, read_startup
from support.tls import TlsServer, join


class IamServer(TlsServer):
    """Takes a token only for its own endpoint and the user that signs in, signed by its key, and not yet expired."""

    def __init__(self, host: str, port: int, folder: Path, *, region: str, access_key: str, secret_key: str) -> None:
        super().__init__(host, port, folder)
        self._backend = (host, port)
        self._region = region
        self._access_key = access_key
        self._secret_key = secret_key
        self.now: Callable[[], datetime] = lambda: datetime.now(UTC)
        self.tokens: list[str] = []
        """Those that were given, whether they were taken or not."""
        self.refusals: list[str] = []
        """Why tokens were not taken, which no client is told."""

    def serve_encrypted(self, client: ssl.SSLSocket) -> None:
        """Ask for a token, and hand on what follows to a server that lets this machine in."""
        startup = read_startup(client)
        parts = startup[8:].split(b"\0")
        user = dict(zip(parts[::2], parts[1::2], strict=False))[b"user"].decode()
        client.sendall(framed("R", struct.pack("!i", 3)))
        kind, message = read_message(client)
        token = message[5:-1].decode()
        self.tokens.append(token)
        wrong = "no password" if kind != "p" else self._wrong_with(token, user)
        if wrong:
            self.refusals.append(wrong)
            client.sendall(error_response("FATAL", "28000", f'PAM authentication failed for user "{user}"'))
            return
        with socket.create_connection(self._backend) as server:
            server.sendall(startup)
            join(client, server)

    def _wrong_with(self, token: str, user: str) -> str | None:
        url = urlsplit(f"//{token}")
        given = dict(parse_qsl(url.query, keep_blank_values=True))
        if url.netloc != f"localhost:{self.port}":
            return f"it is for {url.netloc}"
        if (given.get("Action"), given.get("DBUser")) != ("connect", user):
            return f"it is for user {given.get('DBUser')}"
        signed_at = datetime.strptime(given["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        lives = timedelta(seconds=int(given["X-Amz-Expires"]))
        if lives != timedelta(minutes=15):
            return f"it lives for {lives}"
        if not signed_at - timedelta(minutes=5) <= self.now() < signed_at + lives:
            return "it has expired"
        scope = f"{signed_at:%Y%m%d}/{self._region}/rds-db/aws4_request"
        if given["X-Amz-Credential"] != f"{self._access_key}/{scope}":
            return f"it is of {given['X-Amz-Credential']}"
        if not hmac.compare_digest(self._signature(url.netloc, given, scope), given["X-Amz-Signature"]):
            return "its signature is wrong"
        return None

    def _signature(self, netloc: str, given: dict[str, str], scope: str) -> str:
        """Return the signature that AWS would make: version 4, of a GET of / without a body."""
        pairs = sorted((name, value) for name, value in given.items() if name != "X-Amz-Signature")
        query = "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in pairs)
        asked = "\n".join(["GET", "/", query, f"host:{netloc}", "", "host", hashlib.sha256(b"").hexdigest()])
        text = "\n".join(["AWS4-HMAC-SHA256", given["X-Amz-Date"], scope, hashlib.sha256(asked.encode()).hexdigest()])
        key = f"AWS4{self._secret_key}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        return hmac.digest(key, text.encode(), "sha256").hex()

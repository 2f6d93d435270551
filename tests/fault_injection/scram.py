"""Sign in to PostgreSQL by password, as a client does (SCRAM-SHA-256, RFC 5802 and 7677)."""

import base64
import hashlib
import hmac
import secrets
import socket
import struct

from fault_injection.postgres_wire import framed, read_message

_MECHANISM = b"SCRAM-SHA-256"
_HEADER = b"n,,"
"""No channel binding, and no other user than the one of the start-up message."""


def sign_in(server: socket.socket, password: str) -> None:
    """Answer the server's request for SASL, up to where it says whether that was right."""
    bare = b"n=,r=" + base64.b64encode(secrets.token_bytes(18))
    first = _HEADER + bare
    server.sendall(framed("p", _MECHANISM + b"\0" + struct.pack("!i", len(first)) + first))
    kind, answer = read_message(server)
    if kind == "R":
        server.sendall(framed("p", _proof(bare, answer[9:], password)))
        read_message(server)  # the server's own proof, of which a harness makes nothing


def _proof(bare: bytes, challenge: bytes, password: str) -> bytes:
    parts = dict(part.split(b"=", 1) for part in challenge.split(b","))
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(parts[b"s"]), int(parts[b"i"]))
    client_key = _hmac(salted, b"Client Key")
    final = b"c=" + base64.b64encode(_HEADER) + b",r=" + parts[b"r"]
    signature = _hmac(hashlib.sha256(client_key).digest(), b",".join((bare, challenge, final)))
    proof = bytes(one ^ other for one, other in zip(client_key, signature, strict=True))
    return final + b",p=" + base64.b64encode(proof)


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, hashlib.sha256).digest()

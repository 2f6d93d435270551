"""A way to a local PostgreSQL that speaks TLS, with a certificate of an authority of the test's own, as RDS does."""

import contextlib
import datetime
import ipaddress
import socket
import ssl
import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from fault_injection.listener import Listener
from fault_injection.proxy import read_exactly

SSL_REQUEST = bytes.fromhex("0000000804d2162f")


@dataclass(frozen=True)
class Authority:
    """An authority, and a certificate of a server that it has signed; PEM text all three."""

    root: str
    certificate: str
    key: str


@cache
def authority(name: str = "Snowmelt test", host: str = "localhost") -> Authority:
    """Return an authority of that name which has signed for a host, and for 127.0.0.1 where the host is localhost."""
    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    root = _certificate(root_name, root_name, root_key, root_key, x509.BasicConstraints(ca=True, path_length=0))
    names: list[x509.GeneralName] = [x509.DNSName(host)]
    if host == "localhost":
        names.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    server = _certificate(subject, root_name, key, root_key, x509.SubjectAlternativeName(names))
    pems = [each.public_bytes(Encoding.PEM).decode() for each in (root, server)]
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return Authority(root=pems[0], certificate=pems[1], key=secret)


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    signed_by: ec.EllipticCurvePrivateKey,
    extension: x509.ExtensionType,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    unsigned = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(extension, critical=False)
    )
    return unsigned.sign(signed_by, hashes.SHA256())


class TlsServer(Listener):
    """Listens on 127.0.0.1, speaks TLS with clients that ask for it, and hands on what they say to a PostgreSQL.

    A client that asks for no encryption is refused, as by a server with rds.force_ssl.
    """

    def __init__(self, host: str, port: int, folder: Path, signed: Authority | None = None) -> None:
        super().__init__()
        self._server = (host, port)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        signed = signed or authority()
        (folder / "server.pem").write_text(signed.certificate + signed.key)
        self._context.load_cert_chain(folder / "server.pem")
        self.encrypted = 0
        """How many sessions were encrypted."""

    def serve(self, client: socket.socket) -> None:
        """Encrypt what the client says, where it asks for that."""
        with contextlib.suppress(OSError, EOFError), client:
            if read_exactly(client, 8) != SSL_REQUEST:
                text = 'no pg_hba.conf entry for host "127.0.0.1", user "x", database "x", no encryption'
                body = f"SFATAL\0VFATAL\0C28000\0M{text}\0\0".encode()
                client.sendall(b"E" + (len(body) + 4).to_bytes(4, "big") + body)
                return
            client.sendall(b"S")
            with self._context.wrap_socket(client, server_side=True) as encrypted:
                self.encrypted += 1
                self.serve_encrypted(encrypted)

    def serve_encrypted(self, client: ssl.SSLSocket) -> None:
        """Hand on everything, both ways, until one end closes."""
        with socket.create_connection(self._server) as server:
            join(client, server)


def join(client: ssl.SSLSocket, server: socket.socket) -> None:
    """Pump between the two until one of them ends; a TLS socket is read by one thread and written by the other."""
    back = threading.Thread(target=_pump, args=(server, client), daemon=True)
    back.start()
    _pump(client, server)
    back.join(10)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(1 << 16):
            target.sendall(piece)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)

"""The certificate authorities that a server's certificate is checked by, as the file that libpq asks for."""

import atexit
import os
import re
import tempfile
from functools import cache
from pathlib import Path

from cryptography import x509

from snowmelt.errors import ConfigError

RDS = "rds"
"""What the config calls the roots of Amazon RDS and Aurora that the package carries."""
RDS_BUNDLE = Path(__file__).with_name("rds-global-bundle.pem")
_BEGIN = "-----BEGIN"
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", re.DOTALL)
_WHAT_IT_MAY_BE = "give the path of a PEM file, PEM text, rds, or system"


def file_of(sslrootcert: str | None) -> str | None:
    """Return what libpq takes for a config's ``sslrootcert``: a path, ``system``, or None for its own default.

    ``rds`` is the bundle of the package. PEM text is written into a file of this process alone, as libpq reads files
    only. It may have its line ends written out or lost, as secret stores hand it on. ConfigError where it holds no
    certificate.
    """
    if sslrootcert is None:
        return None
    if sslrootcert.strip().lower() == RDS:
        return str(RDS_BUNDLE)
    if _BEGIN in sslrootcert:
        return _file_with(_certificates(sslrootcert), os.getpid())
    return sslrootcert


def _certificates(text: str) -> str:
    """Return the certificates of a text in PEM's canonical lines, and nothing else that may stand beside them."""
    text = text.replace("\\r", "").replace("\\n", "\n")
    found = [_canonical("".join(body.split())) for body in _CERTIFICATE.findall(text)]
    try:
        for pem in found:
            x509.load_pem_x509_certificate(pem.encode())
    except ValueError:
        raise ConfigError(
            f"postgres.sslrootcert: certificate {found.index(pem) + 1} of its PEM text cannot be read; "
            f"{_WHAT_IT_MAY_BE}"
        ) from None
    if not found:
        raise ConfigError(f"postgres.sslrootcert: its PEM text holds no certificate; {_WHAT_IT_MAY_BE}")
    return "".join(found)


def _canonical(payload: str) -> str:
    lines = [payload[start : start + 64] for start in range(0, len(payload), 64)]
    return "\n".join(["-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""])


@cache
def _file_with(pem: str, process: int) -> str:
    """Return a file that nobody else can have written; it goes when the process that made it ends."""
    descriptor, path = tempfile.mkstemp(prefix="snowmelt-roots-", suffix=".pem")
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(pem)
    atexit.register(_remove, path, process)
    return path


def _remove(path: str, process: int) -> None:
    if os.getpid() == process:  # and not a child of it
        Path(path).unlink(missing_ok=True)

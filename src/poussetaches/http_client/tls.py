"""TLS for https: the authorities that are trusted, and the reasons of failed handshakes."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Mapping
from pathlib import Path

from poussetaches.http_client.errors import NO_TLS, NoAuthorities

# The variables of OpenSSL (SSL_CTX_set_default_verify_paths).
FILE = "SSL_CERT_FILE"
FOLDER = "SSL_CERT_DIR"

# Each OpenSSL knows one place only; that of a single-file executable is the one of the machine
# that it was built on.
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Alpine, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/ssl/cert.pem",  # macOS, FreeBSD
)
# Results of OpenSSL's verification (X509_STORE_CTX_get_error).
_CERTIFICATES = {
    9: "certificate not valid yet",
    10: "certificate expired",
    **dict.fromkeys(
        (2, 18, 19, 20, 21),
        f"no authority that the system or {FILE} trusts signed its certificate",
    ),
}
_WRONG_NAME = (62, 64)  # a name, an address
_NO_TLS = (
    "WRONG_VERSION_NUMBER",
    "HTTP_REQUEST",
    "PACKET_LENGTH_TOO_LONG",
    "RECORD_LAYER_FAILURE",
)
_OLD_TLS = ("UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION")


class TlsContext:
    """The TLS context of a client. The authorities are read in a thread, when first needed."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._environ = environ
        self._lock = asyncio.Lock()
        self._context: ssl.SSLContext | None = None

    async def get(self) -> ssl.SSLContext:
        """Return the context.

        Raises:
            NoAuthorities: none can be read. The next call tries again.
        """
        if self._context is None:
            async with self._lock:
                if self._context is None:
                    self._context = await asyncio.to_thread(make_context, self._environ)
        return self._context

    def problem(self) -> str | None:
        """Return why no https server can be verified; None if nothing is wrong."""
        file, folder = _authorities(self._environ)
        return None if folder is not None else file_problem(file)


def make_context(environ: Mapping[str, str]) -> ssl.SSLContext:
    """Return a TLS context for HTTP/1.1 that trusts the authorities of the system.

    A file and a folder in the environment replace these.

    Raises:
        NoAuthorities: none can be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    file, folder = _authorities(environ)
    problem = _load(context, file)
    if folder is not None:
        context.load_verify_locations(capath=folder)
    elif problem is not None:
        raise NoAuthorities(problem)
    return context


def file_problem(path: str | None) -> str | None:
    """Return why no authorities can be read from a file; None if they can."""
    return _load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), path)


def handshake_error(exc: OSError, *, host: str) -> str:
    """Return the reason of a failed handshake in plain words."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        if exc.verify_code in _WRONG_NAME:
            return f'certificate not valid for name "{host}"'
        return _CERTIFICATES.get(exc.verify_code, exc.verify_message)
    if isinstance(exc, ssl.SSLError) and exc.reason:
        if exc.reason in _NO_TLS:
            return NO_TLS
        if exc.reason in _OLD_TLS:
            return "the server has no TLS 1.2 or newer"
        return exc.reason.lower().replace("_", " ")
    return "the server closed the connection during the handshake"


def _authorities(environ: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Return the file and the folder of the authorities; None for a folder without files."""
    file, folder = environ.get(FILE), environ.get(FOLDER)
    if file is None and folder is None:
        paths = ssl.get_default_verify_paths()
        candidates = (paths.cafile, *_BUNDLES)
        file = next((path for path in candidates if path and Path(path).is_file()), None)
        folder = paths.capath
    return file, folder if folder is not None and _has_files(folder) else None


def _has_files(folder: str) -> bool:
    try:
        return any(Path(folder).iterdir())
    except OSError:
        return False


def _load(context: ssl.SSLContext, path: str | None) -> str | None:
    """Load the authorities of a file; return why that is not possible."""
    if path is None:
        return "there is no file of certificates"
    try:
        context.load_verify_locations(cafile=path)
    except ssl.SSLError:
        return f"{path} contains no PEM certificate"
    except OSError as exc:
        return f"{path}: {exc.strerror or exc}"
    return None

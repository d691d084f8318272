"""The audit repository (ITI-20): DICOM audit messages by syslog over TLS (RFC 5425), or over UDP (RFC 5426) where a site has nothing else.

Syslog has no acknowledgement. So each group of messages has a TLS session of its own, which is closed in order (RFC 5425 section 4.4): the repository
closes its side when it has read all before, and only then the group counts as sent. One that goes away earlier gets the whole group again.
"""

import contextlib
import socket
import ssl
import struct
import time
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from ihe import syslog
from server import bcp195
from server.errors import Unavailable
from server.settings import Settings

_TLS_PORT: Final = 6514
_UDP_PORT: Final = 514
_SECONDS: Final = 20.0
_LAST_CALL: Final = 2.0
_CLOSED: Final = 7
"""TCP_CLOSE of Linux's tcp_states.h."""
_BREATH: Final = 0.005
_LONGEST_DATAGRAM: Final = 65_000
"""Bytes; what is longer is cut, as RFC 5426 section 3.2 lets networks do."""


class AuditRepository:
    """Sends to `audit_repository`. Raises `SettingsError` for files that are none."""

    def __init__(self, settings: Settings) -> None:
        parts = urlsplit(settings.audit_repository)
        self._host, self._secure = parts.hostname or "", parts.scheme == "syslog-tls"
        self._port = parts.port or (_TLS_PORT if self._secure else _UDP_PORT)
        self._tls = _context(settings) if self._secure else None
        self._in_order = False
        """Whether it has ever closed a session as RFC 5425 has it."""

    def send(self, messages: Sequence[bytes]) -> None:
        """Returns when the repository has read them all; over UDP when they are on their way. Raises `Unavailable`."""
        try:
            if self._tls is None:
                self._send_datagrams(messages)
            else:
                self._send_stream(self._tls, messages)
        except OSError as error:
            raise Unavailable(f"the audit repository does not take what is sent to it: {_why(error)}") from error

    def _send_stream(self, tls: ssl.SSLContext, messages: Sequence[bytes]) -> None:
        with socket.create_connection((self._host, self._port), _SECONDS) as plain:
            session = _Session(plain, tls, self._host)
            for message in messages:
                session.send(syslog.frame(message))
            if session.close():
                self._in_order = True
            elif self._in_order:
                raise ConnectionResetError("the other side did not close as it did before")
            _require_read(plain)

    def _send_datagrams(self, messages: Sequence[bytes]) -> None:
        family, kind, protocol, _, address = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as channel:
            for message in messages:
                channel.sendto(message[:_LONGEST_DATAGRAM], address)


class _Session:
    """TLS over a connected socket. `ssl.SSLSocket.unwrap` takes a refusal that it meets while it closes for a good end, so this closes itself.

    With TLS 1.3 that is when a client learns that its certificate is not taken. Methods raise `OSError`.
    """

    def __init__(self, plain: socket.socket, tls: ssl.SSLContext, host: str) -> None:
        self._plain, self._incoming, self._outgoing = plain, ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = tls.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._receive()
            finally:
                self._flush()

    def send(self, data: bytes) -> None:
        self._tls.write(data)
        self._flush()

    def close(self) -> bool:
        """RFC 5425 section 4.4: our close, then the other side's. False where the connection ended without it."""
        if self._read():  # also so that nothing is left for the next step to meet
            raise ConnectionResetError("the other side closed before everything was sent")
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.unwrap()
        self._flush()
        try:
            while not self._read():
                self._receive()
        except ssl.SSLEOFError:
            return False
        return True

    def _read(self) -> bool:
        """Whether the other side has closed, by what was received. What it says besides is of no interest."""
        try:
            while self._tls.read(4096):
                pass
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLZeroReturnError:
            pass
        return True

    def _receive(self) -> None:
        self._flush()
        if data := self._plain.recv(65_536):
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def _flush(self) -> None:
        if data := self._outgoing.read():
            self._plain.sendall(data)


def _require_read(channel: socket.socket) -> None:
    """Waits for the end of the connection: of one that is closed with something unread that is a reset. And until every byte is acknowledged.

    The latter on Linux only; elsewhere the end is believed. Raises `OSError`.
    """
    channel.settimeout(_LAST_CALL)
    with contextlib.suppress(TimeoutError):  # it has answered our close, and leaves the connection to us
        while channel.recv(65_536):
            pass
    until = time.monotonic() + _SECONDS
    while hasattr(socket, "TCP_INFO"):
        state, unacknowledged = struct.unpack_from("B23xI", channel.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 28))
        if state == _CLOSED or time.monotonic() > until:
            raise ConnectionResetError("the other side was gone before it had read everything")
        if not unacknowledged:
            return
        time.sleep(_BREATH)


def _why(error: OSError) -> str:
    """In words for the administrator, who reads them in the log."""
    match error:
        case ssl.SSLCertVerificationError():
            return "its certificate is not one that is trusted here, or not for its host"
        case ssl.SSLError():
            return "no TLS connection: it does not take this server's certificate, or speaks no TLS"
        case socket.gaierror():
            return "there is no such host"
        case TimeoutError():
            return "it does not answer in time"
    return (error.strerror or str(error) or "the connection broke").lower()


def _context(settings: Settings) -> ssl.SSLContext:
    own = settings.audit_repository_certificate is not None
    return bcp195.client_context(
        "bcp195",
        settings.audit_repository_ca,
        settings.audit_repository_certificate if own else settings.http_tls_certificate,
        settings.audit_repository_key if own else settings.http_tls_key,
        verify_name=settings.audit_repository_verify_name,
        named=bcp195.Named("audit_repository_" if own else "http_tls_", "audit_repository_"),
    )

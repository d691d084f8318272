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
from server.errors import SettingsError, Unavailable
from server.settings import Settings

_TLS_PORT: Final = 6514
_UDP_PORT: Final = 514
_SECONDS: Final = 20.0
_CLOSED: Final = 7
"""TCP_CLOSE of Linux's tcp_states.h."""
_BREATH: Final = 0.005
_LONGEST_DATAGRAM: Final = 65_000
"""Bytes; what is longer is cut, as RFC 5426 section 3.2 lets networks do."""


class AuditRepository:
    """Sends to `audit_repository`. Raises `SettingsError` for files that are none."""

    def __init__(self, settings: Settings) -> None:
        try:
            parts = urlsplit(settings.audit_repository)
            self._host, self._secure = parts.hostname or "", parts.scheme == "syslog-tls"
            self._port = parts.port or (_TLS_PORT if self._secure else _UDP_PORT)
        except ValueError:
            raise SettingsError("audit_repository has a port that is none") from None
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
            raise Unavailable(f"the audit repository does not take what is sent to it: {type(error).__name__}") from error

    def _send_stream(self, tls: ssl.SSLContext, messages: Sequence[bytes]) -> None:
        with contextlib.ExitStack() as stack:
            plain = stack.enter_context(socket.create_connection((self._host, self._port), _SECONDS))
            channel = stack.enter_context(tls.wrap_socket(plain, server_hostname=self._host))
            for message in messages:
                channel.sendall(syslog.frame(message))
            self._close(channel)

    def _close(self, channel: ssl.SSLSocket) -> None:
        """RFC 5425 section 4.4: our close, then the other side's. Many, rsyslog among them, answer with the end of the connection alone.

        That counts if it came after all that we sent, and of one that has never closed in order: whoever is killed leaves the same.
        Raises `OSError`.
        """
        try:
            channel.unwrap()
        except OSError as error:
            if not isinstance(error, ssl.SSLEOFError) and error.errno != 0:  # Python has EOF of a shutdown in either form
                raise
            if self._in_order:
                raise ConnectionResetError("the other side did not close as it did before") from None
            _require_acknowledged(channel)
        else:
            self._in_order = True

    def _send_datagrams(self, messages: Sequence[bytes]) -> None:
        family, kind, protocol, _, address = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as channel:
            for message in messages:
                channel.sendto(message[:_LONGEST_DATAGRAM], address)


def _require_acknowledged(channel: socket.socket) -> None:
    """Waits until the other machine has acknowledged every byte, or has reset the connection. Linux only; elsewhere it believes the end."""
    until = time.monotonic() + _SECONDS
    while hasattr(socket, "TCP_INFO"):
        state, unacknowledged = struct.unpack_from("B23xI", channel.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 28))
        if state == _CLOSED or time.monotonic() > until:
            raise ConnectionResetError("the other side was gone before it had read everything")
        if not unacknowledged:
            return
        time.sleep(_BREATH)


def _context(settings: Settings) -> ssl.SSLContext:
    own = settings.audit_repository_certificate is not None
    return bcp195.client_context(
        "bcp195",
        settings.audit_repository_ca,
        settings.audit_repository_certificate if own else settings.http_tls_certificate,
        settings.audit_repository_key if own else settings.http_tls_key,
        verify_name=settings.audit_repository_verify_name,
    )

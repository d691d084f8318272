"""Upgrades of HTTP/1.1 that are not wanted here, of which httptools makes requests without a body."""

from typing import Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_FRAMING: Final = (b"content-length", b"transfer-encoding")


class IgnoringUpgrades(HttpToolsProtocol):
    """RFC 9110 section 7.8: an Upgrade to anything but WebSocket is ignored, and its request read as any other.

    Java's HTTP client, and so Apache CXF, asks for HTTP/2 (h2c) with each first request on a connection without TLS. httptools takes the end of
    that request's head for its whole end, so its body goes to a parser that is told again how the body is framed, and nothing else.
    """

    _goes_on = False

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            self._feed(data)
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")

    def on_headers_complete(self) -> None:
        if not self._goes_on:
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def _feed(self, data: bytes) -> None:
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                if self._should_upgrade():
                    self.handle_websocket_upgrade()
                    return
                data = data[upgrade.args[0] :]
                self._go_on()
            else:
                return

    def _go_on(self) -> None:
        """Readies a new parser for the body of the request whose head is read."""
        framing = b"".join(b"%s: %s\r\n" % header for header in self.headers if header[0] in _FRAMING)
        self.parser = httptools.HttpRequestParser(self)
        self._goes_on = True
        self.parser.feed_data(b"POST / HTTP/1.1\r\n%s\r\n" % framing)
        self._goes_on = False

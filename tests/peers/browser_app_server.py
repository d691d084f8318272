"""A small app of others on an origin of its own: static pages and fhirclient.js as its authors publish it for browsers."""

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from peers import node_clients

_PAGES: Final = Path(__file__).parent / "browser_app"
_SCRIPT: Final = "/fhir-client.js"


class _Handler(SimpleHTTPRequestHandler):
    def __init__(self, *given: Any, script: bytes, **more: Any) -> None:
        self._script = script
        super().__init__(*given, directory=str(_PAGES), **more)

    def do_GET(self) -> None:
        if self.path != _SCRIPT:
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/javascript; charset=utf-8")
        self.send_header("Content-Length", str(len(self._script)))
        self.end_headers()
        self.wfile.write(self._script)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def app() -> Iterator[str]:
    """Its origin; `/launch.html` begins, `/index.html` ends with what it sees as JSON in `#told`. Raises `NoNode`."""
    script = node_clients.file("fhirclient/build/fhir-client.min.js").encode()
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, script=script))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://localhost:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

"""The style sheets, the icon and the scripts of the pages, read once. Their addresses change with their content."""

import functools
import gzip
import hashlib
from pathlib import Path
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from server.edges.context import request_id

_FOLDER: Final = Path(__file__).parent / "static"
_TYPES: Final = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
_CONTENT: Final = {file.name: file.read_bytes() for file in sorted(_FOLDER.iterdir()) if file.suffix in _TYPES}
_WORTH_PACKING: Final = 4096
PATH: Final = "/assets/{digest}/{name}"


def address(name: str) -> str:
    """The path of an asset, below the server's own."""
    return PATH.format(digest=_digest(_CONTENT[name]), name=name)


def content(name: str) -> bytes:
    """What an asset is, to be taken along."""
    return _CONTENT[name]


def asset(request: Request) -> Response:
    """The same for everybody, for as long as it is what the address says. Raises `HTTPException`."""
    name, digest = request.path_params["name"], request.path_params["digest"]
    content = _CONTENT.get(name)
    if content is None or digest != _digest(content):
        raise HTTPException(404)
    headers = {
        "Cache-Control": "public, max-age=31536000, immutable",
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
        "Content-Type": _TYPES[Path(name).suffix],
        "X-Content-Type-Options": "nosniff",
        "X-Request-Id": request_id(request),
    }
    if len(content) >= _WORTH_PACKING:
        headers["Vary"] = "Accept-Encoding"
        if "gzip" in request.headers.get("accept-encoding", ""):
            headers["Content-Encoding"] = "gzip"
            content = _packed(name)
    return Response(content, headers=headers)


@functools.cache
def _packed(name: str) -> bytes:
    """RFC 1952: what is large, packed when it is first asked for."""
    return gzip.compress(_CONTENT[name], 9, mtime=0)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]

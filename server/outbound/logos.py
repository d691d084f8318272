"""Pictures of apps, fetched from where their makers say (RFC 7591, `logo_uri`), so that no browser of a person calls a stranger.

Each is fetched once in a while, whatever its sender says of keeping, and is what its first bytes say that it is: never SVG, which is a program.
"""

import threading
import time
from dataclasses import dataclass, field
from typing import Final

from server.errors import ImageShareError
from server.outbound.web import Web

_MOST_BYTES: Final = 200_000
_SECONDS: Final = 5.0
_KEPT_SECONDS: Final = 3600.0
_FAILED_SECONDS: Final = 600.0
_KEPT: Final = 64
_BEGINS: Final = ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"))


@dataclass(frozen=True, slots=True)
class Picture:
    """Bytes of PNG, JPEG or WebP, and the media type that they are of."""

    media_type: str
    content: bytes = field(repr=False)


class Logos:
    """The pictures of one process. `strangers` is for apps that registered themselves."""

    def __init__(self, web: Web, strangers: Web) -> None:
        self._web = {False: web, True: strangers}
        self._kept: dict[tuple[str, bool], tuple[float, Picture | None]] = {}
        self._lock = threading.Lock()

    def is_missing(self, url: str, *, of_stranger: bool = False) -> bool:
        """Whether it is known that there is none, without asking."""
        kept = self._kept.get((url, of_stranger))
        return kept is not None and kept[1] is None and kept[0] > time.monotonic()

    def picture(self, url: str, *, of_stranger: bool = False) -> Picture | None:
        """What is at `url`; None where there is no picture that is shown, or none can be had just now."""
        kept, web = self._kept.get((url, of_stranger)), self._web[of_stranger]
        if kept is not None and kept[0] > time.monotonic():
            return kept[1]
        try:
            answer = web.fetch_cached(url, limit=_MOST_BYTES, seconds=_SECONDS, accept="image/png, image/webp, image/jpeg")
            found = picture_of(answer.body)
        except ImageShareError:
            found = None
        until = time.monotonic() + (_FAILED_SECONDS if found is None else _KEPT_SECONDS)
        with self._lock:
            if len(self._kept) >= _KEPT:
                self._kept.clear()
            self._kept[url, of_stranger] = until, found
        return found


def picture_of(content: bytes) -> Picture | None:
    """Content that begins as PNG (its section 5.2), JPEG (ISO 10918-1 annex B) or WebP (RFC 9649 section 2.4); None for all else."""
    for begin, media_type in _BEGINS:
        if content.startswith(begin):
            return Picture(media_type, content)
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return Picture("image/webp", content)
    return None

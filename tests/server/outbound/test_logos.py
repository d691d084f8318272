"""Pictures of apps: what is shown, what is not, and how often their makers are called."""

import socket
from collections.abc import Callable

import pytest
from peers.listener import answer, listening

from server.outbound.logos import Logos, picture_of
from server.outbound.web import Web
from server.settings import Settings

PNG = b"\x89PNG\r\n\x1a\n" + b"x" * 100
JPEG = b"\xff\xd8\xff\xe0" + b"x" * 100
WEBP = b"RIFF\x00\x01\x00\x00WEBPVP8 " + b"x" * 100
SVG = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"


def _logos(*hosts: str) -> Logos:
    settings = Settings(fetch_allowed_hosts=frozenset(hosts))
    return Logos(Web(settings), Web(settings, for_strangers=True))


@pytest.mark.parametrize(("content", "media_type"), [(PNG, "image/png"), (JPEG, "image/jpeg"), (WEBP, "image/webp")])
@pytest.mark.parametrize("said", ["image/png", "text/html", "image/svg+xml"])
def test_a_picture_is_what_it_begins_as_whatever_is_said(content: bytes, media_type: str, said: str) -> None:
    with listening(answer(content, f"Content-Type: {said}", "Cache-Control: no-store")) as maker:
        logos = _logos("127.0.0.1")
        for _ in range(3):
            found = logos.picture(f"http://127.0.0.1:{maker.port}/logo")
            assert found is not None
            assert (found.media_type, found.content) == (media_type, content)
    assert maker.connections == 1, "once in a while, also where nothing is to be kept"


@pytest.mark.parametrize(
    "respond",
    [
        answer(SVG, "Content-Type: image/png"),
        answer(b"<html>", "Content-Type: image/png"),
        answer(b"GIF89a" + b"x" * 100),
        answer(b""),
        answer(PNG + b"x" * 200_000),
        answer(PNG, status="404 Not Found"),
        answer(b"", "Location: https://elsewhere.example.org/logo.png", status="302 Found"),
        answer(PNG, "Content-Encoding: gzip"),
        None,
    ],
)
def test_what_is_no_picture_is_none_and_not_asked_for_again(respond: Callable[[socket.socket], None] | None) -> None:
    with listening(respond) as maker:
        logos, url = _logos("127.0.0.1"), f"http://127.0.0.1:{maker.port}/logo"
        assert not logos.is_missing(url)
        assert [logos.picture(url) for _ in range(3)] == [None] * 3
        assert logos.is_missing(url)
    assert maker.connections == 1


def test_nobody_is_called_who_is_not_public() -> None:
    with listening(answer(PNG)) as canary:
        logos = _logos()
        for url in (f"https://127.0.0.1:{canary.port}/", f"http://127.0.0.1:{canary.port}/", f"https://[::ffff:127.0.0.1]:{canary.port}/", "data:image/png;base64,x", "file:///etc/passwd"):  # fmt: skip
            assert logos.picture(url) is None, url
    assert canary.connections == 0


def test_pieces_of_pictures_are_none() -> None:
    for content in (b"", b"\x89PNG", b"RIFF", b"RIFF____WAVE", b" " + PNG, b"\xff\xd8"):
        assert picture_of(content) is None

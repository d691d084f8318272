"""The picture of an app on the page that asks for consent: from our own origin, or its first letter."""

from collections.abc import Iterator

import pytest
from peers.listener import Listener, answer, listening
from peers.smart_site import BACK, SCOPE
from peers.visitor import Pages, pages

from server.access.oauth import clients
from server.access.oauth.clients import Client

PNG = b"\x89PNG\r\n\x1a\n" + b"x" * 100


@pytest.fixture
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Pages, Listener]]:
    with listening(answer(PNG, "Content-Type: text/html")) as maker, pages(tmp_path_factory.mktemp("site"), fetch_allowed_hosts=["127.0.0.1"]) as town:  # fmt: skip
        site = town.site
        with site.node.database.write() as connection:
            for id_, path in (("drawn", "logo"), ("broken", "..")):
                uri = f"http://127.0.0.1:{maker.port if id_ == 'drawn' else 1}/{path}"
                clients.add(connection, Client(id_, f"The {id_} app", "public", redirect_uris=(BACK,), scope=SCOPE, logo_uri=uri), ["127.0.0.1"])  # fmt: skip
        yield town, maker


def test_it_is_fetched_once_by_us_and_served_from_here(made: tuple[Pages, Listener]) -> None:
    town, maker = made
    for _ in range(2):
        visitor = town.signed_in(
            "patient", town.site.authorize(town.site.asking("drawn")).headers["location"].removeprefix(town.site.base)
        )
        (source,) = visitor.tree.xpath("//div[@class='tile']/img/@src")
        assert source == "/logos/drawn"
        picture = visitor.http.get(source)
        assert (picture.status_code, picture.headers["content-type"], picture.content) == (200, "image/png", PNG)
        assert picture.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in picture.headers["content-security-policy"]
    assert maker.connections == 1


def test_nobody_has_us_fetch_it_without_signing_in(made: tuple[Pages, Listener]) -> None:
    town, maker = made
    assert town.visitor().http.get("/logos/drawn").status_code == 303
    assert maker.connections == 0


def test_an_app_without_a_picture_has_its_letter(made: tuple[Pages, Listener]) -> None:
    town, _ = made
    visitor = town.signed_in("patient", "/account")
    for id_ in ("public", "broken", "nobody", "..%2F..%2Fetc"):
        assert visitor.http.get(f"/logos/{id_}").status_code == 404, id_
    for id_ in ("public", "broken"):
        visitor.get(town.site.authorize(town.site.asking(id_)).headers["location"].removeprefix(town.site.base))
        assert visitor.tree.xpath("//div[@class='tile']/img") == [], id_
        assert visitor.tree.xpath("//div[@class='tile']")[0].text_content() in ("A", "T")

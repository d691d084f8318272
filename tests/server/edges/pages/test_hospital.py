"""Signing in through a hospital: npm's oidc-provider over a real socket, and our pages."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

import pytest
from httpx2 import Response
from peers import node_clients
from peers.hospital import came_back
from peers.visitor import Pages, Visitor, pages

from server.store.db import micros
from server.store.tables import Session

pytestmark = pytest.mark.peers
_PUBLIC: Final = "http://127.0.0.1:9"
_PATH: Final = "/sign-in/hospital/general/back"
_BACK: Final = _PUBLIC + _PATH
_SECRET: Final = "s cr%t+/="


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    try:
        with node_clients.running("oidc-provider.mjs", "images", _SECRET, _BACK) as told:
            yield told["issuer"]
    except node_clients.NoNode as reason:
        pytest.skip(str(reason))


@pytest.fixture
def town(tmp_path: Path, provider: str) -> Iterator[Pages]:
    general = {"id": "general", "title": "General Hospital", "client_id": "images", "client_secret": _SECRET, "issuer": provider}
    with pages(tmp_path, public_url=_PUBLIC, fetch_allowed_hosts=["127.0.0.1"], hospital_sign_in=[general]) as opened:
        yield opened


def _returns(visitor: Visitor, url: str, name: str = "anna") -> Response:
    """The browser comes back from the hospital, where the person has signed in."""
    return visitor.get(_PATH, **dict(came_back(url, _BACK, name)))


def _goes(visitor: Visitor, goes_to: str = "/account/apps") -> str:
    visitor.get("/sign-in", next=goes_to)
    link = next(each for each in visitor.tree.xpath("//a") if "Sign in through General Hospital" in each.text_content())
    return str(visitor.http.get(link.get("href")).headers["location"])


def test_an_account_is_connected_and_signed_in_to(town: Pages, provider: str) -> None:
    stranger = town.visitor()
    assert _returns(stranger, _goes(stranger)).status_code == 403
    assert "no account here is connected with it" in stranger.text
    visitor = town.signed_in("patient")
    visitor.press("Connect General Hospital")
    assert visitor.onward.startswith(provider)
    _returns(visitor, visitor.onward)
    assert "You can sign in through the hospital from now on" in visitor.text
    again = town.visitor()
    _returns(again, _goes(again))
    assert again.page.url.path == "/account/apps"
    again.get("/account")
    assert "by your hospital" in again.text
    again.press("Remove")
    assert "Not connected any more" in again.text
    late = town.visitor()
    assert _returns(late, _goes(late)).status_code == 403


def test_who_comes_back_without_having_gone_is_refused(town: Pages) -> None:
    """Abuse case 23: somebody else's way back, as a link that signs in as another."""
    attacker, victim = town.visitor(), town.signed_in("patient")
    parameters = dict(came_back(_goes(attacker), _BACK))
    before = town.site.node.people.sessions.of(town.site.people["patient"].id)
    assert victim.get(_PATH, **parameters).status_code == 401
    assert "Signing in at your hospital did not work" in victim.text
    assert town.site.node.people.sessions.of(town.site.people["patient"].id) == before


def test_a_way_back_is_for_what_it_was_begun_for(town: Pages) -> None:
    """What was begun to sign in connects no account, and what was begun in one session none of another."""
    visitor = town.signed_in("patient")
    visitor.press("Connect General Hospital")
    parameters = dict(came_back(visitor.onward, _BACK))
    visitor.get("/sign-in", again="yes")
    visitor.sign_in("other@example.org")
    assert visitor.get(_PATH, **parameters).status_code == 401
    assert town.site.node.hospital.linked(town.site.people["other"].id) == ()
    assert town.site.node.hospital.linked(town.site.people["patient"].id) == ()


def test_connecting_takes_a_fresh_sign_in(town: Pages) -> None:
    visitor = town.signed_in("patient")
    with town.site.node.database.write() as connection:
        connection.execute(Session.__table__.update().values(authenticated=0))  # type: ignore[attr-defined]
    visitor.press("Connect General Hospital")
    assert visitor.page.url.path == "/sign-in"
    assert "Sign in again" in visitor.text


def test_who_signs_in_again_through_the_hospital_proves_it_there(town: Pages) -> None:
    """That the hospital still knows the browser would make whoever sits before an open one fresh."""
    visitor = town.signed_in("patient")
    visitor.press("Connect General Hospital")
    asked = parse_qs(urlsplit(visitor.onward).query)
    assert (asked["prompt"], asked["max_age"]) == (["login"], ["0"])
    _returns(visitor, visitor.onward)
    visitor.get("/sign-in", again="yes")
    link = next(each for each in visitor.tree.xpath("//a") if "Sign in through General Hospital" in each.text_content())
    url = str(visitor.http.get(link.get("href")).headers["location"])
    assert (parse_qs(urlsplit(url).query)["prompt"], parse_qs(urlsplit(url).query)["max_age"]) == (["login"], ["0"])
    with town.site.node.database.write() as connection:
        connection.execute(Session.__table__.update().values(authenticated=0))  # type: ignore[attr-defined]
    _returns(visitor, url)
    (session,) = town.site.node.people.sessions.of(town.site.people["patient"].id)
    assert session.is_fresh(micros())

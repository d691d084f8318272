"""What takes more than the password: the first passkey, and, where there is a passkey, to allow an app."""

from collections.abc import Iterator

import pytest
from peers.people import Key
from peers.visitor import Pages, Visitor, pages

from server.access.people import passkeys
from server.access.people.accounts import verified
from server.errors import StepUpNeeded
from server.store.db import micros


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    with pages(tmp_path_factory.mktemp("site"), help_text="Call 0123 45 67 89") as opened:
        yield opened


def _key(town: Pages) -> Key:
    return Key(origin=town.site.base.replace("127.0.0.1", "localhost"), host="localhost")


def _protect(town: Pages, who: str) -> None:
    people = town.site.node.people
    session, _ = people.sessions.open(town.site.people[who], ("code",), 1)
    people.passkeys.finish(session, _key(town).create(people.passkeys.begin(session)))


def _at_app(town: Pages, who: str) -> Visitor:
    visitor = town.signed_in(who)
    visitor.get("/oauth/authorize", **town.site.asking("public", "patient/*.rs offline_access"))
    return visitor


def test_a_password_alone_gives_no_app_what_a_passkey_protects(place: Pages) -> None:
    before = _at_app(place, "other")
    _protect(place, "other")
    before.press("Allow")
    assert (before.page.url.path, before.onward) == ("/sign-in", "")
    visitor = _at_app(place, "other")
    assert visitor.page.url.path == "/sign-in"
    assert "Sign in again" in visitor.text
    assert visitor.page.url.params["next"].startswith("/authorize/")


def test_it_is_refused_whoever_asks_and_the_request_still_waits(place: Pages) -> None:
    site = place.site
    asking = site.authorize(site.asking("public", "patient/*.rs"))
    _protect(place, "other")
    with pytest.raises(StepUpNeeded):
        site.agree(asking, "other", session=site.session("other"), patient=site.patients["B"])
    strong, _ = site.node.people.sessions.open(site.people["other"], ("passkey",), 2)
    assert "code" in site.agree(asking, "other", session=strong, patient=site.patients["B"])


def test_the_first_passkey_of_an_address_that_is_read_takes_a_code_that_is_sent_there(place: Pages) -> None:
    account, people = place.site.people["other"], place.site.node.people
    with place.site.node.database.write() as connection:
        verified(connection, account.id, micros())
    visitor = place.signed_in("other")
    form = {"csrf": visitor.tree.xpath("//input[@name='csrf']/@value")[0]}
    answer = visitor.http.post("/account/passkeys/options", data=form, headers={"Origin": place.site.base})
    assert answer.status_code == 403
    visitor.get(answer.json()["location"])
    assert "First we send you a code" in visitor.text
    visitor.press("Send me the code")
    visitor.press("Sign in", code=place.code())
    assert visitor.page.url.path == "/account"
    form = {"csrf": visitor.tree.xpath("//input[@name='csrf']/@value")[0]}
    answer = visitor.http.post("/account/passkeys/options", data=form, headers={"Origin": place.site.base})
    assert "challenge" in answer.json()
    session = people.sessions.find(visitor.http.cookies["imageshare-session"])
    assert session is not None
    people.passkeys.finish(session, _key(place).create(answer.json()))
    letter = place.letter()
    assert "A passkey was added" in letter
    assert letter.endswith("\n-- \nRiverside Hospital\nCall 0123 45 67 89\n")
    with place.site.node.database.read() as connection:
        assert passkeys.has_any(connection, account.id)


def test_who_helps_stands_on_every_page(place: Pages) -> None:
    visitor = place.visitor()
    for path in ("/sign-in", "/recover", "/nowhere", "/sign-in/hospital/none"):
        visitor.page = visitor.http.get(path, headers={"Accept": "text/html"})
        (foot,) = visitor.tree.xpath("//footer")
        assert " ".join(foot.text_content().split()).startswith("Riverside Hospital Do you need help? Call 0123 45 67 89"), path

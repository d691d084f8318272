"""The account page: password, browsers that are signed in, connected apps."""

from pathlib import Path
from typing import Any

import pytest
from peers.visitor import Pages, pages
from sqlalchemy import select

from server.access.oauth.granting import GRANT
from server.access.people import passwords, proxies
from server.access.people.passkeys import Passkeys
from server.access.people.passwords import Passwords
from server.records.catalogue import STUDY
from server.records.trail import events
from server.store.tables import Session


def test_changing_the_password_signs_out_the_others(town: Pages) -> None:
    visitor, other = town.signed_in("administrator"), town.signed_in("administrator")
    assert visitor.press("Save the new password", current="wrong", password="another long password").status_code == 401
    assert "not your password so far" in visitor.tree.get_element_by_id("current-fault").text_content()
    current = "correct horse battery"
    assert visitor.press("Save the new password", current=current, password="administrator").status_code == 400
    assert visitor.tree.get_element_by_id("password").get("aria-invalid") == "true"
    assert current not in visitor.page.text
    visitor.press("Save the new password", current=current, password="another long password")
    assert "Your new password is saved" in visitor.text
    assert other.get("/account").url.path == "/sign-in"
    assert visitor.get("/account").url.path == "/account"


def test_who_signed_in_long_ago_does_so_again_before_changing_it(town: Pages) -> None:
    visitor = town.signed_in("other")
    with town.site.node.database.write() as connection:
        connection.execute(Session.__table__.update().values(authenticated=0))  # type: ignore[attr-defined]
    visitor.press("Save the new password", current="correct horse battery", password="another long password")
    assert visitor.page.url.path == "/sign-in"
    assert "Sign in again" in visitor.text


def test_a_name_and_an_address_are_changed(town: Pages) -> None:
    visitor = town.signed_in("patient")
    assert visitor.press("Save the name", form={"full-name": " "}).status_code == 400
    assert visitor.tree.get_element_by_id("full-name").get("aria-invalid") == "true"
    visitor.press("Save the name", form={"full-name": "Stefan <b>Stab</b>"})
    assert "Your name is saved" in visitor.text
    assert "Stefan <b>Stab</b>" in visitor.text
    visitor = town.signed_in("staff")
    assert visitor.press("Send the code", email="nowhere").status_code == 400
    assert "no e-mail address" in visitor.tree.get_element_by_id("email-fault").text_content()
    visitor.press("Send the code", email="stefan@new.example.org")
    assert "stefan@new.example.org" in visitor.text
    code = town.code()
    assert visitor.press("Use this address", code="0000 0000" if code != "0000 0000" else "1").status_code == 401
    assert visitor.tree.get_element_by_id("code").get("aria-invalid") == "true"
    visitor.press("Use this address", code=code)
    assert "Your new e-mail address is saved" in visitor.text
    assert "has another one now" in " ".join(town.letter().split())
    again = town.visitor()
    again.get("/sign-in")
    again.sign_in("stefan@new.example.org")
    assert "stefan@new.example.org" in again.text


def test_the_page_is_the_same_where_another_account_has_the_address(town: Pages) -> None:
    visitor = town.signed_in("proxy")
    told = []
    for email in ("patient@example.org", "nobody@example.org"):
        visitor.get("/account")
        visitor.press("Send the code", email=email)
        told.append((visitor.page.status_code, visitor.text.replace(email, "")))
    assert told[0] == told[1]


def test_who_signed_in_long_ago_does_so_again_before_changing_name_or_address(town: Pages) -> None:
    for who, button, field in (("patient", "Save the name", "full-name"), ("practitioner", "Send the code", "email")):
        visitor = town.signed_in(who)
        with town.site.node.database.write() as connection:
            connection.execute(Session.__table__.update().values(authenticated=0))  # type: ignore[attr-defined]
        visitor.press(button, form={field: "x@example.org"})
        assert visitor.page.url.path == "/sign-in"


def test_other_browsers_are_signed_out_one_by_one_and_all_at_once(town: Pages) -> None:
    first, second, third = (town.signed_in("practitioner") for _ in range(3))
    first.get("/account")
    assert "This browser" in first.text
    mine = next(each for each in first.tree.xpath("//button[@aria-label]") if "Sign out the browser" in each.get("aria-label"))
    id_ = mine.getparent().xpath(".//input[@name='session']/@value")[0]
    first.press("Sign out", form={"session": id_})
    assert sorted(each.get("/account").url.path for each in (second, third)) == ["/account", "/sign-in"]
    town.signed_in("practitioner")
    town.signed_in("practitioner")
    first.get("/account")
    first.press("Sign out all other browsers")
    assert {each.get("/account").url.path for each in (second, third)} == {"/sign-in"}
    assert first.get("/account").url.path == "/account"


def test_nobody_signs_out_somebody_else(town: Pages) -> None:
    victim, visitor = town.signed_in("patient"), town.signed_in("proxy")
    town.signed_in("proxy")
    id_ = town.site.node.people.sessions.of(town.site.people["patient"].id)[0].id
    visitor.get("/account")
    visitor.press("Sign out", form={"session": id_})
    assert victim.get("/account").url.path == "/account"


def test_connected_apps_can_be_disconnected_by_their_owner_only(town: Pages) -> None:
    token = town.site.tokens(scope="patient/*.rs launch/patient", who="patient")["access_token"]
    patient = town.site.patients["A"]
    assert town.site.fhir(f"Patient/{patient}", token).status_code == 200
    visitor, stranger = town.signed_in("patient", "/account/apps"), town.signed_in("other", "/account/apps")
    assert "A public app" in visitor.text
    assert "See everything in the record" in visitor.text
    assert "A public app" not in stranger.text
    target, values = visitor.filled("Disconnect")
    stranger.get("/account")
    stolen = {**values, "csrf": stranger.tree.xpath("//input[@name='csrf']/@value")[0]}
    stranger.http.post(target, data=stolen, headers={"Origin": town.site.base})
    assert town.site.fhir(f"Patient/{patient}", token).status_code == 200
    visitor.press("Disconnect")
    assert "sees nothing any more" in visitor.text
    assert town.site.fhir(f"Patient/{patient}", token).status_code == 401


def test_it_is_told_whose_records_an_app_may_see_and_when_it_last_did(town: Pages) -> None:
    """Of a proxy: which child."""
    site = town.site
    told = site.tokens(scope="patient/ImagingStudy.rs launch/patient offline_access", who="proxy")
    visitor = town.signed_in("proxy", "/account/apps")
    (card,) = visitor.tree.xpath("//article")
    rows = dict(zip((each.text_content() for each in card.xpath(".//dt")), (" ".join(each.text_content().split()) for each in card.xpath(".//dd")), strict=True))  # fmt: skip
    assert rows["Whose records"].startswith("Anna Alba")
    assert "(you)" not in rows["Whose records"]
    assert "imaging studies with their pictures" in rows["It may"]
    assert rows["Last used"] == rows["Since"]
    with site.node.database.write() as connection:
        connection.execute(GRANT.update().where(GRANT.c.account == site.people["proxy"].id).values(used=0))
    visitor.get("/account/apps")
    assert "1 January 1970" in visitor.text
    assert site.refresh(told["refresh_token"]).status_code == 200
    visitor.get("/account/apps")
    assert "1970" not in visitor.text
    with site.node.database.write() as connection:
        for each in proxies.of_account(connection, site.people["proxy"].id):
            proxies.end(connection, each.id)
    visitor.get("/account/apps")
    assert "Alba" not in visitor.text
    assert "you may not see any more" in visitor.text


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "Riverside Hospital can change it. If it is wrong, ask them."),
        ({"help_text": "Call 0123."}, "Riverside Hospital can change it. If it is wrong, ask them. Call 0123."),
        ({"organization": "imageshare"}, "the people who run this service can change it. If it is wrong, ask them."),
    ],
)
def test_whom_to_ask_is_somebody(tmp_path: Path, given: dict[str, Any], said: str) -> None:
    with pages(tmp_path, **given) as town:
        visitor = town.signed_in("practitioner")
        assert said in visitor.text
        assert visitor.tree.xpath("count(//footer)") == 1


@pytest.mark.parametrize(
    ("public", "home"),
    [
        ("http://127.0.0.1:8080", "http://localhost:8080/account"), ("https://images.example.org/x", "https://images.example.org/x/account"),
        ("https://192.0.2.7", ""), ("https://[2001:db8::1]", ""),
    ],
)  # fmt: skip
def test_passkeys_have_a_place_where_the_server_has_a_name(town: Pages, public: str, home: str) -> None:
    settings = town.site.node.settings.model_copy(update={"public_url": public})
    assert Passkeys(town.site.node.database, settings, town.site.node.people.events).page("/account") == home


def test_whose_names_the_apps_page_shows_is_in_their_trail(town: Pages) -> None:
    town.site.tokens(scope="patient/*.rs launch/patient", who="patient")
    visitor = town.signed_in("patient", "/account/apps")
    assert "Anna Alba (you)" in visitor.text
    patient = town.site.patients["A"]
    with town.site.node.database.read() as connection:
        last = next(iter(events(connection, limit=1)))
    assert last.patient == patient
    assert b"connected apps" in last.body


def test_an_app_that_may_see_all_or_single_studies_says_so(town: Pages) -> None:
    site = town.site
    with site.node.database.read() as connection:
        study = connection.execute(select(STUDY.c.id).where(STUDY.c.uid == site.studies["B"][0])).scalar_one()
    asked: dict[str, Any] = {"patient": site.patients["B"], "studies": (study,), "only_these": True}
    site.tokens(scope="patient/*.rs launch/patient launch/imagingstudy", who="practitioner", **asked)
    site.tokens(scope="user/ImagingStudy.rs", who="practitioner")
    visitor = town.signed_in("practitioner", "/account/apps")
    assert "1 imaging study that you chose" in visitor.text
    assert "Bert Berg" in visitor.text
    assert "All whom you may see yourself" in visitor.text


def test_who_never_chose_a_password_chooses_one(town: Pages) -> None:
    account = town.site.people["other"]
    with town.site.node.database.write() as connection:
        once = passwords.for_once(connection, account.id)
    visitor = town.visitor()
    visitor.get("/sign-in")
    visitor.sign_in(account.email, once)
    assert "Choose a password" in visitor.text
    visitor.press("Save the new password", password="another long password")
    assert "Your new password is saved" in visitor.text
    held: Passwords = town.site.node.people.passwords
    assert held.has_one(account.id)

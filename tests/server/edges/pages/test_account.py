"""The account page: password, browsers that are signed in, connected apps."""

from peers.visitor import Pages

from server.access.people import passwords
from server.access.people.passwords import Passwords
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

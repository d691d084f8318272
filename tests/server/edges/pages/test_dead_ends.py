"""Links of others, addresses that nothing answers, and what has run out: people read what is true, in words that help."""

import re

import pytest
from peers.people import PASSWORD
from peers.visitor import Pages, pages

from server.records.trail import events
from server.work import choosing

_BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


def _newest(town: Pages) -> str:
    town.site.node.people.events.settled()
    town.site.node.strangers.flush()
    with town.site.node.database.read() as connection:
        return next(iter(events(connection, limit=1))).body.decode()


@pytest.mark.parametrize("path", ["/account/apps?done=disconnected", "/account?done=password", "/account?done=removed"])
def test_a_link_of_others_makes_no_page_say_what_did_not_happen(town: Pages, path: str) -> None:
    visitor = town.signed_in("patient")
    visitor.get(path)
    assert not visitor.tree.xpath("//*[@role='status']")


def test_what_is_done_is_said_once(town: Pages) -> None:
    visitor = town.signed_in("patient")
    visitor.press("Save the name", form={"full-name": "Anna"})
    assert "Your name is saved" in visitor.text
    visitor.get("/account")
    assert "Your name is saved" not in visitor.text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/nowhere", 404), ("/account/nowhere", 404), ("/dicomweb/nowhere", 404), ("/sign-in/passkey/options", 405), ("/account/sessions/close", 303),
        ("/account/apps/disconnect", 303), ("/account/hospital/general", 303), ("/account/hospital/remove", 303), ("/account/passkeys/remove", 303),
    ],
)  # fmt: skip
def test_a_browser_gets_a_page_whatever_it_opens(town: Pages, path: str, status: int) -> None:
    visitor = town.signed_in("patient")
    answer = visitor.http.get(path, headers=_BROWSER)
    assert answer.status_code == status
    if status != 303:
        assert "There is no page at this address" in answer.text
        assert answer.headers["content-security-policy"]
        assert (answer.headers.get("allow") == "POST") == (status == 405)
        assert visitor.http.get(path).headers["content-type"] == "application/problem+json", "programs get what they can read"


def test_a_request_that_is_over_is_called_so(town: Pages) -> None:
    visitor = town.signed_in("patient")
    visitor.get("/authorize/none")
    assert visitor.page.status_code == 404
    assert "This request is over" in visitor.text
    assert "This is not here" not in visitor.text


def test_who_asked_for_too_many_codes_is_told_that_the_password_still_works(tmp_path_factory: pytest.TempPathFactory) -> None:
    with pages(tmp_path_factory.mktemp("site")) as town:
        visitor = town.visitor()
        for _ in range(6):
            visitor.get("/sign-in")
            visitor.press("E-mail me a code instead", email="patient@example.org")
        assert visitor.page.status_code == 429
        assert "No more codes are sent for now. You can sign in another way" in visitor.text
        visitor.sign_in("patient@example.org")
        assert visitor.page.url.path == "/account"


def test_choosing_a_new_password_ends_the_session_of_another_in_this_browser(town: Pages) -> None:
    sessions, person = town.site.node.people.sessions, town.site.people["staff"].id
    visitor = town.signed_in("staff")
    before = len(sessions.of(person))
    visitor.get("/recover")
    visitor.press("Send me a code", email="administrator@example.org")
    visitor.press("Save the new password", code=town.code(), password=f"another {PASSWORD}")
    assert "Your new password is saved" in visitor.text
    assert len(sessions.of(person)) == before - 1


def test_other_browsers_that_are_signed_out_are_in_the_trail(town: Pages) -> None:
    for button, said in (
        ("Sign out", "another browser was signed out"),
        ("Sign out all other browsers", "all other browsers were"),
    ):
        visitor, *_ = [town.signed_in("practitioner") for _ in range(3)]
        visitor.get("/account")
        visitor.press(button)
        assert said in _newest(town)


def test_wrong_codes_for_a_new_address_are_in_the_trail_and_another_browser_has_none(town: Pages) -> None:
    one, two = town.signed_in("practitioner"), town.signed_in("practitioner")
    one.press("Send the code", email="new@example.net")
    code = town.code()
    form = {"csrf": two.tree.xpath("//input[@name='csrf']/@value")[0], "email": "new@example.net", "code": code}
    assert two.http.post("/account/email/confirm", data=form, headers={"Origin": town.site.base}).status_code == 401
    assert "a code for a new e-mail address was refused" in _newest(town)
    one.press("Use this address", code=code)
    assert "Your new e-mail address is saved" in one.text


def test_what_a_person_did_again_and_again_is_one_row(town: Pages) -> None:
    visitor = town.signed_in("patient")
    for _ in range(5):
        visitor.get("/account/activity")
    rows = [" ".join(each.text_content().split()) for each in visitor.tree.xpath("//main//li")]
    assert re.fullmatch(r"You: .* \d\d:\d\d · \d+ times · .*", rows[0]), rows[0]


def test_the_study_picker_says_that_there_are_more(town: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "_MOST", 1)
    visitor = town.signed_in("patient")
    visitor.get("/oauth/authorize", **town.site.asking("public", "launch/patient launch/imagingstudy patient/*.rs"))
    assert len(visitor.tree.xpath("//input[@name='study']")) == 1
    assert "There are more" in visitor.text


def test_a_proxy_of_many_can_search_among_them_and_no_further(town: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    site = town.site
    with site.node.database.read() as connection:
        both = frozenset(site.patients[each] for each in "AB")
        assert [each.name for each in choosing.choices(connection, both, search="Berg").patients] == ["Bert Berg"]
        monkeypatch.setattr(choosing, "_MOST", 0)
        others = choosing.choices(connection, frozenset([site.patients["A"]]), search="Berg")
        assert (others.patients, others.more) == ((), False), "not even that there is somebody else of this name"

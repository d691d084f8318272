"""Signing in and out, codes by e-mail, forgotten passwords, without script."""

from contextlib import ExitStack
from pathlib import Path

import pytest
from peers.people import PASSWORD
from peers.visitor import Pages, Visitor, pages
from sqlalchemy import event

from server.access.people.sessions import cookie


def _cookie(visitor: Visitor, town: Pages) -> str:
    return str(visitor.http.cookies.get(cookie(town.site.node.settings)[0]) or "")


def test_with_a_password(town: Pages) -> None:
    visitor = town.signed_in("patient")
    assert visitor.page.status_code == 200
    assert "patient@example.org" in visitor.text
    assert _cookie(visitor, town)


def test_what_is_wrong_stands_beside_its_field(town: Pages) -> None:
    visitor = town.visitor()
    visitor.get("/sign-in")
    assert visitor.press("Sign in", email="", password="x").status_code == 400
    email = visitor.tree.get_element_by_id("email")
    assert email.get("aria-invalid") == "true"
    assert email.get("autofocus") is not None
    assert "Type your e-mail address" in visitor.tree.get_element_by_id(email.get("aria-describedby")).text_content()
    assert visitor.press("Sign in", email="patient@example.org", password="").status_code == 400
    assert visitor.tree.get_element_by_id("email").get("value") == "patient@example.org"
    assert visitor.tree.get_element_by_id("password").get("aria-invalid") == "true"


def test_a_wrong_password_and_no_account_are_answered_alike(town: Pages) -> None:
    told = []
    for email in ("patient@example.org", "nobody@example.org"):
        visitor = town.visitor()
        visitor.get("/sign-in")
        assert visitor.sign_in(email, "not this one").status_code == 401
        assert not _cookie(visitor, town)
        told.append(visitor.text.replace(email, ""))
    assert told[0] == told[1]
    assert "not this one" not in visitor.page.text


def test_with_a_code(town: Pages) -> None:
    visitor = town.visitor()
    visitor.get("/sign-in", next="/account/apps")
    visitor.press("E-mail me a code instead", email="proxy@example.org")
    assert "proxy@example.org" not in str(visitor.page.url)
    code = town.code()
    assert visitor.press("Sign in", code="1").status_code == 401
    assert visitor.tree.get_element_by_id("code").get("aria-invalid") == "true"
    visitor.press("Sign in", code=code)
    assert visitor.page.url.path == "/account/apps"


def test_a_code_for_nobody_is_asked_for_like_any_other(town: Pages) -> None:
    told = []
    for email in ("staff@example.org", "nobody@example.org"):
        visitor = town.visitor()
        visitor.get("/sign-in")
        assert visitor.press("E-mail me a code instead", email=email).status_code == 200
        told.append(visitor.text.replace(email, ""))
    assert told[0] == told[1]


def test_too_many_attempts_say_when_to_come_back(tmp_path: Path) -> None:
    with pages(tmp_path, sign_in_failures_per_address=2) as town:
        visitor = town.visitor()
        visitor.get("/sign-in")
        for _ in range(2):
            visitor.sign_in("nobody@example.org", "x")
        assert visitor.sign_in("nobody@example.org", "x").status_code == 429
        assert int(visitor.page.headers["retry-after"]) > 60
        assert "Try again in 15 minutes" in visitor.text


def test_a_flood_is_turned_away_before_anything_is_read(town: Pages) -> None:
    """No form, no session, no question to the database: to refuse must cost less than to ask."""
    node, asked, visitor = town.site.node, list[object](), town.visitor()
    noted = lambda *args: asked.append(args[2])  # noqa: E731
    given = {"Content-Type": "text/plain", "Cookie": f"{cookie(node.settings)[0]}={'x' * 43}"}
    with ExitStack() as full:
        for _ in range(18):
            full.enter_context(node.people.passwords.hashing._place())
        event.listen(node.database.engine, "before_cursor_execute", noted)
        full.callback(event.remove, node.database.engine, "before_cursor_execute", noted)
        answer = visitor.http.post("/sign-in", content=b"\0 no form", headers=given)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "5")
    assert "Wait a minute, then try again" in answer.text
    assert asked == []
    assert "Content-Security-Policy" in answer.headers


def test_the_cookie_is_a_new_one_with_every_sign_in(town: Pages) -> None:
    """Session fixation: what a browser had before is worth nothing."""
    visitor = town.visitor()
    visitor.get("/sign-in")
    name = cookie(town.site.node.settings)[0]
    visitor.http.cookies.set(name, "planted-planted-planted-planted", domain="127.0.0.1")
    visitor.get("/sign-in")
    visitor.sign_in("patient@example.org")
    given = visitor.page.request.headers["cookie"]
    assert "planted" not in given.rpartition(name)[2]
    first = _cookie(visitor, town)
    visitor.get("/sign-in", again="yes", next="/account")
    assert "Sign in again" in visitor.text
    visitor.sign_in("patient@example.org")
    assert _cookie(visitor, town) != first
    assert town.site.node.people.sessions.find(first) is None


def test_who_signs_in_as_somebody_else_is_signed_out_first(town: Pages) -> None:
    visitor = town.signed_in("patient")
    before = _cookie(visitor, town)
    visitor.get("/sign-in", again="yes")
    visitor.sign_in("other@example.org")
    assert town.site.node.people.sessions.find(before) is None
    assert "other@example.org" in visitor.text


def test_who_is_signed_in_goes_on_at_once(town: Pages) -> None:
    visitor = town.signed_in("patient")
    visitor.get("/sign-in", next="/account/apps")
    assert visitor.page.url.path == "/account/apps"


def test_signing_out(town: Pages) -> None:
    visitor = town.signed_in("patient")
    before = _cookie(visitor, town)
    visitor.get("/sign-out")
    visitor.press("Sign out")
    assert visitor.page.url.path == "/signed-out"
    assert not _cookie(visitor, town)
    assert town.site.node.people.sessions.find(before) is None
    visitor.get("/account")
    assert visitor.page.url.path == "/sign-in"


def test_a_forgotten_password(town: Pages) -> None:
    signed_in = town.signed_in("staff")
    visitor = town.visitor()
    visitor.get("/recover")
    visitor.press("Send me a code", email="staff@example.org")
    code = town.code()
    assert visitor.press("Save the new password", code=code, password="short").status_code == 400
    assert "at least 12 characters" in visitor.tree.get_element_by_id("password-fault").text_content()
    assert visitor.press("Save the new password", code="123", password="another long password").status_code == 401
    visitor.press("Save the new password", code=code, password="another long password")
    assert "Your new password is saved" in visitor.text
    assert signed_in.get("/account").url.path == "/sign-in"
    visitor.get("/sign-in")
    assert visitor.sign_in("staff@example.org", PASSWORD).status_code == 401
    visitor.sign_in("staff@example.org", "another long password")
    assert visitor.page.url.path == "/account"


@pytest.mark.parametrize("path", ["/sign-in/code", "/sign-in/with-code", "/recover/password", "/account/password"])
def test_an_address_that_only_takes_forms_leads_back_when_it_is_opened(town: Pages, path: str) -> None:
    visitor = town.visitor()
    assert visitor.get(path).status_code == 200
    assert visitor.page.url.path in ("/sign-in", "/recover")


def test_a_passkey_that_says_nothing_is_refused(town: Pages) -> None:
    visitor = town.visitor()
    visitor.get("/sign-in")
    for said in ("", "[]", "{}", '{"id": 1}'):
        assert visitor.press("Sign in with a passkey", response=said).status_code in (400, 401)
        assert "passkey did not work" in visitor.text


def test_a_code_is_for_the_browser_that_asked(town: Pages) -> None:
    """Somebody else who tries codes, or has one sent, spoils nothing; and who reads the code uses it nowhere else."""
    mine, theirs = town.visitor(), town.visitor()
    for visitor in (mine, theirs):
        visitor.get("/sign-in")
    mine.press("E-mail me a code instead", email="staff@example.org")
    code = town.code()
    theirs.press("E-mail me a code instead", email="staff@example.org")
    town.letter()
    assert theirs.press("Sign in", code=code).status_code == 401
    for _ in range(4):
        assert theirs.press("Sign in", code="00000000").status_code == 401
    assert mine.press("Sign in", code=code).url.path == "/account"


def test_a_browser_where_one_has_signed_in_is_not_held_up_by_others(tmp_path: Path) -> None:
    """Its cookie is the browser's own: no script reads it, it goes to nobody else, and it signs nobody in."""
    with pages(tmp_path, sign_in_failures_per_address=5) as town:
        mine, stranger = town.visitor(), town.visitor()
        mine.get("/sign-in")
        kept = [
            each for each in mine.http.post(
                "/sign-in", data={**mine.filled("Sign in")[1], "email": "patient@example.org", "password": PASSWORD},
                headers={"Origin": str(mine.http.base_url).rstrip("/")},
            ).headers.get_list("set-cookie")
            if "imageshare-known" in each
        ]  # fmt: skip
        assert len(kept) == 1
        assert all(word in kept[0] for word in ("HttpOnly", "SameSite=lax", "Path=/", "Max-Age=31536000"))
        mine.get("/sign-out")
        mine.press("Sign out")
        stranger.get("/sign-in")
        for _ in range(5):
            assert stranger.sign_in("patient@example.org", "wrong").status_code == 401
        assert stranger.sign_in("patient@example.org", "wrong").status_code == 429
        mine.get("/sign-in")
        assert "Sign in" in mine.text
        assert mine.sign_in("patient@example.org").url.path == "/account"

"""Abuse cases 14 and 23: forged and framed forms, planted and stolen cookies; and what every page says of itself."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from peers.visitor import Pages, Visitor, pages
from starlette.routing import Route
from starlette.testclient import TestClient

from server.edges import pages as edge
from server.edges.pages.browser import HOME
from server.errors import Refused

NOT_OF_THE_BROWSER = frozenset({"/viewer/token", "/shl/{path}", "/launch/study", "/bring-in/begin", "/bring-in/{id}/bytes"})
"""What is posted with no cookie: by the viewer's script, which has a handle of its own, by apps with a SMART Health Link, and in a frame of an EHR, by a handle; and pieces of files, whose token is in a header (`test_bring_in`). Another site has nothing to forge there."""


def _forms(town: Pages) -> Iterator[str]:
    """Every address of the pages that takes a form, out of the router."""
    for route in town.site.http.app.routes:  # type: ignore[attr-defined]
        of_pages = (
            isinstance(route, Route) and "POST" in (route.methods or ()) and route.endpoint.__module__.startswith(edge.__name__)
        )
        if of_pages and route.path not in NOT_OF_THE_BROWSER:
            yield route.path.replace("{request_id}", "x")


def _token(visitor: Visitor) -> str:
    return str(visitor.tree.xpath("//input[@name='csrf']/@value")[0])


def test_every_form_wants_its_token(town: Pages) -> None:
    known = [*_forms(town)]
    assert len(known) > 10
    visitor = town.signed_in("patient")
    other = _token(town.signed_in("other"))
    origin = {"Origin": town.site.base}
    for path in known:
        for token in ({}, {"csrf": ""}, {"csrf": "x"}, {"csrf": other}, {"csrf": "\u00e9"}):
            answer = visitor.http.post(path, data={"email": "a", **token}, headers=origin)
            assert answer.status_code == 403, path
            assert "open for too long" in answer.text


@pytest.mark.parametrize(
    "origin", [None, "null", "https://evil.example", "http://127.0.0.1:1", "http://127.0.0.1.evil.example", "x"]
)
def test_every_form_comes_from_our_own_origin(town: Pages, origin: str | None) -> None:
    visitor = town.signed_in("patient")
    headers = {} if origin is None else {"Origin": origin}
    for path in _forms(town):
        answer = visitor.http.post(path, data={"csrf": _token(visitor)}, headers=headers)
        assert answer.status_code == 403, path
        assert "sent from another site" in answer.text


def test_a_form_is_a_form(town: Pages) -> None:
    visitor = town.visitor()
    visitor.get("/sign-in")
    origin = {"Origin": town.site.base}
    sent = [
        (visitor.http.post("/sign-in", json={"csrf": _token(visitor)}, headers=origin), 415),
        (visitor.http.post("/sign-in", data={"csrf": "x" * 200_000}, headers=origin), 413),
        (visitor.http.post("/sign-in", data={f"a{n}": "1" for n in range(1000)}, headers=origin), 400),
        (visitor.http.post("/sign-in", data={"csrf": "a\0"}, headers=origin), 400),
        (visitor.http.post("/sign-in", content=b"a=%ff", headers={**origin, "Content-Type": "application/x-www-form-urlencoded"}), 400),
    ]  # fmt: skip
    assert [answer.status_code for answer, _ in sent] == [status for _, status in sent]
    assert all("text/html" in answer.headers["content-type"] for answer, _ in sent)


def test_nobody_sees_a_page_without_a_session(town: Pages) -> None:
    for path in ("/account", "/account/apps", "/account/activity", "/sign-out", "/authorize/x"):
        answer = town.visitor().http.get(path)
        assert answer.status_code == 303
        assert answer.headers["location"] == f"/sign-in?next={path}"


@pytest.mark.parametrize(
    "path", ["//evil.example", "/\\evil.example", "https://evil.example", "/a?b", "/%2f/x", "/../x", "javascript:1", ""]
)
def test_one_is_not_sent_elsewhere_after_signing_in(town: Pages, path: str) -> None:
    visitor = town.visitor()
    visitor.get("/sign-in", next=path)
    target, values = visitor.filled("Sign in", email="patient@example.org", password="correct horse battery")
    assert values["next"] == [HOME]
    answer = visitor.http.post(target, data={**values, "next": path}, headers={"Origin": town.site.base})
    assert answer.headers["location"] == HOME


def test_what_every_page_says_of_itself(tmp_path: Path) -> None:
    with pages(tmp_path, public_url="https://images.example.org") as town:
        visitor = town.visitor()
        visitor.get("/sign-in")
        visitor.sign_in("patient@example.org")
        for path in ("/account", "/account/apps", "/account/activity", "/sign-out", "/authorize/x", "/sign-in?again=yes"):
            headers = visitor.get(path).headers
            assert "frame-ancestors 'none'" in headers["content-security-policy"]
            assert "unsafe" not in headers["content-security-policy"]
            assert headers["cache-control"] == "no-store"
            assert headers["referrer-policy"] == "same-origin"
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["strict-transport-security"].startswith("max-age=")
            assert "<script>" not in visitor.page.text
            assert "<style" not in visitor.page.text
            assert 'style="' not in visitor.page.text


def test_cookies_are_for_this_host_and_for_no_script(tmp_path: Path) -> None:
    """RFC 6265bis section 4.1.3.2."""
    with pages(tmp_path, public_url="https://images.example.org") as town:
        visitor = town.visitor()
        first = visitor.get("/sign-in").headers["set-cookie"]
        target, values = visitor.filled("Sign in", email="patient@example.org", password="correct horse battery")
        second = visitor.http.post(target, data=values, headers={"Origin": "https://images.example.org"}).headers["set-cookie"]
    for cookie in (first, second):
        parts = {each.strip().lower() for each in cookie.split(";")}
        assert cookie.startswith("__Host-imageshare")
        assert {"secure", "httponly", "samesite=lax", "path=/"} <= parts
        assert not any(each.startswith("domain") for each in parts)


def test_below_a_path_of_a_reverse_proxy_links_hold(tmp_path: Path) -> None:
    with pages(tmp_path, public_url="https://example.org/images") as town:
        visitor = Visitor(TestClient(town.site.http.app, base_url="https://example.org", follow_redirects=False))
        assert visitor.http.get("/account").headers["location"] == "/images/sign-in?next=/account"
        visitor.page = visitor.http.get("/sign-in")
        assert all(each.startswith("/images/") for each in visitor.tree.xpath("//@href | //form/@action") if each != "#main")


def test_assets_are_kept_and_others_are_not_there(town: Pages) -> None:
    visitor = town.visitor()
    visitor.get("/sign-in")
    for path in visitor.tree.xpath("//link/@href | //script/@src"):
        answer = visitor.http.get(path)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert visitor.http.get(path.replace("/assets/", "/assets/0")).status_code == 404
    assert visitor.http.get("/assets/x/..%2fpages.css").status_code == 404


def test_what_goes_wrong_inside_is_told_without_its_words(town: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a secret of ours")

    monkeypatch.setattr(type(town.site.node.authorizing), "connected", broken)
    visitor = town.signed_in("patient")
    assert visitor.get("/account/apps").status_code == 500
    assert "secret of ours" not in visitor.page.text
    assert "Try again in a moment" in visitor.text


def test_what_is_said_of_an_error_stays_text(town: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise Refused("100 % of <script>alert(1)</script> %(x)s")

    monkeypatch.setattr(type(town.site.node.authorizing), "connected", refused)
    visitor = town.signed_in("patient")
    assert visitor.get("/account/apps").status_code == 400
    assert "100 % of <script>alert(1)</script> %(x)s." in visitor.text
    assert "<script>alert" not in visitor.page.text


def test_an_app_that_asks_wrongly_is_told_of_on_a_page(town: Pages) -> None:
    """RFC 6749 section 4.1.2.1."""
    answer = town.visitor().http.get("/oauth/authorize", params={"client_id": "<script>alert(1)</script>"})
    assert answer.status_code == 400
    assert "The app could not be opened" in answer.text
    assert "this app is not known here" in answer.text
    assert "location" not in answer.headers
    assert "<script>alert" not in answer.text
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]


def test_what_the_script_posts_needs_no_cookie_and_takes_none(town: Pages) -> None:
    for visitor in (town.signed_in("patient"), town.visitor()):
        for handle in ({"handle": ""}, {"handle": "x"}):
            assert visitor.http.post("/viewer/token", data=handle).status_code == 401

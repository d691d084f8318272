"""Abuse case 1, and 22: at every route of the server patient B, and nobody, gets nothing of patient A; no secret is written anywhere.

The rows are held against the application's own table: a route without a row fails here, and has to be thought about.
"""

import io
import logging
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from httpx2 import Response
from peers.every_route import CANARIES, DICOMWEB, ROWS, SOAP, STUDY, Asked, Site, calling, everything, filled
from peers.generated import ROOT
from peers.people import PASSWORD, Key
from peers.smart_site import STUDIES, Pkce, basic
from peers.visitor import Pages, Visitor, pages
from sqlalchemy import text
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse

from profiles.smart.configuration import style_path
from profiles.workitem import GLOBAL
from server import telemetry
from server.access import capabilities, shares
from server.access.people import sessions
from server.access.shares import Wish
from server.edges.fhir.routes import _DISPATCH
from server.work import ohif

Row = tuple[str, str]
INITIAL: Final = "canary-of-the-initial-access-token"
GUESS: Final = "canary-of-a-password-that-is-wrong"
UIDS: Final = re.compile(re.escape(ROOT) + r"\.(\d+)(?:\.\d+)*")
WITHOUT_ERROR: Final = {
    ("DELETE", "/fhir/{type}"): 204, ("GET", "/dicomweb/workitems"): 204, ("GET", "/fhir"): 200, ("GET", "/fhir/${operation}"): 200,
    ("GET", "/fhir/_history"): 200, ("GET", "/fhir/metadata"): 200, ("GET", "/fhir/{type}/_history"): 200, ("POST", "/fhir"): 200,
    ("POST", "/fhir/${operation}"): 200, ("POST", "/fhir/_search"): 200, **dict.fromkeys(SOAP, 200),
}  # fmt: skip
"""Where another's request is answered, by what is the caller's own: rows that name nobody, or ask for what is not found. SOAP says that within."""


@dataclass
class Town:
    """The site, what is patient A's of it, and what has to stay secret, by name."""

    pages: Pages
    site: Site
    victim: Visitor
    mine: dict[str, str]
    secrets: dict[str, str] = field(default_factory=dict)

    @property
    def own(self) -> str:
        """A's own e-mail address and what else tells of A, wherever it is not in the request itself."""
        return self.pages.site.people["patient"].email

    def is_whole(self) -> bool:
        """Whether A's app, session, passkey and password are as they were."""
        smart = self.pages.site
        seen = smart.fhir(f"Patient/{self.site.a}", self.mine["access_token"]).status_code == 200
        there = self.victim.get("/account").url.path == "/account" and self.mine["passkey_name"] in self.victim.page.text
        return seen and there and self.victim.page.status_code == 200

    def stranger(self) -> Visitor:
        """A browser in which patient B is signed in."""
        visitor = self.pages.visitor()
        visitor.get("/sign-in")
        visitor.sign_in("other@example.org")
        return visitor


def told_of_a(town: Town, found: Response, request: str = "") -> list[str]:
    """What an answer tells of A, in its header fields and its body, that the request did not say itself."""
    said = found.text + "".join(f"\n{name}: {value}" for name, value in found.headers.items())
    ids = {f"{ROOT}.{each}" for each in UIDS.findall(said) if int(each) != STUDIES["B"][0].study}
    marks = [*CANARIES, town.own, *town.mine.values(), *(each for each in ids if each not in request)]
    return [each for each in marks if each in said and each not in request]


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    given: dict[str, Any] = {
        "imaging_capability_urls": True,
        "client_registration": "token",
        "client_registration_token": INITIAL,
    }
    folder = tmp_path_factory.mktemp("every") / "data"
    with pages(folder, sign_in_failures=100_000, sign_in_failures_per_address=0, **given) as opened:
        yield _filled(opened)


def _filled(opened: Pages) -> Town:
    smart, site, victim = opened.site, everything(opened.site), opened.signed_in("patient")
    told = smart.tokens("public", "patient/*.cruds launch/patient offline_access", "patient")
    cookie = victim.http.cookies[sessions.cookie(smart.node.settings)[0]]
    session = smart.node.people.sessions.find(cookie)
    assert session is not None
    port = smart.base.rpartition(":")[2]
    key, keys = Key(origin=f"http://localhost:{port}", host="localhost"), smart.node.people.passkeys
    passkey = keys.finish(session, key.create(keys.begin(session)), "Annas Schlüssel")
    with smart.node.database.read() as connection:
        grant = connection.execute(text("select id from access_grant where account = :a"), {"a": session.account.id}).scalar_one()
        study = connection.execute(text("select id from study where uid = :u"), {"u": STUDIES["A"][0].study_uid}).scalar_one()
    with smart.node.database.write() as connection:
        wish = Wish(site.a, (STUDIES["A"][0].study_uid,), 30, name="Dr Berg")
        share, shared = shares.make(connection, smart.node.installation.cursor_key, wish, session.account.id)
    registered = smart.http.post(
        "/oauth/register", headers={"Authorization": f"Bearer {INITIAL}"},
        json={"client_name": "x", "redirect_uris": ["https://x.example.org/"], "token_endpoint_auth_method": "client_secret_basic"},
    ).json()  # fmt: skip
    tokens = {name: told[name] for name in ("access_token", "refresh_token")}
    brought = smart.node.bringing_in.begin(session.account, site.a, [{"name": "Anna", "size": 9}], 0, "127.0.0.1").id
    mine = {"patient": site.a, "account": session.account.id, "grant": grant, "session": session.id, "cookie": cookie, **tokens,
            "passkey": passkey.id, "passkey_name": "Annas Schlüssel", "csrf": session.csrf, "study": study, "share": share.id, "share_secret": shared, "brought": brought}  # fmt: skip
    secrets = {
        "password": PASSWORD, "cookie": cookie, **tokens, "client secret": smart.secret["secret"], "initial": INITIAL, "guess": GUESS,
        "registered secret": registered["client_secret"], "management": registered["registration_access_token"], "csrf": session.csrf,
        "system": site.system, "theirs": site.theirs,
    }  # fmt: skip
    return Town(opened, site, victim, mine, secrets)


# --- the rows of pages and of the authorization server, as patient B or as an app of another's


def _page(path: str) -> Callable[[Town], Response]:
    return lambda town: town.stranger().http.get(path)


def _study(path: str) -> Callable[[Town], Response]:
    """What is below one of A's studies, by its id."""
    return lambda town: town.stranger().http.get(f"/images/{town.mine['study']}{path}")


def _in_ohif(town: Town) -> Response:
    """One of A's studies in OHIF, of which the first file is enough to be installed."""
    place = ohif.folder(town.pages.site.node.settings)
    place.mkdir(exist_ok=True)
    (place / "app.bundle.0.js").touch()
    return town.stranger().http.get(f"/ohif/viewer?StudyInstanceUIDs={STUDY}")


def _page_of_b(path: str) -> Callable[[Town], Response]:
    """A page of B, whose address names something of A's."""
    return lambda town: town.stranger().http.get(path.format(**town.mine))


def _posted_to(path: str) -> Callable[[Town], Response]:
    """B's own form, sent to an address of A's."""
    return lambda town: _posted(path.format(**town.mine))(town)


def _posted(path: str, *, early: bool = False, **fields: str) -> Callable[[Town], Response]:
    """Patient B's own form, in which something of A's is named."""

    def sent(town: Town) -> Response:
        visitor = town.stranger()
        visitor.get("/sign-in" if early else "/account", **({"again": "yes"} if early else {}))
        given = {name: value.format(**town.mine) for name, value in fields.items()}
        csrf = visitor.tree.xpath("//input[@name='csrf']/@value")[0]
        return visitor.http.post(path, data={"csrf": csrf, **given}, headers={"Origin": town.pages.site.base})

    return sent


def _form(path: str, client: str = "", **fields: str) -> Callable[[Town], Response]:
    """What an app sends that is not the one of A's tokens."""

    def sent(town: Town) -> Response:
        smart = town.pages.site
        headers = {"Authorization": basic(client, smart.secret[client])} if client else {}
        return smart.http.post(path, data={name: value.format(**town.mine) for name, value in fields.items()}, headers=headers)

    return sent


def _register(method: str, path: str) -> Callable[[Town], Response]:
    return lambda town: town.pages.site.http.request(
        method, path, json=None if method in ("GET", "DELETE") else {"client_id": "secret", "client_name": "Mine"},
        headers={"Authorization": f"Bearer {town.site.theirs}"},
    )  # fmt: skip


def _consent(town: Town) -> str:
    """The page on which an EHR's launch of A's record, for A alone, is waiting."""
    smart = town.pages.site
    handle = smart.launch(patient=town.site.a, user=smart.people["patient"].id).json()["launch"]
    response = smart.authorize(smart.asking(scope="launch patient/*.rs", launch=handle))
    return str(response.headers["location"]).removeprefix(smart.base)


def _open_consent(town: Town) -> Response:
    return town.stranger().http.get(_consent(town))


def _answered_consent(town: Town) -> Response:
    return _posted(_consent(town), answer="allow", patient=town.site.a, scope="patient/*.rs", shown="x")(town)


def _authorize(method: str) -> Callable[[Town], Response]:
    return lambda town: town.pages.site.authorize(town.pages.site.asking(), post=method == "POST")


def _options(path: str) -> Callable[[Town], Response]:
    return lambda town: town.pages.site.http.options(filled(path, workitem="1", aet="A", code="1", fetch="1"))


def _channel(town: Town) -> Response:
    """PS3.18 section 8.10.4, of another's AE title: a refusal comes as the answer to the handshake."""
    http, headers = town.pages.site.http, {"Authorization": f"Bearer {town.site.theirs}"}
    http.post(f"/dicomweb/workitems/{GLOBAL}/subscribers/ANNAS", headers=town.site.headers({}))
    with pytest.raises(WebSocketDenialResponse) as refused, http.websocket_connect("/ws/subscribers/ANNAS", headers=headers):
        pass
    assert isinstance(refused.value, Response)
    return refused.value


PERSONAL: Final[dict[Row, tuple[int, Callable[[Town], Response]]]] = {
    ("GET", "/account"): (200, _page("/account")),
    ("GET", "/account/apps"): (200, _page("/account/apps")),
    ("GET", "/images"): (200, lambda town: town.stranger().http.get("/images")),
    ("GET", "/images/{study}"): (404, _study("")),
    ("GET", "/images/{study}/picture"): (404, _study("/picture")),
    ("GET", "/images/{study}/view"): (404, _study("/view")),
    ("GET", "/ohif/viewer"): (404, _in_ohif),
    ("GET", "/IHEInvokeImageDisplay"): (404, _page_of_b(f"/IHEInvokeImageDisplay?requestType=STUDY&studyUID={STUDY}")),
    ("GET", "/images/{study}/download"): (404, _study("/download")),
    ("GET", "/images/{study}/reports/{type}/{report}/{number:int}"): (404, _study("/reports/DiagnosticReport/x/0")),
    ("GET", "/share"): (200, _page_of_b("/share")),
    ("GET", "/share/new"): (200, _page_of_b("/share/new?study={study}")),
    ("POST", "/share/new"): (400, _posted("/share/new", study="{study}", days="30")),
    ("POST", "/share/{share}/link"): (404, _posted_to("/share/{share}/link")),
    ("POST", "/share/{share}/stop"): (404, _posted_to("/share/{share}/stop")),
    ("GET", "/share/{share}/preview"): (404, _page_of_b("/share/{share}/preview")),
    ("GET", "/share/{share}/preview/view"): (404, _page_of_b("/share/{share}/preview/view")),
    ("GET", "/shared"): (200, _page_of_b("/shared")),
    ("POST", "/shared/{share}/open"): (404, _posted_to("/shared/{share}/open")),
    ("GET", "/bring-in"): (200, _page_of_b("/bring-in?patient={patient}")),
    ("POST", "/bring-in/begin"): (403, _posted("/bring-in/begin", patient="{patient}")),
    ("GET", "/bring-in/{id}"): (404, _page_of_b("/bring-in/{brought}")),
    ("GET", "/bring-in/{id}/state"): (404, _page_of_b("/bring-in/{brought}/state")),
    ("POST", "/bring-in/{id}/bytes"): (403, _posted_to("/bring-in/{brought}/bytes")),
    ("POST", "/bring-in/{id}/cancel"): (404, _posted_to("/bring-in/{brought}/cancel")),
    ("GET", "/staff/health"): (403, _page_of_b("/staff/health")),
    ("GET", "/account/people"): (200, _page("/account/people")),
    ("POST", "/account/people"): (400, _posted("/account/people", email="no address", days="30")),
    ("POST", "/account/people/end"): (404, _posted("/account/people/end", proxy="{patient}")),
    ("GET", "/account/choices"): (200, _page("/account/choices")),
    ("POST", "/account/choices/close"): (404, _posted("/account/choices/close", study="{study}")),
    ("POST", "/account/choices/open"): (404, _posted("/account/choices/open", study="{study}")),
    ("GET", "/account/leave"): (200, _page("/account/leave")),
    ("POST", "/account/leave"): (400, _posted("/account/leave")),
    ("GET", "/staff/people"): (403, _page_of_b("/staff/people?search=patient")),
    ("POST", "/staff/people"): (403, _posted("/staff/people", email="x@example.org", role="staff")),
    ("GET", "/staff/people/{account}"): (403, _page_of_b("/staff/people/{account}")),
    **{
        ("POST", f"/staff/people/{{account}}/{what}"): (403, _posted_to(f"/staff/people/{{account}}/{what}"))
        for what in ("role", "lock", "unlock", "reset")
    },
    ("GET", "/staff/audit"): (403, _page_of_b("/staff/audit?patient={patient}")),
    ("GET", "/staff/audit/table"): (403, _page_of_b("/staff/audit/table?patient={patient}")),
    ("GET", "/staff/bring-in"): (403, _page_of_b("/staff/bring-in")),
    ("POST", "/staff/bring-in/{id}"): (403, _posted_to("/staff/bring-in/{brought}")),
    ("GET", "/staff"): (403, _page_of_b("/staff?search={patient}")),
    ("GET", "/staff/patients/{patient}"): (403, _page_of_b("/staff/patients/{patient}")),
    ("POST", "/staff/patients/{patient}/codes"): (403, _posted_to("/staff/patients/{patient}/codes")),
    ("POST", "/staff/codes/{code}/end"): (403, _posted("/staff/codes/x/end")),
    ("GET", "/claim/keep"): (303, lambda town: town.stranger().http.get("/claim/keep")),
    ("POST", "/claim/keep"): (303, _posted("/claim/keep", patient="{patient}")),
    ("GET", "/logos/{client}"): (404, _page("/logos/public")),
    ("GET", "/account/activity"): (200, _page("/account/activity?before=9999999999999999-1-1")),
    ("GET", "/sign-out"): (200, _page("/sign-out")),
    ("POST", "/sign-out"): (303, _posted("/sign-out", session="{session}")),
    ("GET", "/authorize/{request_id}"): (403, _open_consent),
    ("POST", "/authorize/{request_id}"): (403, _answered_consent),
    ("POST", "/account/name"): (400, _posted("/account/name", account="{account}")),
    ("POST", "/account/language"): (303, _posted("/account/language", account="{account}", language="es")),
    ("POST", "/account/email"): (400, _posted("/account/email", account="{account}", email="no address")),
    ("POST", "/account/email/confirm"): (
        401,
        _posted("/account/email/confirm", account="{account}", email="x@new.example.org", code="0000 0000"),
    ),
    ("POST", "/account/password"): (
        401,
        _posted("/account/password", account="{account}", current=GUESS, password="a long new password"),
    ),
    ("POST", "/account/passkeys/options"): (200, _posted("/account/passkeys/options", account="{account}")),
    ("POST", "/account/passkeys"): (400, _posted("/account/passkeys", account="{account}", response="{{}}")),
    ("POST", "/account/passkeys/remove"): (404, _posted("/account/passkeys/remove", passkey="{passkey}")),
    ("POST", "/account/sessions/close"): (303, _posted("/account/sessions/close", session="{session}")),
    ("POST", "/account/apps/disconnect"): (303, _posted("/account/apps/disconnect", grant="{grant}")),
    ("POST", "/account/hospital/remove"): (
        404,
        _posted("/account/hospital/remove", account="{account}", issuer="x", subject="x"),
    ),
    ("POST", "/account/hospital/{provider}"): (404, _posted("/account/hospital/none", account="{account}")),
}
"""Pages of who is signed in: with B's session, A's things in the form. What is not B's is not found, and nothing happens to it."""

APPS: Final[dict[Row, tuple[int, Callable[[Town], Response]]]] = {
    ("POST", "/oauth/token"): (400, _form("/oauth/token", "secret", grant_type="refresh_token", refresh_token="{refresh_token}")),
    ("POST", "/oauth/introspect"): (200, _form("/oauth/introspect", "secret", token="{access_token}")),
    ("POST", "/oauth/revoke"): (200, _form("/oauth/revoke", "secret", token="{refresh_token}")),
    ("POST", "/oauth/launch"): (400, _form("/oauth/launch", "secret", app="secret", patient="{patient}")),
    ("POST", "/oauth/register"): (401, _register("POST", "/oauth/register")),
    **{(method, "/oauth/register/{client}"): (401, _register(method, "/oauth/register/secret")) for method in ("GET", "PUT", "DELETE")},
    ("WS", "/ws/subscribers/{aet}"): (403, _channel),
}  # fmt: skip
"""What apps are asked to show who they are for: another app, with A's tokens, or B's token."""

OPEN: Final[dict[Row, Callable[[Town], Response]]] = {
    **{("GET", path): _page(path) for path in (
        "/fhir/.well-known/smart-configuration", "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration", "/oauth/jwks",
        "/brands", style_path(), "/sign-in", "/recover", "/signed-out", "/sign-in/code", "/sign-in/with-code", "/sign-in/passkey",
        "/recover/password", "/account/password", "/account/passkeys", "/account/name", "/account/language", "/account/email", "/account/email/confirm", "/account/passkeys/remove", "/account/sessions/close",
        "/account/apps/disconnect", "/account/hospital/remove", "/claim", "/claim/account", "/claim/forget", "/", "/developers", "/livez", "/readyz", "/metrics",
    )},
    ("GET", "/language/{language}"): _page("/language/es"),
    ("GET", "/launch"): _page("/launch?iss=https://ehr.example.org/fhir&launch=x"),
    ("GET", "/launch/back"): _page("/launch/back?code=x&state=y"),
    ("POST", "/launch/study"): _posted("/launch/study", handle="x", study="{study}"),
    ("GET", "/ohif/{name}"): _page("/ohif/..%2fimageshare.db"),
    ("GET", "/assets/{digest}/{name}"): _page("/assets/x/..%2f..%2fimageshare.db"),
    ("GET", "/account/hospital/{provider}"): _page("/account/hospital/none"),
    ("GET", "/sign-in/hospital/{provider}"): _page("/sign-in/hospital/none"),
    ("GET", "/sign-in/hospital/{provider}/back"): _page("/sign-in/hospital/none/back?code=x&state=y"),
    ("GET", "/oauth/authorize"): _authorize("GET"),
    ("POST", "/oauth/authorize"): _authorize("POST"),
    ("POST", "/sign-in"): _posted("/sign-in", early=True, email="patient@example.org", password=GUESS),
    ("POST", "/sign-in/code"): _posted("/sign-in/code", early=True, email="patient@example.org"),
    ("POST", "/sign-in/with-code"): _posted("/sign-in/with-code", early=True, email="patient@example.org", code="0000 0000"),
    ("POST", "/sign-in/passkey/options"): _posted("/sign-in/passkey/options", early=True, email="patient@example.org"),
    ("POST", "/sign-in/passkey"): _posted("/sign-in/passkey", early=True, response='{{"id": "{passkey}"}}'),
    **{("GET", f"/share/{{share}}{path}"): _page_of_b(f"/share/{{share}}{path}") for path in ("", "/view", "/images")},
    ("GET", "/share/{share}/images/{study}/download"): _page_of_b("/share/{share}/images/{study}/download"),
    ("GET", "/share/{share}/images/{study}/picture"): _page_of_b("/share/{share}/images/{study}/picture"),
    ("GET", "/share/{share}/images/{study}/reports/{type}/{report}/{number:int}"): _page_of_b("/share/{share}/images/{study}/reports/DiagnosticReport/x/0"),
    ("POST", "/share/{share}/open"): lambda town: _posted(f"/share/{town.mine['share']}/open", early=True, secret="B" * 43)(town),
    ("POST", "/shl/{path}"): lambda town: town.pages.visitor().http.post(f"/shl/{town.mine['share']}", json={"recipient": "x"}),
    ("GET", "/shl/{path}"): _page(f"/shl/{'B' * 43}?recipient=x"),
    ("GET", "/shl/{path}/{file}"): _page(f"/shl/{'B' * 43}/{'B' * 43}"),
    ("POST", "/share/{share}/note"): lambda town: _posted(f"/share/{town.mine['share']}/note", early=True, note="x")(town),
    ("POST", "/viewer/token"): _form("/viewer/token", handle="{access_token}"),
    ("POST", "/claim"): _posted("/claim", early=True, code="0000-0000-0000-0", day="29", month="2", year="1960"),
    ("POST", "/claim/account"): _posted("/claim/account", early=True, email="patient@example.org"),
    ("POST", "/claim/forget"): _posted("/claim/forget", early=True),
    ("POST", "/recover"): _posted("/recover", early=True, email="patient@example.org"),
    ("POST", "/recover/password"): _posted("/recover/password", early=True, email="patient@example.org", code="0000 0000", password="a long new password"),
    **{("OPTIONS", path): _options(path) for path in {"/dicomweb", *(path for _, path in DICOMWEB if path.startswith("/dicomweb"))}},
}  # fmt: skip
"""What is the same for everybody, and by what somebody shows who they are."""


def _routes(app: Any) -> set[Row]:
    """Of the application; /fhir by its own table. HEAD is GET without the body."""
    found: set[Row] = {
        (row.method, f"/fhir/{'/'.join(_segments(row))}".rstrip("/")) for rows in _DISPATCH._rows.values() for row in rows
    }
    for route in app.routes:
        if isinstance(route, WebSocketRoute):
            found.add(("WS", route.path))
        elif isinstance(route, Route) and route.path not in ("/fhir", "/fhir/{path:path}"):
            found |= {(method, route.path) for method in route.methods or {"POST"} if method != "HEAD"}
        else:
            assert isinstance(route, Route), f"{route} is no kind of route that is looked at here"
    return found


def _segments(row: Any) -> list[str]:
    there = {place: word for place, word in row.words} | {place: f"{start}{{{name}}}" for place, name, start in row.names}
    return [there[place] for place in sorted(there)]


DATA: Final = pytest.mark.parametrize("row", sorted(ROWS), ids=" ".join)


def test_every_route_has_its_row(town: Town) -> None:
    there = {
        (method, path.replace(":path}", "}") if method == "OPTIONS" else path)
        for method, path in {*ROWS, *PERSONAL, *APPS, *OPEN}
    }
    assert _routes(town.pages.site.http.app) == there, "a route without a row here, or a row without a route"
    assert len(ROWS) + len(PERSONAL) + len(APPS) + len(OPEN) == len(there)


@DATA
def test_the_token_of_another_patient_opens_nothing_of_it(town: Town, row: Row) -> None:
    asked = ROWS[row](town.site)
    before = _state(town)
    found = town.site.ask(town.site.theirs, asked, calling(town.site, row, "203.0.113.9"))
    assert found.status_code in ({403, 404} if row not in WITHOUT_ERROR else {WITHOUT_ERROR[row]}), found.text[:300]
    assert told_of_a(town, found, _said(asked)) == []
    assert _state(town) == before, "it was refused, and done"


@DATA
def test_nobody_gets_anything_of_it(town: Town, row: Row) -> None:
    """Neither without a token, nor with one in the URL, nor with A's own cookie: a page of somebody else's could send that."""
    asked, http = ROWS[row](town.site), calling(town.site, row, "203.0.113.9") or town.pages.site.http
    cookie = {"Cookie": f"{sessions.cookie(town.pages.site.node.settings)[0]}={town.mine['cookie']}"}
    secret = f"{asked.url}{'&' if '?' in asked.url else '?'}access_token={town.site.system}"
    before = _state(town)
    for url, more in (
        (asked.url, {}), (asked.url, cookie), (secret, {}), (asked.url, {"Authorization": basic("secret", town.pages.site.secret["secret"])}),
        (asked.url, {"Authorization": f"Bearer {town.mine['refresh_token']}"}),
    ):  # fmt: skip
        found = http.request(asked.method, url, content=asked.body, headers={**asked.headers, **more})
        if row == ("GET", "/fhir/metadata"):  # which is for everybody, and has no such parameter
            assert found.status_code == (400 if url == secret else 200)
        else:
            assert found.status_code == (403 if row in SOAP and "Authorization" not in more else 401), found.text[:300]
        assert told_of_a(town, found, _said(asked)) == []
    assert _state(town) == before


@pytest.mark.parametrize("row", sorted(row for row in ROWS if "{capability}" in row[1]), ids=" ".join)
def test_ones_own_address_of_a_study_does_not_lead_to_another(town: Town, row: Row) -> None:
    """With the capability that patient B has for B's study."""
    node = town.pages.site.node
    theirs = node.tokens.decide(town.site.theirs)
    issued = capabilities.issue(node.installation.cursor_key, theirs, STUDIES["B"][0].study_uid, time.time(), 3600)
    url = filled(row[1], capability=issued)
    for token in (town.site.theirs, town.site.system, town.mine["access_token"]):
        found = town.pages.site.http.get(url, headers={"Authorization": f"Bearer {token}"})
        assert found.status_code in (403, 404)
        assert told_of_a(town, found, url) == []


@pytest.mark.parametrize("row", sorted(PERSONAL), ids=" ".join)
def test_a_page_shows_and_changes_what_is_ones_own_alone(town: Town, row: Row) -> None:
    status, asking = PERSONAL[row]
    found = asking(town)
    assert found.status_code == status, found.text[:500]
    assert told_of_a(town, found) == []
    assert town.is_whole()
    method, path = row
    path = path.replace("{request_id}", "x").replace("{provider}", "x")
    unknown = town.pages.visitor().http.request(method, path, headers={"Origin": town.pages.site.base})
    assert unknown.status_code in (
        (303, 404) if path.startswith("/images/") else (303,) if method == "GET" else (303, 401, 403, 415)
    )
    assert unknown.headers.get("location", "/sign-in").partition("?")[0].endswith(("/sign-in", "/claim"))
    assert told_of_a(town, unknown) == []


@pytest.mark.parametrize("row", sorted(APPS), ids=" ".join)
def test_an_app_gets_nothing_by_what_is_anothers(town: Town, row: Row) -> None:
    status, asking = APPS[row]
    found = asking(town)
    assert found.status_code == status, found.text[:500]
    assert told_of_a(town, found) == []
    assert town.is_whole()
    if row == ("POST", "/oauth/introspect"):
        assert found.json() == {"active": False}


@pytest.mark.parametrize("row", sorted(OPEN), ids=" ".join)
def test_what_is_open_tells_of_nobody(town: Town, row: Row) -> None:
    found = OPEN[row](town)
    assert found.status_code < 500
    assert told_of_a(town, found, town.own if row[1] in ("/sign-in", "/sign-in/code", "/sign-in/with-code", "/recover", "/recover/password") else town.mine["share"] if row[1].startswith("/share/") else "") == []  # fmt: skip
    assert town.is_whole()


def _said(asked: Asked) -> str:
    return asked.url + (asked.body or b"").decode("latin-1")


def _state(town: Town) -> list[tuple[str, int]]:
    """All rows of what the server keeps of patients, but for its trail."""
    with town.pages.site.node.database.read() as connection:
        names = connection.execute(
            text("select name from sqlite_master where type = 'table' and name not like 'sqlite%'")
        ).scalars()
        kept = [name for name in names if not name.startswith(("audit", "throttle", "session", "resource_term", "seal"))]
        return [(name, hash(tuple(map(tuple, connection.execute(text(f'select * from "{name}"')))))) for name in sorted(kept)]


# --- nothing is written that should not be


@pytest.fixture(scope="module")
def written(town: Town) -> tuple[str, str, list[Response]]:
    """The log at DEBUG and the metrics, after a request at every route, by A's own app and browser, by B, and by nobody; and all answers."""
    root, error, output = logging.getLogger(), sys.stderr, io.StringIO()
    handlers, level = root.handlers[:], root.level
    sys.stderr = output
    try:
        telemetry.configure("http", "DEBUG")
        answers = [*_everybody(town), *_mishaps(town)]
    finally:
        sys.stderr, root.handlers[:] = error, handlers
        root.setLevel(level)
        telemetry.configure("test")
        root.handlers[:] = handlers
    return output.getvalue(), town.pages.site.http.get("/metrics").text, answers


def _everybody(town: Town) -> Iterator[Response]:
    for row, build in sorted(ROWS.items()):
        asked = build(town.site)
        for token in (town.site.system, town.mine["access_token"], town.site.theirs, "canary-token"):
            yield town.site.ask(token, asked, calling(town.site, row))
    for _, asking in sorted([*PERSONAL.items(), *APPS.items()]):
        yield asking[1](town)
    for _, opening in sorted(OPEN.items()):
        yield opening(town)


def _mishaps(town: Town) -> Iterator[Response]:
    """A launch with everything; then what fails inside, so that a trace is near."""
    smart, pkce = town.pages.site, Pkce()
    by_key = smart.node.people.sessions.open(smart.people["patient"], ("passkey",), 2)[0]
    code = smart.code("secret", "openid patient/*.rs offline_access", pkce=pkce, session=by_key)
    told = smart.redeem(code, pkce, "secret")
    town.secrets |= {
        "code": code,
        "verifier": pkce.verifier,
        "id_token": told.json()["id_token"],
        "refreshed": told.json()["refresh_token"],
    }
    yield told
    yield smart.redeem(code, pkce, "secret")
    with smart.node.database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE resource RENAME TO away")
    try:
        yield smart.fhir(f"Patient/{town.site.a}", town.site.system)
        yield smart.http.post("/fhir/Observation", content=b'{"resourceType": "Observation", "valueString": "Alba"}', headers=town.site.headers({"Content-Type": "application/fhir+json"}))  # fmt: skip
    finally:
        with smart.node.database.write() as connection:
            connection.exec_driver_sql("ALTER TABLE away RENAME TO resource")


def test_no_patient_and_no_secret_is_in_the_log(town: Town, written: tuple[str, str, list[Response]]) -> None:
    log = written[0]
    assert log.count("\n") > 5, "nothing was logged, so nothing was looked at"
    assert [each for each in (*CANARIES, *town.mine.values(), *town.secrets.values(), "canary") if each in log] == []
    assert UIDS.findall(log) == []


def test_none_is_in_the_metrics(town: Town, written: tuple[str, str, list[Response]]) -> None:
    metrics = written[1]
    assert 'route="/fhir' in metrics
    assert [each for each in (*CANARIES, *town.mine.values(), *town.secrets.values()) if each in metrics] == []
    assert UIDS.findall(metrics) == []


def test_no_address_and_no_error_has_a_secret(town: Town, written: tuple[str, str, list[Response]]) -> None:
    """RFC 9700 section 4.2: addresses are kept by browsers and logged by others."""
    answers = written[2]
    assert {200, 401, 403, 404, 500} <= {each.status_code for each in answers}
    for each in answers:
        told = [each.headers.get("location", ""), *([each.text] if each.status_code >= 400 else [])]
        assert [name for name, secret in town.secrets.items() if name != "csrf" and secret in "".join(told)] == []
        if each.status_code >= 500:
            assert [canary for canary in (*CANARIES, "Traceback", "sqlite", "no such table") if canary in each.text] == []


def test_no_secret_is_kept_in_the_clear(town: Town, written: tuple[str, str, list[Response]]) -> None:
    """In no file of the database, the trail among them."""
    folder: Path = town.pages.site.node.settings.data
    kept = b"".join(each.read_bytes() for each in sorted(folder.glob("imageshare.db*")))
    assert town.mine["account"].encode() in kept
    assert [name for name, secret in town.secrets.items() if name not in ("csrf", "guess") and secret.encode() in kept] == []
    assert GUESS.encode() not in kept


def test_a_marked_word_would_be_found(town: Town) -> None:
    """The tests above can see."""
    found = town.site.ask(town.site.system, ROWS["GET", "/fhir/{type}/{id}"](town.site))
    assert {"Alba", town.site.a} <= {*told_of_a(town, found)}
    images = town.site.ask(town.site.system, ROWS["GET", f"{STUDY}/metadata"](town.site))
    assert f"{ROOT}.1" in told_of_a(town, images)
    assert isinstance(town.pages.site.http, TestClient)

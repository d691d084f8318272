"""The authorization endpoint: what is asked waits for a person, what is wrong goes back to the app, and nobody is sent elsewhere."""

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peers.requires import requires
from peers.smart_site import BACK, Pkce, SmartSite, back, smart_site
from peers.together import together
from sqlalchemy import func, select

from server.access.oauth import clients, granting
from server.access.oauth.clients import Client
from server.access.people import accounts, sessions
from server.access.people.sessions import SESSION, Session
from server.errors import Forbidden, NotFound, Refused
from server.store.db import micros
from server.store.tables import AuthorizationRequest
from server.work.authorizing import Asked, Authorizing
from server.work.choosing import StudyChoice

LOOPBACK = "http://127.0.0.1/back"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, module_database_url: str) -> Iterator[SmartSite]:
    folder: Path = tmp_path_factory.mktemp("authorize")
    with smart_site(folder / "data", module_database_url) as made:
        yield made


# --- what is taken


@requires(14, 48, 53, 56, 57, 59)
def test_a_request_by_get_ends_with_a_code(site: SmartSite) -> None:
    state = "a b&c=%2F~\u00e9"
    response = site.authorize(site.asking(state=state))
    assert response.status_code == 302
    assert response.headers["cache-control"] == "no-store"
    answer = site.agree(response)
    assert set(answer) == {"code", "state", "iss"}
    assert answer["state"] == state
    assert answer["iss"] == site.base
    assert len(answer["code"]) >= 43


@requires(49, 354)
def test_a_request_by_post_ends_with_a_code(site: SmartSite) -> None:
    response = site.authorize(site.asking(), post=True)
    assert response.status_code == 303
    assert "code" in site.agree(response)


@requires(54)
def test_who_does_not_agree_sends_the_app_an_error(site: SmartSite) -> None:
    response = site.authorize(site.asking())
    request_id = response.headers["location"].rpartition("/")[2]
    answer = back(site.node.authorizing.deny(request_id, site.session("patient")))
    assert (answer["error"], answer["state"], answer["iss"]) == ("access_denied", "s1", site.base)
    assert "code" not in answer
    assert site.node.authorizing.asked(request_id) is None


def test_the_audience_may_have_a_slash_and_be_called_resource(site: SmartSite) -> None:
    assert "code" in site.agree(site.authorize(site.asking(aud=f"{site.base}/fhir/")))
    assert "code" in site.agree(site.authorize(site.asking(aud=None, resource=f"{site.base}/fhir")))


# --- what goes back to the app

WRONG = {
    "response_type": ({"response_type": "token"}, "unsupported_response_type"),
    "response_type with marks": ({"response_type": '"\\\u00e9'}, "unsupported_response_type"),
    "no response_type": ({"response_type": None}, "unsupported_response_type"),
    "no state": ({"state": None}, "invalid_request"),
    "long state": ({"state": "s" * 2049}, "invalid_request"),
    "no aud": ({"aud": None}, "invalid_request"),
    "aud of another server": ({"aud": "https://elsewhere.example.org/fhir"}, "invalid_request"),
    "aud below ours": ({"aud": "http://127.0.0.1:8080/fhir/x"}, "invalid_request"),
    "resource of another server": ({"resource": "https://elsewhere.example.org/fhir"}, "invalid_request"),
    "no challenge": ({"code_challenge": None}, "invalid_request"),
    "empty challenge": ({"code_challenge": ""}, "invalid_request"),
    "plain": ({"code_challenge_method": "plain"}, "invalid_request"),
    "no method": ({"code_challenge_method": None}, "invalid_request"),
    "method in lower case": ({"code_challenge_method": "s256"}, "invalid_request"),
    "no challenge of SHA-256": ({"code_challenge": "a" * 44}, "invalid_request"),
    "no scope": ({"scope": None}, "invalid_scope"),
    "no scope of ours": ({"scope": "email address patient/ImagingStudy.sr"}, "invalid_scope"),
    "scope of services": ({"scope": "system/*.rs"}, "invalid_scope"),
    "launch without a handle": ({"scope": "launch patient/*.rs"}, "invalid_request"),
    "a handle without launch": ({"launch": "x"}, "invalid_request"),
    "a handle of nobody": ({"scope": "launch patient/*.rs", "launch": "x"}, "invalid_request"),
    "a request object": ({"request": "e30."}, "request_not_supported"),
    "without asking": ({"prompt": "none"}, "login_required"),
}


@requires(15)
@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_goes_back_to_the_app(site: SmartSite, case: str) -> None:
    changed, code = WRONG[case]
    for post in (False, True):
        response = site.authorize(site.asking(**changed), post=post)
        assert response.status_code in (302, 303), response.text
        url = response.headers["location"]
        assert url.startswith(f"{BACK}?")
        answer = back(url)
        assert answer["error"] == code, answer
        assert answer["iss"] == site.base
        assert "code" not in answer
        assert answer.get("state") == site.asking(**changed).get("state")


def test_a_client_that_may_not_refresh_is_not_offered_to_stay(site: SmartSite) -> None:
    with site.node.database.write() as connection:
        known = clients.find(connection, "public")
        assert known is not None
        clients.add(
            connection,
            Client("once", "Once", "public", known.redirect_uris, known.scope, grant_types=frozenset({"authorization_code"})),
        )
    tokens = site.tokens("once", "patient/*.rs offline_access")
    assert "refresh_token" not in tokens
    assert tokens["scope"] == "patient/*.rs"


# --- what is told to the person, because there is nobody else


@requires(18)
@pytest.mark.parametrize(
    "changed",
    [
        {"client_id": None},
        {"client_id": "nobody"},
        {"client_id": "backend"},
        {"redirect_uri": None},
        {"redirect_uri": ""},
        {"redirect_uri": f"{BACK}/"},
        {"redirect_uri": f"{BACK}?x=1"},
        {"redirect_uri": f"{BACK}#x"},
        {"redirect_uri": BACK.upper()},
        {"redirect_uri": BACK.replace("https", "http")},
        {"redirect_uri": BACK.replace("app.", "evil.app.")},
        {"redirect_uri": BACK.replace("example.org", "example.org@evil.org")},
        {"redirect_uri": BACK.replace("example.org", "example.org:443")},
        {"redirect_uri": "https://app.example.org.evil.org/back"},
        {"redirect_uri": "https://app.ex\u0430mple.org/back"},
        {"redirect_uri": "https://app.example.org/back/../back"},
        {"redirect_uri": "https://app.example.org\\@evil.org/back"},
        {"redirect_uri": "//evil.org/back"},
        {"redirect_uri": "javascript:alert(1)"},
        {"redirect_uri": "data:text/html,x"},
        {"redirect_uri": 'https://evil.org/"'},
        {"redirect_uri": "http://127.0.0.1:9/back"},
    ],
)
def test_nobody_is_sent_to_an_address_that_is_not_the_apps(site: SmartSite, changed: dict[str, str | None]) -> None:
    for post in (False, True):
        for more in ({}, {"response_type": "token"}, {"scope": ""}, {"code_challenge": ""}):
            response = site.authorize(site.asking(**{**more, **changed}), post=post)
            assert response.status_code == 400
            assert "location" not in response.headers
            assert "evil" not in response.text
            assert response.headers["content-type"].startswith("text/html")
            assert "frame-ancestors 'none'" in response.headers["content-security-policy"]


def test_an_app_that_does_not_say_where_it_is_reads_that(site: SmartSite) -> None:
    assert "redirect_uri is missing" in site.authorize(site.asking(redirect_uri=None)).text


def test_so_many_from_one_address(tmp_path: Path) -> None:
    """Each request is kept for ten minutes, whoever sends it: an address has not more room than that."""
    with smart_site(tmp_path / "data", sign_in_failures_per_address=1) as site:
        for _ in range(20):
            assert site.authorize(site.asking()).status_code == 302
        for post in (False, True):
            refused = site.authorize(site.asking(), post=post)
            assert refused.status_code == 429
            assert 0 < int(refused.headers["retry-after"]) <= 600
            assert refused.headers["content-type"].startswith("text/html")
            assert "Please wait a little" in refused.text
        with site.node.database.read() as connection:
            assert connection.execute(select(func.count()).select_from(AuthorizationRequest)).scalar() == 20
    with smart_site(tmp_path / "proxied", sign_in_failures_per_address=0) as site:
        assert {site.authorize(site.asking()).status_code for _ in range(25)} == {302}


def test_a_fault_of_ours_is_a_page_that_says_so(site: SmartSite, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("canary")

    monkeypatch.setattr(Authorizing, "begin", fails)
    response = site.authorize(site.asking())
    assert response.status_code == 500
    assert "canary" not in response.text
    assert "tell its makers" not in response.text


@given(st.sampled_from((BACK, LOOPBACK)), st.integers(0, 30), st.integers(0, 3), st.text("aA0:/.@\\#?%&[]\u0430 \t", max_size=6))
def test_only_the_registered_uri_is_one(uri: str, place: int, left_out: int, put_in: str) -> None:
    client = Client("c", "C", "public", (BACK, LOOPBACK))
    changed = uri[:place] + put_in + uri[place + left_out :]
    port = re.fullmatch(r"http://127\.0\.0\.1:([0-9]{0,5})/back", changed)
    native = port is not None and int(port[1] or 0) <= 65535
    assert client.check_redirect_uri(changed) == (changed in client.redirect_uris or native)


@pytest.mark.parametrize("uri", ["http://127.0.0.1:4711/back", "http://127.0.0.1/back", "org.example.app:/back"])
def test_native_apps_have_any_port_of_this_machine_and_their_own_scheme(site: SmartSite, uri: str) -> None:
    """RFC 8252 sections 7.1 and 7.3."""
    response = site.authorize(site.asking("native", redirect_uri=uri))
    assert response.status_code == 302
    request_id = response.headers["location"].rpartition("/")[2]
    assert site.node.authorizing.deny(request_id, site.session("patient")).startswith(f"{uri}?")


@pytest.mark.parametrize(
    "uri",
    [
        "http://127.0.0.1:4711/other",
        "http://127.0.0.1:x/back",
        "http://127.0.0.1:99999/back",
        "http://127.0.0.1@evil.org/back",
        "http://127.0.0.1:80@evil.org/back",
        "http://localhost/back",
        "http://127.0.0.2/back",
        "https://127.0.0.1/back",
        "http://127.0.0.1:4711/back#x",
        "http://127.0.0.1:4711/back?x=1",
        "org.example.app:/other",
        "org.example.app://back",
    ],
)
def test_of_a_loopback_address_only_the_port_is_free(site: SmartSite, uri: str) -> None:
    assert site.authorize(site.asking("native", redirect_uri=uri)).status_code == 400


def test_a_parameter_that_is_there_twice_is_refused(site: SmartSite) -> None:
    """RFC 6749 section 3.1, of every parameter: which of two `aud` would count?"""
    asked = site.asking("public", "launch patient/*.rs", launch="x", nonce="n")
    for name in asked:
        for value in (asked[name], "", "other"):
            pairs = [*asked.items(), (name, value)]
            assert site.http.get("/oauth/authorize", params=pairs).status_code == 400, name


def test_what_is_no_query_and_no_form(site: SmartSite) -> None:
    for query in ("client_id=%ff", "client_id=%00", "&".join(f"a{number}=1" for number in range(200))):
        assert site.http.get(f"/oauth/authorize?{query}").status_code == 400
    assert site.http.post("/oauth/authorize", json={"client_id": "public"}).status_code == 400
    assert site.http.post("/oauth/authorize", content=b"a=" + b"x" * 70_000, headers={"Content-Type": "application/x-www-form-urlencoded"}).status_code == 400  # fmt: skip


# --- what the person answers


def _waiting(site: SmartSite, **asked: str | None) -> str:
    location: str = site.authorize(site.asking(**asked)).headers["location"]
    return location.rpartition("/")[2]


def test_a_request_is_answered_once(site: SmartSite) -> None:
    response = site.authorize(site.asking())
    site.agree(response)
    request_id = response.headers["location"].rpartition("/")[2]
    assert site.node.authorizing.asked(request_id) is None
    with pytest.raises(NotFound):
        site.node.authorizing.deny(request_id, site.session("patient"))


def test_the_request_id_is_no_key_of_the_database(site: SmartSite) -> None:
    request_id = _waiting(site)
    with site.node.database.read() as connection:
        rows = connection.exec_driver_sql("SELECT * FROM authorization_request").all()
    assert request_id not in str(rows)


def test_what_was_shown_is_what_is_approved(site: SmartSite) -> None:
    """Abuse case 14: a form whose patient, studies, request or session was changed after it was shown."""
    authorizing, session = site.node.authorizing, site.session("practitioner")
    request_id, other_id = _waiting(site), _waiting(site, scope="patient/*.cruds")
    asked, other = authorizing.asked(request_id), authorizing.asked(other_id)
    assert asked is not None
    assert other is not None
    ours, theirs = site.patients["A"], site.patients["B"]
    shown = authorizing.digest(asked, session, patient=ours)

    def approve(shown: str, **changed: object) -> None:
        given = {"scopes": asked.scopes, "patient": ours, "shown": shown, **changed}
        with pytest.raises(Forbidden):
            authorizing.approve(request_id, given.pop("session", session), **given)  # type: ignore[arg-type]

    approve(shown, patient=theirs)
    approve(shown, studies=("x",))
    approve("")
    approve(authorizing.digest(other, session, patient=ours))
    approve(authorizing.digest(asked, site.session("practitioner"), patient=ours))
    approve(shown, scopes=("patient/*.cruds",))
    assert authorizing.approve(request_id, session, scopes=asked.scopes, patient=ours, shown=shown).startswith(BACK)


def test_a_person_gives_only_what_is_theirs(site: SmartSite) -> None:
    for who, patient in (("patient", "B"), ("other", "A"), ("proxy", "B")):
        with pytest.raises(Forbidden):
            site.agree(site.authorize(site.asking()), who, patient=site.patients[patient])
    for who, patient in (("patient", "A"), ("proxy", "A"), ("other", "B"), ("practitioner", "A"), ("practitioner", "B")):
        assert "code" in site.agree(site.authorize(site.asking()), who, patient=site.patients[patient])
    with pytest.raises(Forbidden):
        site.agree(site.authorize(site.asking()), "practitioner", patient="nobody")


@requires(164)
def test_a_scope_for_a_patient_needs_a_patient(site: SmartSite) -> None:
    for scope in ("patient/ImagingStudy.rs", "launch/patient openid"):
        with pytest.raises(Refused, match="choose"):
            site.agree(site.authorize(site.asking(scope=scope)), patient=None)


def test_a_person_leaves_scopes_out(site: SmartSite) -> None:
    scope = "launch/patient patient/ImagingStudy.rs patient/Observation.rs offline_access"
    pkce = Pkce()
    code = site.agree(site.authorize(site.asking(scope=scope, pkce=pkce)), scopes=("launch/patient", "patient/ImagingStudy.rs"), offline=False)["code"]  # fmt: skip
    tokens = site.redeem(code, pkce).json()
    assert tokens["scope"] == "launch/patient patient/ImagingStudy.rs"
    assert "refresh_token" not in tokens
    assert site.fhir("Observation", tokens["access_token"]).status_code == 403
    with pytest.raises(Refused, match="nothing is left"):
        site.agree(site.authorize(site.asking(scope=scope)), scopes=("launch/patient",))
    with pytest.raises(Forbidden):
        site.agree(site.authorize(site.asking(scope=scope)), scopes=("patient/*.rs",))


def test_a_person_may_show_single_studies_alone(site: SmartSite) -> None:
    choices = site.node.authorizing.choices
    response = site.authorize(site.asking(scope="launch/imagingstudy patient/*.rs"))
    asked = site.node.authorizing.asked(response.headers["location"].rpartition("/")[2])
    assert asked is not None
    assert asked.needs_study
    found = choices(asked, site.people["patient"], patient=site.patients["A"])
    assert [each.name for each in found.patients] == ["Anna Alba"]
    assert {each.uid for each in found.studies} == set(site.studies["A"])
    chosen = found.studies[0]
    with pytest.raises(Forbidden):
        site.agree(response, studies=("elsewhere",), patient=site.patients["A"])
    pkce = Pkce()
    code = site.agree(
        site.authorize(site.asking(scope="launch/imagingstudy patient/*.rs", pkce=pkce)), studies=(chosen.id,), only_these=True
    )["code"]
    tokens = site.redeem(code, pkce).json()
    assert tokens["fhirContext"] == [{"reference": f"ImagingStudy/{chosen.id}"}]
    with site.node.database.read() as connection:
        granted = connection.exec_driver_sql("SELECT studies FROM access_grant ORDER BY created DESC LIMIT 1").scalar_one()
    assert chosen.uid in str(granted)


def test_studies_alone_need_something_that_is_about_studies(site: SmartSite) -> None:
    ids = [each.id for each in _choices(site)]
    nothing: list[str] = []
    for scope, studies, said in (
        ("launch/imagingstudy patient/Observation.rs", ids, "not about single studies"),
        ("launch/imagingstudy patient/*.rs", nothing, "not about single studies"),
        ("launch/imagingstudy " + " ".join(f"patient/ImagingStudy.rs?status={each}" for each in range(50)), ids, "too many"),
    ):
        with pytest.raises(Refused, match=said):
            site.agree(site.authorize(site.asking(scope=scope)), studies=tuple(studies), only_these=True)


def _choices(site: SmartSite) -> Sequence[StudyChoice]:
    asked = site.node.authorizing.asked(site.authorize(site.asking()).headers["location"].rpartition("/")[2])
    assert asked is not None
    return site.node.authorizing.choices(asked, site.people["patient"], patient=site.patients["A"]).studies


# --- who answers is signed in, in the very moment


@pytest.mark.parametrize("how", ["closed", "idle", "over", "disabled"])
@pytest.mark.parametrize("answer", ["approve", "deny"])
def test_who_was_signed_out_meanwhile_allows_nothing_any_more(site: SmartSite, how: str, answer: str) -> None:
    """The page found the session; then another password closed it, before the answer was written."""
    account = site.people["other"]
    thief, _ = site.node.people.sessions.open(account, ("password",), 1)
    request_id = _waiting(site)
    with site.node.database.write() as connection:
        row = SESSION.update().where(SESSION.c.id == thief.id)
        if how == "closed":
            sessions.end_all(connection, account.id)
        elif how == "disabled":
            connection.execute(accounts.ACCOUNT.update().where(accounts.ACCOUNT.c.id == account.id).values(disabled=1))
        else:
            connection.execute(row.values(**{"idle" if how == "idle" else "expires": micros()}))
    asked = site.node.authorizing.asked(request_id)
    assert asked is not None
    shown = site.node.authorizing.digest(asked, thief, patient=site.patients["B"])
    with pytest.raises(Forbidden, match="signed out"):
        if answer == "deny":
            site.node.authorizing.deny(request_id, thief)
        else:
            site.node.authorizing.approve(request_id, thief, scopes=asked.scopes, patient=site.patients["B"], shown=shown)
    assert site.node.authorizing.asked(request_id) is not None
    with site.node.database.write() as connection:
        connection.execute(accounts.ACCOUNT.update().where(accounts.ACCOUNT.c.id == account.id).values(disabled=0))


def test_nothing_is_allowed_beside_another_password(site: SmartSite) -> None:
    """Approvals and the closing of all sessions at once: no grant of before is left when the closing has returned."""
    account = site.people["other"]
    for _ in range(10):
        session = site.session("other")
        request_id = _waiting(site)
        asked = site.node.authorizing.asked(request_id)
        assert asked is not None
        shown = site.node.authorizing.digest(asked, session, patient=site.patients["B"])

        def approve(asked: Asked = asked, session: Session = session, shown: str = shown) -> None:
            with suppress(Forbidden):
                site.node.authorizing.approve(
                    asked.request_id, session, scopes=asked.scopes, patient=site.patients["B"], shown=shown
                )

        def close() -> None:
            with site.node.database.write() as connection:
                sessions.end_all(connection, account.id)
                granting.end_of_account(connection, account.id, "another password")

        assert together(approve, close) == []
        with site.node.database.read() as connection:
            assert granting.of_account(connection, account.id, micros()) == []


# --- OpenID Connect: how long ago they signed in


@pytest.mark.parametrize(("more", "fresh"), [({"max_age": "0"}, False), ({"max_age": "60"}, True), ({"max_age": "3"}, False), ({"prompt": "login", "max_age": "60"}, False), ({}, True)])  # fmt: skip
def test_who_signed_in_too_long_ago_does_so_again(site: SmartSite, more: dict[str, str], fresh: bool) -> None:
    """OpenID Connect Core sections 3.1.2.1 and 15.1."""
    session, _ = site.node.people.sessions.open(site.people["patient"], ("password",), 1, now=micros() - 5_000_000)
    response = site.authorize(site.asking(scope="openid patient/*.rs", **more))
    if fresh:
        assert "code" in site.agree(response, session=session)
    else:
        with pytest.raises(Forbidden, match="sign in anew"):
            site.agree(response, session=session)
        assert "code" in site.agree(response)


@pytest.mark.parametrize("age", ["-1", "x", "1.5", "9" * 10, "\u0663"])
def test_a_max_age_that_is_none(site: SmartSite, age: str) -> None:
    answer = back(site.authorize(site.asking(max_age=age)).headers["location"])
    assert answer["error"] == "invalid_request"


def test_choices_are_those_of_the_person(site: SmartSite) -> None:
    asked = site.node.authorizing.asked(_waiting(site))
    assert asked is not None
    choices = site.node.authorizing.choices
    assert [each.id for each in choices(asked, site.people["patient"]).patients] == [site.patients["A"]]
    assert [each.id for each in choices(asked, site.people["proxy"]).patients] == [site.patients["A"]]
    assert choices(asked, site.people["patient"], patient=site.patients["B"]).patients == ()
    assert choices(asked, site.people["patient"], patient=site.patients["B"]).studies == ()
    physician = site.people["practitioner"]
    assert choices(asked, physician).patients == ()
    assert choices(asked, physician).more
    assert [each.id for each in choices(asked, physician, search="berg").patients] == [site.patients["B"]]
    assert choices(asked, physician, search="%").patients == ()
    mine = [event for event in site.events() if event["type"]["code"] == "110112"]
    assert mine
    assert site.people["practitioner"].id in str(mine[0])


# --- connected apps


def test_a_person_sees_and_ends_what_apps_have(site: SmartSite) -> None:
    authorizing, anna, bert = site.node.authorizing, site.people["patient"], site.people["other"]
    tokens = site.tokens("secret", "patient/*.rs offline_access")
    mine = authorizing.connected(anna)[0]
    assert (mine.client.id, mine.scopes, mine.stays) == ("secret", ("patient/*.rs", "offline_access"), True)
    authorizing.disconnect(bert, mine.grant)
    assert site.fhir("ImagingStudy", tokens["access_token"]).status_code == 200
    authorizing.disconnect(anna, mine.grant)
    assert site.fhir("ImagingStudy", tokens["access_token"]).status_code == 401
    assert site.refresh(tokens["refresh_token"], "secret").json()["error"] == "invalid_grant"
    assert mine.grant not in {each.grant for each in authorizing.connected(anna)}
    assert "secret" not in {each.client.id for each in authorizing.connected(bert)}

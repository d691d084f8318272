"""SMART App Launch 2.2: choosing a patient and studies, allowing and denying, as people see it."""

import html
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peers.requires import requires
from peers.smart_site import BACK, Pkce
from peers.visitor import Pages, Visitor, pages

from server.access.oauth import clients
from server.access.oauth.clients import Client
from server.access.people import proxies
from server.edges.pages.browser import _OWN_PATH
from server.records import resources
from server.records.catalogue import PATIENT
from server.store.db import micros


def _asked(town: Pages, who: str, scope: str, client: str = "public", **more: str) -> Visitor:
    """A person at the first page of a request, signed in."""
    visitor = town.visitor()
    visitor.get("/oauth/authorize", **town.site.asking(client, scope, **more))
    assert visitor.page.url.path == "/sign-in"
    assert "asks for access" in visitor.text
    visitor.sign_in(f"{who}@example.org")
    return visitor


def _back(visitor: Visitor) -> dict[str, str]:
    assert visitor.onward.startswith(BACK), visitor.text
    return {name: values[0] for name, values in parse_qs(urlsplit(visitor.onward).query).items()}


@requires(56, 164, 365)
def test_allowing(town: Pages) -> None:
    pkce = Pkce()
    visitor = town.visitor()
    visitor.get("/oauth/authorize", **town.site.asking(scope="launch/patient patient/*.rs offline_access", pkce=pkce))
    visitor.sign_in("patient@example.org")
    assert "May A public app see the records of Anna Alba?" in visitor.text
    assert "app.example.org" in visitor.text
    visitor.press("Allow")
    told = _back(visitor)
    assert told["state"] == "s1"
    assert told["iss"] == town.site.base
    tokens = town.site.redeem(told["code"], pkce).json()
    assert tokens["patient"] == town.site.patients["A"]
    assert "refresh_token" in tokens


def test_the_page_that_goes_on_has_a_button_for_who_is_not_sent_on(town: Pages) -> None:
    visitor = _asked(town, "patient", "patient/*.rs")
    visitor.press("Allow")
    assert visitor.tree.xpath("//main//a/@href") == [visitor.onward]


def test_denying(town: Pages) -> None:
    visitor = _asked(town, "patient", "patient/*.rs")
    visitor.press("Don’t allow")
    assert _back(visitor)["error"] == "access_denied"


def test_an_answer_counts_once(town: Pages) -> None:
    visitor = _asked(town, "patient", "patient/*.rs")
    target, values = visitor.filled("Allow")
    visitor.press("Allow")
    answer = visitor.http.post(target, data=values, headers={"Origin": town.site.base})
    assert answer.status_code == 404
    assert "begin anew" in answer.text


def test_what_is_unchecked_is_not_given(town: Pages) -> None:
    pkce = Pkce()
    visitor = town.visitor()
    scope = "launch/patient patient/ImagingStudy.rs patient/Observation.rs offline_access"
    visitor.get("/oauth/authorize", **town.site.asking(scope=scope, pkce=pkce))
    visitor.sign_in("patient@example.org")
    visitor.press("Allow", scope=["launch/patient", "patient/ImagingStudy.rs"], stay=[])
    tokens = town.site.redeem(_back(visitor)["code"], pkce).json()
    assert set(tokens["scope"].split()) == {"launch/patient", "patient/ImagingStudy.rs"}
    assert "refresh_token" not in tokens


def test_nothing_left_is_said_and_what_was_left_stays_so(town: Pages) -> None:
    visitor = _asked(town, "patient", "launch/patient patient/ImagingStudy.rs patient/Patient.rs")
    assert visitor.press("Allow", scope=["launch/patient"]).status_code == 400
    assert "Nothing is left that the app may see" in visitor.text
    assert visitor.tree.xpath("//input[@type='checkbox'][@name='scope'][@checked]") == []
    visitor.press("Don’t allow")
    assert _back(visitor)["error"] == "access_denied"


def test_a_scope_that_was_not_asked_for_is_refused(town: Pages) -> None:
    visitor = _asked(town, "patient", "patient/ImagingStudy.rs")
    assert visitor.press("Allow", scope=["patient/ImagingStudy.rs", "patient/*.cruds"]).status_code == 403


@pytest.mark.parametrize("field", ["patient", "shown", "study"])
def test_what_was_not_shown_is_not_approved(town: Pages, field: str) -> None:
    """Abuse case 14: parameters that were swapped after the page was made."""
    visitor = _asked(town, "practitioner", "launch/patient patient/*.rs")
    visitor.press("Search", search="alba")
    visitor.press("Continue", patient=town.site.patients["A"])
    assert "Anna Alba" in visitor.text
    swapped = {"patient": town.site.patients["B"], "shown": "0" * 64, "study": "x"}[field]
    assert visitor.press("Allow", form={field: swapped}).status_code == 403
    assert not visitor.onward


def test_a_form_of_another_request_is_not_taken_for_this_one(town: Pages) -> None:
    visitor = _asked(town, "patient", "patient/Patient.rs")
    _, values = visitor.filled("Allow")
    visitor.get("/oauth/authorize", **town.site.asking(scope="patient/*.cruds"))
    target, _ = visitor.filled("Allow")
    assert visitor.http.post(target, data=values, headers={"Origin": town.site.base}).status_code == 403


def test_a_proxy_of_two_chooses_one(tmp_path: Path) -> None:
    with pages(tmp_path) as town:
        with town.site.node.database.write() as connection:
            proxy = town.site.people["proxy"].id
            proxies.begin(connection, account=proxy, patient=town.site.patients["B"], relation="parent", begins=micros() - 1)
        pkce = Pkce()
        visitor = town.visitor()
        visitor.get("/oauth/authorize", **town.site.asking(scope="patient/*.rs", pkce=pkce))
        visitor.sign_in("proxy@example.org")
        assert "Whose records is this about?" in visitor.text
        assert "Anna Alba" in visitor.text
        assert "Bert Berg" in visitor.text
        visitor.press("Continue")
        assert "Choose whose records" in visitor.text
        visitor.press("Continue", patient=town.site.patients["B"])
        assert "Bert Berg" in visitor.text
        visitor.press("Allow")
        assert town.site.redeem(_back(visitor)["code"], pkce).json()["patient"] == town.site.patients["B"]


@pytest.mark.parametrize("who", ["practitioner", "staff", "administrator"])
def test_who_sees_many_patients_can_tell_those_of_one_name_apart(tmp_path: Path, who: str) -> None:
    with pages(tmp_path) as town:
        with town.site.node.database.write() as connection:
            for sex, number in (("female", "N1"), ("male", "N2")):
                body = {
                    "resourceType": "Patient",
                    "id": number.lower(),
                    "name": [{"text": "Anna Alba"}],
                    "gender": sex,
                    "birthDate": "1974-07-12",
                }
                resources.put(connection, body)
                connection.execute(
                    PATIENT.insert().values(id=number.lower(), authority="1.2.3", value=number, name_folded="ALBA ANNA")
                )
        visitor = _asked(town, who, "launch/patient launch/imagingstudy patient/*.rs")
        visitor.press("Search", search="alba")
        said = [" ".join(each.text_content().split()) for each in visitor.tree.xpath("//label[@class='choice']")]
        assert "Anna Alba born 12 July 1974 · female · number N1" in said
        assert "Anna Alba born 12 July 1974 · male · number N2" in said
        visitor.press("Continue", patient="n2")
        assert "Anna Alba · born 12 July 1974 · male · number N2" in visitor.text
        visitor.press("Continue")
        assert "Born 12 July 1974 · male · number N2" in visitor.text


def test_patients_are_not_told_numbers(town: Pages) -> None:
    visitor = _asked(town, "patient", "launch/patient patient/*.rs")
    assert "Anna Alba" in visitor.text
    assert "number" not in visitor.text


@requires(119)
def test_somebody_elses_patient_cannot_be_chosen(town: Pages) -> None:
    visitor = _asked(town, "patient", "patient/*.rs")
    target, values = visitor.filled("Allow", patient=town.site.patients["B"], answer="patient")
    answer = visitor.http.post(target, data=values, headers={"Origin": town.site.base})
    assert answer.status_code == 403
    assert "Berg" not in answer.text


def test_who_has_no_records_can_only_say_no(town: Pages) -> None:
    with town.site.node.database.write() as connection:
        proxies.end(connection, proxies.of_account(connection, town.site.people["proxy"].id)[0].id)
    visitor = _asked(town, "proxy", "patient/*.rs")
    assert "No records are connected to your account" in visitor.text
    visitor.press("Don’t allow")
    assert _back(visitor)["error"] == "access_denied"


def test_choosing_studies(town: Pages) -> None:
    pkce = Pkce()
    visitor = town.visitor()
    scope = "launch/patient launch/imagingstudy patient/ImagingStudy.rs"
    visitor.get("/oauth/authorize", **town.site.asking(scope=scope, pkce=pkce))
    visitor.sign_in("patient@example.org")
    ids = visitor.tree.xpath("//input[@name='study']/@value")
    assert len(ids) == 2
    visitor.press("Continue", study=[ids[0]])
    visitor.press("Allow")
    tokens = town.site.redeem(_back(visitor)["code"], pkce).json()
    assert {"reference": f"ImagingStudy/{ids[0]}"} in tokens["fhirContext"]


def test_a_launch_for_somebody_else_says_so(town: Pages) -> None:
    handle = town.site.launch(user=town.site.people["practitioner"].id, patient=town.site.patients["A"]).json()["launch"]
    visitor = _asked(town, "patient", "launch patient/*.rs", launch=handle)
    assert visitor.page.status_code == 403
    assert "opened for another person" in visitor.text
    assert "Alba" not in visitor.text
    visitor.press("Sign out")
    visitor.get(visitor.tree.xpath("//main//a/@href")[0])
    visitor.sign_in("practitioner@example.org")
    assert "May A public app see the records of Anna Alba?" in visitor.text


@pytest.mark.parametrize("asked", [{"prompt": "login"}, {"max_age": "0"}])
def test_an_app_can_ask_that_the_person_signs_in_anew(town: Pages, asked: dict[str, str]) -> None:
    visitor = town.signed_in("patient")
    visitor.get("/oauth/authorize", **town.site.asking(scope="patient/*.rs", **asked))
    assert visitor.page.url.path == "/sign-in"
    visitor.sign_in("patient@example.org")
    assert "Anna Alba" in visitor.text


def test_what_clients_call_themselves_stays_text(town: Pages) -> None:
    hostile = '<script>alert(1)</script> "{{ 7*7 }}'
    client = Client(
        "hostile", hostile, "public", redirect_uris=(BACK,), scope="patient/*.rs", logo_uri="https://evil.example/x.png"
    )
    with town.site.node.database.write() as connection:
        clients.add(connection, client)
    visitor = _asked(town, "patient", "patient/*.rs", "hostile")
    assert html.escape(hostile, quote=False).replace('"', "&#34;") in visitor.page.text
    assert "<script>alert" not in visitor.page.text
    assert "evil.example" not in visitor.page.text


def test_a_request_that_is_over_says_what_to_do(town: Pages) -> None:
    visitor = town.signed_in("patient")
    assert visitor.get("/authorize/nothing").status_code == 404
    assert "go back to the app and begin anew" in visitor.text


@given(st.text(max_size=60) | st.from_regex(r"[/\\:a-z0-9@.%-]{0,20}", fullmatch=True))
def test_one_goes_on_to_pages_of_ours_only(path: str) -> None:
    """Abuse case 13, of `next`: what is taken has no host, whoever reads it."""
    if _OWN_PATH.fullmatch(path):
        assert path.startswith("/")
        assert not path.startswith(("//", "/\\"))
        assert urlsplit(path)[:2] == ("", "")
        assert ".." not in path.split("/")
        assert path.isascii()


def test_a_page_says_where_the_answer_goes_not_what_the_app_claims(town: Pages) -> None:
    """RFC 7591 section 5: `client_uri` is what an app says of itself."""
    evil = "https://evil.example.net/back"
    claims = "https://www.riverside-hospital.example/"
    with town.site.node.database.write() as connection:
        clients.add(connection, Client("evil", "Riverside Hospital", "public", redirect_uris=(evil,), client_uri=claims, scope="patient/*.rs"))  # fmt: skip
    visitor = _asked(town, "patient", "patient/*.rs", "evil", redirect_uri=evil)
    assert "evil.example.net" in visitor.text
    assert "riverside-hospital.example" not in visitor.text
    visitor.press("Allow")
    visitor.get("/account/apps")
    assert "riverside-hospital.example" not in visitor.text

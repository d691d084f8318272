"""EHR launch: a context that an EHR puts down, for one app, for one person, once."""

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from peers.requires import requires
from peers.smart_site import Pkce, SmartSite, back, smart_site

from server.errors import Forbidden
from server.store.tables import Launch

LAUNCH = Launch.__table__  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, module_database_url: str) -> Iterator[SmartSite]:
    folder: Path = tmp_path_factory.mktemp("launch")
    with smart_site(folder / "data", module_database_url) as made:
        yield made


SCOPE = "launch openid fhirUser patient/*.rs"


@requires(149, 168, 169, 170, 171, 172, 173, 174, 176, 349, 351, 352, 361, 362)
def test_an_ehr_opens_an_app_with_a_context(site: SmartSite) -> None:
    study = {"reference": "ImagingStudy/1", "role": "https://example.org/role"}
    context = {
        "fhirContext": [study, {"identifier": {"value": "x"}}],
        "intent": "compare",
        "need_patient_banner": False,
        "tenant": "t1",
    }
    made = site.launch(
        patient=site.patients["A"], encounter="e1", context=json.dumps(context), user=site.people["practitioner"].id
    )
    assert made.status_code == 201, made.text
    assert made.headers["cache-control"] == "no-store"
    url = urlsplit(made.json()["launch_url"])
    assert url._replace(query="").geturl() == "https://app.example.org/launch"
    asked = {name: values[0] for name, values in parse_qs(url.query).items()}
    assert asked == {"iss": f"{site.base}/fhir", "launch": made.json()["launch"]}
    told = site.tokens(scope=SCOPE, who="practitioner", asking={"launch": asked["launch"], "aud": asked["iss"]})
    assert (told["patient"], told["encounter"]) == (site.patients["A"], "e1")
    assert {name: told[name] for name in context} == context
    refreshing = site.launch(patient=site.patients["A"])
    kept = site.tokens(scope=f"{SCOPE} offline_access", who="practitioner", asking={"launch": refreshing.json()["launch"]})
    assert site.refresh(kept["refresh_token"]).json()["patient"] == site.patients["A"]


def test_a_handle_is_for_one_app_and_good_once(site: SmartSite) -> None:
    handle = site.launch("secret", patient=site.patients["A"]).json()["launch"]
    stolen = site.authorize(site.asking("public", SCOPE, launch=handle))
    assert back(stolen.headers["location"])["error"] == "invalid_request"
    first = site.authorize(site.asking("secret", SCOPE, launch=handle))
    assert "/authorize/" in first.headers["location"]
    second = site.authorize(site.asking("secret", SCOPE, launch=handle))
    assert back(second.headers["location"])["error"] == "invalid_request"


def test_a_handle_lives_five_minutes(site: SmartSite) -> None:
    made = site.launch(patient=site.patients["A"]).json()
    assert made["expires_in"] == 300
    with site.node.database.write() as connection:
        connection.execute(LAUNCH.update().values(expires=LAUNCH.c.expires - 300_000_000))
    late = site.authorize(site.asking(scope=SCOPE, launch=made["launch"]))
    assert back(late.headers["location"])["error"] == "invalid_request"


def test_a_launch_for_one_person_is_for_no_other(site: SmartSite) -> None:
    handle = site.launch(patient=site.patients["A"], user=site.people["practitioner"].id).json()["launch"]
    response = site.authorize(site.asking(scope=SCOPE, launch=handle))
    with pytest.raises(Forbidden):
        site.agree(response, "patient")
    assert "code" in site.agree(response, "practitioner")


def test_the_patient_of_a_launch_is_not_changed_and_not_seen_by_others(site: SmartSite) -> None:
    handle = site.launch(patient=site.patients["A"]).json()["launch"]
    response = site.authorize(site.asking(scope=SCOPE, launch=handle))
    with pytest.raises(Forbidden):
        site.agree(response, "practitioner", patient=site.patients["B"])
    with pytest.raises(Forbidden):
        site.agree(response, "other", patient=site.patients["A"])
    assert "code" in site.agree(response, "patient")


def test_handles_are_hashes_in_the_database(site: SmartSite) -> None:
    handle = site.launch(patient=site.patients["A"]).json()["launch"]
    with site.node.database.read() as connection:
        assert handle not in str(connection.execute(LAUNCH.select()).all())


def test_only_a_client_that_may_makes_handles(site: SmartSite) -> None:
    assert site.launch(by="secret").json()["error"] == "unauthorized_client"
    assert site.http.post("/oauth/launch", data={"app": "public", "client_id": "public"}).json()["error"] == "invalid_client"
    token = site.tokens()["access_token"]
    bearer = site.http.post("/oauth/launch", data={"app": "public"}, headers={"Authorization": f"Bearer {token}"})
    assert bearer.json()["error"] == "invalid_client"


@requires(172, 177, 178, 188)
@pytest.mark.parametrize(
    "context",
    [
        "{", "[]", '{"patient": "B"}', '{"access_token": "x"}', '{"intent": 7}', '{"need_patient_banner": "true"}', '{"fhirContext": {}}',
        '{"fhirContext": ["ImagingStudy/1"]}', '{"fhirContext": [{}]}', '{"fhirContext": [{"role": "https://example.org"}]}',
        '{"fhirContext": [{"reference": "Patient/1"}]}', '{"fhirContext": [{"reference": "Encounter/1", "role": "launch"}]}',
        '{"fhirContext": [{"reference": "https://elsewhere.example.org/ImagingStudy/1"}]}', '{"fhirContext": [{"reference": "../x"}]}',
        '{"fhirContext": [{"reference": "ImagingStudy/1", "role": "plain"}]}', '{"fhirContext": [{"reference": "ImagingStudy/1", "role": ""}]}',
        '{"fhirContext": [{"identifier": "x"}]}', '{"fhirContext": [{"canonical": 1}]}', '{"fhirContext": [{"reference": "ImagingStudy/1", "x": 1}]}',
        '{"fhirContext": [{"identifier": {}, "type": "Patient"}]}',
    ],
)  # fmt: skip
def test_contexts_that_are_none(site: SmartSite, context: str) -> None:
    refused = site.launch(patient=site.patients["A"], context=context)
    assert refused.status_code == 400, context
    assert refused.json()["error"] == "invalid_request"


@pytest.mark.parametrize("more", [{"app": "nobody"}, {"user": "nobody"}, {"patient": "../x"}, {"encounter": "a b"}])
def test_launches_of_what_is_not_there(site: SmartSite, more: dict[str, str]) -> None:
    assert site.launch(**{"app": "public", **more}).json()["error"] == "invalid_request"


def test_a_launch_may_leave_the_patient_to_the_person(site: SmartSite) -> None:
    pkce = Pkce()
    handle = site.launch().json()["launch"]
    code = site.code(scope="launch launch/patient patient/*.rs", pkce=pkce, asking={"launch": handle})
    assert site.redeem(code, pkce).json()["patient"] == site.patients["A"]

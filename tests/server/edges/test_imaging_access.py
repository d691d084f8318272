"""SMART Imaging Access at the edges: capability URLs, and studies that are still arriving."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peers.generated import Made, send
from peers.smart_site import SmartSite, smart_site

from server.access import capabilities
from server.access.decisions import Decision, parse_scopes
from server.access.oauth import granting
from server.errors import Forbidden

SCOPE = "launch/patient patient/*.rs offline_access"
BELOW = ("", "/metadata", "/series", "/instances", "/rendered", "/thumbnail")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[SmartSite]:
    with smart_site(tmp_path, imaging_capability_urls=True) as made:
        yield made


def _get(site: SmartSite, url: str, token: str | None) -> Any:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return site.http.get(url.removeprefix(site.base), headers=headers)


def _addresses(site: SmartSite, token: str, query: str = "") -> dict[str, str]:
    """Of each study that a search finds, by its UID."""
    found = site.fhir(f"ImagingStudy?_sort=_id{query}", token).json()
    told: dict[str, str] = {}
    for entry in found["entry"]:
        study = entry["resource"]
        (endpoint,) = study["contained"]
        assert {each["reference"] for each in [*study["endpoint"], *study["series"][0]["endpoint"]]} == {f"#{endpoint['id']}"}
        assert endpoint["connectionType"]["code"] == "dicom-wado-rs"
        assert [each["valueBoolean"] for each in endpoint["extension"]] == [True]
        told[study["identifier"][0]["value"].removeprefix("urn:oid:")] = endpoint["address"]
    return told


def test_each_study_has_an_address_of_its_own_that_opens_it_with_the_token(site: SmartSite) -> None:
    token = site.tokens(scope=SCOPE)["access_token"]
    told = _addresses(site, token)
    assert set(told) == set(site.studies["A"])
    assert len(set(told.values())) == 2
    for uid, address in told.items():
        assert uid not in address
        for path in BELOW:
            assert _get(site, f"{address}/studies/{uid}{path}", token).status_code == 200, path
    assert _addresses(site, token) == told


def test_a_read_has_it_too_and_a_foreign_format(site: SmartSite) -> None:
    token = site.tokens(scope=SCOPE)["access_token"]
    entry = site.fhir("ImagingStudy?_count=1", token).json()["entry"][0]
    read = site.fhir(f"ImagingStudy/{entry['resource']['id']}", token).json()
    assert read["contained"] == entry["resource"]["contained"]
    xml = site.fhir("ImagingStudy?_format=xml", token).text
    assert xml.count("/dicomweb/c/") == 2
    assert "contained" not in site.fhir("ImagingStudy?_elements=status", token).text


def test_the_address_alone_opens_nothing(site: SmartSite) -> None:
    token = site.tokens(scope=SCOPE)["access_token"]
    for uid, address in _addresses(site, token).items():
        assert _get(site, f"{address}/studies/{uid}", None).status_code == 401
        assert _get(site, f"{address}/studies/{uid}", "x").status_code == 401


def test_it_is_for_its_grant_alone(site: SmartSite) -> None:
    """Not for the same person's other grant, nor for somebody else who may see every patient."""
    first, second = (site.tokens(scope=SCOPE) for _ in range(2))
    everybody = site.node.tokens.issue(client="script", scope="system/*.rs")
    (uid, address), *_ = _addresses(site, first["access_token"]).items()
    for token in (second["access_token"], everybody):
        assert _get(site, f"/dicomweb/studies/{uid}", token).status_code == 200
        assert _get(site, f"{address}/studies/{uid}", token).status_code == 403
    refreshed = site.refresh(first["refresh_token"]).json()["access_token"]
    assert _get(site, f"{address}/studies/{uid}", refreshed).status_code == 200


def test_it_is_for_its_study_alone(site: SmartSite) -> None:
    token = site.tokens(scope=SCOPE)["access_token"]
    (uid, address), (other, _) = _addresses(site, token).items()
    for wanted in (other, *site.studies["B"], "1.2.3"):
        for path in BELOW:
            assert _get(site, f"{address}/studies/{wanted}{path}", token).status_code == 403
    for path in ("/studies", "/series", "/instances", "", f"/studies/{uid}/../{other}", "/changefeed"):
        assert _get(site, f"{address}{path}", token).status_code in (403, 404), path
    assert site.http.post(f"{address}/studies/{uid}".removeprefix(site.base)).status_code in (404, 405)


def test_it_ends_with_its_grant(site: SmartSite) -> None:
    token = site.tokens(scope=SCOPE)["access_token"]
    (uid, address), *_ = _addresses(site, token).items()
    with site.node.database.write() as connection:
        granting.end(connection, site.node.tokens.decide(token).grant, "test")
    assert _get(site, f"{address}/studies/{uid}", token).status_code == 401


def test_it_ends_when_its_time_is_over(site: SmartSite) -> None:
    token = site.tokens(scope=SCOPE)["access_token"]
    decision, uid = site.node.tokens.decide(token), site.studies["A"][0]
    for began, status in ((time.time() - 7200, 403), (time.time(), 200)):
        capability = capabilities.issue(site.node.installation.cursor_key, decision, uid, began, 3600)
        assert _get(site, f"/dicomweb/c/{capability}/studies/{uid}", token).status_code == status


def test_a_refusal_is_in_the_trail_without_the_address(site: SmartSite) -> None:
    token = site.tokens(scope=SCOPE)["access_token"]
    address = next(iter(_addresses(site, token).values()))
    _get(site, f"{address}/studies/1.2.3/series", token)
    refused = site.events()[0]
    assert refused["outcome"] == "4"
    assert not any(address.rpartition("/")[2] in str(event) for event in site.events())


def test_without_the_setting_all_studies_have_the_servers_own_address(tmp_path: Path) -> None:
    with smart_site(tmp_path) as site:
        token = site.tokens(scope=SCOPE)["access_token"]
        assert "contained" not in site.fhir("ImagingStudy", token).text


_KEY = bytes(range(32))
_DECISION = Decision("app", parse_scopes("patient/*.rs"), patient="a", grant="g1")


@given(st.data())
def test_one_that_was_changed_opens_nothing(data: st.DataObject) -> None:
    capability = capabilities.issue(_KEY, _DECISION, "1.2.3", 0, 3600)
    place = data.draw(st.integers(0, len(capability) - 1))
    mark = data.draw(st.sampled_from("ABCDEFabcdef0123456789-_=.%é\0").filter(lambda each: each != capability[place]))
    for changed in (capability[:place] + mark + capability[place + 1 :], capability[:place], capability + mark):
        with pytest.raises(Forbidden):
            capabilities.require(_KEY, changed, _DECISION, "1.2.3", 1)
    capabilities.require(_KEY, capability, _DECISION, "1.2.3", 1)
    with pytest.raises(Forbidden):
        capabilities.require(bytes(32), capability, _DECISION, "1.2.3", 1)


def test_who_cannot_be_told_from_others_gets_none() -> None:
    assert capabilities.issue(_KEY, Decision("app", ()), "1.2.3", 0, 3600) == ""


# --- studies that are still arriving


def test_a_study_that_is_arriving_is_asked_for_again(tmp_path: Path) -> None:
    """503 for whose it is, who names it; for everybody else it is as if it were not there."""
    with smart_site(tmp_path, quiet_period=3600) as site:
        mine, theirs = Made(study=7, patient="A", name="Alba^Anna"), Made(study=8, patient="B", name="Berg^Bert")
        token = site.node.tokens.issue(client="app", scope="patient/*.rs", patient=site.patients["A"])
        everybody = site.node.tokens.issue(client="script", scope="system/*.rs")
        blind = site.node.tokens.issue(client="app", scope="patient/Observation.rs", patient=site.patients["A"])

        def asked(made: Made, given: str) -> list[tuple[int, str | None]]:
            urls = (
                f"/dicomweb/studies/{made.study_uid}",
                f"/dicomweb/studies/{made.study_uid}/metadata",
                f"/fhir/ImagingStudy?identifier=urn:oid:{made.study_uid}",
                f"/fhir/ImagingStudy?patient={site.patients['A']}&identifier=urn:dicom:uid|urn:oid:{made.study_uid}",
            )
            answers = [_get(site, url, given) for url in urls]
            return [(each.status_code, each.headers.get("retry-after")) for each in answers]

        nothing = [(403, None), (403, None), (200, None), (200, None)]
        assert asked(mine, token) == asked(theirs, token) == nothing
        send(site.node, mine, theirs)
        assert asked(mine, token) == [(503, "5")] * 4
        assert asked(theirs, token) == nothing
        assert asked(mine, blind) == [(403, None)] * 4
        assert [status for status, _ in asked(mine, everybody)] == [404, 404, 200, 200]
        assert _get(site, f"/fhir/ImagingStudy?patient={site.patients['A']}", token).status_code == 200

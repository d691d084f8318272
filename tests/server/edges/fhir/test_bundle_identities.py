"""What the entries of a transaction are about: identities that overlap, and references to versions of what other entries write."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from httpx2 import Response
from peers.fhir_site import FhirSite, fhir_site, issue
from peers.shows import shows

ON_BOTH_ENGINES = True
Json = dict[str, Any]
ELSEWHERE = "http://elsewhere.example/fhir"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[FhirSite]:
    with fhir_site(tmp_path / "data") as site:
        yield site


def patient(value: str, **more: Any) -> Json:
    return {"resourceType": "Patient", "identifier": [{"system": "urn:example", "value": value}], **more}


def provenance(*targets: str) -> Json:
    who = {"who": {"display": "x"}}
    return {
        "resourceType": "Provenance", "recorded": "2026-01-01T00:00:00Z", "agent": [who],
        "target": [{"reference": each} for each in targets],
    }  # fmt: skip


def entry(method: str, url: str, resource: Json, full_url: str = "", **request: str) -> Json:
    return {
        **({"fullUrl": full_url} if full_url else {}),
        "resource": resource,
        "request": {"method": method, "url": url, **request},
    }


def sent(site: FhirSite, *entries: Json) -> Response:
    return site.ask("POST", "", body={"resourceType": "Bundle", "type": "transaction", "entry": list(entries)})


def places(response: Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [each["response"]["location"].partition("/_history")[0] for each in response.json()["entry"]]


# --- 3.1.0.11.2: "If any resource identities (including resolved identities from conditional update/delete) overlap ... SHALL fail"


@pytest.mark.parametrize(
    "conditional",
    [
        entry("PUT", "Patient?identifier=urn:example|1", patient("1", active=True)),
        entry("PUT", "Patient?identifier=urn:example|1", patient("1", id="named")),
        entry("POST", "Patient", patient("1"), ifNoneExist="identifier=urn:example|1"),
        entry("PUT", "Patient?identifier=urn:example|1", patient("2")),
    ],
)
@pytest.mark.parametrize("is_first", [True, False])
def test_what_a_condition_did_not_find_no_other_entry_makes(site: FhirSite, conditional: Json, is_first: bool) -> None:
    both = [conditional, entry("POST", "Patient", patient("1"))]
    found = issue(
        sent(site, *(both if is_first else both[::-1])), 412, "multiple-matches" if "2" not in str(conditional) else "conflict"
    )
    assert found["expression"] == [f"Bundle.entry[{0 if is_first else 1}].request"]
    assert site.ids("Patient") == []


def test_conditions_that_are_met_by_their_own_entry_are_none_of_it(site: FhirSite) -> None:
    response = sent(
        site,
        entry("POST", "Patient", patient("1"), ifNoneExist="identifier=urn:example|1"),
        entry("PUT", "Patient?identifier=urn:example|2", patient("2")),
        entry("PUT", "Patient?identifier=urn:example|3", patient("3", id="three")),
        entry("POST", "Patient", patient("4")),
    )
    assert len(set(places(response))) == 4


# --- 3.1.0.11.2: "Version-specific references should remain as version-specific references after the references have been updated"


def targets(site: FhirSite, place: str) -> list[str]:
    return [each["reference"] for each in site.get(place).json()["target"]]


@shows("interaction", "transaction")
def test_references_to_a_version_become_those_to_the_one_that_is_made(site: FhirSite) -> None:
    """Whichever version the client chose: "they will all be re-assigned anyway"."""
    assert site.ask("PUT", "Patient/77", body=patient("old", id="77")).status_code == 201
    assert site.ask("PUT", "Patient/old", body=patient("another", id="old")).status_code == 201
    mine, changed = f"{ELSEWHERE}/Patient/77", f"{site.base}/Patient/old"
    relative = entry(
        "POST",
        "Provenance",
        provenance("Patient/77/_history/3", f"{ELSEWHERE}/Patient/8/_history/1"),
        f"{ELSEWHERE}/Provenance/1",
    )
    response = sent(
        site,
        entry("POST", "Provenance", provenance(f"{mine}/_history/1", f"{mine}/_history/5", f"{changed}/_history/1")),
        relative,
        entry("POST", "Patient", patient("new"), mine),
        entry("PUT", "Patient/old", patient("another", id="old", active=True), changed),
    )
    first, second, new, _ = places(response)
    assert targets(site, first) == [f"{new}/_history/1"] * 2 + ["Patient/old/_history/2"]
    assert targets(site, second) == [f"{new}/_history/1", f"{ELSEWHERE}/Patient/8/_history/1"], "what is no entry stays"


def test_two_that_name_each_others_version_are_refused(site: FhirSite) -> None:
    urls = [f"{site.base}/Provenance/{name}" for name in "ab"]
    for name in "ab":
        assert site.ask("PUT", f"Provenance/{name}", body={**provenance("Patient/1"), "id": name}).status_code == 201
    entries = [
        entry("PUT", f"Provenance/{name}", {**provenance(f"{other}/_history/1"), "id": name}, url)
        for name, url, other in zip("ab", urls, urls[::-1], strict=True)
    ]
    assert issue(sent(site, *entries), 400, "not-supported")["expression"] == ["Bundle.entry[0].resource"]


# --- preconditions of updates


@pytest.mark.parametrize("kind", ["batch", "transaction"])
def test_an_update_with_if_none_match_overwrites_nothing(site: FhirSite, kind: str) -> None:
    """RFC 9110 section 13.1.2, as by If-None-Match."""
    update = entry("PUT", "Patient/a", patient("1", id="a"), ifNoneMatch="*")
    told = []
    for _ in range(2):
        response = site.ask("POST", "", body={"resourceType": "Bundle", "type": kind, "entry": [update]})
        inner = response.json().get("entry", [{}])[0].get("response", {}).get("status", "")[:3]
        told.append(inner or str(response.status_code))
    assert told == ["201", "412"]
    deleting = {"request": {"method": "DELETE", "url": "Patient/a", "ifNoneMatch": "*"}}
    issue(sent(site, deleting), 400, "not-supported")


def test_conditions_that_fail_are_searches_in_the_trail(site: FhirSite) -> None:
    """Who is told that a condition is met, or is not, has searched."""
    mine = site.ask("POST", "Patient", body=patient("1")).json()["id"]
    met = entry("PUT", "Patient?identifier=urn:example|1", patient("1"), ifMatch='W/"9"')
    for kind in ("batch", "transaction"):
        mark = site.mark()
        site.ask("POST", "", body={"resourceType": "Bundle", "type": kind, "entry": [met]})
        (event,) = [each for each in site.events(mark) if each["subtype"][0]["code"] == "search"]
        assert {"reference": f"Patient/{mine}"} in [each["what"] for each in event["entity"] if "what" in each]

"""Operations over HTTP, on both engines: what they give, to whom, and what the trail says of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.operationoutcome import OperationOutcome
from fhir.resources.R4B.parameters import Parameters
from httpx2 import Response
from peers.fhir_site import FhirSite, fhir_site, issue
from peers.shows import shows

Json = dict[str, Any]
TAG = {"system": "http://example.org/tags", "code": "teaching"}


def observation(id_: str, of: str, day: str = "", **more: Any) -> Json:
    dated = {"effectiveDateTime": day} if day else {}
    subject = {"reference": f"Patient/{of}"}
    return {
        "resourceType": "Observation",
        "id": id_,
        "status": "final",
        "code": {"text": "x"},
        "subject": subject,
        **dated,
        **more,
    }


def document(id_: str, of: str, day: str, code: str = "34133-9", status: str = "current") -> Json:
    return {
        "resourceType": "DocumentReference", "id": id_, "status": status, "subject": {"reference": f"Patient/{of}"},
        "type": {"coding": [{"system": "http://loinc.org", "code": code}]}, "content": [{"attachment": {"url": "http://example.org/d"}}],
        "context": {"period": {"start": day, "end": day}},
    }  # fmt: skip


def with_meta(**meta: Any) -> Json:
    return {"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": meta}]}


@pytest.fixture
def site(tmp_path: Path, database_url: str) -> Iterator[FhirSite]:
    with fhir_site(tmp_path / "data", database_url) as site:
        site.put(
            {"resourceType": "Organization", "id": "org", "name": "Clinic"},
            {"resourceType": "Practitioner", "id": "doc"},
            {"resourceType": "Patient", "id": "a", "managingOrganization": {"reference": "Organization/org"}},
            {"resourceType": "Patient", "id": "b"},
            {
                "resourceType": "Encounter", "id": "e", "status": "finished", "class": {"code": "AMB"},
                "subject": {"reference": "Patient/a"}, "period": {"start": "2020-01-01", "end": "2020-01-02"},
            },
            observation("o1", "a", "2020-01-01", encounter={"reference": "Encounter/e"}, performer=[{"reference": "Practitioner/doc"}]),
            observation("o2", "a", "2022-06-01"),
            observation("o3", "a"),
            observation("other", "b", "2020-01-01"),
        )  # fmt: skip
        yield site


def names(bundle: Json, mode: str = "match") -> list[str]:
    Bundle.model_validate(bundle)
    entries = [each for each in bundle.get("entry", ()) if each["search"]["mode"] == mode]
    return [f"{each['resource']['resourceType']}/{each['resource']['id']}" for each in entries]


def pages(site: FhirSite, path: str, token: dict[str, str] | None = None) -> list[Json]:
    found = [site.bundle(path, token)]
    while following := [link["url"] for link in found[-1]["link"] if link["relation"] == "next"]:
        found.append(site.bundle(following[0].removeprefix(f"{site.base}/"), token))
    return found


# --- $everything


@shows("operation", "everything")
def test_everything_of_a_patient(site: FhirSite) -> None:
    mark = site.mark()
    found = site.bundle("Patient/a/$everything")
    assert sorted(names(found)) == ["Encounter/e", "Observation/o1", "Observation/o2", "Observation/o3", "Patient/a"]
    assert names(found)[0] == "Patient/a"
    assert sorted(names(found, "include")) == ["Organization/org", "Practitioner/doc"]
    (event,) = site.events(mark)
    assert event["subtype"][0]["code"] == "operation"
    assert event["action"] == "E"
    assert [each["what"]["reference"] for each in event["entity"] if "reference" in each.get("what", {})] == ["Patient/a"]


@shows("operation", "everything")
def test_everything_of_an_encounter(site: FhirSite) -> None:
    found = site.bundle("Encounter/e/$everything")
    assert sorted(names(found)) == ["Encounter/e", "Observation/o1"]
    assert sorted(names(found, "include")) == ["Patient/a", "Practitioner/doc"]
    issue(site.get("Encounter/e/$everything?start=2020"), 400, "not-supported")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("start=2022", ["Observation/o2", "Observation/o3", "Patient/a"]),
        ("end=2021", ["Encounter/e", "Observation/o1", "Observation/o3", "Patient/a"]),
        ("start=2020-01-02&end=2021", ["Encounter/e", "Observation/o3", "Patient/a"]),
        ("_type=Observation", ["Observation/o1", "Observation/o2", "Observation/o3"]),
        ("_type=Patient,Organization", ["Patient/a"]),
        ("_since=2999-01-01", ["Patient/a"]),
    ],
)
def test_everything_within_limits(site: FhirSite, query: str, expected: list[str]) -> None:
    """The patient, of whom it is, is told whenever it was changed."""
    assert sorted(names(site.bundle(f"Patient/a/$everything?{query}"))) == expected


@pytest.mark.parametrize("count", [1, 2, 4, 5])
@pytest.mark.parametrize("path", ["Patient/a/$everything", "Patient/$everything"])
def test_pages_joined_are_the_whole(site: FhirSite, path: str, count: int) -> None:
    whole = names(site.bundle(path))
    found = pages(site, f"{path}?_count={count}")
    assert [name for page in found for name in names(page)] == whole
    assert all(len(names(page)) <= count for page in found)
    assert len(found) == -(-len(whole) // count)


def test_what_changes_between_pages_is_told_and_nothing_is_lost(site: FhirSite) -> None:
    """A resource that gets another date moves within its compartment."""
    found = [site.bundle("Patient/a/$everything?_count=2")]
    assert names(found[0]) == ["Patient/a", "Encounter/e"]
    site.put(observation("o2", "a", "1999-01-01"), observation("o3", "a", "2030-01-01"), observation("new", "a"))
    while following := [link["url"] for link in found[-1]["link"] if link["relation"] == "next"]:
        found.append(site.bundle(following[0].removeprefix(f"{site.base}/")))
        site.put(observation("o1", "a", f"20{len(found):02}-01-01"))
    told = [each["resource"] for page in found for each in page["entry"] if each["search"]["mode"] == "match"]
    assert {each["id"] for each in told} == {"a", "e", "o1", "o2", "o3", "new"}
    (late,) = [each for each in told if each["id"] == "o2"]
    assert late["effectiveDateTime"] == "1999-01-01"


def test_everything_of_an_app_walks_its_own_patient_only(site: FhirSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.records.compartments.of_all", None)
    mine = site.token("patient/*.rs", "a")
    expected = ["Patient/a", "Encounter/e", "Observation/o3", "Observation/o1", "Observation/o2"]
    assert names(site.bundle("Patient/$everything", mine)) == expected
    assert [name for page in pages(site, "Patient/$everything?_count=2", mine) for name in names(page)] == expected
    assert names(site.bundle("Patient/$everything", site.token("patient/*.rs", "nobody"))) == []


def test_everything_of_all_patients(site: FhirSite) -> None:
    found = site.bundle("Patient/$everything")
    assert len(names(found)) == 7
    mine = site.token("patient/*.rs", "a")
    assert sorted(names(site.bundle("Patient/$everything", mine))) == [
        "Encounter/e", "Observation/o1", "Observation/o2", "Observation/o3", "Patient/a",
    ]  # fmt: skip


def test_everything_is_what_the_token_opens(site: FhirSite) -> None:
    mine = site.token("patient/*.rs", "a")
    found = site.bundle("Patient/a/$everything", mine)
    assert len(names(found)) == 5
    assert names(found, "include") == []  # who is nobody's is not a patient's
    mark = site.mark()
    issue(site.get("Patient/b/$everything", mine), 403, "forbidden")
    issue(site.get("Patient/nobody/$everything", mine), 403, "forbidden")
    assert {event["outcome"] for event in site.events(mark)} == {"4"}
    issue(site.get("Patient/nobody/$everything"), 404, "not-found")
    assert names(site.bundle("Patient/a/$everything", site.token("system/Patient.rs system/Encounter.rs"))) == [
        "Patient/a",
        "Encounter/e",
    ]
    issue(site.get("Patient/a/$everything", site.token("system/Observation.rs")), 403, "forbidden")


def test_a_page_link_is_for_its_request_and_caller(site: FhirSite) -> None:
    (link,) = [each["url"] for each in site.bundle("Patient/a/$everything?_count=2")["link"] if each["relation"] == "next"]
    path = link.removeprefix(f"{site.base}/")
    assert site.get(path).status_code == 200
    issue(site.get(path.replace("Patient/a/", "Patient/b/")), 400, "value")
    issue(site.get(path, site.token(client="another")), 400, "value")
    issue(site.get(path.replace("_count=2", "_count=3")), 400, "value")


@pytest.mark.parametrize(
    "query", ["_count=0", "_count=x", "start=yesterday", "_type=Nothing", "_type=", "colour=red", "start=2020&start=2021"]
)
def test_wrong_parameters_are_named(site: FhirSite, query: str) -> None:
    found = site.get(f"Patient/a/$everything?{query}")
    assert found.status_code == 400
    assert found.json()["issue"][0]["location"] == [f"http.{query.partition('=')[0]}"]


# --- $docref


@shows("operation", "docref")
def test_documents_of_a_patient(site: FhirSite) -> None:
    site.put(
        document("d1", "a", "2020-01-01"), document("d2", "a", "2022-01-01", "18842-5"), document("old", "a", "2020-01-01", status="superseded"),
        document("other", "b", "2020-01-01"),
    )  # fmt: skip
    for query, expected in (
        ("patient=a", ["d1", "d2"]),
        ("patient=Patient/a", ["d1", "d2"]),
        ("patient=a&start=2021", ["d2"]),
        ("patient=a&end=2021", ["d1"]),
        ("patient=a&type=http://loinc.org|18842-5", ["d2"]),
        ("patient=a&on-demand=true", []),
        ("patient=a&profile=http://example.org/none", []),
    ):
        assert sorted(site.ids(f"DocumentReference/$docref?{query}")) == expected, query
    asked = {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "patient", "valueId": "a"},
            {"name": "type", "valueCodeableConcept": {"coding": [{"system": "http://loinc.org", "code": "34133-9"}]}},
        ],
    }
    found = site.ask("POST", "DocumentReference/$docref", body=asked)
    assert [each["resource"]["id"] for each in found.json()["entry"]] == ["d1"]
    issue(site.get("DocumentReference/$docref"), 400, "required")
    issue(site.get("DocumentReference/$docref?patient=b", site.token("patient/*.rs", "a")), 403, "forbidden")


# --- $validate


def severities(found: Response) -> list[str]:
    assert found.status_code == 200, found.text
    OperationOutcome.model_validate(found.json())
    return [each["severity"] for each in found.json()["issue"]]


@shows("operation", "validate")
def test_a_resource_is_validated(site: FhirSite) -> None:
    assert "error" not in severities(site.ask("POST", "Patient/$validate", body={"resourceType": "Patient", "gender": "male"}))
    wrong = site.ask("POST", "Patient/$validate", body={"resourceType": "Patient", "gender": "x"})
    assert wrong.json()["issue"][0]["expression"] == ["Patient.gender"]
    assert severities(wrong)[0] == "error"
    as_parameters = {
        "resourceType": "Parameters",
        "parameter": [{"name": "resource", "resource": {"resourceType": "Patient", "gender": "x"}}],
    }
    assert site.ask("POST", "Patient/$validate", body=as_parameters).json() == wrong.json()
    assert "error" not in severities(site.get("Patient/a/$validate"))
    assert severities(site.ask("POST", "Observation/$validate", body={"resourceType": "Patient"})) == ["error"]
    issue(site.get("Patient/$validate"), 400, "required")
    xml = b'<Patient xmlns="http://hl7.org/fhir"><gender value="x"/></Patient>'
    assert severities(site.ask("POST", "Patient/$validate", body=xml, Content_Type="application/fhir+xml"))[0] == "error"


def test_profiles_that_are_stored_are_known(site: FhirSite) -> None:
    url = "http://example.org/StructureDefinition/named"
    differential = {"element": [{"id": "Patient.name", "path": "Patient.name", "min": 1}]}
    profile = {
        "resourceType": "StructureDefinition", "id": "named", "url": url, "name": "Named", "status": "active", "kind": "resource",
        "abstract": False, "type": "Patient", "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Patient", "derivation": "constraint",
        "differential": differential,
    }  # fmt: skip
    assert "error" not in severities(site.ask("POST", f"Patient/$validate?profile={url}", body={"resourceType": "Patient"}))
    assert site.ask("POST", "StructureDefinition", body=profile).status_code == 201
    assert "error" in severities(site.ask("POST", f"Patient/$validate?profile={url}", body={"resourceType": "Patient"}))
    assert "error" not in severities(
        site.ask("POST", f"Patient/$validate?profile={url}", body={"resourceType": "Patient", "name": [{"text": "A"}]})
    )


def test_a_mode_is_tried_and_taken_back(site: FhirSite) -> None:
    before = [each["resource"]["meta"] for each in site.bundle("Patient?_sort=_id")["entry"]]
    good = {"resourceType": "Patient", "id": "a", "active": True}
    assert "error" not in severities(site.ask("POST", "Patient/$validate?mode=create", body=good))
    assert "error" not in severities(site.ask("POST", "Patient/a/$validate?mode=update", body=good))
    assert "error" in severities(site.ask("POST", "Patient/a/$validate?mode=update", body={**good, "id": "b"}))
    assert "error" not in severities(site.get("Patient/a/$validate?mode=delete"))
    assert [each["resource"]["meta"] for each in site.bundle("Patient?_sort=_id")["entry"]] == before
    issue(site.ask("POST", "Patient/$validate?mode=update", body=good), 400, "invalid")
    issue(site.ask("POST", "Patient/$validate?mode=burn", body=good), 400, "value")


def test_who_may_do_nothing_with_a_type_validates_none_of_it(site: FhirSite) -> None:
    issue(
        site.ask("POST", "Patient/$validate", site.token("system/Observation.rs"), body={"resourceType": "Patient"}),
        403,
        "forbidden",
    )
    mine = site.token("patient/*.rs", "a")
    issue(site.get("Patient/b/$validate", mine), 403, "forbidden")
    issue(
        site.ask("POST", "Patient/a/$validate?mode=update", mine, body={"resourceType": "Patient", "id": "a"}), 403, "forbidden"
    )


# --- $meta


def meta_of(found: Response) -> Json:
    assert found.status_code == 200, found.text
    Parameters.model_validate(found.json())
    return dict(found.json()["parameter"][0]["valueMeta"])


@shows("operation", "meta", "meta-add", "meta-delete")
def test_tags_come_and_go(site: FhirSite) -> None:
    assert meta_of(site.get("Patient/a/$meta"))["versionId"] == "1"
    mark = site.mark()
    assert meta_of(site.ask("POST", "Patient/a/$meta-add", body=with_meta(tag=[TAG], profile=["http://example.org/p"])))[
        "tag"
    ] == [TAG]
    (event,) = site.events(mark)
    assert event["action"] == "U"
    assert event["entity"][0]["what"]["reference"] == "Patient/a/_history/2"
    assert site.ids(f"Patient?_tag={TAG['system']}|{TAG['code']}") == ["a"]
    again = meta_of(site.ask("POST", "Patient/a/$meta-add", body=with_meta(tag=[TAG])))
    assert again["versionId"] == "2"  # nothing was new
    assert again["profile"] == ["http://example.org/p"]
    gone = meta_of(site.ask("POST", "Patient/a/$meta-delete", body=with_meta(tag=[{**TAG, "display": "for students"}])))
    assert "tag" not in gone
    assert gone["profile"] == ["http://example.org/p"]
    assert site.get("Patient/a/_history/2").json()["meta"]["tag"] == [TAG]


def test_tags_are_for_those_who_may_update(site: FhirSite) -> None:
    issue(site.ask("POST", "Patient/a/$meta-add", site.token("system/*.rs"), body=with_meta(tag=[TAG])), 403, "forbidden")
    issue(
        site.ask("POST", "Patient/b/$meta-add", site.token("patient/*.cruds", "a"), body=with_meta(tag=[TAG])), 403, "forbidden"
    )
    issue(site.ask("POST", "Patient/nobody/$meta-add", body=with_meta(tag=[TAG])), 404, "not-found")
    issue(site.ask("POST", "Patient/a/$meta-add", body={"resourceType": "Parameters"}), 400, "required")
    issue(site.ask("POST", "Patient/a/$meta-add", body=with_meta(tag="x")), 400, "structure")
    found = site.get("Patient/a/$meta-add")
    issue(found, 405, "not-supported")
    assert found.headers["allow"] == "POST"


def test_operations_that_are_not_there(site: FhirSite) -> None:
    for path in (
        "Patient/a/$nothing",
        "Observation/o1/$everything",
        "Encounter/$everything",
        "Nothing/$meta",
        "Binary/x/$meta-add",
    ):
        assert site.ask("POST", path, body=with_meta(tag=[TAG])).status_code == 404, path

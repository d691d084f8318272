"""`$meta` of a type and of the system, on both engines: which profiles, tags and security labels there are, and for whom."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B.parameters import Parameters
from httpx2 import Response
from peers.fhir_site import FhirSite, fhir_site, issue
from peers.shows import shows

from server.records import labels

Json = dict[str, Any]
TAG = {"system": "http://example.org/tags", "code": "teaching"}


@pytest.fixture
def site(tmp_path: Path, database_url: str) -> Iterator[FhirSite]:
    with fhir_site(tmp_path / "data", database_url) as site:
        site.put({"resourceType": "Patient", "id": "a"}, {"resourceType": "Patient", "id": "b"})
        yield site


def observation(id_: str, of: str, **more: Any) -> Json:
    subject = {"reference": f"Patient/{of}"}
    return {"resourceType": "Observation", "id": id_, "status": "final", "code": {"text": "x"}, "subject": subject, **more}


def meta_of(found: Response) -> Json:
    assert found.status_code == 200, found.text
    Parameters.model_validate(found.json())
    return dict(found.json()["parameter"][0]["valueMeta"])


def used(site: FhirSite, path: str, token: Json | None = None) -> Json:
    """What `$meta` tells of a type or of the system, without the systems of its codings."""
    meta = meta_of(site.get(path, token))
    return {name: [each.get("code") if isinstance(each, dict) else each for each in values] for name, values in meta.items()}


@shows("operation", "meta")
def test_what_profiles_tags_and_labels_are_in_use(site: FhirSite) -> None:
    """OperationDefinition Resource-meta: of a type and of the system, each once, without versionId and lastUpdated."""
    shown = {**TAG, "display": "Teaching"}
    other = {"system": "http://example.org/other", "code": "teaching"}
    secret = {"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"}
    profile = "http://example.org/profiles/a-b"
    site.put(
        observation("t1", "a", meta={"tag": [shown], "profile": [profile, f"{profile}|1.0"]}),
        observation("t2", "a", meta={"tag": [TAG, other], "security": [secret]}),
        observation("t3", "b", meta={"tag": [{"code": "no system"}, {"system": "urn:no-code"}], "profile": ["http://example.org/profiles/a.b", "http://example.org/other|2"]}),
        {"resourceType": "Organization", "id": "tagged", "meta": {"tag": [{"system": "urn:x", "code": "board"}, TAG]}},
        observation("gone", "a", meta={"tag": [{"system": "urn:x", "code": "gone"}]}),
    )  # fmt: skip
    site.delete("Observation", "gone")
    mark = site.mark()
    meta = meta_of(site.get("Observation/$meta"))
    assert meta == {
        "profile": ["http://example.org/other|2", profile, f"{profile}|1.0", "http://example.org/profiles/a.b"],
        "security": [secret],
        "tag": [other, shown, {"system": "urn:no-code"}, {"code": "no system"}],
    }
    (event,) = site.events(mark)
    assert event["subtype"][0]["code"] == "operation"
    assert meta_of(site.ask("POST", "Observation/$meta")) == meta
    assert used(site, "Organization/$meta") == {"tag": ["teaching", "board"]}
    everything = used(site, "$meta")
    assert everything["tag"][:1] == ["teaching"]
    assert sorted(each for each in everything["tag"] if each == "board") == ["board"]
    assert everything["profile"] == meta["profile"]
    assert meta_of(site.ask("POST", "$meta"))["security"] == [secret]
    assert "valueMeta" in site.get("Patient/$meta").json()["parameter"][0]
    assert "profile" not in meta_of(site.get("Patient/$meta"))
    batch = {"resourceType": "Bundle", "type": "batch", "entry": [{"request": {"method": "GET", "url": each}} for each in ("$meta", "Observation/$meta")]}  # fmt: skip
    told = [each["resource"]["parameter"][0]["valueMeta"] for each in site.ask("POST", "", body=batch).json()["entry"]]
    assert told[1] == meta
    assert told[0]["profile"] == meta["profile"]


def test_what_is_in_use_is_told_of_what_may_be_read(site: FhirSite, monkeypatch: pytest.MonkeyPatch) -> None:
    site.put(observation("ta", "a", meta={"tag": [TAG]}), observation("tb", "b", meta={"tag": [{"code": "of-b"}]}))
    mine = site.token("patient/Observation.r", "a")
    mark = site.mark()
    assert used(site, "Observation/$meta", mine) == {"tag": ["teaching"]}
    assert used(site, "$meta", mine) == {"tag": ["teaching"]}
    for event in site.events(mark):
        assert {"reference": "Patient/a"} in [each.get("what") for each in event["entity"]]
    assert used(site, "$meta", site.token("system/Observation.r")) == {"tag": ["teaching", "of-b"]}
    assert "tag" not in meta_of(site.get("$meta", site.token("system/Organization.r")))
    issue(site.get("Patient/$meta", mine), 403, "forbidden")
    issue(site.get("$meta", site.token("system/*.s")), 403, "forbidden")
    issue(site.get("AuditEvent/$meta"), 400, "not-supported")
    issue(site.get("Patient/$meta?_count=1"), 400, "not-supported")
    issue(site.get("$nothing"), 404, "not-supported")
    issue(site.get("$everything"), 404, "not-supported")
    monkeypatch.setattr(labels, "MOST", 1)
    issue(site.get("Observation/$meta"), 400, "too-costly")
